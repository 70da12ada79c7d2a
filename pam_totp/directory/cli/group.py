"""Groups of people, groups of hosts, and access."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse

    from pam_totp.directory.models import Group, HostGroup


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
    each = what.add_parser("rename", help="give a group another name", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("new", metavar="NEW")
    each.add_argument("--hosts", action="store_true", help="it is a group of hosts")
    each.set_defaults(what=_rename)
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


def _find(arguments: argparse.Namespace) -> Group | HostGroup:
    from pam_totp.directory import groups, hosts

    return hosts.group_named(arguments.name) if arguments.hosts else groups.named(arguments.name)


def _add(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import groups

    groups.add(common.ACTOR, arguments.name, of_hosts=arguments.hosts)
    return 0


def _rename(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import groups

    groups.rename(common.ACTOR, _find(arguments), arguments.new)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import groups

    groups.remove(common.ACTOR, _find(arguments))
    return 0


def _members(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import groups

    groups.members(common.ACTOR, groups.named(arguments.name), arguments.person, inside=arguments.inside)
    return 0


def _access(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import groups, hosts

    group, host_group = groups.named(arguments.name), hosts.group_named(arguments.host_group)
    groups.access(common.ACTOR, group, host_group, allowed=arguments.allow)
    return 0
