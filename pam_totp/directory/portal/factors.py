"""The second factor, in words for the person: what came of a code, and what there is to type codes of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from pam_totp.directory import people
from pam_totp.directory.models import Authenticator, Event, RecoveryCodes, ident
from pam_totp.directory.portal.passwords import in_words, network
from pam_totp.errors import KeeperError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.directory.models import Person

WRONG = "That code was not accepted. Each code works once: wait for the next one."
LOCKED = "This account is locked. Ask your administrator to unlock it."
UNAVAILABLE = "Codes cannot be checked here now. Try again later, or tell your administrator."
# For the log, where the person sees it once signed in. At the sign-in a spent code gets the answer of a wrong one: that
# it was right is nobody's to know who has not shown one that is.
_REASONS = {
    "refused": "wrong-code",
    "spent": "spent-code",
    "malformed": "malformed-code",
    "wait": "throttled",
    "locked": "locked",
}
_FEW = 3
_JUST_NOW = timedelta(minutes=5)
_MOST_TOLD = 3


@dataclass(frozen=True)
class Answer:
    """Whether it was right, the word for the log, and what to tell the person."""

    accepted: bool
    reason: str
    message: str = ""


def authenticators(person: Person) -> list[Authenticator]:
    """What a person types codes of."""
    return list(person.authenticators.filter(state=Authenticator.State.ACTIVE))


def recovery_left(person: Person) -> int:
    """How many recovery codes are good."""
    kept = RecoveryCodes.objects.filter(person=person).first()
    return len(kept.hashes) if kept else 0


def check(person: Person, code: str, address: str) -> Answer:
    """Whether what somebody typed is a code of a person; whatever it is, the ledger has it afterwards."""
    return answer_of(person, lambda source: people.check(person, code, source), address)


def answer_of(person: Person, ask: Callable[[str], people.Verdict], address: str) -> Answer:
    """What a verdict means to the person; a refusal is put among the person's logins."""
    try:
        verdict = ask(network(address))
    except KeeperError:
        # The keeper's log, and its exception, say what is wrong; nobody is let in because of it.
        return Answer(False, "unavailable", UNAVAILABLE)
    if not verdict.accepted:
        reason = _REASONS[verdict.word]
        tell(person, "refused", reason)
        if verdict.word == "wait":
            return Answer(False, reason, f"Too many wrong codes. Try again in {in_words(verdict.seconds)}.")
        return Answer(False, reason, LOCKED if verdict.word == "locked" else WRONG)
    if not verdict.recovery:
        return Answer(True, "code")
    left = recovery_left(person)
    tell(person, "recovery-spent", "recovery-code")
    few = " Make new ones on the overview." if left <= _FEW else ""
    return Answer(True, "recovery-code", f"You have {left} recovery code{'' if left == 1 else 's'} left.{few}")


def tell(person: Person, kind: str, reason: str = "") -> None:
    """Put an event of the portal among those of the hosts, for the person to see.

    A refusal that was told just now is not told again: whoever tries without an end fills no table.
    """
    now, said = timezone.now(), {"person": person, "kind": kind, "service": "portal", "reason": reason}
    if kind == "refused" and Event.objects.filter(time__gt=now - _JUST_NOW, **said).count() >= _MOST_TOLD:
        return
    Event.objects.create(ident=ident(), name=person.name, time=now, **said)
