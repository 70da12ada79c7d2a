"""Forget a user's remembered clients: the next login from each asks for a code again."""

from __future__ import annotations

from pam_totp.cli import common

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER."""
    common.user_argument(parser)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Forget."""
    with common.changing(paths, arguments.user) as (_, account):
        count = len(account.ledger.remembered)
        account.ledger.remembered = {}
    common.record("forget", account, f"{count} clients")
    print(f"{account.name}: {count} remembered client{'' if count == 1 else 's'} forgotten")
    return 0
