"""Bring the cache to the form of this version.

The package runs it when it is upgraded. Until then, and where there is no room for it, logins go on with what there is.
"""

from __future__ import annotations

import os

from pam_totp.cache.upkeep import Upkeep
from pam_totp.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths

_MARK = b"""\
pam-totp was set up on this host. While this file is here, no new key and cache are made by themselves:
where both are lost, that would un-enrol everybody. See pam-totp(8), init.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""
    del parser


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Migrate."""
    del arguments
    # It is run only where a version was configured before, even if nothing is left of it.
    mark(paths)
    with Upkeep(paths) as accounts:
        accounts.check_key()
        changed = bring_up_to_date(accounts, paths)
    print(f"{paths.cache} has the form of this version {'now' if changed else 'already'}")
    return 0


def bring_up_to_date(accounts: Upkeep, paths: Paths) -> bool:
    """Migrate an open cache; False where there was nothing to do. Raises CacheError."""
    mark(paths)
    return accounts.migrate(os.path.lexists(paths.config))


def mark(paths: Paths) -> None:
    """Note, outside of the directories of key and cache, that there are or were some. Raises OSError."""
    os.makedirs(os.path.dirname(paths.marker), mode=0o755, exist_ok=True)
    try:
        files.write_new(paths.marker, _MARK, 0o644)
    except FileExistsError:
        pass
