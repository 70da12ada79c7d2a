"""Move a user's record to the user's new name.

For a user who was renamed, or whose name is spelled in another way now. The uid must be the same. Authenticators,
recovery codes and what was used stay as they are.
"""

from __future__ import annotations

from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import common
from pam_totp.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER NEW [--yes]."""
    parser.add_argument("user", metavar="USER", help="the name that the record has, as pam-totp status shows it")
    parser.add_argument("new", metavar="NEW", help="the user's name now, as getent passwd knows it")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Rename."""
    old = arguments.user
    user = common.known_user(arguments.new)
    if user.name == old:
        raise UsageError(f"{old} is the name that the record has already")
    with Upkeep(paths) as accounts:
        account = accounts.get(old)
        if account is None:
            raise UsageError(f"there is no record of {old!r}: see pam-totp status")
        if account.uid != user.uid:
            raise UsageError(
                f"the record of {old} is for uid {account.uid}, and {user.name} has {user.uid}: "
                f"if both have changed for the same person, run pam-totp reset {old} and enrol {user.name}"
            )
        question = (
            f"Move the record of {old} (uid {account.uid}) to {user.name}? Say yes only for the same person [y/N] "
        )
        if not arguments.yes and not common.sure(question):
            print("nothing changed")
            return 1
        # Always in the same order: two that exchange names must not wait for each other.
        first, second = sorted((old, user.name))
        with accounts.lock(first), accounts.lock(second):
            account = accounts.get(old)
            if account is None or account.uid != user.uid:
                raise UsageError(f"the record of {old} was changed meanwhile: see pam-totp status")
            moved = accounts.rename(account, user)
    common.record("rename", moved, f"from {old}")
    print(f"{moved.name}: has the record of {old} now")
    return 0
