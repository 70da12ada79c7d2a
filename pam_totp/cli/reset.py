"""Remove a user's authenticators, or the one with a label.

The user is not asked for a code afterwards, until a new enrolment is confirmed.
"""

from __future__ import annotations

import sys

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cli import common
from pam_totp.errors import CacheError
from pam_totp.factors import enroll

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER [--label L] [--yes]."""
    common.user_argument(parser)
    parser.add_argument("--label", metavar="L", help="only the authenticator with this label")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Reset."""
    with Accounts(paths) as accounts:
        name = common.recorded_name(accounts, arguments.user)
        what = f"the authenticator {arguments.label!r}" if arguments.label else "all authenticators"
        if not arguments.yes and not common.sure(f"Remove {what} of {name}? [y/N] "):
            print("nothing changed")
            return 1
        with accounts.lock(name):
            account = _removed(accounts, name, arguments.label)
            if account is None:
                print(f"pam-totp: {name} has no such authenticator: see pam-totp status {name}", file=sys.stderr)
                return 1
            accounts.save(account)
    common.record("reset", account, f"label {arguments.label}" if arguments.label else "all")
    left = ", ".join(each.label for each in account.authenticators)
    unasked = "" if account.active else "; the next login asks for no code"
    print(f"{name}: removed {what}{f'; left: {left}' if left else ''}{unasked}")
    return 0


def _removed(accounts: Accounts, name: str, label: str | None) -> Account | None:
    """The account without what is to go, to be saved; None where there is no such thing."""
    try:
        account = accounts.get(name)
    except CacheError:
        if label is not None:
            raise
        # A record that no longer opens is removed as a whole; that is what a full reset is for.
        return accounts.unreadable(name)
    return account if account is not None and enroll.remove(account, label) else None
