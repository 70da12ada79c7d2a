"""What the directory knows. Secrets are here as the keeper has sealed them, tokens as their hashes only.

People reach hosts by groups: a person is in groups, a group has access to host groups, a host is in one host group.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# A login name is for the hosts' name services to understand; this keeps out what breaks lists and paths.
_name = RegexValidator(r"\A[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\Z", "1 to 64 letters, digits, dots, dashes, @ and _")
# What the synchronisation says of a person.
_THEIRS = ("name", "display", "email")
_IDENT = 32
_HASH = 64
_MOST_BREAK_GLASS = 64


def names(value: object) -> None:
    """Raises ValidationError for what is no list of login names: no host would take a policy with it."""
    if not isinstance(value, list) or len(value) > _MOST_BREAK_GLASS:
        raise ValidationError(f"a list of at most {_MOST_BREAK_GLASS} login names")
    for each in value:
        if not isinstance(each, str):
            raise ValidationError("a list of login names")
        _name(each)


def ident() -> str:
    """A new id: 32 hexadecimal digits."""
    return secrets.token_hex(_IDENT // 2)


def hash_of(token: str) -> str:
    """What is kept of a token of 256 random bits: its SHA-256. Such a token needs no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class State(models.Model):
    """The directory's own counters: one row. ``sequence`` grows with every publication, in all epochs.

    ``voucher`` is the word of the keeper that has begun the epoch, for other ones.
    """

    epoch = models.PositiveIntegerField(default=1)
    sequence = models.PositiveBigIntegerField(default=0)
    voucher = models.BinaryField(default=bytes, editable=False)

    def __str__(self) -> str:
        return f"epoch {self.epoch}, sequence {self.sequence}"


class PersonManager(BaseUserManager["Person"]):
    """How people are found and made."""

    def create_user(self, name: str, password: str | None = None, **fields: Any) -> Person:
        """A person; without a password nobody logs in with one. Raises ValidationError."""
        person = self.model(name=name, **fields)
        person.set_password(password)
        person.full_clean(exclude=["password"])
        person.save(using=self._db)
        return person


class Person(AbstractBaseUser):
    """Somebody who logs in to hosts, to the portal, or to both. The name is the login name on the hosts."""

    class Role(models.TextChoices):
        """What somebody may do in the admin portal."""

        USER = "user", "user"
        AUDITOR = "auditor", "auditor"
        HELPDESK = "helpdesk", "helpdesk"
        ADMINISTRATOR = "administrator", "administrator"

    class State(models.TextChoices):
        """How far somebody's enrolment is."""

        NOT_ENROLLED = "not enrolled", "not enrolled"
        IN_ENROLLMENT = "in enrolment", "in enrolment"
        ENROLLMENT_EXPIRED = "enrolment expired", "enrolment expired"
        ENROLLED = "enrolled", "enrolled"
        EXEMPT = "exempt", "exempt"

    name = models.CharField("login name", max_length=64, unique=True, validators=[_name])
    display = models.CharField("display name", max_length=150, blank=True)
    email = models.EmailField("e-mail address", blank=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.USER)
    # Who keeps this person up to date: nobody but administrators, or the synchronisation, by the id of the entry there.
    source = models.CharField(max_length=16, default="local", editable=False)
    entry = models.CharField(max_length=64, blank=True, default="", editable=False)
    uid_number = models.PositiveBigIntegerField("uid number", null=True, blank=True, editable=False)
    is_active = models.BooleanField("active", default=True, help_text="who is not is on no host and in no portal")
    locked = models.BooleanField(default=False, help_text="refused on every host and in the portal")
    # The synchronisation ends its own locks, and no others.
    locked_by = models.CharField(max_length=16, blank=True, default="", editable=False)
    exempt_until = models.DateTimeField(null=True, blank=True, help_text="not asked for codes until then")
    must_enroll = models.BooleanField(default=False, help_text="refused or enrolled, whatever a host's policy is")
    deadline = models.DateTimeField(null=True, blank=True, help_text="when the time to enrol ends")
    forget_before = models.DateTimeField(null=True, blank=True, help_text="clients remembered earlier are asked again")
    ledger = models.BinaryField(default=bytes, editable=False)
    created = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "name"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = PersonManager()

    class Meta:
        """In the order of the names."""

        ordering: ClassVar[Sequence[str]] = ["name"]
        verbose_name_plural = "people"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raises ValidationError for what the next synchronisation would undo, or take for somebody else."""
        super().clean()
        if self.pk is None or self.source == "local" or not settings.CONFIG.ldap.url:
            return
        kept = Person.objects.filter(pk=self.pk).values(*_THEIRS).first() or {}
        # With another name somebody is another person there: the next pass would add the former one again.
        changed = [name for name, value in kept.items() if getattr(self, name) != value]
        if changed:
            raise ValidationError(dict.fromkeys(changed, f"this comes from {self.source}: change it there"))

    @property
    def is_staff(self) -> bool:
        """Whether the admin portal opens at all."""
        return self.is_active and not self.locked and self.role != self.Role.USER

    @property
    def is_superuser(self) -> bool:
        """Whether everything is allowed there."""
        return self.is_staff and self.role == self.Role.ADMINISTRATOR

    def has_perm(self, permission: str, _: object = None) -> bool:
        """Whether the role allows it: auditors and the helpdesk look at everything, administrators change it."""
        return self.is_superuser or (self.is_staff and permission.partition(".")[2].startswith("view_"))

    def has_module_perms(self, _: str) -> bool:
        """Whether any of an app's pages is for this role."""
        return self.is_staff

    @property
    def enrolled(self) -> bool:
        """Whether a code can be asked for."""
        return self.authenticators.filter(state=Authenticator.State.ACTIVE).exists()

    def state_at(self, now: datetime) -> State:
        """How far the enrolment is at a time."""
        if self.exempt_until is not None and now < self.exempt_until:
            return self.State.EXEMPT
        if self.enrolled:
            return self.State.ENROLLED
        if self.deadline is None:
            return self.State.NOT_ENROLLED
        return self.State.IN_ENROLLMENT if now < self.deadline else self.State.ENROLLMENT_EXPIRED


