"""Remove a user's authenticators, or the one with a label.

It says what the user's next login comes to, until a new enrolment is confirmed: that is for the policy to say. Where a
pending authenticator has the label, only that one goes: an enrolment is cancelled, and what is active stays. Somebody
whom the directory of a fleet has revoked is then as one who never enrolled.
"""

from __future__ import annotations

import sys

from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import common
from pam_totp.errors import CacheError, PamTotpError, UsageError
from pam_totp.factors import enroll
from pam_totp.host import config as configuration
from pam_totp.host import users
from pam_totp.host.clock import now
from pam_totp.login.attempt import Attempt, Conversation, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.cache.accounts import Account
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER [--label L] [--yes]."""
    common.user_argument(parser)
    parser.add_argument("--label", metavar="L", help="only the authenticator with this label")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Reset."""
    with Upkeep(paths) as accounts:
        name = common.recorded_name(accounts, arguments.user)
        pending = _pending(accounts, name, arguments.label)
        what = f"the authenticator {arguments.label!r}" if arguments.label else "all authenticators"
        if pending:
            what = f"the pending {what.removeprefix('the ')}"
        if not arguments.yes and not common.sure(f"Remove {what} of {name}? [y/N] "):
            print("nothing changed")
            return 1
        with accounts.lock(name):
            if _pending(accounts, name, arguments.label) != pending:
                raise UsageError(f"the record of {name} was changed meanwhile: see pam-totp status {name}")
            account = _removed(accounts, name, arguments.label)
            if account is None:
                print(f"pam-totp: {name} has no such authenticator: see pam-totp status {name}", file=sys.stderr)
                return 1
            accounts.save(account)
        unasked = "" if account.active or pending else _next_login(account, accounts, paths)
    which = f"label {arguments.label}" if arguments.label else "all"
    common.record("reset", account, f"{which}, pending" if pending else which)
    left = ", ".join(each.label for each in account.authenticators)
    print(f"{name}: removed {what}{f'; left: {left}' if left else ''}{unasked}")
    common.caution(paths)
    return 0


def _next_login(account: Account, accounts: Upkeep, paths: Paths) -> str:
    """What becomes of the user's next login now, where that can be told."""
    try:
        user = users.find(account.name)
        if user is None:
            return ""
        config = configuration.load(paths.config, paths.owner)
        attempt = Attempt(user, Request(user.name, "sshd"), config, paths, now, Conversation())
        return f"; at the next login {account.name} {common.next_login(attempt, account, accounts)}"
    except PamTotpError as error:
        return f"; what the next login comes to is not known: {error}"


def _removed(accounts: Upkeep, name: str, label: str | None) -> Account | None:
    """The account without what is to go, to be saved; None where there is no such thing."""
    try:
        account = accounts.get(name)
    except CacheError:
        if label is not None:
            raise
        # A record that no longer opens is removed as a whole; that is what a full reset is for.
        return accounts.unreadable(name)
    if account is None:
        return None
    fleet = account.ledger.fleet
    revoked = label is None and fleet is not None and fleet["revoked"]
    removed = (label is not None and enroll.cancel(account, label)) or enroll.remove(account, label)
    if revoked:
        # Nobody but root may say that somebody whom the directory has taken away is as one who never enrolled.
        account.ledger.fleet = None
    return account if removed or revoked else None


def _pending(accounts: Upkeep, name: str, label: str | None) -> str | None:
    """The pending authenticator that a label stands for; None where it stands for what is active, or for nothing."""
    account = None if label is None else accounts.get(name)
    pending = None if account is None else account.pending
    return pending.identifier if pending is not None and pending.label == label else None
