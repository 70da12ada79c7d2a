"""Show who is enrolled, in which state, and what is wrong with the cache.

Without users: everybody who has a record.
"""

from __future__ import annotations

import json
import sys

from pam_totp.cache import summary
from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cli import common
from pam_totp.errors import CacheError, ConfigError, NameServiceError
from pam_totp.host import config as configuration
from pam_totp.host import users
from pam_totp.host.clock import now
from pam_totp.login.attempt import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths

_REFUSALS = 5
_HEAD = ("USER", "STATE", "AUTHENTICATORS", "ENROLLED (UTC)", "LAST LOGIN (UTC)", "FAILURES", "WAIT")


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER ...] [--json]."""
    parser.add_argument("users", metavar="USER", nargs="*", help="only these, with their latest refusals")
    parser.add_argument("--json", action="store_true", help="print one JSON document: a list of objects")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show; 3 where the cache is damaged."""
    moment, window = now(), _window(paths)
    with Accounts(paths) as accounts:
        accounts.check_key()
        if arguments.users:
            found = [_of(accounts, name) for name in arguments.users]
            problems = []
        else:
            found = [each for each in accounts.all() if isinstance(each, Account)]
            problems = accounts.damage()
        if arguments.json:
            print(json.dumps([summary.fields(account, moment, window) for account in found], indent=2))
        elif found or not problems:
            _table(found, moment, window)
            for name in dict.fromkeys(account.name for account in found if arguments.users):
                _refusals(accounts, name)
    for problem in problems:
        print(f"pam-totp: damaged: {problem}", file=sys.stderr)
    return 3 if problems else 0


def _window(paths: Paths) -> int:
    # A configuration that is not understood lets nobody in; what is kept can be shown all the same.
    try:
        return configuration.load(paths.config, paths.owner).window
    except ConfigError:
        return configuration.Config().window


def _of(accounts: Accounts, name: str) -> Account:
    recorded = common.recorded_name(accounts, name)
    account = accounts.get(recorded)
    return account if account is not None else accounts.find(common.known_user(name))


def _table(found: list[Account], moment: Moment, window: int) -> None:
    if not found:
        print("nobody is enrolled: start with pam-totp enroll USER")
        return
    common.table(_HEAD, [_row(account, moment, window) for account in found])


def _row(account: Account, moment: Moment, window: int) -> tuple[str, ...]:
    labels = [each.label + (" (pending)" if each.state != "active" else "") for each in account.authenticators]
    created = [each.created for each in account.authenticators]
    wait = summary.wait(account, moment, window)
    waiting = duration(wait) if wait else "-"
    return (
        account.name + _strange(account),
        summary.state(account, moment),
        ", ".join(labels) or "-",
        common.minute(min(created, default=None)),
        common.minute(account.ledger.last_success),
        str(account.ledger.row),
        "locked" if account.ledger.locked else waiting,
    )


def _strange(account: Account) -> str:
    try:
        user = users.find(account.name)
    except NameServiceError:
        return " (unknown: the name service does not answer)" if account.authenticators else ""
    if not account.authenticators or (user is not None and user.uid == account.uid):
        return ""
    if user is None:
        return " (no such user: rename or reset it)" if account.active else " (stale: no such user)"
    return f" (uid changed: was {account.uid}, is {user.uid})"


def _refusals(accounts: Accounts, name: str) -> None:
    try:
        events = accounts.events(name, _REFUSALS)
    except CacheError:
        events = []
    if events:
        print(f"\nlatest refusals of {name}:")
    for time, line in events:
        print(f"  {common.rfc3339(time)}  {line}")
