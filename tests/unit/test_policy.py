"""Who is asked."""

from __future__ import annotations

import pytest

from pam_totp.accounts import ACTIVE, PENDING, Account, Authenticator
from pam_totp.config import Config
from pam_totp.ledger import Ledger, Moment
from pam_totp.policy import Action, Facts, decide
from tests.unit.host import BOOT

NOW = Moment(1_700_000_000, BOOT, 5000)
SOURCE = "net:192.0.2.7"
FACTS = Facts("alice", SOURCE, "sshd", "192.0.2.7")


def account(*states: str) -> Account:
    authenticators = [
        Authenticator(f"{number:016}", state, "phone", "local", 0, bytes(20)) for number, state in enumerate(states)
    ]
    return Account("alice", 1001, authenticators, Ledger())


def config(unenrolled: str = "skip") -> Config:
    settings = Config()
    settings.unenrolled = unenrolled
    return settings


@pytest.mark.parametrize(
    ("states", "unenrolled", "action", "reason"),
    [
        ((), "skip", Action.SKIP, "not-enrolled"),
        ((), "deny", Action.REFUSE, "not-enrolled"),
        ((PENDING,), "skip", Action.SKIP, "pending"),
        ((PENDING,), "deny", Action.REFUSE, "pending"),
        ((ACTIVE,), "skip", Action.ASK, "enrolled"),
        ((ACTIVE,), "deny", Action.ASK, "enrolled"),
        ((ACTIVE, PENDING), "skip", Action.ASK, "enrolled"),
        ((PENDING, ACTIVE), "deny", Action.ASK, "enrolled"),
    ],
)
def test_only_who_is_enrolled_is_asked(states: tuple[str, ...], unenrolled: str, action: Action, reason: str) -> None:
    decision = decide(account(*states), config(unenrolled), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == (action, reason, 0)


def test_who_has_to_wait_is_refused_with_the_time_left() -> None:
    waiting = account(ACTIVE)
    for _ in range(3):
        waiting.ledger.fail(SOURCE, "", NOW, 100)
    decision = decide(waiting, config(), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == (Action.REFUSE, "throttled", 30)
    assert decide(waiting, config(), Facts("alice", "key:00"), NOW).action is Action.ASK


def test_a_lock_is_told_rather_than_a_wait() -> None:
    locked = account(ACTIVE)
    for _ in range(10):
        locked.ledger.fail(SOURCE, "", NOW, 10)
    decision = decide(locked, config(), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == (Action.REFUSE, "locked", 0)
    assert decide(locked, config(), Facts("alice", "key:00"), NOW).action is Action.REFUSE
