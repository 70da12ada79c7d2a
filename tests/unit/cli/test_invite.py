"""invite: a one-time code for enrolling at the prompt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from pam_totp.factors import invitation
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command, Ran
    from tests.unit.pretend import Host


def matches(host: Host, code: str) -> bool:
    with host.accounts() as accounts:
        return invitation.matches(accounts.find(ALICE), code.strip(), accounts.sealer)


def ends(host: Host) -> int:
    kept = host.account().ledger.invitation
    assert kept is not None
    return int(kept[1]) - int(host.wall)


def invited(command: Command, *words: str) -> Ran:
    ran = command("invite", "alice", *words)
    assert (ran.code, ran.err[:12], ran.err[-5:]) == (0, "valid until ", " UTC\n")
    assert re.fullmatch(r"[a-z2-9]{5}-[a-z2-9]{5}\n", ran.out)
    return ran


def test_a_code_is_printed_and_nothing_else_but_its_end(command: Command, host: Host) -> None:
    ran = invited(command)
    assert ran.err == "valid until 2023-11-17 22:13 UTC\n"
    assert matches(host, ran.out)
    assert ends(host) == 72 * 3600


@pytest.mark.parametrize(("valid", "seconds"), [("30m", 1800), ("7d", 604_800), ("365d", 31_536_000)])
def test_it_is_valid_for_as_long_as_told(valid: str, seconds: int, command: Command, host: Host) -> None:
    invited(command, "--valid", valid)
    assert ends(host) == seconds


@pytest.mark.parametrize("valid", ["", "0m", "366d", "7", "1w", "-1d"])
def test_any_other_time_is_refused(valid: str, command: Command, host: Host) -> None:
    ran = command("invite", "alice", f"--valid={valid}")
    assert (ran.code, ran.out) == (2, "")
    assert "is not a duration" in ran.err
    assert host.account().empty


def test_a_new_invitation_voids_the_one_before(command: Command, host: Host) -> None:
    first, second = invited(command).out, invited(command).out
    assert not matches(host, first)
    assert matches(host, second)


def test_who_is_invited_is_listed_until_it_ends_or_the_user_enrols(command: Command, host: Host) -> None:
    assert command("invite").out == "nobody is invited\n"
    code = invited(command).out.strip()
    command("invite", "bob", "--valid", "7d")
    ran = command("invite")
    assert ran.out == (
        "USER   UNTIL (UTC)       LEFT\nalice  2023-11-17 22:13  3 days\nbob    2023-11-21 22:13  7 days\n"
    )
    assert code not in ran.out
    listed = [json.loads(line) for line in command("invite", "--json").out.splitlines()]
    assert listed[0] == {"user": "alice", "until": "2023-11-17T22:13:45Z"}
    host.later(72 * 3600)
    assert "alice" not in command("invite").out
    host.enroll(BOB)
    assert command("invite").out == "nobody is invited\n"


@pytest.mark.parametrize(
    "words", [["--valid", "7d"], ["--handout", "x"], ["--replace"], ["alice", "--json"], ["alice", "--replace"]]
)
def test_what_goes_with_many_or_with_one_is_not_taken_elsewhere(words: list[str], command: Command) -> None:
    ran = command("invite", *words)
    assert (ran.code, ran.out) == (2, "")


def test_who_has_not_confirmed_can_be_invited(command: Command, host: Host) -> None:
    host.enroll(ALICE, state=PENDING)
    assert matches(host, invited(command).out)
    assert host.account().state == "pending"


def test_who_is_enrolled_or_unknown_is_not_invited(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("invite", "alice")
    assert (ran.code, ran.out) == (2, "")
    assert "is enrolled already" in ran.err
    assert command("invite", "mallory").code == 2


def test_the_code_is_in_no_log(command: Command, journal: list[tuple[int, str]]) -> None:
    code = invited(command).out.strip()
    [(_, line)] = journal
    assert line == 'pam-totp: user=alice action=invite by=root detail="until 2023-11-17T22:13:45Z"'
    assert code not in line
