"""A directory on disk for one run, and the removal of what runs have left that were killed."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.lab import cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory beside the kept boxes, gone afterwards."""
    parent = cache.home() / "boxes"
    parent.mkdir(mode=0o700, exist_ok=True)
    for left in parent.glob("run-*.lock"):
        _remove_unless_in_use(left)
    lock = parent / f"run-{os.urandom(4).hex()}.lock"
    directory = lock.with_suffix("")
    with cache.locked(lock):
        directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            lock.unlink()


def _remove_unless_in_use(lock: Path) -> None:
    try:
        with cache.locked(lock, wait=False):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()
    except BlockingIOError:
        return
