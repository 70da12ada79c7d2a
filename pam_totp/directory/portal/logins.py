"""What hosts have told of a person's logins, in words for that person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pam_totp.directory.models import Event

if TYPE_CHECKING:
    from datetime import datetime

    from pam_totp.directory.models import Person

_KINDS = {
    "login": "Logged in",
    "refused": "Refused",
    "enrolled": "Authenticator set up",
    "uploaded": "Authenticator handed up by the host",
    "removed": "Authenticator removed",
    "recovery-spent": "Recovery code used",
    "locked": "Locked",
    "unlocked": "Unlocked",
}
# The words of docs/log.md that people meet; any other one is shown as it is.
_REASONS = {
    "wrong-code": "the code was wrong",
    "malformed-code": "what was typed is not a code",
    "spent-code": "the code was used already",
    "spent-elsewhere": "the code was used already, on another host",
    "code-of-another-time": "the code was right for another time: a clock is off",
    "wrong-recovery-code": "the recovery code was wrong, or used already",
    "throttled": "too many wrong codes: it was too early to try again",
    "locked": "the account is locked: ask your administrator",
    "no-answer": "no code was typed",
    "no-public-key": "no public key was shown",
    "not-enrolled": "no authenticator is set up",
    "pending": "your new authenticator waits for its first code",
    "grace": "no authenticator is set up yet",
    "enrolled": "an authenticator was set up",
    "exempt": "no code was asked for: you are exempt for some time",
    "remembered": "no code was asked for: this client is remembered",
    "rule": "no code was asked for: by a rule of the host",
    "not-invited": "an invitation is needed",
    "fleet-locked": "the account is locked: ask your administrator",
    "fleet-revoked": "access to this host was taken away",
    "fleet-offline": "the host has not heard of the directory for too long: tell your administrator",
    "changed-meanwhile": "the account was changed meanwhile",
    "recovery-code": "with a recovery code",
    "code": "with a code",
    "provider": "by single sign-on",
    "no-second-factor": "single sign-on without a second factor",
}


@dataclass(frozen=True)
class Login:
    """One line of the list."""

    at: datetime
    verdict: str
    good: bool
    where: str
    service: str
    why: str


def latest(person: Person, most: int) -> list[Login]:
    """The latest of a person's own events, the latest first."""
    events = Event.objects.filter(person=person).select_related("host")[:most]
    return [
        Login(
            event.time,
            _KINDS.get(event.kind, event.kind),
            event.kind in ("login", "enrolled", "uploaded", "unlocked"),
            event.host.name if event.host else "this portal",
            event.service,
            _REASONS.get(event.reason, event.reason),
        )
        for event in events
    ]
