"""exempt: in without a code until a date, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

# The clock of the tests stands at 2023-11-14T22:13:45Z.


def test_a_user_is_let_in_until_the_end_of_the_day_in_utc(command: Command, host: Host) -> None:
    secret = host.enroll()
    ran = command("exempt", "alice", "--until", "2023-11-15", "--reason", "lost phone")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "alice is exempt until 2023-11-15 23:59 UTC: no code is asked for, and each use is logged\n"
    outcome = host.login("alice")
    assert (outcome.reason, outcome.detail) == ("exempt", "reason given: lost phone")
    host.wall = 1_700_092_799  # its last second
    assert host.login("alice", host.code(secret)).reason == "code"
    host.wall -= 1
    assert host.login("alice").reason == "exempt"


@pytest.mark.parametrize("until", ["2023-11-15T18:00:00Z", "2023-11-15T18:00:00", "2023-11-15T19:00:00+01:00"])
def test_a_time_may_be_given(until: str, command: Command, host: Host) -> None:
    command("exempt", "alice", "--until", until, "--reason", "x")
    assert host.account().ledger.exemption == [1_700_071_200, "x"]


@pytest.mark.parametrize(
    "until", ["2023-11-13", "2023-11-14T22:13:45Z", "tomorrow", "2023-13-01", "2023-11-15T25:00:00Z"]
)
def test_a_date_that_is_over_or_none_is_refused(until: str, command: Command, host: Host) -> None:
    ran = command("exempt", "alice", "--until", until, "--reason", "x")
    assert (ran.code, ran.out) == (2, "")
    assert host.account().empty


@pytest.mark.parametrize(
    "words",
    [
        *(["--until", "2023-11-15"], ["--reason", "x"], ["--until", "2023-11-15", "--reason", ""]),
        *(["--end", "--until", "2023-11-15", "--reason", "x"], ["--end", "--reason", "x"]),
        *(["--until", "2023-11-15", "--reason", "x" * 101], ["--until", "2023-11-15", "--reason", "a\nb"]),
    ],
)
def test_there_is_no_exemption_without_an_end_and_a_reason(words: list[str], command: Command, host: Host) -> None:
    ran = command("exempt", "alice", *words)
    assert (ran.code, ran.out) == (2, "")
    assert host.account().empty


def test_without_options_the_entry_is_shown(command: Command) -> None:
    ran = command("exempt", "alice")
    assert (ran.code, ran.out) == (1, "alice is not exempt\n")
    command("exempt", "alice", "--until", "2023-11-15", "--reason", "lost phone")
    command("exempt", "bob", "--until", "2023-11-15", "--reason", "travels")
    ran = command("exempt", "alice")
    assert (ran.code, ran.out) == (0, "USER   UNTIL (UTC)       REASON\nalice  2023-11-15 23:59  lost phone\n")
    assert command("exempt", "mallory").code == 2
    assert command("exempt", "--end").code == 2


def test_the_end_may_be_a_time_from_now(command: Command, host: Host) -> None:
    out = command("exempt", "alice", "--until", "7d", "--reason", "travels").out
    assert out.startswith("alice is exempt until 2023-11-21 22:13 UTC")
    host.later(7 * 86_400 - 1)
    assert host.login("alice").reason == "exempt"
    host.later(1)
    assert host.login("alice").reason == "not-enrolled"


def test_an_exemption_can_be_ended(command: Command, host: Host) -> None:
    command("exempt", "alice", "--until", "2023-11-15", "--reason", "x")
    ran = command("exempt", "alice", "--end")
    assert (ran.code, ran.out) == (0, "alice is no longer exempt\n")
    assert host.account().empty
    ran = command("exempt", "alice", "--end")
    assert (ran.code, ran.err) == (1, "pam-totp: alice is not exempt\n")


def test_who_is_exempt_is_listed_while_it_lasts(command: Command, host: Host) -> None:
    assert command("exempt").out == "nobody is exempt\n"
    command("exempt", "alice", "--until", "2023-11-15", "--reason", "lost phone")
    command("exempt", "bob", "--until", "2023-11-14T23:00:00Z", "--reason", "travels")
    assert command("exempt").out == (
        "USER   UNTIL (UTC)       REASON\nalice  2023-11-15 23:59  lost phone\nbob    2023-11-14 23:00  travels\n"
    )
    host.later(3600)
    assert "bob" not in command("exempt").out


def test_each_change_is_logged(command: Command, journal: list[tuple[int, str]]) -> None:
    command("exempt", "alice", "--until", "2023-11-15", "--reason", "lost phone")
    command("exempt", "alice", "--end")
    assert [line for _, line in journal] == [
        'pam-totp: user=alice action=exempt by=root detail="until 2023-11-15T23:59:59Z: lost phone"',
        "pam-totp: user=alice action=exempt by=root detail=ended",
    ]
