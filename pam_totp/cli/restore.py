"""Put key and cache back from a backup, or one of them, after checking all of it.

The former cache is kept. What is known to be spent or removed since the backup stays so.
"""

from __future__ import annotations

import os
import sys

from pam_totp.cache import binding, summary
from pam_totp.cli import common, migrate
from pam_totp.cli.backup import wanted
from pam_totp.errors import ConfigError
from pam_totp.host import config as configuration
from pam_totp.host.clock import now
from pam_totp.moving import backup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths
    from pam_totp.moving.backup import Restore

_FEW_NAMES = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    """FILE [--only PART] [--yes]."""
    parser.add_argument("file", metavar="FILE", help="a file that pam-totp backup has written")
    parser.add_argument("--only", choices=("cache", "key"), help="put back one of the two")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Restore; 3 where something is wrong afterwards."""
    with backup.Restore(paths, arguments.file, wanted(arguments.only)) as restore:
        made = summary.minute(restore.backup.made)
        what = " and ".join(part.removesuffix(".db") for part in restore.parts)
        print(f"{arguments.file}: {what} of {made} UTC, every record opens")
        _warn(restore)
        if not arguments.yes and not common.sure(f"Put the {what} back? [y/N] "):
            print("nothing changed")
            return 1
        problems = restore.carry_out()
        if backup.CACHE in restore.parts:
            _tell_what_is_not_known(restore, made)
    migrate.mark(paths)
    common.note("restore", f"{what} of {made} UTC")
    for problem in problems:
        print(f"pam-totp: {problem}", file=sys.stderr)
    try:
        configuration.load(paths.config, paths.owner)
    except ConfigError as error:
        print(f"pam-totp: {error}", file=sys.stderr)
        return 3
    print(f"put back: {what}")
    _tell_of_a_plain_key(restore, paths)
    return 3 if problems else 0


def _warn(restore: Restore) -> None:
    gone = restore.unenrolled
    if gone:
        more = f" and {len(gone) - _FEW_NAMES} more" if len(gone) > _FEW_NAMES else ""
        print(f"not enrolled any more afterwards, because that came later: {', '.join(gone[:_FEW_NAMES])}{more}")
    if backup.CACHE in restore.parts and restore.former is None:
        print("the present cache cannot be read: who has enrolled since then has to enrol again")


def _tell_of_a_plain_key(restore: Restore, paths: Paths) -> None:
    """A host that keeps its key sealed is not to keep another one in the clear without anybody knowing."""
    sealed = binding.sealed_path(paths)
    if backup.KEY in restore.parts and os.path.lexists(sealed) and os.path.lexists(paths.key):
        print(f"the key is in {paths.key} in the clear, beside one that is sealed: run pam-totp key seal")


def _tell_what_is_not_known(restore: Restore, made: str) -> None:
    if restore.former is not None or restore.backup.boot == now().boot_id:
        print("recovery codes that were spent and authenticators that were removed since then stay so")
        return
    print(
        "recovery codes that were spent and authenticators that were removed in this boot stay so; of what came "
        f"between {made} UTC and the boot nothing is known, and it is good again: run pam-totp recovery for users who "
        "used recovery codes then, and pam-totp reset for those who lost a phone"
    )
