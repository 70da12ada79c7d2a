"""Say whether a code would be accepted now, and if not why; consumes nothing.

The code is read from the terminal, or from standard input where that is no terminal; never from an argument.
"""

from __future__ import annotations

from pam_totp.cache import summary
from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common
from pam_totp.factors import otp
from pam_totp.host import config as configuration
from pam_totp.host.clock import now
from pam_totp.login import evaluation
from pam_totp.login.attempt import Attempt, Conversation, Request, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER."""
    common.user_argument(parser)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Check; 0 where the code would be accepted."""
    config = configuration.load(paths.config, paths.owner)
    user = common.person(arguments.user, paths)
    answer = common.read_code("Code from the app: ")
    code = None if answer is None else otp.parse(answer)
    with Accounts(paths) as accounts:
        account = accounts.find(user)
        attempt = Attempt(user, Request(user.name, "sshd"), config, paths, now, Conversation())
        next_login = common.next_login(attempt, account, accounts)
    common.caution(paths)
    moment = now()
    if not account.active:
        problem: str | None = (
            f"{user.name} has no active authenticator and {next_login}: see pam-totp status {user.name}"
        )
    elif code is None:
        problem = "wrong: a code has six digits"
    elif evaluation.match(account, code, otp.step_at(moment.wall), config) is None:
        _, detail = evaluation.diagnose(account, code, otp.step_at(moment.wall))
        problem = detail or "wrong"
    else:
        problem = None
    wait = summary.wait(account, moment, config.window)
    if account.ledger.locked:
        problem = f"{problem or 'right'}, but the account is locked for new sources: run pam-totp unlock {account.name}"
    elif wait:
        problem = f"{problem or 'right'}, but waiting: from some sources {duration(wait)} to go"
    if problem is None:
        print("accepted: this code would be accepted now")
        return 0
    print(f"refused: {problem}")
    return 1
