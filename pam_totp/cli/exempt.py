"""Let a user in without a code until a date, with a reason; or end that, or show it, or list who is exempt.

Each use is logged. There is no exemption without an end.
"""

from __future__ import annotations

import sys

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths

LONGEST_REASON = 100


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER [--until WHEN --reason TEXT | --end]]."""
    parser.add_argument("user", metavar="USER", nargs="?", help="without: list who is exempt")
    parser.add_argument("--until", metavar="WHEN", help=common.WHEN)
    parser.add_argument("--reason", metavar="TEXT", help="why, for the log and the list")
    parser.add_argument("--end", action="store_true", help="end the exemption now")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Exempt, end, show, or list."""
    given = [arguments.until is not None, arguments.reason is not None]
    if any(given) and (arguments.end or not (arguments.until and arguments.reason)):
        raise UsageError("give both --until WHEN and --reason TEXT, or --end")
    if arguments.user is None:
        if any(given) or arguments.end:
            raise UsageError("say who: give a USER")
        return _list(paths)
    if not (any(given) or arguments.end):
        return _show(paths, arguments.user)
    if arguments.end:
        with common.changing(paths, arguments.user) as (_, account):
            if not account.ledger.exempt(now()):
                print(f"pam-totp: {account.name} is not exempt", file=sys.stderr)
                return 1
            account.ledger.exemption = None
        common.record("exempt", account, "ended")
        print(f"{account.name} is no longer exempt")
        return 0
    until = common.when_argument(arguments.until, now())
    if len(arguments.reason) > LONGEST_REASON or not arguments.reason.isprintable():
        raise UsageError(f"a reason has up to {LONGEST_REASON} printable characters: shorten it")
    with common.changing(paths, arguments.user) as (_, account):
        account.ledger.exemption = [until, arguments.reason]
    common.record("exempt", account, f"until {common.rfc3339(until)}: {arguments.reason}")
    print(f"{account.name} is exempt until {common.minute(until)} UTC: no code is asked for, and each use is logged")
    return 0


def _show(paths: Paths, name: str) -> int:
    """Show one user's; 1 where there is none."""
    with Accounts(paths) as accounts:
        account = common.account_of(accounts, name)
    if not account.ledger.exempt(now()):
        print(f"{account.name} is not exempt")
        return 1
    _table([account])
    return 0


def _list(paths: Paths) -> int:
    moment = now()
    with Accounts(paths) as accounts:
        found = [each for each in accounts.all() if isinstance(each, Account) and each.ledger.exempt(moment)]
    if not found:
        print("nobody is exempt")
        return 0
    _table(found)
    return 0


def _table(found: list[Account]) -> None:
    rows = [
        (each.name, common.minute(each.ledger.exemption[0]), each.ledger.exemption[1])
        for each in found
        if each.ledger.exemption
    ]
    common.table(("USER", "UNTIL (UTC)", "REASON"), rows)
