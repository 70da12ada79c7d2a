"""A name service that fails, in every way there is: nobody who has to be asked gets in without being asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.flaky import install

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = [pytest.mark.row("nss"), pytest.mark.usefixtures("flaky")]


@pytest.fixture(scope="module")
def flaky(rig: Rig) -> None:
    install(rig.machine)


@pytest.mark.parametrize("what", ["groups", "users", "aliases"])
def test_a_service_that_fails_lets_nobody_past_a_rule_and_is_named_in_the_log(
    what: str, rig: Rig, full: bool, tally: Callable[..., None]
) -> None:
    done = rig("nss", what, every=full)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])


def test_a_service_that_fails_now_and_then_lets_nobody_past_a_rule(
    rig: Rig, full: bool, tally: Callable[..., None]
) -> None:
    done = rig("nss", "flapping", rounds=50 if full else 6)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])


def test_a_service_that_hangs_lets_nobody_in_and_holds_up_nobody_else(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("nss", "hanging")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])
