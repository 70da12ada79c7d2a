"""rename: moves a record after asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.conftest import CTRL_C
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Disk, Passwd
    from tests.unit.pretend import Host


@pytest.fixture(autouse=True)
def alicia(passwd: Passwd) -> None:
    """alice was renamed."""
    del passwd["alice"]
    passwd.add("alicia", ALICE.uid)


def test_a_record_is_moved_after_a_yes_and_that_is_logged(
    command: Command, host: Host, passwd: Passwd, journal: list[tuple[int, str]]
) -> None:
    passwd.add("alice", ALICE.uid)
    secret = host.enroll()
    del passwd["alice"]
    assert host.login("alicia").reason == "name-changed"
    ran = command("rename", "alice", "alicia", typed=("y\n",))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Move the record of alice (uid 1001) to alicia?")
    assert ran.out.endswith("alicia: has the record of alice now\n")
    assert 'user=alicia action=rename by=root detail="from alice"' in journal[-1][1]
    assert host.login("alicia", host.code(secret)).reason == "code"


@pytest.mark.parametrize("answer", ["\n", "n\n", "", CTRL_C])
def test_anything_but_a_yes_changes_nothing(answer: str, command: Command, host: Host) -> None:
    host.enroll()
    before = host.snapshot()
    assert command("rename", "alice", "alicia", typed=(answer,)).code == 1
    assert host.snapshot() == before


def test_with_yes_nothing_is_asked_and_without_a_terminal_it_is_needed(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("rename", "alice", "alicia", piped="")
    assert ran.code == 2
    assert "add --yes" in ran.err
    assert command("rename", "alice", "alicia", "--yes", piped="").code == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("alice", "nobody-here", "no such user"),
        ("mallory", "alicia", "no record of 'mallory'"),
        ("alicia", "alicia", "the name that the record has already"),
        ("alice", "bob", "is for uid 1001, and bob has 1002"),
    ],
)
def test_what_is_no_renaming_is_refused(old: str, new: str, said: str, command: Command, host: Host) -> None:
    host.enroll()
    before = host.snapshot()
    ran = command("rename", old, new, "--yes")
    assert ran.code == 2
    assert said in ran.err
    assert host.snapshot() == before


def test_the_new_name_is_taken_as_nss_spells_it(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("ALICIA", ALICE.uid, spelled="alicia")
    assert command("rename", "alice", "ALICIA", "--yes").out == "alicia: has the record of alice now\n"


def test_a_full_disk_is_told_and_nothing_is_moved(command: Command, host: Host, disk: Disk) -> None:
    host.enroll()
    before = host.snapshot()
    disk.full = True
    ran = command("rename", "alice", "alicia", "--yes")
    assert ran.code == 3
    assert "free space" in ran.err
    disk.full = False
    assert host.snapshot() == before


def test_a_record_that_goes_while_the_question_is_asked_is_not_moved(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll()

    def away(_: str) -> bool:
        with host.accounts() as accounts:
            accounts.save(accounts.unreadable("alice"))
        return True

    monkeypatch.setattr("pam_totp.cli.common.sure", away)
    ran = command("rename", "alice", "alicia")
    assert ran.code == 2
    assert "changed meanwhile" in ran.err


def test_two_who_exchange_names_do_not_wait_for_each_other(
    command: Command, host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll()
    taken: list[str] = []
    accounts_lock = host.accounts().__class__.lock

    def lock(this: object, name: str) -> object:
        taken.append(name)
        return accounts_lock(this, name)  # type: ignore[arg-type]  # it is an Accounts

    monkeypatch.setattr(host.accounts().__class__, "lock", lock)
    assert command("rename", "alice", "alicia", "--yes").code == 0
    passwd.add("alice", ALICE.uid)
    assert command("rename", "alicia", "alice", "--yes").code == 0
    assert taken == ["alice", "alicia"] * 2


def test_others_keep_what_they_have(command: Command, host: Host) -> None:
    host.enroll()
    secret = host.enroll(BOB)
    command("rename", "alice", "alicia", "--yes")
    assert host.login("bob", host.code(secret)).reason == "code"