class Group(models.Model):
    """People who reach the same hosts."""

    name = models.CharField(max_length=64, unique=True, validators=[_name])
    source = models.CharField(max_length=16, default="local", editable=False)
    persons = models.ManyToManyField(Person, related_name="memberships", blank=True, verbose_name="people")

    class Meta:
        """In the order of the names."""

        ordering: ClassVar[Sequence[str]] = ["name"]

    def __str__(self) -> str:
        return self.name


class HostGroup(models.Model):
    """Hosts with the same people and the same policy."""

    name = models.CharField(max_length=64, unique=True, validators=[_name])

    class Meta:
        """In the order of the names."""

        ordering: ClassVar[Sequence[str]] = ["name"]

    def __str__(self) -> str:
        return self.name


class Access(models.Model):
    """A group may use the hosts of a host group."""

    group = models.ForeignKey(Group, models.CASCADE, related_name="accesses")
    host_group = models.ForeignKey(HostGroup, models.CASCADE, related_name="accesses")

    class Meta:
        """Each pair once."""

        verbose_name_plural = "access"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["group", "host_group"], name="access_once")
        ]

    def __str__(self) -> str:
        return f"{self.group} on {self.host_group}"


class Policy(models.Model):
    """What holds on the hosts of a host group. A host's own configuration may be stricter, never laxer."""

    class Unenrolled(models.TextChoices):
        """What a login of somebody who is not enrolled comes to."""

        SKIP = "skip", "not asked"
        INVITE = "invite", "enrols with an invitation"
        ENROLL = "enroll", "enrols at the prompt"
        DENY = "deny", "refused"

    host_group = models.OneToOneField(HostGroup, models.CASCADE, related_name="policy")
    mfa = models.BooleanField("MFA", default=True, help_text="whether codes are asked for at all")
    unenrolled = models.CharField(max_length=8, choices=Unenrolled.choices, default=Unenrolled.SKIP)
    enrolment_days = models.PositiveSmallIntegerField(
        default=7, validators=[MinValueValidator(1), MaxValueValidator(365)]
    )
    max_offline = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(3600)],
        help_text="seconds without a fresh manifest after which a host refuses all but the break-glass users",
    )
    break_glass = models.JSONField(
        default=list, blank=True, validators=[names], help_text="login names, as a JSON list"
    )
    claims = models.BooleanField(default=True, help_text="whether a code is good once in the whole fleet")

    class Meta:
        """Its plural."""

        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return f"policy of {self.host_group}"


class Edition(models.Model):
    """What hosts were published for with: by person's number a digest of the record, and by "" one of the policy."""

    digest = models.CharField(max_length=_HASH, unique=True)
    digests = models.JSONField()

    def __str__(self) -> str:
        return self.digest


