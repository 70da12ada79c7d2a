"""Logins at the same moment: one code lets one in, no counter is outrun, and a change is seen as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import OURS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

# How many log in at once; rounds by default; rounds with --full.
SAME_CODE = [(2, 10, 100), (10, 6, 100), (100, 2, 20)]
MOST_HELPERS = 200


def at_most(rig: Rig, logins: int) -> int:
    """So many logins, or as many as a machine has memory for where each one at a prompt has a process of its own."""
    return min(logins, MOST_HELPERS) if rig.machine.module == OURS else logins


@pytest.mark.row("same-code")
@pytest.mark.parametrize(("logins", "rounds", "most"), SAME_CODE)
def test_one_code_lets_exactly_one_in(
    logins: int, rounds: int, most: int, rig: Rig, full: bool, tally: Callable[..., None]
) -> None:
    done = rig("race", "same_code", logins=logins, rounds=most if full else rounds)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])


@pytest.mark.full
@pytest.mark.row("same-code")
def test_one_code_lets_exactly_one_of_a_crowd_in(rig: Rig, tally: Callable[..., None]) -> None:
    logins = at_most(rig, 1000)
    done = rig("race", "same_code", logins=logins, rounds=3)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"], **{f"{logins:,} at once ({rig.machine.suite})": f"in {done['slowest']:.1f} s"})


@pytest.mark.row("wrong-codes")
@pytest.mark.parametrize("sources", [1, 20], ids=["one source", "many sources"])
def test_wrong_codes_outrun_no_counter_and_hold_up_nobody_else(
    sources: int, rig: Rig, full: bool, tally: Callable[..., None]
) -> None:
    done = rig("race", "wrong_codes", logins=at_most(rig, 1000 if full else 100), sources=sources)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("strangers")
def test_hostile_connections_from_elsewhere_never_keep_the_user_out_of_the_usual_source(
    rig: Rig, full: bool, tally: Callable[..., None]
) -> None:
    done = rig("race", "strangers", logins=1000 if full else 100)
    assert not done["problems"], "\n".join(done["problems"])
    slow = f"{done['slow']} of {done['recovery']} wrong recovery codes"
    tally(done["cases"], done["cases"], **{f"slow hashes ({rig.machine.suite})": slow})


@pytest.mark.row("changes")
def test_a_login_sees_a_change_as_a_whole(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("race", "changes", rounds=1000 if full else 30, seed=len(rig.machine.suite))
    print(done["seen"])
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])


@pytest.mark.row("changes")
def test_logins_go_on_while_the_key_is_rotated(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("race", "rotations", rounds=500 if full else 15, seed=len(rig.machine.suite))
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])
