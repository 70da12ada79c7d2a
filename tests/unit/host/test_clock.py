"""The clocks."""

from __future__ import annotations

import time
from pathlib import Path

from pam_totp.host import clock


def test_now_is_between_before_and_after_on_both_clocks() -> None:
    wall, uptime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    now = clock.now()
    assert wall <= now.wall <= time.time()
    assert uptime <= now.uptime <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_boot_has_the_name_the_kernel_gave_it() -> None:
    assert clock.now().boot_id == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
