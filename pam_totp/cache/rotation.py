"""Putting a new host key in the place of the one there is, while logins go on.

The new key is written beside the old one; then the cache names it, in one transaction, and from there on whoever writes
seals with it (Upkeep); then every sealed value is sealed anew, a few at a time; and when none is left that needs the
old key, that one is overwritten. Each step is durable before the next, so a rotation that is killed goes on when it is
started again, and until then both keys open.
"""

from __future__ import annotations

import os

from pam_totp.cache import binding, keys, roster, store
from pam_totp.cache.accounts import secret_context
from pam_totp.cache.upkeep import Upkeep
from pam_totp.errors import CacheError, DamageError
from pam_totp.host import files

# Values in one transaction. Who waits for the cache comes in between two.
_BATCH = 100
_PAUSE = 0.02

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.volatile import Volatile
    from pam_totp.host.paths import Paths


def rotate(paths: Paths, pause: Callable[[float], None]) -> int | None:
    """Rotate the key, or end a rotation that was killed; returns how many values were sealed anew.

    None where all that was left to do was to destroy a former key: then the key is not rotated a second time.

    Raises HostKeyError, CacheError or ProgramError: both keys open then, and it can be started again.
    """
    with binding.alone(paths) as volatile:
        place = binding.place(paths)
        if binding.finish(paths) and not binding.unfinished(paths):
            return None
        following = f"{place}{keys.NEXT}"
        with store.Store(paths.cache, paths.owner) as opened:
            if not os.path.lexists(following) or keys.load(following, paths.owner).key_id != opened.key_id():
                # Nothing is sealed with one that the cache never named.
                content = binding.current(paths)
                _require_whole(paths)
                files.replace(following, keys.successor(content, place), 0o400)
                # A boot must find it before anything is sealed with it.
                binding.seal_next(paths)
                new = keys.load(following, paths.owner).key_id
                with opened.transaction():
                    opened.put_fact(store.KEY_FACT, new.encode("ascii"))
            count = _Sweep(paths, opened, volatile, pause).run()
        binding.finish(paths, ended=True)
    return count


def _require_whole(paths: Paths) -> None:
    """Make sure that everything opens now: later nobody could say which key it needs. Raises CacheError."""
    with Upkeep(paths) as accounts:
        accounts.check_key()
        found = accounts.damage()
    if found:
        raise CacheError(f"the cache is damaged, so its key is not rotated: see pam-totp status ({found[0]})")


class _Sweep:
    """Seals anew what is not sealed with the key that the cache names."""

    def __init__(self, paths: Paths, opened: store.Store, volatile: Volatile, pause: Callable[[float], None]) -> None:
        self._store = opened
        self._sealer = keys.find(paths, opened.key_id())
        self._volatile = volatile
        self._pause = pause

    def run(self) -> int:
        """All of it; returns how many values that were. Raises CacheError."""
        total = 0
        try:
            # Once more than there is something to do: what was renamed meanwhile may have been passed over.
            while count := self._records() + self._buckets() + self._facts():
                total += count
            return total + self._copies()
        except DamageError as error:
            raise DamageError(f"{error}; then run pam-totp key rotate again, until then both keys open") from None

    def _records(self) -> int:
        total, last = 0, ""
        while True:
            count = 0
            with self._store.transaction():
                rows = self._store.accounts_after(last, _BATCH)
                for name, uid, ledger in rows:
                    sealed = self._sealer.resealed(ledger, "ledger", name)
                    if sealed is not None:
                        self._store.update_ledger(name, sealed)
                        count += 1
                    for row in self._store.authenticators(name):
                        sealed = self._sealer.resealed(row[-1], *secret_context(name, uid, row))
                        if sealed is not None:
                            self._store.put_authenticator(name, (*row[:-1], sealed))
                            count += 1
            total += count
            if not rows:
                return total
            last = rows[-1][0]
            self._let_others(count)

    def _buckets(self) -> int:
        total = 0
        for first in range(0, store.BUCKETS, _BATCH):
            count = 0
            with self._store.transaction():
                for number in range(first, min(first + _BATCH, store.BUCKETS)):
                    sealed = self._sealer.resealed(self._store.bucket(number), *roster.context(number))
                    if sealed is not None:
                        self._store.put_bucket(number, sealed)
                        count += 1
            total += count
            self._let_others(count)
        return total

    def _let_others(self, count: int) -> None:
        if count:
            self._pause(_PAUSE)

    def _facts(self) -> int:
        count = 0
        with self._store.transaction():
            for name, value in self._store.facts():
                sealed = self._sealer.resealed(value, "fact", name)
                if sealed is not None:
                    self._store.put_fact(name, sealed)
                    count += 1
        return count

    def _copies(self) -> int:
        """The copies in ``/run``. One without a record guards against an older cache, which the new key cannot open."""
        count = 0
        tokens = self._volatile.tokens() - {binding.LOCK}
        for name in self._store.names() if tokens else ():
            token = self._sealer.token(name)
            if token in tokens:
                tokens.remove(token)
                # Whoever has the lock may have written a copy before the cache named the key.
                with self._volatile.lock(token):
                    copy = self._volatile.read(token)
                    sealed = None if copy is None else self._sealer.resealed(copy, "ledger", name)
                    if sealed is not None and not self._volatile.write(token, sealed):
                        raise CacheError("/run/pam-totp takes no writes: free space, and run pam-totp key rotate again")
                    count += sealed is not None
        for token in tokens:
            self._volatile.forget(token)
        return count
