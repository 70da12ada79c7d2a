"""What is done to people: adding, enrolling, resetting, locking, inviting. For the portals, the command and the API.

Each function is one transaction with its entry in the audit trail. ``actor`` is who does it: a login name, or root.
"""

from __future__ import annotations

import secrets
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from pam_totp.directory import audit, changes, letters
from pam_totp.directory.keeper import client
from pam_totp.directory.models import (
    Authenticator,
    Claim,
    Group,
    Invitation,
    Person,
    RecoveryCodes,
    hash_of,
    ident,
)
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

EVERYONE = "everyone"
MOST_AUTHENTICATORS = 5
INVITATION_DAYS = 7
LONGEST_LABEL = 32
Word = Literal["accepted", "refused", "spent", "wait", "locked", "malformed"]


@dataclass(frozen=True)
class Verdict:
    """What came of a code: ``seconds`` to wait, or the authenticator and step, or that a recovery code was spent."""

    word: Word
    seconds: int = 0
    authenticator: str = ""
    recovery: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the code was right, unspent, and is spent now."""
        return self.word == "accepted"


def find(name: str) -> Person:
    """A person by login name. Raises UsageError."""
    person = Person.objects.filter(name=name).first()
    if person is None:
        raise UsageError(f"there is no person {name!r}: see pam-totp-directory user list")
    return person


@transaction.atomic
def add(actor: str, name: str, groups: list[str] | None = None, **fields: Any) -> Person:
    """Add a person, to the group of everyone where no other is named. Raises UsageError."""
    try:
        person = Person.objects.create_user(name, **fields)
    except ValidationError as error:
        raise UsageError(f"{name!r} cannot be added: {'; '.join(error.messages)}") from None
    for each in [EVERYONE] if groups is None else groups:
        group = Group.objects.filter(name=each).first()
        if group is None:
            raise UsageError(f"there is no group {each!r}: make it with pam-totp-directory group add {each}")
        group.persons.add(person)
    audit.note(actor, "person-added", name, role=person.role)
    return person


def check_label(label: str) -> str:
    """The label, 1 to 32 printable characters without a colon. Raises UsageError."""
    if not 0 < len(label) <= LONGEST_LABEL or not label.isprintable() or ":" in label:
        raise UsageError(f"a label has 1 to {LONGEST_LABEL} printable characters and no colon: choose another one")
    return label


@transaction.atomic
def begin(actor: str, person: Person, label: str) -> tuple[Authenticator, str]:
    """A pending authenticator in the place of an earlier pending one; and its key in base32, shown this once.

    Active ones stay, and one with this label is replaced when the new one is confirmed. Raises UsageError, KeeperError.
    """
    person = Person.objects.select_for_update().get(pk=person.pk)
    others = person.authenticators.filter(state=Authenticator.State.ACTIVE).exclude(label=check_label(label))
    if others.count() >= MOST_AUTHENTICATORS:
        raise UsageError(f"{person} has {others.count()} authenticators, which is the most: remove one first")
    answer = client.ask("new", person=person.pk)
    person.authenticators.filter(state=Authenticator.State.PENDING).delete()
    authenticator = Authenticator.objects.create(
        ident=answer["id"], person=person, label=label, secret=client.content(answer["sealed"])
    )
    audit.note(actor, "enrolment-begun", person.name, label=label)
    return authenticator, str(answer["key"])


@transaction.atomic
def confirm(actor: str, person: Person, code: str, source: str) -> Verdict:
    """Activate the pending authenticator if the code is right for it. The code is spent then. Raises KeeperError."""
    person = Person.objects.select_for_update().get(pk=person.pk)
    pending = person.authenticators.filter(state=Authenticator.State.PENDING).first()
    if pending is None:
        return Verdict("refused")
    verdict = _checked(person, [pending], code, source, recovery=False)
    if verdict.accepted:
        activate(actor, person, pending)
        audit.note(actor, "enrolled", person.name, label=pending.label)
    return verdict


def prove(person: Person, new: Authenticator, code: str, source: str) -> Verdict:
    """Whether the code is right for an authenticator that is kept nowhere yet; it is spent then. Raises KeeperError.

    ``person`` was read for update, in the caller's transaction.
    """
    return _checked(person, [new], code, source, recovery=False)


def activate(actor: str, person: Person, pending: Authenticator, *, replaced: bool = False) -> None:
    """Activate an authenticator whose secret the person is known to have; one with the same label goes.

    The deadline has served, and so have invitations. ``replaced``: another one has gone already. The person is told.
    """
    gone, _ = person.authenticators.filter(label=pending.label).exclude(pk=pending.pk).delete()
    letters.notice(person, actor, letters.REPLACED if replaced or gone else letters.ADDED, pending.label)
    pending.state = Authenticator.State.ACTIVE
    pending.save(update_fields=["state"])
    if person.deadline is not None:
        person.deadline = None
        person.save(update_fields=["deadline"])


@transaction.atomic
def check(person: Person, code: str, source: str) -> Verdict:
    """Whether this is a code, or a recovery code, of the person; it is spent in the whole fleet then.

    ``source`` is where it comes from, an address. The charge is committed when this returns. Raises KeeperError.
    """
    person = Person.objects.select_for_update().get(pk=person.pk)
    if person.locked or not person.is_active:
        return Verdict("locked")
    active = list(person.authenticators.filter(state=Authenticator.State.ACTIVE))
    return _checked(person, active, code, source, recovery=True)


def _checked(person: Person, authenticators: list[Authenticator], code: str, source: str, *, recovery: bool) -> Verdict:
    codes = RecoveryCodes.objects.filter(person=person).first() if recovery else None
    answer = client.ask(
        "check",
        person=person.pk,
        authenticators=[[each.ident, client.text(each.secret)] for each in authenticators],
        recovery=None if codes is None else {"salt": codes.salt, "hashes": codes.hashes},
        ledger=client.text(person.ledger),
        code=code,
        source=source,
    )
    if "ledger" in answer:
        person.ledger = client.content(answer["ledger"])
        person.save(update_fields=["ledger"])
    if answer["verdict"] != "accepted":
        return Verdict(answer["verdict"], answer.get("seconds", 0))
    if codes is not None and "recovery" in answer:
        claimed = claim(spent_recovery(person.name, answer["recovery"]), 0, None, ident())
        codes.hashes = answer["hashes"]
        codes.save(update_fields=["hashes"])
        audit.note(person.name, "recovery-code-spent", person.name, left=len(codes.hashes))
        return Verdict("accepted", recovery=True) if claimed else Verdict("refused")
    if not claim(answer["authenticator"], answer["step"], None, ident()):
        # Right, and used on a host before.
        return Verdict("spent")
    return Verdict("accepted", authenticator=answer["authenticator"])


def spent_recovery(name: str, digest: str) -> str:
    """What stands for a recovery code among the claims."""
    return hash_of(f"recovery code\0{name}\0{digest}")


# One statement for both databases. The host's is only what it was given, until it is revoked; the portal's is not asked
# for.
_CLAIM = """
    INSERT INTO directory_claim (authenticator, step, host_id, login, time) SELECT %s, %s, %s, %s, %s WHERE {}
    ON CONFLICT DO NOTHING
