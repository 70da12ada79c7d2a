"""unlock: clears failures, wait and lock; what is spent stays spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.pretend import ALICE, HERE, STEP

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host


def test_a_wait_is_ended(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.fail(3)
    assert host.login("alice", rhost=HERE).reason == "throttled"
    ran = command("unlock", "alice")
    assert (ran.code, ran.out, ran.err) == (0, "alice: failures, waits and lock are cleared\n", "")
    assert host.login("alice", host.code(secret), rhost=HERE).reason == "code"


def test_a_lock_is_ended(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.configure("lock_after = 10\n")
    host.fail(10, apart=3600)
    assert host.login("alice").reason == "locked"
    assert command("unlock", "alice").code == 0
    assert host.login("alice", host.code(secret)).reason == "code"


def test_the_limit_of_a_day_is_ended(command: Command, host: Host) -> None:
    secret = host.enroll()
    for number in range(24):
        host.fail(1, rhost=f"203.0.113.{number}")
    assert host.login("alice").reason == "throttled"
    assert command("unlock", "alice").code == 0
    assert host.login("alice", host.code(secret)).reason == "code"


def test_a_spent_code_stays_spent(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))
    assert command("unlock", "alice").code == 0
    assert host.login("alice", host.code(secret)).reason == "spent-code"


def test_a_mark_in_the_future_is_lowered_to_now(command: Command, host: Host) -> None:
    secret = host.enroll()
    host.wall += 86_400
    assert host.login("alice", host.code(secret)).reason == "code"
    host.wall -= 86_400
    assert host.login("alice", host.code(secret)).reason == "spent-code"
    assert command("unlock", "alice").code == 0
    assert host.login("alice", host.code(secret)).reason == "spent-code"
    host.later(2 * STEP)
    assert host.login("alice", host.code(secret)).reason == "code"


def test_who_has_no_record_has_nothing_to_unlock(command: Command, host: Host) -> None:
    ran = command("unlock", "alice")
    assert (ran.code, ran.out) == (1, "")
    assert "alice has no record: nothing to unlock" in ran.err


def test_who_is_not_known_is_refused(command: Command) -> None:
    assert command("unlock", "mallory").code == 2


def test_an_alias_stands_for_its_owner(command: Command, host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alias", ALICE.uid)
    host.fail(3)
    assert command("unlock", "alias").out.startswith("alice:")
    assert host.account().ledger.row == 0