class Host(models.Model):
    """A host that has joined. ``key`` is its public X25519 key, which everything for it is sealed to.

    ``voucher`` is the word of the keeper that it has joined with, for other ones.

    ``line`` is the end of the line of numbers that it hands over (pam_totp.fleet.line), ``ends`` are earlier ones that
    another one came beside. One of these grows only where two hosts have one identity: ``cloned``, since when.

    ``changes`` counts what should reach it, ``done`` is how many of them the tree has; ``epoch`` and ``sequence`` are
    those of its latest manifest, ``expires`` is that manifest's end, and ``edition`` is what it was made of.
    """

    ident = models.CharField(max_length=_IDENT, unique=True, default=ident, editable=False)
    name = models.CharField(max_length=253)
    group = models.ForeignKey(HostGroup, models.PROTECT, related_name="hosts")
    key = models.BinaryField(max_length=32, editable=False)
    voucher = models.BinaryField(default=bytes, editable=False)
    token_hash = models.CharField(max_length=_HASH, unique=True, editable=False)
    joined = models.DateTimeField(auto_now_add=True)
    last_seen = models.DateTimeField(null=True, editable=False)
    address = models.GenericIPAddressField(null=True, editable=False)
    revoked = models.DateTimeField(null=True, editable=False)
    changes = models.PositiveBigIntegerField(default=1, editable=False)
    done = models.PositiveBigIntegerField(default=0, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)
    sequence = models.PositiveBigIntegerField(default=0, editable=False)
    expires = models.DateTimeField(null=True, editable=False)
    edition = models.ForeignKey(Edition, models.PROTECT, null=True, editable=False, related_name="hosts")
    line = models.CharField(max_length=_IDENT, blank=True, editable=False)
    ends = models.JSONField(default=list, editable=False)
    line_address = models.GenericIPAddressField(null=True, editable=False)
    cloned = models.DateTimeField(null=True, editable=False, help_text="since when two hosts have this identity")

    class Meta:
        """In the order of the names; the publisher looks for hosts that lack something."""

        ordering: ClassVar[Sequence[str]] = ["name"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["expires"], name="host_expires"),
            models.Index(
                fields=["id"], name="host_behind", condition=models.Q(revoked=None, changes__gt=models.F("done"))
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Published(models.Model):
    """The record that a host's tree has for a person: its hash. Without one: of somebody who was removed since."""

    # The constraint's index is enough.
    host = models.ForeignKey(Host, models.CASCADE, related_name="published", db_index=False)
    person = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="published")
    file = models.CharField(max_length=_HASH)

    class Meta:
        """One for each person and host."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["host", "person"], name="published_once")
        ]

    def __str__(self) -> str:
        return self.file


class Known(models.Model):
    """Whose record a host had ``until`` then: its root may have kept the secrets of before."""

    host = models.ForeignKey(Host, models.CASCADE, related_name="known")
    person = models.ForeignKey(Person, models.CASCADE, related_name="known")
    until = models.DateTimeField()

    class Meta:
        """One for each person and host: the latest."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["host", "person"], name="known_once")
        ]

    def __str__(self) -> str:
        return f"{self.person} on {self.host}"


class Authenticator(models.Model):
    """A person's authenticator. ``secret`` is sealed by the keeper for this id and this person."""

    class State(models.TextChoices):
        """Whether a first code has proven that the app has the secret."""

        PENDING = "pending", "pending"
        ACTIVE = "active", "active"

    ident = models.CharField(max_length=_IDENT, unique=True, default=ident, editable=False)
    person = models.ForeignKey(Person, models.CASCADE, related_name="authenticators")
    label = models.CharField(max_length=32, default="phone")
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    secret = models.BinaryField(editable=False)

    class Meta:
        """The oldest first."""

        ordering: ClassVar[Sequence[str]] = ["created", "id"]

    def __str__(self) -> str:
        return f"{self.label} of {self.person}"


class RecoveryCodes(models.Model):
    """A person's recovery codes: a salt and slow hashes, as pam_totp.factors.recovery makes them."""

    person = models.OneToOneField(Person, models.CASCADE, related_name="recovery")
    salt = models.CharField(max_length=32, editable=False)
    hashes = models.JSONField(default=list, editable=False)
    shown = models.BooleanField(default=False, editable=False)

    class Meta:
        """Its plural."""

        verbose_name_plural = "recovery codes"

    def __str__(self) -> str:
        return f"recovery codes of {self.person}"


