"""Create the host key and the empty cache.

Never overwrites: says what is there already. The package runs it on installation.
"""

from __future__ import annotations

import os

from pam_totp.cache import keys, roster, store
from pam_totp.cache.accounts import Accounts
from pam_totp.errors import CacheError, HostKeyError
from pam_totp.host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""
    del parser


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Create both, or check that both are there and belong together.

    One without the other is never completed by a new one: a new key opens nothing, and a new cache would un-enrol
    everybody.
    """
    del arguments
    have_key, have_cache = os.path.lexists(paths.key), os.path.lexists(paths.cache)
    if have_key and have_cache:
        with Accounts(paths) as accounts:
            accounts.check_key()
            count = len(accounts.names())
        users = "1 user" if count == 1 else f"{count} users"
        print(f"nothing to do: {paths.key} and {paths.cache} are there ({users})")
        return 0
    if have_key:
        raise CacheError(
            f"the key {paths.key} is there but the cache {paths.cache} is missing: restore the cache from your backup, "
            f"or, to start over with nobody enrolled, move {paths.key} away and run pam-totp init again",
            "cache-missing",
        )
    if have_cache:
        raise HostKeyError(
            f"the cache {paths.cache} is there but its key {paths.key} is missing: restore the key from your backup, "
            f"or, to start over with nobody enrolled, move {paths.cache} away and run pam-totp init again",
            "key-missing",
        )
    for path in (paths.key, paths.cache):
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        try:
            files.check_parents(path, paths.owner)
        except files.UnsafeFileError as error:
            raise CacheError(str(error), "cache-unsafe") from None
    os.chmod(os.path.dirname(paths.cache), 0o700)
    # A crash in between leaves a key without a cache, or neither; both are explained above and mended by hand.
    keys.create(paths.key)
    sealer = keys.load(paths.key, paths.owner)
    store.create(paths.cache, roster.empty(sealer))
    # Written once more, with new nonces, so that the kept journal file is large enough for every later transaction.
    with store.Store(paths.cache, paths.owner) as opened, opened.transaction():
        for number, bucket in enumerate(roster.empty(sealer)):
            opened.put_bucket(number, bucket)
    print(f"created {paths.key} and {paths.cache}: keep both in your backup")
    return 0
