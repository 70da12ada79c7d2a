"""Activate the pending authenticator of a user with a code from it.

The code is read from the terminal, or from standard input where that is no terminal; never from an argument.
"""

from __future__ import annotations

import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common, recovery
from pam_totp.factors import enroll, otp
from pam_totp.factors import recovery as recovery_codes
from pam_totp.host import config as configuration
from pam_totp.host.clock import now

GONE = "nothing is pending any more: it was confirmed or removed meanwhile, see pam-totp status"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths
    from pam_totp.host.users import User


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER."""
    common.user_argument(parser)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Confirm."""
    config = configuration.load(paths.config, paths.owner)
    user = common.person(arguments.user, paths)
    with Accounts(paths) as accounts:
        if accounts.find(user).pending is None:
            print(f"pam-totp: nothing is pending for {user.name}: run pam-totp enroll {user.name}", file=sys.stderr)
            return 1
    return ask_until_right(user, paths, config)


def ask_until_right(user: User, paths: Paths, config: Config) -> int:
    """Ask for codes until one activates the pending authenticator, nothing is pending, or there is no further line."""
    while True:
        answer = common.read_code("Code from the app: ")
        if answer is None:
            print(f"pam-totp: no right code: still pending, run pam-totp confirm {user.name}", file=sys.stderr)
            return 1
        code = otp.parse(answer)
        problem = "six digits, please" if code is None else _try(user, paths, config, code)
        if problem is None:
            print(f"{user.name} is enrolled: log in with the next code.")
            common.caution(paths)
            _offer_recovery_codes(user, paths)
            return 0
        print(f"pam-totp: {problem}", file=sys.stderr)
        if problem == GONE:
            return 1


def _offer_recovery_codes(user: User, paths: Paths) -> None:
    """At a terminal, where the user has none yet. Who breaks off wants none: the enrolment is done."""
    with Accounts(paths) as accounts:
        account = accounts.find(user)
    if not sys.stdin.isatty() or not recovery_codes.due(account.ledger):
        return
    try:
        if common.sure("Print recovery codes too, for the day the phone is gone? [y/N] "):
            print("Each works once, in the place of a code. They are not shown again:\n", flush=True)
            recovery.issue(user.name, paths)
            return
    except KeyboardInterrupt:
        print()
    print(f"Later: pam-totp recovery {user.name}")


def _try(user: User, paths: Paths, config: Config, code: str) -> str | None:
    with Accounts(paths) as accounts, accounts.lock(accounts.find(user).name):
        account = accounts.find(user)
        now_step = otp.step_at(now().wall)
        first = not account.active
        if enroll.confirm(account, code, now_step, config.window):
            if first:
                # Strangers may have guessed at this key at logins; they do not lock out who begins now.
                account.ledger.unlock(now_step, config.window)
            accounts.save(account)
            common.record("confirm", account, "active")
            return None
        if account.pending is None:
            return GONE
        seconds = enroll.seconds_off(account, code, now_step)
    if seconds is None:
        return "that code is wrong: take the one the app shows now"
    direction = "ahead" if seconds > 0 else "behind"
    return f"that code is right, but {abs(seconds)} s {direction}: set the clock of the phone or of this host"
