"""Power lost at every write and sync of what was recorded: it opens, and nothing committed is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("power")


COMMANDS = ("enroll", "confirm", "confirm again", "reset", "recovery", "unlock")


def test_a_login_is_charged_or_not_and_stays_charged(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("power", "login", variants=200 if full else 10, seed=1, pam_every=10)
    assert not done["problems"], "\n".join(done["problems"])
    assert all(done["seen"].values())
    assert done["pam"] >= (200 if full else 10)
    tally(done["cases"], done["pam"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_done_or_not_and_stays_done(name: str, rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("power", "command", name=name, variants=50 if full else 1, seed=1)
    assert not done["problems"], "\n".join(done["problems"])
    assert all(done["seen"].values())
    tally(done["cases"])


def test_a_journal_that_is_never_synced_would_be_found(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("power", "login", variants=50, seed=1, synced=False)
    assert done["problems"]
    tally(0)
