"""Ending programs that nsenter runs in a machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 2.0


def end(leader: int, ended: Callable[[], bool], first: signal.Signals = signal.SIGKILL) -> None:
    """End the process group that nsenter leads, by `first`, and by SIGKILL when that is not enough.

    nsenter itself is left to end by itself once it has reaped its child: as an orphan that one would go to the host's
    pid 1, and the machine could not end before the host's pid 1 has reaped it, which some never do.
    """
    start = time.monotonic()
    while not ended():
        waited = time.monotonic() - start
        for member in _members(leader):
            _kill(member, first if waited < PATIENCE / 2 else signal.SIGKILL)
        if waited > PATIENCE:
            _kill(leader, signal.SIGKILL)
        time.sleep(0.002)


def _members(leader: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(path.parent.name)
        if int(fields[2]) == leader and pid != leader:
            yield pid


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
