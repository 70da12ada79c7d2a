"""SIGKILL at every system call: the old state or the new one, and nobody let in without a durable charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("kill")

COMMANDS = (
    "enroll",
    pytest.param("enroll a list", marks=pytest.mark.full),
    "enroll again",
    *("confirm", "confirm again", "reset", "recovery", "unlock"),
)


@pytest.mark.engines
def test_a_killed_login_is_charged_or_not_and_never_a_success(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("kill", "login", every=1 if full else 6)
    assert not done["problems"], "\n".join(done["problems"])
    assert done["cases"] >= 50
    tally(done["cases"], done["cases"])


@pytest.mark.engines
def test_a_recovery_code_of_a_killed_login_works_once(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("kill", "recovery", every=1 if full else 6)
    assert not done["problems"], "\n".join(done["problems"])
    assert done["cases"] >= 50
    tally(done["cases"], done["cases"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_is_done_or_not_done(name: str, rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("kill", "command", name=name, every=1 if full else 40)
    assert not done["problems"], "\n".join(done["problems"])
    assert done["cases"] >= 50
    tally(done["cases"])


def test_a_killed_rotation_locks_nobody_out_and_goes_on(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("kill", "rotation", every=1 if full else 600)
    assert not done["problems"], "\n".join(done["problems"])
    assert done["cases"] >= 20
    tally(done["cases"])


def test_a_killed_pass_of_a_fleet_skips_nobody_and_goes_on(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("kill", "fleet", every=1 if full else 6)
    assert not done["problems"], "\n".join(done["problems"])
    assert done["cases"] >= 10
    tally(done["cases"])
