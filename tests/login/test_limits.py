"""Guessing: the day's limit, the lock, what clears failures, and what the user is told of them afterwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.login.host import kinds

if TYPE_CHECKING:
    from tests.login.host import Host, Person

pytestmark = pytest.mark.usefixtures("key_and_code")


def strangers(number: int) -> list[str]:
    """As many addresses, each at most twice: none of them has to wait before its second guess."""
    return [f"192.0.2.{1 + each // 2}" for each in range(number)]


def test_two_wrong_codes_make_nobody_wait_and_a_right_one_clears_them(host: Host) -> None:
    alice = host.person()
    alice.fail(2)
    assert alice.log_in(alice.code()).ok
    assert host.status(alice)["failures"] == 0
    alice.fail(2)
    assert alice.log_in(alice.code(1)).ok


def test_after_a_login_the_user_is_told_once_of_the_wrong_codes_since_the_last_one(host: Host) -> None:
    alice = host.person()
    host.guess(alice, "127.0.0.7")
    assert not alice.log_in(alice.wrong(), source="127.0.0.8").ok
    notice = "There were 2 wrong codes since your last login, the last from 127.0.0.8."
    assert notice in shown_after_login(alice, alice.code())
    assert "wrong code" not in shown_after_login(alice, alice.code(1))


def shown_after_login(person: Person, code: str) -> str:
    """The screen of an interactive login."""
    machine = person.host.machine
    with machine.ssh(person.user, command=None, key=True) as ssh:
        ssh.expect("Verification code: ")
        ssh.answer(code)
        ssh.expect(r"\$ ")
        ssh.answer("exit")
        ssh.wait()
        return ssh.screen


def test_an_account_is_locked_after_as_many_wrong_codes_as_configured_until_it_is_unlocked(host: Host) -> None:
    alice = host.person()
    with host.config("lock_after = 10"):
        host.guess(alice, *strangers(9))
        assert host.status(alice)["state"] == "active"
        host.guess(alice, "192.0.2.100")
        assert host.status(alice)["state"] == "locked"
        mark = host.machine.mark()
        result = alice.log_in(alice.code(), **alice.elsewhere())
        assert not result.ok
        assert kinds(result) == host.first_prompts
        assert "this account is locked. Ask your administrator to unlock it." in result.screen
        assert [line["reason"] for line in host.decisions(mark)] == ["locked"]
        host.unlock(alice)
        assert alice.log_in(alice.code()).ok


def test_the_days_limit_holds_up_new_sources_but_not_one_that_the_user_has_logged_in_from(host: Host) -> None:
    alice = host.person()
    assert alice.log_in(alice.code()).ok
    host.guess(alice, *strangers(24))
    new = alice.log_in(alice.code(1), **alice.elsewhere())
    assert not new.ok
    assert not new.asked_code
    assert re.search(r"Too many wrong codes\. Try again in (24 h|23 h \d+ min)\.", new.screen)
    assert alice.log_in(alice.code(1)).ok
