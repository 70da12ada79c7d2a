"""Guessing: waits, seen across connections; the day's limit; the lock; and what the user is told afterwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.login.host import Host, Person, kinds

if TYPE_CHECKING:
    from tests.lab.ssh import Result

pytestmark = pytest.mark.usefixtures("either_variant")


def elsewhere(person: Person) -> dict[str, str]:
    """How to log in from another source: with another key of the same user, or from another address."""
    if person.host.variant == "password-and-code":
        return {"source": "127.0.0.9"}
    person.host.machine.sh(
        """
        test -e "/root/.ssh/$1-laptop" || ssh-keygen -q -t ed25519 -N '' -f "/root/.ssh/$1-laptop"
        cat "/root/.ssh/$1-laptop.pub" >>"/home/$1/.ssh/authorized_keys"
        """,
        person.name,
    )
    return {"key": f"{person}-laptop"}


def guess(person: Person, times: int = 3) -> None:
    """Wrong codes from where the person logs in from."""
    key = person.host.machine.read(f"/home/{person}/.ssh/authorized_keys").split()[:2]
    by_key = person.host.variant == "key-and-code"
    person.host.guess(person, *["127.0.0.1"] * times, auth_info=" ".join(["publickey", *key]) if by_key else "")


def strangers(number: int) -> list[str]:
    """As many addresses, each at most twice: none of them has to wait before its second guess."""
    return [f"192.0.2.{1 + each // 2}" for each in range(number)]


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
    guess(alice)
    code = alice.code()
    assert not alice.log_in(code).asked_code
    assert alice.log_in(code, **elsewhere(alice)).ok
    assert not alice.log_in(alice.code(1)).asked_code


def test_another_user_of_the_same_address_is_not_held_up(host: Host) -> None:
    alice, bob = host.person(), host.person()
    guess(alice)
    assert not alice.log_in(alice.code()).asked_code
    assert bob.log_in(bob.code()).ok


def test_unlock_ends_the_wait(host: Host) -> None:
    alice = host.person()
    guess(alice)
    assert not alice.log_in(alice.code()).asked_code
    host.unlock(alice)
    assert alice.log_in(alice.code()).ok


def test_two_wrong_codes_make_nobody_wait_and_a_right_one_clears_them(host: Host) -> None:
    alice = host.person()
    guess(alice, 2)
    assert alice.log_in(alice.code()).ok
    assert host.status(alice)["failures"] == 0
    guess(alice, 2)
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
    with machine.ssh(person.user, command=None, key=person.host.variant == "key-and-code") as ssh:
        if person.host.variant == "password-and-code":
            ssh.expect("Password: ")
            ssh.answer(person.user.password)
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
        result = alice.log_in(alice.code(), **elsewhere(alice))
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
    new = alice.log_in(alice.code(1), **elsewhere(alice))
    assert not new.ok
    assert not new.asked_code
    assert re.search(r"Too many wrong codes\. Try again in (24 h|23 h \d+ min)\.", new.screen)
    assert alice.log_in(alice.code(1)).ok
