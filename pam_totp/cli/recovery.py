"""Print new recovery codes for a user, once; the old ones are void.

Each works once in the place of a code, also while the user has to wait or is locked.
"""

from __future__ import annotations

import sys

from pam_totp.cli import common
from pam_totp.factors import recovery

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER."""
    common.user_argument(parser)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Issue."""
    return issue(arguments.user, paths)


def issue(name: str, paths: Paths) -> int:
    """Print new codes, and how many they make void; 1 for who is not enrolled. Raises UsageError or CacheError."""
    with common.changing(paths, name) as (accounts, account):
        if not account.active:
            print(
                f"pam-totp: {account.name} is not enrolled: run pam-totp enroll {account.name} first", file=sys.stderr
            )
            return 1
        void = recovery.voided(account.ledger)
        codes = recovery.issue(account.ledger, accounts.sealer)
        recovery.acknowledge(account.ledger, codes, accounts.sealer)
    common.record("recovery", account, f"{len(codes)} new codes")
    if void:
        print(f"pam-totp: {account.name}: {void}", file=sys.stderr)
    print("\n".join(codes))
    return 0
