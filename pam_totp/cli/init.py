"""Create the host key and the empty cache.

Never overwrites: says what is there already. The package runs it when it is installed for the first time.
"""

from __future__ import annotations

import os

from pam_totp.cache import binding, configured, keys, roster, schema, store
from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import migrate
from pam_totp.errors import CacheError, HostKeyError, UsageError
from pam_totp.host import files, stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[--anew]."""
    parser.add_argument(
        "--anew", action="store_true", help="also on a host that was set up before: start over, with nobody enrolled"
    )


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Create both, or check that both are there and belong together.

    One without the other is never completed by a new one: a new key opens nothing, and a new cache would un-enrol
    everybody. So would both, on a host that lost both.
    """
    have_key, have_cache = binding.present(paths), os.path.lexists(paths.cache)
    if have_key and have_cache:
        if arguments.anew:
            raise UsageError(f"{paths.key} and {paths.cache} are there: to start over, move both away first")
        with Upkeep(paths) as accounts:
            accounts.check_key()
            migrate.bring_up_to_date(accounts, paths)
            count = len(accounts.names())
        users = "1 user" if count == 1 else f"{count} users"
        print(f"nothing to do: {paths.key} and {paths.cache} are there ({users})")
        return 0
    if have_key:
        raise CacheError(
            f"the key {paths.key} is there but the cache {paths.cache} is missing: restore the cache from your backup, "
            f"or, to start over with nobody enrolled, move {paths.key} away and run pam-totp init --anew",
            "cache-missing",
        )
    if have_cache:
        raise HostKeyError(
            f"the cache {paths.cache} is there but its key {paths.key} is missing: restore the key from your backup, "
            f"or, to start over with nobody enrolled, move {paths.cache} away and run pam-totp init --anew",
            "key-missing",
        )
    if not arguments.anew:
        _require_a_new_host(paths)
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
    present = os.path.lexists(paths.config)
    schema.create(paths.cache, roster.empty(sealer), configured.facts(sealer, present))
    # Written once more, with new nonces, so that the kept journal file is large enough for every later transaction.
    with store.Store(paths.cache, paths.owner) as opened, opened.transaction():
        for number, bucket in enumerate(roster.empty(sealer)):
            opened.put_bucket(number, bucket)
    migrate.mark(paths)
    print(f"created {paths.key} and {paths.cache}: keep both in your backup")
    return 0


def _require_a_new_host(paths: Paths) -> None:
    """Make sure that this host had no key and cache before. Raises HostKeyError."""
    signs = [paths.marker] if os.path.lexists(paths.marker) else []
    signs += [f"{paths.services}/{name} asks pam-totp" for name in stack.services_of_ours(paths)]
    if signs:
        raise HostKeyError(
            f"this host was set up before ({', '.join(signs)}), and {paths.key} and {paths.cache} are both gone: "
            "restore both from the same backup, or, to start over with nobody enrolled, run pam-totp init --anew",
            "key-missing",
        )
