"""Print a one-time invitation code that lets a user enrol at the SSH prompt.

Only a hash is kept; an earlier invitation is void. It is used up when the enrolment is finished.
"""

from __future__ import annotations

from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.factors import invitation
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER [--valid DURATION]."""
    common.user_argument(parser)
    parser.add_argument("--valid", default="72h", metavar="TIME", help="for how long, like 72h (default) or 7d")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Invite."""
    seconds = common.duration_argument(arguments.valid)
    with common.changing(paths, arguments.user) as (accounts, account):
        if account.active:
            raise UsageError(f"{account.name} is enrolled already: see pam-totp status {account.name}")
        until = int(now().wall) + seconds
        code = invitation.issue(account, until, accounts.sealer)
    common.record("invite", account, f"until {common.rfc3339(until)}")
    print(code)
    return 0
