"""check: would this code be accepted now, and if not why; consumes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from tests.unit.pretend import ALICE

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host


def state(host: Host) -> list[bytes]:
    found = [host.snapshot()]
    for name in sorted(os.listdir(host.paths.run)):
        with open(f"{host.paths.run}/{name}", "rb") as file:
            found.append(file.read())
    return found


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_right_code_would_be_accepted_as_often_as_one_asks(steps: int, command: Command, host: Host) -> None:
    secret = host.enroll()
    before = state(host)
    for _ in range(3):
        ran = command("check", "alice", piped=host.code(secret, steps) + "\n")
        assert (ran.code, ran.out, ran.err) == (0, "accepted: this code would be accepted now\n", "")
    assert state(host) == before
    assert host.login("alice", host.code(secret, steps)).reason == "code"


def test_the_code_is_asked_for_at_a_terminal(command: Command, host: Host) -> None:
    secret = host.enroll()
    ran = command("check", "alice", typed=(host.code(secret) + "\n",))
    assert (ran.code, ran.err) == (0, "Code from the app: ")


def test_each_refusal_has_its_reason(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))

    def reason(piped: str) -> str:
        before = state(host)
        ran = command("check", "alice", piped=piped)
        assert (ran.code, ran.err) == (1, "")
        assert state(host) == before
        return ran.out

    assert reason(host.code(secret)) == "refused: phone: already used, this code or a later one\n"
    assert reason(host.wrong(secret)) == "refused: wrong\n"
    assert reason("12345\n") == "refused: wrong: a code has six digits\n"
    assert reason("") == "refused: wrong: a code has six digits\n"
    assert reason(host.code(secret, 3)) == "refused: phone: right but 90 s ahead, check the clocks\n"
    host.fail(3)
    assert reason(host.code(secret, 1)) == "refused: right, but waiting: from some sources 30 s to go\n"
    assert reason(host.wrong(secret)) == "refused: wrong, but waiting: from some sources 30 s to go\n"
    host.configure("lock_after = 10\n")
    host.fail(7, apart=3600, rhost="203.0.113.1")
    out = reason(host.code(secret))
    assert out == "refused: right, but the account is locked for new sources: run pam-totp unlock alice\n"


@pytest.mark.parametrize("pending", [True, False])
def test_who_is_not_asked_has_no_code_that_counts(pending: bool, command: Command, host: Host) -> None:
    code = host.code(host.enroll(ALICE, state=PENDING)) if pending else "123456"
    ran = command("check", "alice", piped=code)
    assert ran.code == 1
    assert "alice has no active authenticator and is not asked" in ran.out


def test_the_code_of_an_owner_counts_for_an_alias(command: Command, host: Host, passwd: Passwd) -> None:
    secret = host.enroll()
    passwd.add("alias", ALICE.uid)
    assert command("check", "alias", piped=host.code(secret)).code == 0


def test_who_is_not_known_is_refused_without_a_question(command: Command) -> None:
    assert command("check", "mallory", typed=()).code == 2


def test_no_code_is_logged(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    secret = host.enroll()
    command("check", "alice", piped=host.code(secret))
    assert journal == []
