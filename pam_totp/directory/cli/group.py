"""Groups of people, groups of hosts, and access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.cli import common
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from pam_totp.directory.models import Group


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is done, and to which."""
    what = parser.add_subparsers(metavar="WHAT", required=True)
    each = what.add_parser("list", help="list groups, their members, and the hosts they may use", allow_abbrev=False)
    each.set_defaults(what=_list)
    for name, summary in (("add", "make a group"), ("remove", "remove a group; the people stay")):
        each = what.add_parser(name, help=summary, allow_abbrev=False)
        each.add_argument("name")
        each.add_argument("--hosts", action="store_true", help="it is a group of hosts")
        each.set_defaults(what=_add if name == "add" else _remove)
    for name, summary in (("join", "put people into a group"), ("leave", "take people out of a group")):
        each = what.add_parser(name, help=summary, allow_abbrev=False)
        each.add_argument("name", metavar="GROUP")
        each.add_argument("person", nargs="+")
        each.set_defaults(what=_members, inside=name == "join")
    for name, summary in (("allow", "let a group use a group of hosts"), ("deny", "end that")):
        each = what.add_parser(name, help=summary, allow_abbrev=False)
        each.add_argument("name", metavar="GROUP")
        each.add_argument("host_group", metavar="HOSTGROUP")
        each.set_defaults(what=_access, allow=name == "allow")


def run(arguments: argparse.Namespace) -> int:
    """Do it, all of it or nothing."""
    common.django()
    from django.db import transaction

    with transaction.atomic():
        result: int = arguments.what(arguments)
    return result


def _group(name: str) -> Group:
    from pam_totp.directory.models import Group

    group = Group.objects.filter(name=name).first()
    if group is None:
        raise UsageError(f"there is no group {name!r}: see pam-totp-directory group list")
    return group


def _list(_: argparse.Namespace) -> int:
    from pam_totp.directory.models import Group, HostGroup

    rows = [("GROUP", "PEOPLE", "MAY USE")]
    for group in Group.objects.prefetch_related("persons", "accesses__host_group"):
        names = [access.host_group.name for access in group.accesses.all()]
        rows.append((group.name, str(group.persons.count()), ", ".join(names) or "-"))
    common.table(rows)
    print()
    rows = [("HOST GROUP", "HOSTS", "UNENROLLED")]
    for each in HostGroup.objects.select_related("policy"):
        policy = each.policy.unenrolled if hasattr(each, "policy") else "skip"
        rows.append((each.name, str(each.hosts.filter(revoked=None).count()), policy))
    common.table(rows)
    return 0


def _add(arguments: argparse.Namespace) -> int:
    from django.core.exceptions import ValidationError

    from pam_totp.directory import audit
    from pam_totp.directory.models import Group, HostGroup, Policy

    made = HostGroup(name=arguments.name) if arguments.hosts else Group(name=arguments.name)
    try:
        made.full_clean()
    except ValidationError as error:
        raise UsageError(f"{arguments.name!r} cannot be made: {'; '.join(error.messages)}") from None
    made.save()
    if isinstance(made, HostGroup):
        Policy.objects.create(host_group=made)
    audit.note(common.ACTOR, "group-made", made.name, hosts=arguments.hosts)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import audit, hosts

    if arguments.hosts:
        group = hosts.group_named(arguments.name)
        if group.hosts.filter(revoked=None).exists():
            raise UsageError(f"{group} has hosts: move them first, with pam-totp-directory host move")
        group.hosts.all().delete()
        group.delete()
    else:
        _group(arguments.name).delete()
    audit.note(common.ACTOR, "group-removed", arguments.name, hosts=arguments.hosts)
    return 0


def _members(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import audit, people

    group, found = _group(arguments.name), [people.find(name) for name in arguments.person]
    (group.persons.add if arguments.inside else group.persons.remove)(*found)
    audit.note(common.ACTOR, "group-changed", group.name, people=arguments.person, inside=arguments.inside)
    return 0


def _access(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import audit, hosts
    from pam_totp.directory.models import Access

    group, host_group = _group(arguments.name), hosts.group_named(arguments.host_group)
    if arguments.allow:
        Access.objects.get_or_create(group=group, host_group=host_group)
    else:
        for each in Access.objects.filter(group=group, host_group=host_group):
            each.delete()
    audit.note(common.ACTOR, "access-changed", arguments.name, hosts=arguments.host_group, allowed=arguments.allow)
    return 0
