"""The only reader of the clocks. Called by pam_entry and the command line; everything below them is handed the time."""

from __future__ import annotations

import os
import time

from pam_totp.ledger import Moment


def now() -> Moment:
    """This instant on the wall clock and on the boot clock. Raises OSError where /proc is not mounted."""
    descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    try:
        boot_id = os.read(descriptor, 36).decode("ascii")
    finally:
        os.close(descriptor)
    return Moment(time.time(), boot_id, time.clock_gettime(time.CLOCK_BOOTTIME))
