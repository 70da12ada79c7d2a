"""Give a user's record to the uid that the user has now.

For a user whose uid was changed, and who is the same person. Authenticators, recovery codes and what was used stay as
they are.
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
    """USER [--yes]."""
    common.user_argument(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Adopt."""
    user = common.known_user(arguments.user)
    with Upkeep(paths) as accounts:
        account = accounts.get(user.name)
        if account is None:
            raise UsageError(f"there is no record of {user.name!r}: see pam-totp status")
        former = account.uid
        if former == user.uid:
            print(f"{user.name}: the record is for uid {user.uid} already")
            return 0
        question = (
            f"The record of {user.name} is for uid {former}, and {user.name} has uid {user.uid} now.\n"
            f"Keep the record, for uid {user.uid}? Say yes only for the same person [y/N] "
        )
        if not arguments.yes and not common.sure(question):
            print("nothing changed")
            return 1
        with accounts.lock(user.name):
            account = accounts.get(user.name)
            if account is None or account.uid != former:
                raise UsageError(f"the record of {user.name} was changed meanwhile: see pam-totp status")
            accounts.adopt(account, user)
    common.record("adopt", account, f"uid {user.uid}, was {former}")
    print(f"{user.name}: the record is for uid {user.uid} now")
    return 0
