"""Whether anything that the box covers has changed since it was last all right on this computer."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.package import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

COVERED = ("Vagrantfile", "pyproject.toml", "config", "debian", "pam_totp", "tests/lab/vagrant", "tests/vagrant")


def digest(suite: str) -> str:
    """What the box of a suite covers, in short. A clean checkout has the same as any other with the same files."""
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", "-co", "--exclude-standard", *COVERED]
    listing = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE).stdout
    parts: list[str | bytes] = [suite]
    for name in sorted(set(os.fsdecode(listing).split("\0")) - {""}):
        path = CHECKOUT / name
        if path.is_file():
            parts += [name, path.read_bytes()]
    return cache.digest(*parts)


def remember(suite: str, content: str) -> None:
    """Note that with this content all was right."""
    _note(suite).write_text(content, encoding="ascii")


def unchanged(suite: str) -> bool:
    """Whether the content is that of the last run that was all right."""
    note = _note(suite)
    return note.is_file() and note.read_text(encoding="ascii") == digest(suite)


def _note(suite: str) -> Path:
    return cache.home() / f"box-of-{suite}-was-right"
