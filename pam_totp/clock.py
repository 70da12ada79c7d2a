"""The only reader of the clocks. Called by pam_entry and the command line; everything below them is handed the time."""

from __future__ import annotations

import time

from pam_totp.ledger import Moment


def now() -> Moment:
    """This instant on the wall clock and on the boot clock. Raises OSError where /proc is not mounted."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read(36)
    return Moment(time.time(), boot_id, time.clock_gettime(time.CLOCK_BOOTTIME))
