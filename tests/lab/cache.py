"""What the lab keeps between runs, and for how long."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = time.monotonic()
# What was used within so many seconds may belong to another run that is under way, between two of its machines.
SPARED = 6 * 3600


def home() -> Path:
    """The cache directory: root's machines hold setuid programs, so it is closed to everybody else."""
    if os.geteuid() == 0:
        path = Path("/var/cache/pam-totp")
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "pam-totp")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    """Show progress: seconds since the start, then the text."""
    print(f"[{time.monotonic() - START:5.1f} s] {text}", file=sys.stderr, flush=True)


def digest(*parts: str | bytes) -> str:
    """A short name for this content."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a lock on `path` (made if it is missing). Raises BlockingIOError if it is taken and `wait` is false."""
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)


def lock_of(directory: Path) -> Path:
    """The lock that users of a kept directory share, and that its builder and its remover have alone."""
    return directory.with_name(directory.name + ".lock")


def kept(directory: Path, build: Callable[[Path], None]) -> Path:
    """Return `directory`. If it is missing, build it under another name and rename it: it is whole or not there."""
    if not directory.is_dir():
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(lock_of(directory)):
            if not directory.is_dir():
                unfinished = directory.with_name(directory.name + ".new")
                shutil.rmtree(unfinished, ignore_errors=True)
                try:
                    build(unfinished)
                    unfinished.rename(directory)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
    os.utime(directory)
    return directory


def forget(parent: Path, pattern: str, keep: int) -> None:
    """Remove all but the `keep` most recently used directories that match, except those in use or used lately.

    Also removed is what builds have left that were killed: it has a suffix.
    """
    found = [path for path in parent.glob(pattern) if path.is_dir()]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    whole = [path for path in found if not path.suffix]
    lately = time.time() - SPARED
    for path in [path for path in found if path.suffix] + [
        path for path in whole[keep:] if path.stat().st_mtime < lately
    ]:
        try:
            with locked(lock_of(path.with_name(path.name.partition(".")[0])), wait=False):
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue
