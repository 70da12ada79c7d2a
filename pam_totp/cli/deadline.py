"""List until when users have to enrol; extend or end a user's deadline.

A deadline begins with the first login that the policy applies to (see [enrollment] in pam-totp.toml(5)).
"""

from __future__ import annotations

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.host import config as configuration
from pam_totp.host.clock import now
from pam_totp.login.attempt import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER (--extend DURATION | --end)]."""
    parser.add_argument("user", metavar="USER", nargs="?", help="without: list all deadlines")
    parser.add_argument("--extend", metavar="TIME", help="give so much more time, like 7d")
    parser.add_argument("--end", action="store_true", help="the deadline is over now")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """List, extend or end."""
    period = configuration.load(paths.config, paths.owner).enrollment.period
    if arguments.user is None:
        return _list(paths, period)
    if arguments.end == bool(arguments.extend):
        raise UsageError("give either --extend TIME or --end")
    more = 0 if arguments.end else common.duration_argument(arguments.extend)
    moment = now()
    with common.changing(paths, arguments.user) as (_, account):
        if account.active:
            raise UsageError(f"{account.name} is enrolled: there is no deadline")
        left = account.ledger.grace_left(moment, period)
        start, extra = account.ledger.grace or (moment.stamp(), 0)
        if arguments.end:
            # Counted from now, so that the period that is configured today does not matter.
            account.ledger.grace = [moment.stamp(), -365 * configuration.DAY]
        elif left:
            account.ledger.grace = [start, extra + more]
        else:
            account.ledger.grace = [moment.stamp(), more - period]
        left = account.ledger.grace_left(moment, period)
    text = f"{duration(left)} left" if left else "over"
    common.record("deadline", account, text)
    print(f"{account.name}: {text}")
    return 0


def _list(paths: Paths, period: int) -> int:
    moment = now()
    with Accounts(paths) as accounts:
        found = [each for each in accounts.all() if isinstance(each, Account) and each.ledger.grace and not each.active]
    if not found:
        print("no deadline has begun")
        return 0
    rows = []
    for each in found:
        left = each.ledger.grace_left(moment, period)
        rows.append((each.name, common.minute(moment.wall + left) if left else "over", duration(left) if left else "-"))
    common.table(("USER", "UNTIL (UTC)", "LEFT"), rows)
    return 0
