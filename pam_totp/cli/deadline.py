"""List until when users have to enrol, or show or change one user's deadline.

A deadline is a date, or begins with the first login that the policy applies to (see [enrollment] in pam-totp.toml(5)).
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

    from pam_totp.cache.ledger import Ledger
    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Enrollment
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER [--until WHEN | --extend DURATION | --end]]."""
    parser.add_argument("user", metavar="USER", nargs="?", help="without: list all deadlines")
    parser.add_argument("--until", metavar="WHEN", help=f"the deadline is then: {common.WHEN}")
    parser.add_argument("--extend", metavar="TIME", help="give so much more time, like 7d")
    parser.add_argument("--end", action="store_true", help="the deadline is over now")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """List, show, or change."""
    changes = [arguments.until is not None, arguments.extend is not None, arguments.end]
    if sum(changes) > 1 or (arguments.user is None and any(changes)):
        raise UsageError("give a USER and one of --until WHEN, --extend TIME and --end")
    enrollment = configuration.load(paths.config, paths.owner).enrollment
    moment = now()
    if arguments.user is None:
        return _list(paths, enrollment, moment)
    if not any(changes):
        return _show(paths, arguments.user, enrollment, moment)
    until = None if arguments.until is None else common.when_argument(arguments.until, moment)
    more = None if arguments.extend is None else common.duration_argument(arguments.extend)
    with common.changing(paths, arguments.user) as (_, account):
        if account.active:
            raise UsageError(f"{account.name} is enrolled: there is no deadline")
        if more is not None:
            _extend(account.ledger, more, enrollment, moment)
        else:
            account.ledger.deadline = until or 0
        left = _left(account, enrollment, moment)
    text = f"{duration(left)} left" if left else "over"
    if account.ledger.deadline:
        text = f"until {common.minute(account.ledger.deadline)} UTC, {text}"
    common.record("deadline", account, text)
    print(f"{account.name}: {text}")
    return 0


def _extend(ledger: Ledger, more: int, enrollment: Enrollment, moment: Moment) -> None:
    """Give more time: from where the deadline is or, where it is over, from now."""
    left = ledger.grace_left(moment, enrollment.period, enrollment.until)
    start, extra = ledger.grace or (moment.stamp(), 0)
    if (ledger.deadline and left) or enrollment.until is not None:
        ledger.deadline = int(moment.wall) + left + more
    elif left:
        ledger.grace = [start, extra + more]
    else:
        ledger.deadline = None
        ledger.grace = [moment.stamp(), more - enrollment.period]


def _left(account: Account, enrollment: Enrollment, moment: Moment) -> int:
    return account.ledger.grace_left(moment, enrollment.period, enrollment.until)


def _show(paths: Paths, name: str, enrollment: Enrollment, moment: Moment) -> int:
    """Show one user's; 1 where there is none."""
    with Accounts(paths) as accounts:
        account = common.account_of(accounts, name)
    ledger = account.ledger
    dated = ledger.deadline is not None or enrollment.until is not None
    if account.active or (ledger.grace is None and not dated):
        why = (
            "is enrolled: there is no deadline" if account.active else "has no deadline yet: the first login begins it"
        )
        print(f"{account.name} {why}")
        return 1
    _table([account], enrollment, moment)
    return 0


def _list(paths: Paths, enrollment: Enrollment, moment: Moment) -> int:
    if enrollment.until is not None:
        print(f"for everybody without a deadline of their own: {common.minute(enrollment.until)} UTC")
    with Accounts(paths) as accounts:
        found = [each for each in accounts.all() if isinstance(each, Account) and not each.active]
    own = [each for each in found if each.ledger.deadline is not None]
    begun = [each for each in found if each.ledger.grace and enrollment.until is None]
    shown = [each for each in found if each in own or each in begun]
    if shown:
        _table(shown, enrollment, moment)
    elif enrollment.until is None:
        print("no deadline has begun")
    return 0


def _table(found: list[Account], enrollment: Enrollment, moment: Moment) -> None:
    rows = []
    for each in found:
        left = _left(each, enrollment, moment)
        rows.append((each.name, common.minute(moment.wall + left) if left else "over", duration(left) if left else "-"))
    common.table(("USER", "UNTIL (UTC)", "LEFT"), rows)