"""
_GIVEN = """EXISTS (
    SELECT 1 FROM directory_authenticator AS a JOIN directory_published AS p ON p.person_id = a.person_id
    WHERE a.ident = %s AND p.host_id = %s
) AND EXISTS (SELECT 1 FROM directory_host WHERE id = %s AND revoked IS NULL)"""


def claim(authenticator: str, step: int, host: int | None, login: str, *, given: bool = False) -> bool:
    """Use a code up, for a login; True also where this very login did so before. One insert: there is one winner.

    ``host``: its primary key. ``given``: only where it has the authenticator's record.
    """
    values: list[Any] = [authenticator, step, host, login, connection.ops.adapt_datetimefield_value(timezone.now())]
    # Its own commit, and on PostgreSQL no other round trip; SQLite's writers have a queue, which transactions take.
    alone = connection.vendor != "sqlite" or connection.in_atomic_block
    with nullcontext() if alone else transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            _CLAIM.format(_GIVEN if given else "1 = 1"), [*values, authenticator, host, host] if given else values
        )
        if cursor.rowcount == 1:
            return True
    there = Claim.objects.filter(authenticator=authenticator, step=step, login=login)
    return host in there.values_list("host_id", flat=True)


@transaction.atomic
def new_recovery_codes(actor: str, person: Person) -> list[str]:
    """Ten new recovery codes, to be shown once; earlier ones are void. Raises KeeperError."""
    answer = client.ask("recovery", person=person.pk)
    RecoveryCodes.objects.update_or_create(
        person=person, defaults={"salt": answer["salt"], "hashes": answer["hashes"], "shown": True}
    )
    audit.note(actor, "recovery-codes-issued", person.name)
    letters.notice(person, actor, letters.RECOVERY)
    return list(answer["codes"])


@transaction.atomic
def remove(actor: str, person: Person, label: str | None = None) -> int:
    """Take out the authenticators with a label, or all of them and the recovery codes; returns how many there were."""
    found = person.authenticators.all() if label is None else person.authenticators.filter(label=label)
    labels = [each.label for each in found]
    for each in found:
        each.delete()
    if label is None:
        RecoveryCodes.objects.filter(person=person).delete()
        Invitation.objects.filter(person=person, used=None).delete()
        letters.forget_invitations(person)
        person.forget_before = timezone.now()
        person.save(update_fields=["forget_before"])
        # Also where the person had none: who asks for a reset wants every host to hear of it.
        changes.touch_people([person])
    if labels:
        audit.note(actor, "authenticators-removed", person.name, labels=labels)
        if label is None:
            letters.notice(person, actor, letters.RESET)
        else:
            letters.notice(person, actor, letters.REMOVED, label)
    return len(labels)


@transaction.atomic
def remove_one(actor: str, person: Person, identifier: str) -> None:
    """Take out one authenticator, where the person has it."""
    for each in person.authenticators.filter(ident=identifier):
        each.delete()
        audit.note(actor, "authenticators-removed", person.name, labels=[each.label])
        letters.notice(person, actor, letters.REMOVED, each.label)


@transaction.atomic
def lock(actor: str, person: Person, *, locked: bool) -> None:
    """Refuse a person everywhere, or end that. Unlocking ends waits for wrong codes in the portal as well.

    The synchronisation does not end what was done here.
    """
    person.locked, person.locked_by = locked, ""
    if not locked:
        person.ledger = _unlocked(person)
    person.save(update_fields=["locked", "locked_by", "ledger"])
    audit.note(actor, "locked" if locked else "unlocked", person.name)


def _unlocked(person: Person) -> bytes:
    from pam_totp.cache.ledger import Ledger
    from pam_totp.factors.otp import step_at

    if not person.ledger:
        return b""
    ledger = Ledger.decode(bytes(person.ledger))
    ledger.unlock(step_at(timezone.now().timestamp()), 1)
    ledger.seq += 1
    return ledger.encode()


@transaction.atomic
def set_fields(actor: str, person: Person, **fields: Any) -> None:
    """Change fields of a person. Raises UsageError."""
    before, address = person.name, person.email
    for name, value in fields.items():
        setattr(person, name, value)
    try:
        person.full_clean(exclude=["password"])
    except ValidationError as error:
        said = "; ".join(f"{name}: {' '.join(each)}" for name, each in error.message_dict.items())
        raise UsageError(f"{before} cannot be changed: {said}") from None
    person.save(update_fields=list(fields))
    letters.moved(person, actor, address)
    audit.note(actor, "person-changed", person.name, **{name: str(value) for name, value in fields.items()})


@transaction.atomic
def put_in(actor: str, person: Person, names: list[str]) -> None:
    """Have a person be in these groups, and in no others. Raises UsageError."""
    found = list(Group.objects.filter(name__in=names))
    if len(found) != len(set(names)):
        raise UsageError("there is no such group: see pam-totp-directory group list")
    person.memberships.set(found)
    audit.note(actor, "person-changed", person.name, groups=names)


@transaction.atomic
def delete(actor: str, person: Person) -> None:
    """Take a person out of the directory: hosts refuse the name from then on."""
    audit.note(actor, "person-deleted", person.name)
    person.delete()


def enrols_by_password(person: Person) -> bool:
    """Whether a password that is elsewhere, in LDAP or PAM, is how a person enrols.

    A link that needs none would be a second way, on which nobody asks whether the person is still there.
    """
    return (
        settings.CONFIG.passwords != "local" and bool(settings.CONFIG.self_enroll) and person.role == Person.Role.USER
    )


def _check_needs_invitation(person: Person) -> None:
    if enrols_by_password(person):
        raise UsageError(f"{person} enrols at {settings.CONFIG.url} with the password: an invitation is not for that")


@transaction.atomic
def invite(actor: str, person: Person, days: int = INVITATION_DAYS) -> str:
    """The secret of a new one-time invitation, in the place of earlier ones. It is in the link that the person gets.

    Raises UsageError where none is needed.
    """
    _check_needs_invitation(person)
    letters.forget_invitations(person)
    audit.note(actor, "invited", person.name, days=days)
    return new_invitation(actor, person, days).secret


@transaction.atomic
def invite_by_mail(actor: str, person: Person, days: int = INVITATION_DAYS) -> None:
    """Have an invitation sent; nobody else sees its link. Raises UsageError where that is not possible."""
    _check_needs_invitation(person)
    letters.invitation(person, actor, days)
    audit.note(actor, "invited", person.name, days=days, mail=person.email)


@dataclass(frozen=True)
class Made:
    """A new invitation: its secret, which is kept nowhere, and its end."""

    secret: str = field(repr=False)
    expires: datetime


@transaction.atomic
def new_invitation(actor: str, person: Person, days: int) -> Made:
    """A new invitation in the place of earlier ones that were not used."""
    made = Made(secrets.token_urlsafe(32), timezone.now() + timedelta(days=days))
    Invitation.objects.filter(person=person, used=None).delete()
    Invitation.objects.create(
        person=person,
        token_hash=hash_of(made.secret),
        created_by=actor[:64],
        expires=made.expires,
        role=person.role,
    )
    return made


@transaction.atomic
def enrol_anew(actor: str, person: Person, *, mail: bool) -> str | None:
    """Take out everything that a person is enrolled with: the link with which they enrol then; None: it is sent.

    ``mail``: send it to those who have an address, where mail is sent at all.
    """
    remove(actor, person)
    if enrols_by_password(person):
        return str(settings.CONFIG.url)
    if mail and letters.enabled() and person.email:
        invite_by_mail(actor, person)
        return None
    return link(invite(actor, person), settings.CONFIG.url)


def link(secret: str, url: str) -> str:
    """The link that an invitation is, for the directory at this address."""
    return f"{url}/invitation/{secret}/"


def invited(secret: str, now: datetime) -> Invitation | None:
    """The invitation with this secret, if it is still good."""
    return (
        Invitation.objects.select_related("person")
        .filter(token_hash=hash_of(secret), used=None, expires__gt=now, person__is_active=True, person__locked=False)
        .filter(role=F("person__role"))
        .first()
    )


def uri(person: Person, key: str, issuer: str) -> str:
    """The otpauth URI of the Key Uri Format that every app's scanner reads; ``key`` in base32."""
    label = quote(f"{issuer}:{person.name}")
    return f"otpauth://totp/{label}?{urlencode({'secret': key, 'issuer': issuer}, quote_via=quote)}"
