"""A stopped process and a slow disk: others are denied in time, and nothing hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("stuck")


# The wait for a lock, one second for noting the refusal, and the start of the interpreter on a busy machine.
LIMIT = 25.0


def test_a_stopped_holder_of_every_lock_does_not_hang_others(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("stuck", "stopped")
    assert not done["problems"], "\n".join(done["problems"])
    assert done["slowest"] < LIMIT
    tally(done["cases"], done["pam"], **{f"denied after ({rig.machine.suite})": f"{done['slowest']:.1f} s"})


def test_a_slow_disk_does_not_hang_others(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("stuck", "slow_disk")
    assert not done["problems"], "\n".join(done["problems"])
    assert done["slowest"] < LIMIT
    tally(done["cases"], done["pam"])
