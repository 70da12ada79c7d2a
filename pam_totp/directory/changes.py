"""Which hosts a change concerns. Whatever changes a row, the admin portal among it, has these hosts published anew.

By Django's signals, in the transaction of the change. QuerySet.update() sends none: who uses it calls ``touch``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import F, Model, Q
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete

from pam_totp.directory.models import (
    Access,
    Authenticator,
    Group,
    Host,
    HostGroup,
    Person,
    Policy,
    RecoveryCodes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# Fields of a person that no host gets: a login to the portal concerns none.
_OWN = frozenset(
    {"password", "last_login", "ledger", "email", "display", "role", "source", "entry", "uid_number", "locked_by"}
)


def touch(*groups: HostGroup) -> None:
    """Have the hosts of these host groups published anew."""
    _touch(Q(group__in=groups))


def touch_people(people: Iterable[Person]) -> None:
    """The same for the hosts that these people may use."""
    _touch(Q(group__accesses__group__persons__in=list(people)))


def _touch(where: Q) -> None:
    found = Host.objects.filter(where, revoked=None).values("pk")
    Host.objects.filter(pk__in=found).update(changes=F("changes") + 1)


def _saved(instance: Model, **details: Any) -> None:
    if details.get("raw"):
        return  # a backup is put back, after which everything is published anew
    if isinstance(instance, Person):
        fields = details.get("update_fields")
        if fields is None or not _OWN.issuperset(fields):
            touch_people([instance])
    elif isinstance(instance, Authenticator | RecoveryCodes):
        touch_people([instance.person])
    elif isinstance(instance, Policy | Access):
        touch(instance.host_group)
    elif isinstance(instance, Group):
        _touch(Q(group__accesses__group=instance))


def _moved(instance: Model, created: bool, raw: bool, **_: Any) -> None:
    """A host that was put into another group."""
    if isinstance(instance, Host) and not created and not raw:
        Host.objects.filter(pk=instance.pk).update(changes=F("changes") + 1)


def _members(instance: Model, action: str, pk_set: set[int] | None, **_: Any) -> None:
    # Before people are taken out all at once, it is known who they are; they reach the hosts until the end.
    if action in ("post_add", "post_remove", "pre_clear"):
        if isinstance(instance, Group):
            _touch(Q(group__accesses__group=instance))
        elif isinstance(instance, Person):
            _touch(Q(group__accesses__group__in=pk_set or instance.memberships.all()))


def watch() -> None:
    """Begin to look, once for the whole process."""
    saved: tuple[type[Model], ...] = (Person, Authenticator, RecoveryCodes, Policy, Access)
    deleted: tuple[type[Model], ...] = (Person, Authenticator, RecoveryCodes, Group, Access)
    for model in saved:
        post_save.connect(_saved, sender=model, dispatch_uid="changes")
    # Whom a person or a group reaches is known until it is gone.
    for model in deleted:
        pre_delete.connect(_saved, sender=model, dispatch_uid="changes")
    post_delete.connect(_saved, sender=Policy, dispatch_uid="changes")
    post_save.connect(_moved, sender=Host, dispatch_uid="changes")
    m2m_changed.connect(_members, sender=Group.persons.through, dispatch_uid="changes")
