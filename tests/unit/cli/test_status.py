"""status: who is enrolled, for people and for programs."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from pam_totp.host import pinned
from pam_totp.host.config import Config
from pam_totp.host.users import User
from pam_totp.login.attempt import Request
from pam_totp.selfservice import verbs
from tests.unit.pretend import ALICE, BOB, Script

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host

NOW = "2023-11-14T22:13:45Z"  # where the clock of the tests stands


def test_where_nobody_is_enrolled_that_is_told(command: Command) -> None:
    ran = command("status")
    assert (ran.code, ran.out, ran.err) == (0, "nobody is enrolled: start with pam-totp enroll USER\n", "")
    assert command("status", "--json").json == []


def test_the_table_has_a_line_for_each_user(command: Command, host: Host) -> None:
    secret = host.enroll(ALICE)
    host.enroll(ALICE, "key fob", PENDING)
    host.enroll(BOB, state=PENDING)
    host.login("alice", host.code(secret))
    host.fail(3)
    ran = command("status")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "USER   STATE    AUTHENTICATORS            ENROLLED (UTC)    LAST LOGIN (UTC)  FAILURES  WAIT\n"
        "alice  active   phone, key fob (pending)  2023-11-14 22:13  2023-11-14 22:13  3         30 s\n"
        "bob    pending  phone (pending)           2023-11-14 22:13  -                 0         -\n"
    )


def test_json_is_a_list_of_objects(command: Command, host: Host) -> None:
    secret = host.enroll(ALICE)
    host.login("alice", host.code(secret))
    host.fail(3)
    ran = command("status", "--json")
    assert (ran.code, ran.err) == (0, "")
    [alice] = ran.json
    assert alice["authenticators"] == [{"label": "phone", "state": "active", "source": "local", "enrolled": NOW}]
    assert {key: alice[key] for key in ("user", "state", "failures", "retry_at", "last_success")} == {
        "user": "alice",
        "state": "active",
        "failures": 3,
        "retry_at": "2023-11-14T22:14:15Z",
        "last_success": NOW,
    }


def test_the_states_are_those_that_were_promised(command: Command, host: Host, passwd: Passwd) -> None:
    def state(user: str) -> tuple[str, object, object]:
        [each] = command("status", user, "--json").json
        return each["state"], each["retry_at"], each["last_success"]

    assert state("alice") == ("none", None, None)
    host.enroll(ALICE, state=PENDING)
    assert state("alice") == ("pending", None, None)
    host.enroll(ALICE, "fob")
    assert state("alice") == ("active", None, None)
    host.configure("lock_after = 10\n")
    host.fail(10, apart=3600)
    assert state("alice")[:2] == ("locked", None)
    # Not a time, after which nothing would change.
    assert command("status").out.splitlines()[1].split()[-2:] == ["10", "locked"]
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "lost phone"]))
    assert state("alice")[0] == "exempt"


def test_the_wait_is_that_of_the_configured_window_and_shown_also_where_the_configuration_is_broken(
    command: Command, host: Host
) -> None:
    host.enroll()
    host.configure("window = 10\n")
    for number in range(4):
        host.fail(1, rhost=f"203.0.113.{number}")
    assert command("status", "alice", "--json").json[0]["retry_at"] == "2023-11-15T22:13:45Z"
    host.configure("window = none\n")
    ran = command("status", "alice", "--json")
    assert (ran.code, ran.json[0]["retry_at"]) == (3, None)
    assert "every login is refused" in ran.err


@pytest.mark.usefixtures("quick_hash")
def test_programs_of_root_are_told_all_that_a_users_own_are(command: Command, host: Host) -> None:
    secret = host.enroll()
    command("recovery", "alice")
    host.login("alice", host.code(secret))
    visit = verbs.Visit(ALICE, Request("alice", verbs.SERVICE), Config(), host.paths, host.now, Script())
    assert verbs.status(visit, as_json=True) == 0
    [said] = visit.conversation.told  # type: ignore[attr-defined]  # the script's
    assert command("status", "alice", "--json").json == [json.loads(said)]
    assert json.loads(said)["recovery_codes"] == 10


def test_users_are_shown_in_the_order_they_are_asked_for(command: Command, host: Host) -> None:
    host.enroll(BOB)
    assert [each["user"] for each in command("status", "bob", "alice", "--json").json] == ["bob", "alice"]


def test_the_latest_refusals_of_a_user_are_shown_with_the_user(command: Command, host: Host) -> None:
    host.enroll()
    with host.accounts() as accounts:
        for number in range(7):
            accounts.record_event(
                int(host.wall) + number, "alice", f"outcome=refused reason=wrong-code number={number}"
            )
    assert "refusals" not in command("status").out
    out = command("status", "alice").out
    assert "\nlatest refusals of alice:\n" in out
    assert [line.rpartition("=")[2] for line in out.splitlines() if "number=" in line] == list("65432")
    assert "2023-11-14T22:13:51Z" in out


def test_an_alias_is_shown_as_its_owner(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alias", ALICE.uid)
    assert [each["user"] for each in command("status", "alias", "--json").json] == ["alice"]


def test_a_record_whose_name_is_gone_is_marked(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    host.enroll(BOB, state="pending")
    passwd.clear()
    assert "alice (no such user: rename or reset it)" in command("status").out
    assert "bob (stale: no such user)" in command("status", "bob").out


def test_a_changed_uid_is_marked(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alice", 1005)
    assert "alice (uid changed: was 1001, is 1005)" in command("status").out


def test_who_is_neither_known_nor_recorded_is_refused(command: Command) -> None:
    ran = command("status", "alice", "mallory")
    assert (ran.code, ran.out) == (2, "")
    assert "no such user and no such record: 'mallory'" in ran.err


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_damage_is_told_and_what_is_whole_is_shown_all_the_same(words: list[str], command: Command, host: Host) -> None:
    host.enroll(ALICE)
    host.enroll(BOB)
    damage(host, "UPDATE account SET ledger = X'00' WHERE name = 'alice'")
    ran = command("status", *words)
    assert ran.code == 3
    assert "damaged: the record of alice" in ran.err
    assert "bob" in ran.out
    assert "alice" not in ran.out
    if words:
        assert [each["user"] for each in ran.json] == ["bob"]


def test_a_record_that_is_gone_is_told(command: Command, host: Host) -> None:
    host.enroll(ALICE)
    damage(host, "DELETE FROM account")
    ran = command("status")
    assert ran.code == 3
    assert "the record of alice is gone" in ran.err


def test_the_damaged_record_of_one_user_is_an_error(command: Command, host: Host) -> None:
    host.enroll(ALICE)
    damage(host, "UPDATE authenticator SET label = 'other'")
    ran = command("status", "alice")
    assert (ran.code, ran.out) == (3, "")
    assert "the record of alice is damaged" in ran.err


def test_events_that_cannot_be_read_hide_nothing_else(command: Command, host: Host) -> None:
    host.enroll(ALICE)
    damage(host, "DROP TABLE event")
    assert "alice" in command("status", "alice").out


def damage(host: Host, statement: str) -> None:
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute(statement)
    connection.close()


def test_looking_changes_nothing(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))
    before, in_run = host.snapshot(), _written(host)
    for words in ([], ["--json"], ["alice"], ["bob"], ["--all"], ["--missing"]):
        command("status", *words)
    assert host.snapshot() == before
    assert _written(host) == in_run


def _written(host: Host) -> dict[str, tuple[int, int]]:
    """The files in /run, and when each was written; that they were read is no change."""
    found = {name: os.stat(f"{host.paths.run}/{name}") for name in os.listdir(host.paths.run)}
    return {name: (each.st_ino, each.st_mtime_ns) for name, each in found.items()}


# Everybody who can log in


def test_all_has_who_can_log_in_and_who_has_a_record_and_what_a_login_would_come_to(
    command: Command, host: Host, passwd: Passwd
) -> None:
    host.enroll(ALICE)
    host.enroll(User("gone", 1009))
    passwd.add("carol", 1003)
    ran = command("status", "--all")
    assert (ran.code, ran.err) == (0, "")
    assert [(line.split()[0], line.rpartition("  ")[2]) for line in ran.out.split("\n\n")[0].splitlines()[1:]] == [
        ("alice", "code"),
        ("bob", "no code (not-enrolled)"),
        ("carol", "no code (not-enrolled)"),
        ("gone", "-"),
    ]
    assert ran.out.endswith("\n\n3 users can log in over SSH; not enrolled: 2 (bob, carol)\nwould be refused: nobody\n")
    host.configure('unenrolled = "deny"\n[[rule]]\nusers = ["bob"]\nunenrolled = "enroll"\n')
    found = {each["user"]: each["login"] for each in command("status", "--all", "--json").json}
    assert found == {"alice": "code", "bob": "enrols", "carol": "refused (not-enrolled)", "gone": "-"}


def test_missing_has_only_who_can_log_in_and_is_not_enrolled(command: Command, host: Host) -> None:
    host.enroll(ALICE)
    host.enroll(BOB, state=PENDING)
    [bob] = command("status", "--missing", "--json").json
    assert (bob["user"], bob["state"], bob["login"]) == ("bob", "pending", "no code (pending)")
    host.change(lambda account: setattr(account.authenticators[0], "state", "active"), BOB)
    out = command("status", "--missing").out
    assert out == "2 users can log in over SSH; not enrolled: nobody\nwould be refused: nobody\n"


def test_a_record_that_cannot_be_used_refuses_and_is_shown_so(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll(ALICE)
    passwd.add("alice", 1005)
    [alice, _] = command("status", "--all", "--json").json
    assert (alice["state"], alice["login"]) == ("unusable", "refused (uid-changed)")
    assert "would be refused: 1 (alice)" in command("status", "--all").out


def test_another_name_of_somebody_who_is_enrolled_is_judged_as_at_a_login(
    command: Command, host: Host, passwd: Passwd
) -> None:
    host.enroll(ALICE)
    passwd.add("alias", ALICE.uid)
    rule = '[[rule]]\nusers = ["alice"]\nmfa = "require"\n[[rule]]\nmfa = "skip"\n'
    host.configure(rule)
    found = [each["login"] for each in command("status", "--all", "--json").json]
    assert found == ["code", "code", "no code (rule)"]  # alice, under both names, and bob


def test_robots_of_setup_are_neither_missing_nor_refused(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.configure('unenrolled = "deny"\n')
    pin = pinned.Pin("sshd", "key", "pam_totp", ["bob@192.0.2.1"], enforce=False, revert=None)
    monkeypatch.setattr(pinned, "load", lambda *_: pin)
    found = {each["user"]: each["login"] for each in command("status", "--all", "--json").json}
    assert found == {"alice": "refused (not-enrolled)", "bob": "key alone"}
    assert "not enrolled: 1 (alice)\nwould be refused: 1 (alice)" in command("status", "--missing").out


def test_many_names_are_counted_and_the_first_are_named(command: Command, passwd: Passwd) -> None:
    for number in range(12):
        passwd.add(f"user{number:02}", 2000 + number)
    assert "not enrolled: 14 (alice, bob, user00, " in command("status", "--missing").out
    assert "user07 and 4 more)" in command("status", "--missing").out


@pytest.mark.parametrize("words", [("--all", "--missing"), ("alice", "--all"), ("alice", "--missing")])
def test_only_one_of_them_is_asked_for(words: tuple[str, ...], command: Command) -> None:
    assert command("status", *words).code == 2


def test_with_a_configuration_that_is_broken_or_gone_nobody_is_said_to_get_in(command: Command, host: Host) -> None:
    host.configure("windows = 1")
    assert command("status", "--all").code == 3
    os.unlink(host.paths.config)
    assert command("status", "--missing").code == 3


def test_no_secret_is_shown(command: Command, host: Host) -> None:
    secret = host.enroll()
    for words in ([], ["--json"], ["alice"], ["alice", "--json"]):
        out = command("status", *words).out
        assert base64.b32encode(secret).decode() not in out.upper()
        assert secret.hex() not in out.lower()
