"""Hostile codes, names, arguments, settings and surroundings, met by the real module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig


@pytest.mark.row("codes")
def test_hostile_codes_are_refused_and_not_logged(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("hostile", "codes", rounds=3 if full else 1)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("names")
def test_hostile_names_leave_no_trace_and_let_nobody_in(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("hostile", "names")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("settings")
def test_arguments_and_settings_that_are_not_understood_refuse_everybody(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("hostile", "settings")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])


@pytest.mark.row("environment")
def test_limits_and_directories_never_open_the_door(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("hostile", "surroundings")
    print(done["seen"])
    assert not done["problems"], "\n".join(done["problems"])
    assert "SUCCESS" in done["seen"].values()
    tally(done["cases"], done["cases"])


@pytest.mark.row("environment")
def test_closed_standard_streams_change_nothing(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("hostile", "closed")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])
