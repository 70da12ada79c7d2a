"""People and groups from elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """From where."""
    what = parser.add_subparsers(metavar="WHAT", required=True)
    each = what.add_parser("ldap", help="take people and groups from LDAP or Active Directory", allow_abbrev=False)
    each.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    each.add_argument("--renumbered", action="store_true", help="entries with other ids are the same people as before")
    each.add_argument("--yes", action="store_true", help="also where many would be locked, or all")
    each.set_defaults(what=_ldap)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    found = config.load().ldap
    if not found.url:
        raise ConfigError(f"there is no table [ldap] in {config.FILE}: see pam-totp-directory(8)")
    if os.geteuid() == common.account(config.USER)[0]:
        common.setup()  # as the timer starts it
    else:
        common.django()
    result: int = arguments.what(arguments, found)
    return result


def _ldap(arguments: argparse.Namespace, settings: config.Ldap) -> int:
    from pam_totp.directory import ldap, sync

    found = ldap.found(settings)
    report = sync.put(found, dry_run=arguments.dry_run, anyway=arguments.yes, renumbered=arguments.renumbered)
    for line in report.left:
        print(f"left alone: {line}")
    for line in report.done:
        print(f"would do: {line}" if arguments.dry_run else line)
    changes = f"{len(report.done)} change" + ("" if len(report.done) == 1 else "s")
    print(f"{len(found.people)} people, {len(found.groups)} groups in LDAP; {changes}")
    return 0
