"""log: the refusals that the cache keeps, where there is no journal. With one: tests/login/test_log_booted.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.cli import common
from pam_totp.cli.log import OUTCOMES
from pam_totp.host import journal
from tests.unit.pretend import VERDICTS

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

WRONG = "user=alice service=sshd rhost=192.0.2.7 outcome=refused reason=wrong-code"
BROKEN = "user=bob service=sshd rhost=192.0.2.7 outcome=unavailable reason=cache-busy"


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    """Two refusals in the cache, and one of two days ago."""
    monkeypatch.setattr(journal, "DIRECTORIES", ())
    with host.accounts() as accounts:
        accounts.record_event(int(host.wall) - 2 * 86_400, "alice", f"{WRONG} detail=old")
        accounts.record_event(int(host.wall) - 60, "alice", WRONG)
        accounts.record_event(int(host.wall), "bob", BROKEN)


def test_the_refusals_of_a_day_are_shown_oldest_first(command: Command) -> None:
    ran = command("log")
    assert ran.code == 0
    assert [line.partition("  ")[2] for line in ran.out.splitlines()] == [WRONG, BROKEN]
    assert "only the latest refusals" in ran.err


@pytest.mark.parametrize(
    ("words", "users"),
    [
        (("alice",), ["alice"]),
        (("--outcome", "unavailable"), ["bob"]),
        (("--since", "7d"), ["alice", "alice", "bob"]),
        (("mallory",), []),
    ],
    ids=str,
)
def test_it_is_of_one_user_of_one_outcome_and_of_a_time(
    words: tuple[str, ...], users: list[str], command: Command
) -> None:
    ran = command("log", *words)
    assert ran.code == (0 if users else 1)
    assert [line.split()[1] for line in ran.out.splitlines()] == [f"user={user}" for user in users]


def test_where_there_is_nothing_it_says_so(command: Command, host: Host) -> None:
    ran = command("log", "mallory", "--since", "1h")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith(f"nothing of that kind since {common.rfc3339(host.wall - 3600)}: see --since\n")


def test_json_has_the_time_and_the_fields(command: Command, host: Host) -> None:
    found = command("log", "bob", "--json").json
    assert found.pop("time").endswith("Z")
    assert found == journal.fields(BROKEN)
    assert found["reason"] == "cache-busy"


def test_there_is_nothing_to_follow_without_a_journal(command: Command) -> None:
    assert command("log", "--follow").code == 2


def test_a_time_that_is_none_is_refused(command: Command) -> None:
    assert command("log", "--since", "yesterday").code == 2


def test_every_outcome_can_be_asked_for() -> None:
    assert set(OUTCOMES) == {*VERDICTS, "error"}
