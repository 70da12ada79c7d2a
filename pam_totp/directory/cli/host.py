"""Hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.cli import common
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is done, and to which."""
    what = parser.add_subparsers(metavar="WHAT", required=True)
    each = what.add_parser("list", help="list hosts, and when they were seen", allow_abbrev=False)
    each.add_argument("--revoked", action="store_true", help="those that were revoked, or have left")
    each.set_defaults(what=_list)
    each = what.add_parser("move", help="put a host into another host group", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("group")
    each.set_defaults(what=_move)
    each = what.add_parser("rename", help="call a host something else here", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("new", metavar="NEW")
    each.set_defaults(what=_rename)
    each = what.add_parser("revoke", help="publish nothing for a host any more, and list whom to re-enrol")
    each.add_argument("name")
    each.add_argument("--reset", action="store_true", help="reset these people, and print an invitation for each")
    each.add_argument("--mail", action="store_true", help="with --reset: send it to those who have an address instead")
    each.add_argument("--yes", action="store_true", help="do not ask")
    each.set_defaults(what=_revoke)
    each = what.add_parser("remove", help="take a host that was revoked off the list", allow_abbrev=False)
    each.add_argument("name")
    each.set_defaults(what=_remove)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    common.django()
    result: int = arguments.what(arguments)
    return result


def _list(arguments: argparse.Namespace) -> int:
    from pam_totp.directory.models import Host

    rows = [("NAME", "GROUP", "SEEN", "FROM", "PENDING", "CLONED", "ID")]
    for host in Host.objects.select_related("group").filter(revoked__isnull=not arguments.revoked):
        pending = "yes" if host.changes > host.done else "no"
        seen, cloned = common.shown(host.last_seen), common.shown(host.cloned)
        rows.append((host.name, host.group.name, seen, host.address or "-", pending, cloned, host.ident))
    common.table(rows)
    return 0


def _move(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import hosts

    hosts.move(common.ACTOR, hosts.find(arguments.name), hosts.group_named(arguments.group))
    return 0


def _rename(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import hosts

    hosts.rename(common.ACTOR, hosts.find(arguments.name), arguments.new)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import hosts

    hosts.forget(common.ACTOR, hosts.find(arguments.name, revoked=True))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import hosts, letters, people
    from pam_totp.directory.cli import mail

    if arguments.mail and not (arguments.reset and letters.enabled()):
        raise UsageError("--mail goes with --reset, and needs a server in [mail] of directory.toml")
    host = hosts.find(arguments.name)
    if not common.confirmed(arguments, f"Revoke {host}? It keeps its last state, and gets nothing any more."):
        return 1
    concerned = hosts.revoke(common.ACTOR, host)
    if not concerned:
        print(f"{host} is revoked; it had nobody's secret")
        return 0
    print(f"{host} is revoked. Its root knew the secrets of these people; they must enrol anew:")
    for person in concerned:
        if not arguments.reset:
            print(person)
        elif link := people.enrol_anew(common.ACTOR, person, mail=arguments.mail):
            print(f"{person}  {link}")
        elif mail.sent(person.name):
            print(f"{person}  sent to {person.email}")
    if not arguments.reset:
        print("One after the other: pam-totp-directory user reset NAME, and user invite NAME.")
    return 0
