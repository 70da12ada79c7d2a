"""What is done to groups of people and of hosts, and which may use which. Each function is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import transaction

from pam_totp.directory import audit, people
from pam_totp.directory.models import Access, Group, HostGroup, Policy
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def named(name: str) -> Group:
    """A group of people. Raises UsageError."""
    group = Group.objects.filter(name=name).first()
    if group is None:
        raise UsageError(f"there is no group {name!r}: see pam-totp-directory group list")
    return group


@transaction.atomic
def add(actor: str, name: str, *, of_hosts: bool) -> Group | HostGroup:
    """Make a group, of people or of hosts; one of hosts has a policy at once. Raises UsageError."""
    made = HostGroup(name=name) if of_hosts else Group(name=name)
    _checked(made)
    made.save()
    if isinstance(made, HostGroup):
        Policy.objects.create(host_group=made)
    audit.note(actor, "group-made", name, hosts=of_hosts)
    return made


@transaction.atomic
def rename(actor: str, group: Group | HostGroup, name: str) -> None:
    """Give a group another name. Raises UsageError."""
    before, group.name = group.name, name
    _checked(group)
    group.save(update_fields=["name"])
    audit.note(actor, "group-renamed", before, name=name, hosts=isinstance(group, HostGroup))


@transaction.atomic
def remove(actor: str, group: Group | HostGroup) -> None:
    """Remove a group: people stay, and are on its hosts no more; a group that has hosts stays. Raises UsageError."""
    name = group.name
    if isinstance(group, HostGroup):
        if group.hosts.filter(revoked=None).exists():
            raise UsageError(f"{group} has hosts: move them first, with pam-totp-directory host move")
        group.hosts.all().delete()
    group.delete()
    audit.note(actor, "group-removed", name, hosts=isinstance(group, HostGroup))


@transaction.atomic
def members(actor: str, group: Group, names: Iterable[str], *, inside: bool) -> None:
    """Put people into a group, or take them out. Raises UsageError."""
    found = [people.find(name) for name in names]
    (group.persons.add if inside else group.persons.remove)(*found)
    audit.note(actor, "group-changed", group.name, people=[each.name for each in found], inside=inside)


@transaction.atomic
def access(actor: str, group: Group, host_group: HostGroup, *, allowed: bool) -> None:
    """Let a group use the hosts of a host group, or end that."""
    if allowed:
        Access.objects.get_or_create(group=group, host_group=host_group)
    else:
        for each in Access.objects.filter(group=group, host_group=host_group):
            each.delete()
    audit.note(actor, "access-changed", group.name, hosts=host_group.name, allowed=allowed)


@transaction.atomic
def open_to(actor: str, host_group: HostGroup, names: Iterable[str]) -> None:
    """Have these groups use the hosts of a host group, and no others. Raises UsageError."""
    wanted = {named(name) for name in names}
    now = {each.group for each in host_group.accesses.select_related("group")}
    for group in sorted(wanted ^ now, key=str):
        access(actor, group, host_group, allowed=group in wanted)


def _checked(group: Group | HostGroup) -> None:
    try:
        group.full_clean()
    except ValidationError as error:
        raise UsageError(f"{group.name!r} cannot be a group's name: {'; '.join(error.messages)}") from None
