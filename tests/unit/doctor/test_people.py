"""Who can log in and is not asked, and what learned drifts say of the host's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.ledger import Mark
from pam_totp.doctor import people
from pam_totp.host import config as configuration
from pam_totp.host import logins
from pam_totp.host.logins import Login
from pam_totp.host.users import User, without_account

if TYPE_CHECKING:
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host

DAY = 86_400


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> list[Login]:
    """Who has a login shell; a test adds them."""
    found: list[Login] = []
    monkeypatch.setattr(logins, "all_of_them", lambda _: found)
    return found


def ids(host: Host, robots: tuple[str, ...] = (), **settings: str) -> list[str]:
    config = configuration.load(host.paths.config, host.paths.owner)
    return [each.identifier for each in people.findings(host.paths, config, settings, robots, host.now())]


@pytest.mark.parametrize(
    ("config", "identifier"),
    [
        ("", "not-enrolled"),
        ('unenrolled = "deny"', "not-enrolled-refused"),
        ('unenrolled = "enroll"', "not-enrolled-refused"),
        ('unenrolled = "invite"', "not-enrolled-refused"),
        ('[enrollment]\nperiod = "7d"', "not-enrolled"),
    ],
)
def test_who_can_log_in_and_is_not_enrolled_is_named_with_what_it_comes_to(
    host: Host, able: list[Login], config: str, identifier: str
) -> None:
    host.configure(config)
    able.append(Login("alice", 1001, True, False, False))
    assert ids(host) == [identifier]
    assert ids(host, robots=("alice@192.0.2.1",)) == []
    host.enroll()
    assert ids(host) == []


def test_a_deadline_that_is_over_is_told(host: Host, able: list[Login]) -> None:
    host.configure('[enrollment]\nperiod = "7d"')
    able.append(Login("alice", 1001, True, False, False))
    stamp = host.now().stamp()
    host.change(lambda account: setattr(account.ledger, "grace", [stamp, 0]))
    assert ids(host) == ["not-enrolled"]
    host.later(8 * DAY)
    assert ids(host) == ["deadline-past"]


def test_who_has_neither_key_nor_password_cannot_log_in(host: Host, able: list[Login]) -> None:
    able.append(Login("alice", 1001, False, False, False))
    assert ids(host) == []
    assert ids(host, trustedusercakeys="/etc/ssh/ca.pub") == ["not-enrolled"]


@pytest.mark.parametrize(
    ("permit", "keys", "named"), [("no", True, 0), ("without-password", False, 0), ("yes", False, 1)]
)
def test_root_counts_where_sshd_lets_root_in(
    host: Host, able: list[Login], permit: str, keys: bool, named: int
) -> None:
    able.append(Login("root", 0, True, keys, False))
    assert len(ids(host, permitrootlogin=permit)) == named


@pytest.mark.parametrize(
    ("drifts", "said"),
    [
        ((3, 3, 4, 3), True),
        ((-3, -2, -4), True),
        ((3, 3), False),  # too few to say anything
        ((1, 1, 1, 1), False),
        ((3, -3, 3, -3), False),
        ((0, 0, 0, 5), False),
    ],
)
def test_drifts_of_many_users_that_agree_are_the_hosts(
    host: Host, passwd: Passwd, drifts: tuple[int, ...], said: bool
) -> None:
    for number, drift in enumerate(drifts):
        user = User(f"user{number}", 2000 + number)
        passwd.add(user.name, user.uid)
        host.enroll(user)

        def learn(account, drift=drift):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - a lambda cannot assign
            account.ledger.marks[account.active[0].identifier] = Mark(1, drift, 0)

        host.change(learn, user)
    assert ids(host) == (["drifts-agree"] if said else [])


def test_a_record_of_somebody_who_never_had_an_account_is_no_finding(host: Host, passwd: Passwd) -> None:
    before = ids(host)
    host.enroll(without_account("carol"))
    assert ids(host) == before
    passwd.add("carol", 1003)
    assert "uid-changed" in ids(host)
