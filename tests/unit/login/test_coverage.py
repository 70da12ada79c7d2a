"""How users stand who can log in over SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.errors import NameServiceError
from pam_totp.host import config as configuration
from pam_totp.host import logins, pinned, sshd, users
from pam_totp.host.logins import Login
from pam_totp.host.programs import ProgramError
from pam_totp.login import coverage
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from pam_totp.login.coverage import Standing
    from tests.unit.pretend import Host


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    """alice and bob can log in, and there is no sshd to ask."""

    def effective() -> dict[str, str]:
        raise ProgramError("no sshd")

    found = [Login(each.name, each.uid, password=True, keys=False, command=False) for each in (ALICE, BOB)]
    monkeypatch.setattr(sshd, "effective", effective)
    monkeypatch.setattr(logins, "able", lambda settings: found if settings == {} else [])


def standings(host: Host, settings: str = "") -> dict[str, Standing]:
    host.configure(settings)
    config = configuration.load(host.paths.config, host.paths.owner)
    with host.accounts() as accounts:
        return {each.name: each for each in coverage.everybody(accounts, config, host.paths, host.now())}


@pytest.mark.parametrize(
    ("settings", "action", "refused"),
    [
        ("", "skip", False),
        ('unenrolled = "deny"', "refuse", True),
        ('unenrolled = "enroll"', "enroll", False),
        ('unenrolled = "invite"', "refuse", True),
        ('[enrollment]\nperiod = "7d"\n', "skip", False),
        ("[enrollment]\nuntil = 2020-01-31\n", "refuse", True),
        ('unenrolled = "deny"\n[[rule]]\nnetworks = ["192.0.2.0/24"]\nmfa = "skip"\n', "refuse", True),
        ('unenrolled = "deny"\n[[rule]]\nusers = ["bob"]\nmfa = "skip"\n', "skip", False),
    ],
)
def test_who_is_not_enrolled_is_missing_and_refused_where_the_policy_says_so(
    settings: str, action: str, refused: bool, host: Host
) -> None:
    host.enroll(ALICE)
    bob = standings(host, settings)["bob"]
    assert (bob.action, bob.missing, bob.refused) == (action, True, refused)
    alice = standings(host, settings)["alice"]
    assert (alice.action, alice.missing, alice.refused) == ("ask", False, False)
    if refused:
        assert "not enrolled" in bob.why


def test_an_exempt_user_is_missing_and_not_refused_and_a_locked_one_is_neither(host: Host) -> None:
    host.enroll(ALICE)
    host.change(lambda account: setattr(account.ledger, "locked", True))
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "x"]), BOB)
    found = standings(host, 'unenrolled = "deny"')
    assert [(each.missing, each.refused) for each in found.values()] == [(False, False), (True, False)]


def test_where_it_cannot_be_told_nobody_is_said_to_get_in(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(*_: object) -> frozenset[str]:
        raise NameServiceError("sss does not answer")

    monkeypatch.setattr(users, "groups", groups)
    found = standings(host, '[[rule]]\ngroups = ["staff"]\nmfa = "skip"\n')
    assert all(each.refused and not each.missing and "sss" in each.why for each in found.values())


def test_a_record_of_what_is_set_up_that_is_broken_names_no_robots(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise ProgramError("broken")

    monkeypatch.setattr(pinned, "load", load)
    assert not any(each.robot for each in standings(host).values())


def test_in_words_the_first_names_are_told_and_all_are_counted(host: Host) -> None:
    found = list(standings(host).values())
    assert coverage.told([]) == []
    assert coverage.told(found[:1]) == [
        "1 user can log in over SSH; not enrolled: 1 (alice)",
        "would be refused: nobody",
    ]
    assert coverage.named(found * 6, lambda each: each.missing).endswith("alice, bob and 2 more)")
