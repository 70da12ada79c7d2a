"""Files and directories that are not what they should be, made without root where there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SOMEBODY = 54_321
ME = os.geteuid()


def foreign(path: Path) -> int:
    """See to it that ``path`` belongs neither to root nor to the uid that is returned, and both are expected."""
    if ME == 0:
        os.chown(path, SOMEBODY, -1)
        return ME
    return SOMEBODY


def replace(path: Path, kind: str) -> None:
    """Put something that is not a plain file of one name in the place of a file."""
    real = path.with_name(path.name + ".real")
    path.rename(real)
    if kind == "symlink":
        path.symlink_to(real)
    elif kind == "dangling symlink":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "hard link":
        path.hardlink_to(real)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(0o700)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        raise ValueError(kind)


KINDS = ("symlink", "dangling symlink", "hard link", "fifo", "directory", "device")
