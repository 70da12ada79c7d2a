"""Real ssh connections that are closed early, that idle, and that come all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.setup import use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.rig import Rig

MOST = 501
# Seconds, in which a busy machine has to come to the question.
GRACE = 8


@pytest.fixture(scope="module")
def door(rig: Rig) -> Iterator[Rig]:
    """The rig with its sshd running: key and code, for the users door0 to door500."""
    rig("door", "prepare", crowd=MOST)
    rig.machine.sshd.drop_in("80-door", "AuthorizedKeysFile /etc/ssh/door_keys\n")
    use(rig.machine, "key-and-code")
    yield rig
    rig.machine.sshd.stop()


@pytest.mark.row("hangup")
def test_a_connection_that_ends_early_leaves_nothing_locked(door: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = door("door", "hangups", count=200 if full else 18)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("codes")
def test_a_login_that_idles_is_ended_by_sshd_and_the_next_one_works(door: Rig, tally: Callable[..., None]) -> None:
    door.machine.sshd.drop_in("00-a-grace", f"LoginGraceTime {GRACE}\n")
    door.machine.sshd.reload()
    done = door("door", "idle", grace=GRACE)
    door.machine.sshd.remove("00-a-grace")
    door.machine.sshd.reload()
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.row("crowd")
def test_a_crowd_beyond_max_startups_leaves_sshd_in_order(door: Rig, full: bool, tally: Callable[..., None]) -> None:
    sshd = door.machine.sshd
    if sshd.knows("PerSourcePenalties=no"):
        sshd.drop_in("70-penalties", "PerSourcePenalties no\n")
    sshd.restart(relaxed=False)
    done = door("door", "crowd", count=500 if full else 100)
    sshd.restart()
    assert not done["problems"], "\n".join(done["problems"])
    assert done["in"] >= 1
    suite = door.machine.suite
    figures = {
        f"of {done['cases']} at once ({suite})": f"{done['in']} in, {done['refused']} refused by MaxStartups",
        f"throughput ({suite})": f"{done['rate']:.1f} logins/s",
        f"slowest ({suite})": f"{done['slowest']:.1f} s",
    }
    tally(done["cases"], done["in"], **figures)


@pytest.mark.row("environment")
def test_what_is_in_sshds_own_environment_is_not_run(door: Rig, tally: Callable[..., None]) -> None:
    done = door("door", "environments")
    door.machine.sshd.restart()
    print(done["seen"])
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])
