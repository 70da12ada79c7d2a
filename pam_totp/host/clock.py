"""The only reader of the clocks. Called by pam_entry and the command line; everything below them is handed the time."""

from __future__ import annotations

import posix as os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Stamp = list[Any]


class Moment:
    """One instant on both clocks, in seconds: ``wall`` since the epoch, ``uptime`` (CLOCK_BOOTTIME) since the boot."""

    __slots__ = ("boot_id", "uptime", "wall")

    def __init__(self, wall: float, boot_id: str, uptime: float) -> None:
        self.wall = wall
        self.boot_id = boot_id
        self.uptime = uptime

    def stamp(self) -> Stamp:
        """This moment as it is kept, in whole seconds."""
        return [int(self.wall), self.boot_id, int(self.uptime)]

    def since(self, stamp: Stamp) -> float:
        """Seconds gone by since a stamp, never less than 0.

        Within one boot only the boot clock counts, so setting the wall clock ends no wait and prolongs none. Across a
        boot the wall clock is all there is, but the time since the boot has certainly passed.
        """
        wall, boot_id, uptime = stamp
        if boot_id == self.boot_id:
            return max(0.0, self.uptime - float(uptime))
        return max(0.0, self.uptime, self.wall - float(wall))


def now() -> Moment:
    """This instant on the wall clock and on the boot clock. Raises OSError where /proc is not mounted."""
    descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    try:
        boot_id = os.read(descriptor, 36).decode("ascii")
    finally:
        os.close(descriptor)
    return Moment(time.time(), boot_id, time.clock_gettime(time.CLOCK_BOOTTIME))


def pause(seconds: float) -> None:
    """Let others go on meanwhile."""
    time.sleep(seconds)
