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


def test_without_options_the_entry_is_shown(command: Command, host: Host) -> None:
    ran = command("deadline", "alice")
    assert (ran.code, ran.out) == (1, "alice has no deadline yet: the first login begins it\n")
    host.login("alice")
    host.login("bob")
    ran = command("deadline", "alice")
    assert (ran.code, ran.out) == (0, "USER   UNTIL (UTC)       LEFT\nalice  2023-11-16 22:13  2 days\n")
    host.enroll(ALICE)
    assert (command("deadline", "alice").code, command("deadline", "mallory").code) == (1, 2)


@pytest.mark.parametrize(
    ("until", "left"), [("2023-11-20", "7 days"), ("2023-11-15T10:13:45Z", "12 h"), ("3d", "3 days")]
)
@pytest.mark.parametrize("begun", [True, False])
def test_a_deadline_may_be_a_date_whatever_is_configured_later(
    until: str, left: str, begun: bool, command: Command, host: Host
) -> None:
    if begun:
        host.login("alice")
    ran = command("deadline", "alice", "--until", until)
    assert (ran.code, ran.out.endswith(f" UTC, {left} left\n")) == (0, True), ran
    host.configure('[enrollment]\nperiod = "1d"\nafter = "deny"\n')
    outcome = host.login("alice")
    assert (outcome.reason, outcome.detail) == ("grace", f"{left} left")
    assert command("deadline", "alice").out.splitlines()[1].endswith(left)
    host.later(8 * DAY)
    assert host.login("alice").reason == "not-enrolled"


def test_a_date_is_extended_and_ended_too_and_goes_with_the_enrolment(command: Command, host: Host) -> None:
    command("deadline", "alice", "--until", "2023-11-15T22:13:45Z")
    out = command("deadline", "alice", "--extend", "1d").out
    assert out == "alice: until 2023-11-16 22:13 UTC, 2 days left\n"
    assert command("deadline", "alice", "--end").out == "alice: over\n"
    assert host.login("alice").reason == "not-enrolled"
    assert command("deadline", "alice", "--extend", "1d").out == "alice: 24 h left\n"
    assert host.login("alice").reason == "grace"


def test_everybody_may_have_the_same_date(command: Command, host: Host) -> None:
    host.configure('[enrollment]\nuntil = 2023-11-20\nafter = "deny"\n')
    said = "for everybody without a deadline of their own: 2023-11-20 23:59 UTC\n"
    before = host.snapshot()
    assert host.login("alice").reason == "grace"
    assert host.snapshot() == before
    assert command("deadline").out == said
    assert command("deadline", "bob", "--extend", "1d").out == "bob: until 2023-11-21 23:59 UTC, 8 days left\n"
    assert command("deadline").out == f"{said}USER  UNTIL (UTC)       LEFT\nbob   2023-11-21 23:59  8 days\n"
    host.later(7 * DAY)
    assert host.login("alice").reason == "not-enrolled"
    assert host.login("bob").reason == "grace"
    assert command("deadline", "alice", "--extend", "1d").out.endswith("24 h left\n")
    assert host.login("alice").reason == "grace"
    command("deadline", "bob", "--end")
    assert host.login("bob").reason == "not-enrolled"


@pytest.mark.parametrize(
    "words",
    [
        *(["alice", "--end", "--extend", "1d"], ["alice", "--extend", "soon"], ["alice", "--extend", "0d"]),
        *(["alice", "--until", "2d", "--end"], ["alice", "--until", "2023-11-13"], ["--end"], ["--until", "2d"]),
    ],
)
def test_anything_else_is_a_usage_error(words: list[str], command: Command, host: Host) -> None:
    ran = command("deadline", *words)
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
