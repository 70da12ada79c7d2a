"""Secrets and codes are found nowhere, and the time of a refusal says nothing about the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig


@pytest.mark.row("secrets")
def test_a_marked_secret_and_its_codes_are_found_nowhere(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("secrets", "leaks")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("secrets")
def test_a_crash_leaves_no_core_file(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("secrets", "core_files")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("timing")
def test_a_wrong_digit_takes_the_same_time_at_each_position(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("secrets", "timing", rounds=100_000 if full else 5000)
    deciles = done["deciles"]
    suite = rig.machine.suite
    tally(
        done["cases"],
        **{f"first decile by position ({suite})": ", ".join(f"{each / 1000:.2f}" for each in deciles) + " us"},
    )
    assert max(deciles) / min(deciles) < 1.03
