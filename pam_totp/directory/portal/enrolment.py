"""Becoming enrolled in the portal: a fresh key for each visit, and its first right code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.html import format_html

from pam_totp.directory import audit, people
from pam_totp.directory.keeper import client
from pam_totp.directory.models import Authenticator, Invitation, Person
from pam_totp.directory.portal import factors
from pam_totp.directory.portal.factors import Answer
from pam_totp.directory.portal.visit import Key
from pam_totp.factors import enroll
from pam_totp.host import clock

if TYPE_CHECKING:
    from datetime import datetime

    from django.utils.safestring import SafeString

MOST = people.MOST_AUTHENTICATORS
_CLOSED = Answer(
    False,
    "closed",
    "An authenticator was set up for you meanwhile, or your invitation is void. "
    "If that was not you, tell your administrator at once.",
)
_FULL = Answer(False, "closed", "You have as many authenticators as one can have. Remove one first.")


def may(person: Person, invited: int | None) -> bool:
    """Whether somebody who is not enrolled may set up the first authenticator now.

    A password alone never opens the admin portal, by way of an enrolment: whoever has a role needs an invitation.
    """
    if person.locked or not person.is_active:
        return False
    if invited is None:
        return bool(settings.CONFIG.self_enroll) and person.role == Person.Role.USER
    good = Invitation.objects.filter(pk=invited, person=person, used=None, expires__gt=timezone.now())
    return good.filter(role=person.role).exists()


def new_key(person: Person, replaces: Authenticator | None) -> tuple[Key, str]:
    """A fresh key for one visit, and its text to show. Raises KeeperError."""
    made = client.ask("new", person=person.pk)
    return Key(made["id"], made["sealed"], int(clock.now().wall), 0, _ident(replaces)), made["key"]


def belongs(key: Key, replaces: Authenticator | None) -> bool:
    """Whether the key of a visit is for this page."""
    return key.replaces == _ident(replaces)


def _ident(authenticator: Authenticator | None) -> str:
    return authenticator.ident if authenticator else ""


def finish(
    person: Person,
    key: Key,
    label: str,
    code: str,
    address: str,
    *,
    invited: int | None,
    replaces: Authenticator | None,
    signed_in: bool,
) -> Answer:
    """Keep a new authenticator if its first code is right, which spends that code. All of it, or nothing.

    For somebody who is not signed in it has to be the first one, still: of two visits at once one wins.
    """
    new = Authenticator(ident=key.ident, person=person, label=label, secret=client.content(key.sealed))
    with transaction.atomic():
        locked = Person.objects.select_for_update().get(pk=person.pk)
        others = [each for each in factors.authenticators(locked) if each != replaces]
        if not signed_in and (others or not may(locked, invited)):
            return _CLOSED
        if len(others) >= MOST:
            return _FULL
        if label in {each.label for each in others}:
            # Else the other one would go without a word.
            return Answer(False, "label", "You have one with this name: choose another name.")
        answer = factors.answer_of(locked, lambda source: people.prove(locked, new, code, source), address)
        if not answer.accepted:
            return answer
        if replaces is not None:
            replaces.delete()
        new.save()
        people.activate(locked.name, locked, new, replaced=replaces is not None)
        Invitation.objects.filter(person=locked, used=None).update(used=timezone.now())
        factors.tell(locked, "enrolled")
        audit.note(locked.name, "enrolled", locked.name, label=label, invited=invited is not None)
    return answer


def remove(person: Person, authenticator: Authenticator) -> bool:
    """Take an authenticator away; False for the last one, which stays."""
    with transaction.atomic():
        Person.objects.select_for_update().get(pk=person.pk)
        if len(factors.authenticators(person)) < 2:
            return False
        people.remove(person.name, person, authenticator.label)
        factors.tell(person, "removed")
    return True


def free_label(person: Person, replaces: Authenticator | None) -> str:
    """A name to begin with that no other authenticator of the person has."""
    if replaces is not None:
        return replaces.label
    taken = {each.label for each in factors.authenticators(person)}
    names = [enroll.DEFAULT_LABEL, *(f"{enroll.DEFAULT_LABEL} {number}" for number in range(2, MOST + 2))]
    return next(name for name in names if name not in taken)


def days_left(person: Person, now: datetime) -> str:
    """How long somebody has to enrol, in words; empty where there is no end."""
    if person.deadline is None:
        return ""
    days = max(0, -int(-(person.deadline - now).total_seconds() // 86_400))
    return "1 day" if days == 1 else f"{days} days"


def grouped(key: str) -> str:
    """The key in groups of four, for reading and typing."""
    return enroll.grouped(key)


def picture(person: Person, key: str) -> SafeString:
    """The QR code of a key, as SVG without styles."""
    rows = enroll.modules(people.uri(person, key, str(settings.CONFIG.issuer or settings.CONFIG.name)))
    runs = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            width = next((end for end in range(x, len(row)) if not row[end]), len(row)) - x
            if width:
                runs.append(f"M{x} {y}h{width}v1h-{width}z")
            x += width + 1
    return format_html(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img" '
        'aria-label="QR code of the key below" shape-rendering="crispEdges"><path d="{path}"/></svg>',
        size=len(rows),
        path="".join(runs),
    )
