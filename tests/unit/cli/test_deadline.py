"""deadline: until when users have to enrol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.pretend import ALICE

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

DAY = 86_400


@pytest.fixture(autouse=True)
def two_days(host: Host) -> None:
    host.configure('[enrollment]\nperiod = "2d"\nafter = "deny"\n')


def test_the_deadlines_that_have_begun_are_listed(command: Command, host: Host) -> None:
    assert command("deadline").out == "no deadline has begun\n"
    host.login("alice")
    host.later(DAY)
    host.login("bob")
    assert command("deadline").out == (
        "USER   UNTIL (UTC)       LEFT\nalice  2023-11-16 22:13  24 h\nbob    2023-11-17 22:13  2 days\n"
    )
    host.later(DAY)
    assert "alice  over              -\n" in command("deadline").out
    host.enroll(ALICE)
    assert "alice" not in command("deadline").out


def test_a_deadline_is_extended_from_where_it_was(command: Command, host: Host) -> None:
    host.login("alice")
    host.later(DAY)
    ran = command("deadline", "alice", "--extend", "12h")
    assert (ran.code, ran.out) == (0, "alice: 36 h left\n")
    assert host.login("alice").detail == "36 h left"


def test_a_deadline_that_is_over_is_extended_from_now(command: Command, host: Host) -> None:
    host.login("alice")
    host.later(10 * DAY)
    assert host.login("alice").reason == "not-enrolled"
    assert command("deadline", "alice", "--extend", "1d").out == "alice: 24 h left\n"
    assert host.login("alice").reason == "grace"
    host.later(DAY)
    assert host.login("alice").reason == "not-enrolled"


def test_a_deadline_that_has_not_begun_begins_when_it_is_extended(command: Command, host: Host) -> None:
    assert command("deadline", "alice", "--extend", "1d").out == "alice: 3 days left\n"
    host.later(DAY)
    assert host.login("alice").detail == "2 days left"


def test_a_deadline_is_ended_whatever_is_configured_later(command: Command, host: Host) -> None:
    host.login("alice")
    assert command("deadline", "alice", "--end").out == "alice: over\n"
    assert host.login("alice").reason == "not-enrolled"
    host.configure('[enrollment]\nperiod = "365d"\nafter = "deny"\n')
    assert host.login("alice").reason == "not-enrolled"


@pytest.mark.parametrize("words", [[], ["--end", "--extend", "1d"], ["--extend", "soon"], ["--extend", "0d"]])
def test_anything_else_is_a_usage_error(words: list[str], command: Command, host: Host) -> None:
    ran = command("deadline", "alice", *words)
    assert (ran.code, ran.out) == (2, "")
    assert host.account().empty


def test_who_is_enrolled_has_no_deadline(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("deadline", "alice", "--end")
    assert ran.code == 2
    assert "there is no deadline" in ran.err


def test_a_change_is_logged(command: Command, journal: list[tuple[int, str]]) -> None:
    command("deadline", "alice", "--end")
    assert [line for _, line in journal] == ["pam-totp: user=alice action=deadline by=root detail=over"]
