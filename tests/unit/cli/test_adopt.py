"""adopt: a record for the uid that its user has now, after asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.host.users import User
from tests.unit.cli.conftest import CTRL_C
from tests.unit.pretend import BOB

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Disk, Passwd
    from tests.unit.pretend import Host

NOW = User("alice", 1005)


@pytest.fixture
def secret(host: Host, passwd: Passwd) -> bytes:
    """What alice enrolled with before her uid was changed."""
    secret = host.enroll()
    host.login("alice", host.code(secret, -1))
    passwd.add(NOW.name, NOW.uid)
    return secret


def test_a_record_is_adopted_after_a_yes_and_what_was_used_stays_used(
    command: Command, host: Host, secret: bytes, journal: list[tuple[int, str]]
) -> None:
    older = host.snapshot()
    outcome = host.login("alice")
    assert outcome.reason == "uid-changed"
    assert "pam-totp adopt alice" in outcome.detail
    ran = command("adopt", "alice", typed=("y\n",))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("The record of alice is for uid 1001, and alice has uid 1005 now.\n")
    assert ran.out.endswith("alice: the record is for uid 1005 now\n")
    assert 'user=alice action=adopt by=root detail="uid 1005, was 1001"' in journal[-1][1]
    assert host.login("alice", host.code(secret, -1)).reason == "spent-code"
    assert host.login("alice", host.code(secret)).reason == "code"
    assert command("status").code == 0
    # Also in an older cache, of before
    host.put_back(older)
    command("adopt", "alice", "--yes")
    assert host.login("alice", host.code(secret)).reason == "spent-code"


@pytest.mark.parametrize("answer", ["\n", "n\n", "", CTRL_C])
def test_anything_but_a_yes_changes_nothing(answer: str, command: Command, host: Host, secret: bytes) -> None:
    before = host.snapshot()
    assert command("adopt", "alice", typed=(answer,)).code == 1
    assert host.snapshot() == before


def test_without_a_terminal_yes_must_be_said(command: Command, secret: bytes) -> None:
    ran = command("adopt", "alice", piped="y\n")
    assert (ran.code, "add --yes" in ran.err) == (2, True)


def test_where_nothing_changed_that_is_told(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("adopt", "alice")
    assert (ran.code, ran.out) == (0, "alice: the record is for uid 1001 already\n")
    assert command("adopt", "bob").code == 2
    assert command("adopt", "mallory").code == 2


def test_a_uid_that_is_enrolled_under_another_name_is_refused(
    command: Command, host: Host, passwd: Passwd, secret: bytes
) -> None:
    host.enroll(BOB)
    passwd.add("alice", BOB.uid)
    before = host.snapshot()
    ran = command("adopt", "alice", "--yes")
    assert (ran.code, "uid 1002 is enrolled as bob" in ran.err) == (2, True)
    assert host.snapshot() == before


def test_a_record_that_goes_while_the_question_is_asked_is_not_adopted(
    command: Command, host: Host, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> bool:
        with host.accounts() as accounts:
            accounts.save(accounts.unreadable("alice"))
        return True

    monkeypatch.setattr("pam_totp.cli.common.sure", away)
    ran = command("adopt", "alice")
    assert (ran.code, "changed meanwhile" in ran.err) == (2, True)


def test_a_full_disk_is_told_and_nothing_is_adopted(command: Command, host: Host, secret: bytes, disk: Disk) -> None:
    before = host.snapshot()
    disk.full = True
    assert command("adopt", "alice", "--yes").code == 3
    disk.full = False
    assert host.snapshot() == before
