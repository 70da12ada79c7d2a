"""Clear a user's failures, waits and lock.

Codes that were used stay used.
"""

from __future__ import annotations

import sys

from pam_totp.cli import common
from pam_totp.factors import otp
from pam_totp.host import config as configuration
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER."""
    common.user_argument(parser)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Unlock."""
    config = configuration.load(paths.config, paths.owner)
    with common.changing(paths, arguments.user) as (_, account):
        if account.empty:
            print(f"pam-totp: {account.name} has no record: nothing to unlock", file=sys.stderr)
            return 1
        account.ledger.unlock(otp.step_at(now().wall), config.window)
    common.record("unlock", account)
    print(f"{account.name}: failures, waits and lock are cleared")
    return 0