class Claim(models.Model):
    """A code that was used somewhere, and so is used everywhere. ``authenticator`` may stand for a recovery code.

    ``login`` is the login that used it, so that one whose answer was lost may ask again. No host: the portal.
    """

    authenticator = models.CharField(max_length=_HASH)
    step = models.BigIntegerField()
    host = models.ForeignKey(Host, models.SET_NULL, null=True, related_name="+")
    login = models.CharField(max_length=32)
    time = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        """One winner."""

        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["authenticator", "step"], name="claim_once")
        ]

    def __str__(self) -> str:
        return f"{self.authenticator} {self.step}"


class JoinToken(models.Model):
    """Lets a host join: once, if it names the host; until its end, if it is for a host group alone."""

    token_hash = models.CharField(max_length=_HASH, unique=True, editable=False)
    group = models.ForeignKey(HostGroup, models.CASCADE, related_name="join_tokens")
    host_name = models.CharField(max_length=253, blank=True, help_text="empty: for any host of the group")
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=64, editable=False)
    expires = models.DateTimeField()
    used = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return f"for {self.host_name or f'hosts of {self.group}'}"


class ApiToken(models.Model):
    """Lets a program use the administrator's API, for what its scopes name."""

    name = models.CharField(max_length=64, unique=True, validators=[_name])
    token_hash = models.CharField(max_length=_HASH, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=64, editable=False)
    expires = models.DateTimeField(null=True)
    last_used = models.DateTimeField(null=True, editable=False)

    class Meta:
        """Its names."""

        verbose_name = "API token"

    def __str__(self) -> str:
        return self.name


class Invitation(models.Model):
    """A one-time link that lets a person enrol in the portal without a password.

    It is for the role that the person has at that time: who may invite somebody without a role must not have a link in
    hand that opens the admin portal later.
    """

    token_hash = models.CharField(max_length=_HASH, unique=True, editable=False)
    person = models.ForeignKey(Person, models.CASCADE, related_name="invitations")
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=64, editable=False)
    expires = models.DateTimeField()
    used = models.DateTimeField(null=True, editable=False)
    role = models.CharField(max_length=16, default=Person.Role.USER, editable=False)

    def __str__(self) -> str:
        return f"for {self.person}"


class Letter(models.Model):
    """A mail to a person: one that waits, was sent, or was given up. It has no secret: a link is made as it is sent.

    ``once`` tells a reminder from others of the person, so that it is sent once. ``due`` is when it is tried next.
    """

    class Kind(models.TextChoices):
        """What it is about."""

        INVITATION = "invitation", "invitation"
        REMINDER = "reminder", "reminder"
        NOTICE = "notice", "notice"

    person = models.ForeignKey(Person, models.CASCADE, related_name="letters")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    once = models.CharField(max_length=64, null=True)  # noqa: DJ001  # no two are the same, but for none
    address = models.EmailField()
    detail = models.JSONField(default=dict)
    created = models.DateTimeField()
    due = models.DateTimeField(db_index=True)
    tries = models.PositiveSmallIntegerField(default=0)
    sent = models.DateTimeField(null=True)
    given_up = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True)

    class Meta:
        """Each reminder once; the oldest first."""

        ordering: ClassVar[Sequence[str]] = ["created", "id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["person", "once"], name="letter_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.person}"


class Event(models.Model):
    """What a host has told: a login, a refusal, an enrolment at its prompt. ``ident`` is that host's."""

    ident = models.CharField(max_length=_IDENT)
    host = models.ForeignKey(Host, models.SET_NULL, null=True, related_name="events")
    person = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="events")
    name = models.CharField(max_length=256)
    time = models.DateTimeField(db_index=True)
    received = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=16)
    service = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=64, blank=True)
    authenticator = models.CharField(max_length=_IDENT, blank=True)

    class Meta:
        """The latest first."""

        ordering: ClassVar[Sequence[str]] = ["-time", "-id"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["host", "ident"], name="event_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.name}"


class Audit(models.Model):
    """Who did what to the directory: append-only, each entry with the hash of the one before it.

    Made by pam_totp.directory.audit alone.
    """

    time = models.DateTimeField()
    actor = models.CharField(max_length=64)
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=256, blank=True)
    detail = models.JSONField(default=dict)
    previous = models.CharField(max_length=_HASH)
    hash = models.CharField(max_length=_HASH, unique=True)

    class Meta:
        """In the order of the chain."""

        ordering: ClassVar[Sequence[str]] = ["id"]
        verbose_name_plural = "audit trail"

    def __str__(self) -> str:
        return f"{self.action} {self.target}"

    def computed(self) -> str:
        """The hash that belongs to this entry: SHA-256 of all its fields and the hash before."""
        fields = [self.time.isoformat(), self.actor, self.action, self.target, self.detail, self.previous]
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
