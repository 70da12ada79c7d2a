"""Tokens: for hosts to join with, and for programs that use the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """For which hosts, and how long."""
    what = parser.add_subparsers(metavar="WHAT", required=True)
    each = what.add_parser("new", help="print a new token", allow_abbrev=False)
    each.add_argument("--host", default="", metavar="NAME", help="good once, for the host of this name")
    each.add_argument("--group", default="hosts", metavar="HOSTGROUP", help="which the host comes into; default: hosts")
    each.add_argument("--hours", type=int, default=24, help="how long it is good: 1 to 8760; default: 24")
    each.set_defaults(what=_new)
    each = what.add_parser("api", help="print a new token for a program that uses the API", allow_abbrev=False)
    each.add_argument("name", help="what the program is called here, and in the audit trail")
    each.add_argument(
        "--scope", action="append", choices=config.SCOPES, required=True, help="what for (can be repeated)"
    )
    each.add_argument("--days", type=int, default=365, help="how long it is good: 1 to 3650; default: 365")
    each.set_defaults(what=_api)
    each = what.add_parser("revoke", help="end a program's token", allow_abbrev=False)
    each.add_argument("name")
    each.set_defaults(what=_revoke)
    each = what.add_parser("list", help="list tokens that are still good", allow_abbrev=False)
    each.set_defaults(what=_list)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    if not 1 <= getattr(arguments, "hours", 1) <= 8760:
        raise UsageError("--hours is 1 to 8760")
    if not 1 <= getattr(arguments, "days", 1) <= 3650:
        raise UsageError("--days is 1 to 3650")
    common.django()
    result: int = arguments.what(arguments)
    return result


def _new(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import certificates, hosts

    found = config.load()
    pin = certificates.pin(common.read(found.authority)) if found.authority else ""
    print(hosts.new_token(common.ACTOR, hosts.group_named(arguments.group), arguments.host, arguments.hours, pin))
    return 0


def _api(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import programs

    print(programs.new_token(common.ACTOR, arguments.name, arguments.scope, arguments.days))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import programs

    programs.revoke_token(common.ACTOR, arguments.name)
    return 0


def _list(_: argparse.Namespace) -> int:
    from django.utils import timezone

    from pam_totp.directory.models import ApiToken, JoinToken

    rows = [("FOR", "GROUP OR SCOPES", "MADE BY", "UNTIL")]
    rows += [
        (each.host_name or "any host", each.group.name, each.created_by, common.shown(each.expires))
        for each in JoinToken.objects.filter(expires__gt=timezone.now()).select_related("group")
        if not each.host_name or each.used is None
    ]
    rows += [
        (f"program {each.name}", ", ".join(each.scopes), each.created_by, common.shown(each.expires))
        for each in ApiToken.objects.filter(expires__gt=timezone.now())
    ]
    common.table(rows)
    return 0
