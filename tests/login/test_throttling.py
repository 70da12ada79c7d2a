"""Guessing: who has to wait after wrong codes, as it is seen across connections, with both variants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.login.host import Host, kinds

if TYPE_CHECKING:
    from tests.lab.ssh import Result

pytestmark = pytest.mark.usefixtures("either_variant")


def seconds_left(result: Result) -> int:
    """The time that a user who has to wait is told."""
    found = re.search(r"Too many wrong codes\. Try again in (\d+) s\.", result.screen)
    assert found, result.screen
    return int(found[1])


def test_after_three_wrong_codes_the_user_is_not_asked_but_told_how_long_to_wait(host: Host) -> None:
    alice = host.person()
    for _ in range(3):
        assert kinds(alice.log_in(alice.wrong()))[-1] == "Verification code:"
    mark = host.machine.mark()
    result = alice.log_in(alice.code())
    assert not result.ok
    assert kinds(result) == host.first_prompts
    assert 0 < seconds_left(result) <= 30
    assert [line["reason"] for line in host.decisions(mark)] == ["throttled"]
    status = host.status(alice)
    assert status["failures"] == 3
    assert status["retry_at"]


def test_another_source_of_the_same_user_is_not_held_up(host: Host) -> None:
    alice = host.person()
    alice.fail()
    code = alice.code()
    assert not alice.log_in(code).asked_code
    assert alice.log_in(code, **alice.elsewhere()).ok
    assert not alice.log_in(alice.code(1)).asked_code


def test_another_user_of_the_same_address_is_not_held_up(host: Host) -> None:
    alice, bob = host.person(), host.person()
    alice.fail()
    assert not alice.log_in(alice.code()).asked_code
    assert bob.log_in(bob.code()).ok


def test_unlock_ends_the_wait(host: Host) -> None:
    alice = host.person()
    alice.fail()
    assert not alice.log_in(alice.code()).asked_code
    host.unlock(alice)
    assert alice.log_in(alice.code()).ok
