"""Clocks that are set: no step at or below the high-water mark is accepted, and no wait or lock is shortened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("clock")


def test_no_step_below_the_mark_is_accepted_and_no_wait_is_shortened(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("clock", "in_process")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"])


def test_a_lock_stays(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("clock", "locked")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"])


def test_the_real_module_refuses_what_is_spent_whatever_the_time(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("clock", "through_pam")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["pam"], done["pam"])
