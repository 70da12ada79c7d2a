"""Mails to people: what is to be sent, kept until it is. Texts are here, sending is in pam_totp.directory.mail.

What is put here is in the transaction of what it tells about. Nothing secret is kept: the link of an invitation is made
when the mail is sent. Where no mail server is named, or a person has no address, nothing is put.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from pam_totp.directory.models import Authenticator, Letter, Person
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from pam_totp.directory.config import Mail

Kind = Letter.Kind
# What happened to a person's authenticators, as a sentence goes on.
ADDED = "was set up"
REPLACED = "was set up in the place of another one"
REMOVED = "was removed"
RESET = "All authenticators and recovery codes of your account were removed"
MOVED = "Mail for your account is no longer sent to this address: that was changed"
RECOVERY = "New recovery codes were made for your account; earlier ones are void"


@dataclass(frozen=True)
class Text:
    """A mail as it is read."""

    subject: str
    body: str


def enabled() -> bool:
    """Whether mail is sent at all."""
    return bool(_mail().server)


def notice(person: Person, actor: str, what: str, label: str = "") -> None:
    """Tell a person what was done to the account, and by whom: the person is the first to know that it was another."""
    if enabled() and person.email:
        _put(person, Kind.NOTICE, {"what": what, "label": label, "by": "" if actor == person.name else actor})


def moved(person: Person, actor: str, former: str) -> None:
    """Tell a person at the former address that there is another one, or none: whoever took an account over begins so.

    Nothing else would reach the owner then. The new address is not told to the former one.
    """
    if enabled() and former and former != person.email:
        detail = {"what": MOVED, "label": "", "by": "" if actor == person.name else actor}
        _put(person, Kind.NOTICE, detail, address=former)


def invitation(person: Person, actor: str, days: int) -> None:
    """Have an invitation sent, in the place of one that waits. Raises UsageError where it cannot be."""
    if not enabled():
        raise UsageError("no mail is sent here: name a server in [mail] of directory.toml, or hand the link over")
    if not person.email:
        raise UsageError(f"{person} has no e-mail address: add one, or hand the link over")
    forget_invitations(person)
    # Like the invitation itself it is for the role that the person has now.
    _put(person, Kind.INVITATION, {"days": days, "by": actor, "role": person.role})


def forget_invitations(person: Person) -> None:
    """Send no invitation that waits: it would void a later one."""
    person.letters.filter(kind=Kind.INVITATION, sent=None).delete()


def remind(now: datetime) -> int:
    """Put the reminders that are due: for each person and day, once. Returns how many."""
    days = _mail().reminders
    if not (enabled() and days):
        return 0
    active = Authenticator.objects.filter(person=OuterRef("pk"), state=Authenticator.State.ACTIVE)
    soon = now + timedelta(days=max(days) + 2)
    found = Person.objects.filter(~Exists(active), is_active=True, locked=False, deadline__gt=now, deadline__lt=soon)
    known = set(Letter.objects.filter(kind=Kind.REMINDER, person__in=found).values_list("person_id", "once"))
    count = 0
    for person in found.exclude(email="").exclude(exempt_until__gt=now):
        assert person.deadline is not None  # asked for above
        # The smallest that holds: who has two days left when mail begins to be sent is not told of seven.
        day = min((each for each in days if days_left(person.deadline, now) <= each), default=None)
        once = None if day is None else f"{person.deadline.isoformat()} {day}"
        if once is not None and (person.pk, once) not in known:
            _put(person, Kind.REMINDER, {"deadline": person.deadline.isoformat()}, now, once)
            count += 1
    return count


def days_left(deadline: datetime, now: datetime) -> int:
    """How many days, by the calendar in UTC, the time to enrol still has; 0 on its last day."""
    return ((deadline - timedelta(seconds=1)).date() - now.date()).days


def _put(
    person: Person,
    kind: Letter.Kind,
    detail: dict[str, Any],
    now: datetime | None = None,
    once: str | None = None,
    address: str = "",
) -> None:
    now = now or timezone.now()
    Letter.objects.create(
        person=person, kind=kind, once=once, address=address or person.email, detail=detail, created=now, due=now
    )


def _mail() -> Mail:
    found: Mail = settings.CONFIG.mail
    return found


# Texts


def invitation_text(person: Person, link: str, until: datetime) -> Text:
    """The one mail with a link that does something."""
    return _text(
        person,
        f"Set up your verification codes for {settings.CONFIG.name}",
        "You are invited to set up verification codes for your logins. Open this link, scan the picture\n"
        "with an authenticator app, and type the code that the app shows:\n\n"
        f"{link}\n\n"
        f"The link works once, until {_day(until)}. Whoever has it can set up codes in your\n"
        "place: do not pass it on. If you did not expect it, tell your administrator.",
    )


def reminder_text(person: Person, now: datetime) -> Text | None:
    """How long there is to enrol still; None where that is no question any more."""
    if person.enrolled or person.deadline is None or person.deadline <= now:
        return None
    left = days_left(person.deadline, now)
    when = "today" if left < 1 else "tomorrow" if left == 1 else f"in {left} days"
    return _text(
        person,
        f"Your time to set up verification codes ends {when}",
        f"Your time to set up verification codes ends {when}: {_day(person.deadline)}. After that\n"
        "your logins may be refused.\n\n"
        "Use the invitation that you were sent, or sign in to the portal with your password:\n\n"
        f"{settings.CONFIG.url}/\n\n"
        "If you have neither, ask your administrator.",
    )


def notice_text(letter: Letter) -> Text:
    """What was done to somebody's authenticators, or address."""
    what, label, by = (str(letter.detail.get(name, "")) for name in ("what", "label", "by"))
    done = f'The authenticator "{_printable(label)}" {what}' if label else what
    where = settings.CONFIG.name
    changed = f"mail address for {where} was" if what == MOVED else f"verification codes for {where} were"
    whose = f" by {_printable(by)}" if by else ""
    return _text(
        letter.person,
        f"Your {changed} changed",
        f"{done}{whose}, on {_day(letter.created)}.\n\n"
        "If you did this, or asked for it, there is nothing to do. If not, somebody else may be able\n"
        "to log in as you: tell your administrator at once.",
    )


def _text(person: Person, subject: str, body: str) -> Text:
    sent_for = f"This was sent for the login name {person.name} by the directory {settings.CONFIG.name}."
    return Text(subject, f"{body}\n\n-- \n{sent_for}\n")


def _day(time: datetime) -> str:
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
