"""Whether this host has a configuration file, and whether it has joined a fleet.

Kept sealed, so that a file or a policy that vanished is missed: without it an emptied directory would put the defaults
in force, which ask nobody who is not enrolled.
"""

from __future__ import annotations

from pam_totp.cache import seal
from pam_totp.errors import CacheError, ConfigError, DamageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.seal import Sealer
    from pam_totp.cache.store import Store, _Transaction

_NAME = "configured"
# Whether there is a file, and whether the host has joined. Of one length: a full disk then takes the change.
_WORDS = {b"no ": (False, False), b"yes": (True, False), b"no+": (False, True), b"ye+": (True, True)}
# Of a host that has joined: what a login needs to know (login/central.py), who it is (fleet/identity.py), and which
# manifest was taken last and what its bundle holds (fleet/sync.py).
POLICY, IDENTITY, MANIFEST, BUNDLE = "fleet", "fleet-identity", "fleet-manifest", "fleet-bundle"


class Configured:
    """What one open cache knows of the host's configuration file."""

    def __init__(self, opened: Store, sealer: Sealer) -> None:
        self._store = opened
        self._sealer = sealer
        self._words: tuple[bool, bool] | None = None  # a login asks several times

    def known(self) -> bool | None:
        """Whether there was a file; None where the cache is of the first schema, which does not hold it.

        Raises DamageError.
        """
        return None if self._store.schema == 1 else self._read()[0]

    @property
    def joined(self) -> bool:
        """Whether this host has joined a fleet. Raises DamageError."""
        return self._store.schema != 1 and self._read()[1]

    def _read(self) -> tuple[bool, bool]:
        if self._words is None:
            word = self._sealer.open(self._store.fact(_NAME), "fact", _NAME)
            if word not in _WORDS:
                raise DamageError("whether there is a configuration is not readable: run pam-totp config check")
            self._words = _WORDS[word]
        return self._words

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
        with self._changing():
            try:
                joined = self._read()[1]
            except DamageError:
                # Root looks after it just now. A host with an identity has joined.
                joined = self._store.fact(IDENTITY) is not None
            self._write(present, joined)

    def join(self, **facts: bytes) -> None:
        """Note that this host has joined, with what there is to know of it. Raises CacheError."""
        with self._changing():
            self._write(self._read()[0], True)
            self._put(facts)

    def leave(self) -> None:
        """Forget that this host had joined. Raises CacheError."""
        with self._changing():
            self._write(self._read()[0], False)
            for name in (POLICY, IDENTITY, MANIFEST, BUNDLE):
                self._store.forget_fact(name)

    def stamp(self, name: str) -> str:
        """What the content of a fact has in common with no earlier or later one; empty where there is none."""
        return seal.stamp(self._store.fact(name))

    def fact(self, name: str) -> bytes:
        """What is kept under one of these names, of a host that has joined. Raises DamageError."""
        return self._sealer.open(self._store.fact(name), "fact", name)

    def put(self, **facts: bytes) -> None:
        """Replace facts of a host that has joined. Raises CacheError, also where it has left meanwhile."""
        with self._changing():
            if not self._read()[1]:
                raise CacheError("this host has left the fleet meanwhile", "fleet-left")
            self._put(facts)

    def _put(self, facts: dict[str, bytes]) -> None:
        for name, content in facts.items():
            full = {"policy": POLICY, "identity": IDENTITY, "manifest": MANIFEST, "bundle": BUNDLE}[name]
            self._store.put_fact(full, self._sealer.seal(content, "fact", full))

    def _changing(self) -> _Transaction:
        if self._store.schema == 1:
            raise CacheError("the cache is of an older version: run pam-totp migrate", "cache-version")
        self._words = None  # read anew in the transaction
        return self._store.transaction()

    def _write(self, present: bool, joined: bool) -> None:
        self._store.put_fact(_NAME, facts(self._sealer, present, joined)[_NAME])
        self._words = None


def facts(sealer: Sealer, present: bool, joined: bool = False) -> dict[str, bytes]:
    """What a new cache is to hold about it, sealed."""
    word = next(word for word, meaning in _WORDS.items() if meaning == (present, joined))
    return {_NAME: sealer.seal(word, "fact", _NAME)}
