"""Let a user in without a code until a date, with a reason; or end that; or list who is exempt.

Each use is logged. There is no exemption without an end.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

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
    """[USER (--until DATE --reason TEXT | --end)]."""
    parser.add_argument("user", metavar="USER", nargs="?", help="without: list who is exempt")
    parser.add_argument(
        "--until", metavar="DATE", help="day (2027-01-31, its end in UTC) or time (2027-01-31T18:00:00Z)"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why, for the log and the list")
    parser.add_argument("--end", action="store_true", help="end the exemption now")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Exempt, end, or list."""
    if arguments.user is None:
        return _list(paths)
    if arguments.end == bool(arguments.until) or bool(arguments.until) != bool(arguments.reason):
        raise UsageError("give both --until DATE and --reason TEXT, or --end")
    if arguments.end:
        with common.changing(paths, arguments.user) as (_, account):
            if not account.ledger.exempt(now()):
                print(f"pam-totp: {account.name} is not exempt", file=sys.stderr)
                return 1
            account.ledger.exemption = None
        common.record("exempt", account, "ended")
        print(f"{account.name} is no longer exempt")
        return 0
    until = _end_of(arguments.until)
    if until <= now().wall:
        raise UsageError(f"{arguments.until} is over: give a date in the future")
    if len(arguments.reason) > LONGEST_REASON or not arguments.reason.isprintable():
        raise UsageError(f"a reason has up to {LONGEST_REASON} printable characters: shorten it")
    with common.changing(paths, arguments.user) as (_, account):
        account.ledger.exemption = [until, arguments.reason]
    common.record("exempt", account, f"until {common.rfc3339(until)}: {arguments.reason}")
    print(f"{account.name} is exempt until {common.minute(until)} UTC: no code is asked for, and each use is logged")
    return 0


def _end_of(text: str) -> int:
    try:
        if len(text) == len("2027-01-31"):
            return int(datetime.strptime(f"{text} 23:59:59", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a date: write 2027-01-31 or 2027-01-31T18:00:00Z") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _list(paths: Paths) -> int:
    moment = now()
    with Accounts(paths) as accounts:
        found = [each for each in accounts.all() if isinstance(each, Account) and each.ledger.exempt(moment)]
    if not found:
        print("nobody is exempt")
        return 0
    rows = [
        (each.name, common.minute(each.ledger.exemption[0]), each.ledger.exemption[1])
        for each in found
        if each.ledger.exemption
    ]
    common.table(("USER", "UNTIL (UTC)", "REASON"), rows)
    return 0
