"""reset: removes after asking."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from pam_totp.factors import invitation
from tests.unit.cli.conftest import CTRL_C
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Disk, Passwd
    from tests.unit.pretend import Host


def labels(host: Host) -> list[str]:
    return [each.label for each in host.account().authenticators]


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n", " yes \n"])
def test_all_authenticators_are_removed_after_a_yes(answer: str, command: Command, host: Host) -> None:
    host.enroll(ALICE, "phone")
    host.enroll(ALICE, "fob")
    host.enroll(BOB)
    ran = command("reset", "alice", typed=(answer,))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "Remove all authenticators of alice? [y/N] "
        "alice: removed all authenticators; at the next login alice is not asked for a code\n"
    )
    assert host.account(ALICE).empty
    assert host.account(BOB).active
    assert host.login("alice").reason == "not-enrolled"


@pytest.mark.parametrize("answer", ["\n", "n\n", "no\n", "yess\n", "", "1\n"])
def test_anything_else_changes_nothing(answer: str, command: Command, host: Host) -> None:
    host.enroll()
    before = host.snapshot()
    ran = command("reset", "alice", typed=(answer,))
    assert ran.code == 1
    assert ran.out.endswith("nothing changed\n")
    assert host.snapshot() == before


def test_breaking_off_changes_nothing(command: Command, host: Host) -> None:
    host.enroll()
    assert command("reset", "alice", typed=(CTRL_C,)).code == 1
    assert host.account().active


def test_with_yes_nothing_is_asked(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("reset", "alice", "--yes", piped="")
    assert (ran.code, ran.out) == (
        0,
        "alice: removed all authenticators; at the next login alice is not asked for a code\n",
    )


def test_without_a_terminal_yes_must_be_said(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("reset", "alice", piped="y\n")
    assert (ran.code, ran.out) == (2, "")
    assert "add --yes" in ran.err
    assert host.account().active


def test_one_authenticator_is_removed_by_its_label(command: Command, host: Host) -> None:
    phone = host.enroll(ALICE, "phone")
    host.enroll(ALICE, "fob")
    ran = command("reset", "alice", "--label", "fob", "--yes")
    assert (ran.code, ran.out) == (0, "alice: removed the authenticator 'fob'; left: phone\n")
    assert labels(host) == ["phone"]
    assert host.login("alice", host.code(phone)).reason == "code"


@pytest.mark.parametrize("label", ["phone", "fob"])
def test_with_its_label_a_pending_one_is_cancelled_and_nothing_else(label: str, command: Command, host: Host) -> None:
    secret = host.enroll(ALICE, "phone")
    host.login("alice", host.wrong(secret))
    assert command("enroll", "alice", "--no-confirm", "--label", label).code == 0
    ran = command("reset", "alice", "--label", label, typed=("y\n",))
    assert ran.out == (
        f"Remove the pending authenticator '{label}' of alice? [y/N] "
        f"alice: removed the pending authenticator '{label}'; left: phone\n"
    )
    assert [each.state for each in host.account().authenticators] == ["active"]
    assert (host.account().issued, host.account().ledger.row) == (None, 1)
    assert host.login("alice", host.code(secret)).reason == "code"
    assert "alice is not asked for a code" in command("reset", "alice", "--label", "phone", "--yes").out


def test_what_becomes_active_while_it_asks_is_not_removed(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll(state=PENDING)

    def confirmed(_: str) -> bool:
        host.change(lambda account: setattr(account.authenticators[0], "state", "active"))
        return True

    monkeypatch.setattr("pam_totp.cli.common.sure", confirmed)
    ran = command("reset", "alice", "--label", "phone")
    assert (ran.code, "changed meanwhile" in ran.err) == (2, True)
    assert host.account().active


def test_a_cancelled_enrolment_leaves_the_invitation(command: Command, host: Host) -> None:
    code = command("invite", "alice").out.strip()
    command("enroll", "alice", "--no-confirm")
    command("reset", "alice", "--label", "phone", "--yes")
    with host.accounts() as accounts:
        assert invitation.matches(accounts.find(ALICE), code, accounts.sealer)


def test_the_question_says_which(command: Command, host: Host) -> None:
    host.enroll(ALICE, "fob")
    assert command("reset", "alice", "--label", "fob", typed=("n\n",)).out.startswith(
        "Remove the authenticator 'fob' of alice? [y/N] "
    )


def test_where_only_a_pending_one_is_left_that_is_told(command: Command, host: Host) -> None:
    host.enroll(ALICE, "phone")
    host.enroll(ALICE, "fob", PENDING)
    ran = command("reset", "alice", "--label", "phone", "--yes")
    assert (
        ran.out
        == "alice: removed the authenticator 'phone'; left: fob; at the next login alice is not asked for a code\n"
    )


@pytest.mark.parametrize("words", [[], ["--label", "other"]])
def test_where_there_is_nothing_to_remove_the_answer_is_no(words: list[str], command: Command, host: Host) -> None:
    if words:
        host.enroll()
    ran = command("reset", "alice", "--yes", *words)
    assert (ran.code, ran.out) == (1, "")
    assert "alice has no such authenticator" in ran.err
    assert len(labels(host)) == len(words) // 2


def test_failures_and_the_lock_go_with_the_authenticators_and_what_is_spent_stays(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))
    host.fail(3)
    backup = host.snapshot()
    command("reset", "alice", "--yes")
    assert (host.account().ledger.row, host.account().ledger.longest_wait(host.now())) == (0, 0)
    host.put_back(backup)
    # What was removed does not come back in this boot; nor, after another reset, does what was spent.
    assert host.login("alice").reason == "cache-damaged"
    assert command("reset", "alice", "--yes").code == 0
    assert host.account().ledger.marks != {}


def test_an_alias_stands_for_its_owner(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alias", ALICE.uid)
    assert command("reset", "alias", "--yes").out.startswith("alice: removed")
    assert host.account().empty


def test_the_record_of_somebody_who_is_gone_can_be_removed(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    del passwd["alice"]
    assert command("reset", "alice", "--yes").code == 0
    ran = command("reset", "alice", "--yes")
    assert ran.code == 2
    assert "no such user and no such record" in ran.err


def test_a_changed_uid_is_mended(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alice", 1005)
    assert host.login("alice").reason == "uid-changed"
    assert command("reset", "alice", "--yes").code == 0
    assert host.login("alice").reason == "not-enrolled"
    assert command("status").code == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE account SET ledger = X'00' WHERE name = 'alice'",
        "UPDATE account SET uid = 1 WHERE name = 'alice'",
        "UPDATE authenticator SET secret = X'00' WHERE name = 'alice'",
        "DELETE FROM authenticator WHERE name = 'alice'",
        "DELETE FROM account WHERE name = 'alice'",
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_record_is_removed_as_a_whole_and_only_so(
    damage: str, known: bool, command: Command, host: Host, passwd: Passwd
) -> None:
    host.enroll(ALICE)
    host.enroll(BOB)
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute(damage)
    connection.close()
    if not known:
        del passwd["alice"]
    assert command("status").code == 3
    assert command("reset", "alice", "--label", "phone", "--yes").code == 3
    assert command("reset", "alice", "--yes").code == 0
    assert command("status").code == 0
    assert host.account(ALICE).empty
    assert host.account(BOB).active


def test_on_a_full_disk_nothing_is_removed(command: Command, host: Host, disk: Disk) -> None:
    host.enroll()
    disk.full = True
    ran = command("reset", "alice", "--yes")
    assert (ran.code, ran.out) == (3, "")
    disk.full = False
    assert host.account().active


def test_a_removal_is_logged(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    host.enroll(ALICE, "phone")
    host.enroll(ALICE, "fob")
    command("reset", "alice", "--label", "fob", "--yes")
    command("reset", "alice", "--yes")
    assert [line for _, line in journal] == [
        'pam-totp: user=alice action=reset by=root detail="label fob"',
        "pam-totp: user=alice action=reset by=root detail=all",
    ]
