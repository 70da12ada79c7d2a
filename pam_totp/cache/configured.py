"""Whether this host has a configuration file: kept sealed, so that a file that vanished is missed.

Without it an emptied directory would put the defaults in force, which ask nobody who is not enrolled.
"""

from __future__ import annotations

from pam_totp.errors import CacheError, ConfigError, DamageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.seal import Sealer
    from pam_totp.cache.store import Store

_NAME = "configured"
_WORDS = {b"no ": False, b"yes": True}  # of one length: a full disk then takes the change


class Configured:
    """What one open cache knows of the host's configuration file."""

    def __init__(self, opened: Store, sealer: Sealer) -> None:
        self._store = opened
        self._sealer = sealer

    def known(self) -> bool | None:
        """Whether there was a file; None where the cache is of the first schema, which does not hold it.

        Raises DamageError.
        """
        if self._store.schema == 1:
            return None
        word = self._sealer.open(self._store.fact(_NAME), "fact", _NAME)
        if word not in _WORDS:
            raise DamageError("whether there is a configuration is not readable: run pam-totp config check")
        return _WORDS[word]

    def require(self, found: bool, path: str) -> None:
        """Make sure that a file that was not ``found`` is not missed. Raises ConfigError or DamageError."""
        if not found and self.known():
            raise ConfigError(
                f"{path} is gone: restore it, or, if the defaults are to hold, run pam-totp config reset",
                "config-missing",
            )

    def learn(self) -> None:
        """Note that there is a file, if that is not known. Where that cannot be written it can wait: the file holds."""
        try:
            if self.known() is False:
                self.note(True)
        except CacheError:
            pass

    def note(self, present: bool) -> None:
        """Note whether there is a file. Raises CacheError."""
        if self._store.schema == 1:
            raise CacheError("the cache is of an older version: run pam-totp migrate", "cache-version")
        with self._store.transaction():
            self._store.put_fact(_NAME, facts(self._sealer, present)[_NAME])


def facts(sealer: Sealer, present: bool) -> dict[str, bytes]:
    """What a new cache is to hold about it, sealed."""
    word = next(word for word, meaning in _WORDS.items() if meaning is present)
    return {_NAME: sealer.seal(word, "fact", _NAME)}
