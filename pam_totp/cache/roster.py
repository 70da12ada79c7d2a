"""The roster: who has a record, and under which uid. A user is absent only where it says so.

It is kept in a fixed number of sealed buckets, so a row that somebody deleted, or that rotted, is missed. A bucket is
lines of ``key TAB value``. The key ``n:NAME`` has the uid and the authenticators of a record; ``u:UID`` has the names
of all records of that uid.
"""

from __future__ import annotations

from binascii import crc32

from pam_totp.cache import store
from pam_totp.errors import DamageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.seal import Sealer
    from pam_totp.cache.store import Store


class Roster:
    """The roster of one open cache. Read it in the snapshot, and change it in the transaction, of the rows it is about.

    Every method raises DamageError where a bucket does not open or is not readable, and CacheError.
    """

    def __init__(self, opened: Store, sealer: Sealer) -> None:
        self._store = opened
        self._sealer = sealer

    def entry(self, name: str) -> tuple[int, str] | None:
        """The uid of the record of this name, and its authenticators in words; None where there is no such record."""
        value = self._value(f"n:{name}")
        return None if value is None else _parsed(name, value)

    def names(self, uid: int) -> set[str]:
        """The names of all records of a uid."""
        value = self._value(f"u:{uid}")
        return set(value.split("/")) if value else set()

    def put(self, name: str, uid: int, authenticators: str) -> None:
        """List a record, in the place of what is listed under its name."""
        entry = self.entry(name)
        if entry is not None and entry[0] != uid:
            self._change(f"u:{entry[0]}", lambda names: _joined(names, name, present=False))
        self._change(f"n:{name}", lambda _: f"{uid} {authenticators}")
        self._change(f"u:{uid}", lambda names: _joined(names, name, present=True))

    def remove(self, name: str) -> None:
        """List no record under this name."""
        entry = self.entry(name)
        self._change(f"n:{name}", lambda _: None)
        if entry is not None:
            self._change(f"u:{entry[0]}", lambda names: _joined(names, name, present=False))

    def everything(self) -> tuple[set[str], dict[int, set[str]], list[str]]:
        """All names listed, all names by uid, and what is wrong, in words."""
        names: set[str] = set()
        uids: dict[int, set[str]] = {}
        wrong = []
        for number in range(store.BUCKETS):
            try:
                entries = self._bucket(number)
                names |= {key[2:] for key in entries if key[:2] == "n:"}
                uids |= {int(key[2:]): set(value.split("/")) for key, value in entries.items() if key[:2] == "u:"}
            except (DamageError, ValueError):
                wrong.append(f"roster bucket {number} does not open")
        return names, uids, wrong

    def opens(self) -> bool:
        """Whether any bucket opens: whether the key is the one that the cache was made with."""
        for number in range(store.BUCKETS):
            try:
                self._bucket(number)
            except DamageError:
                continue
            return True
        return False

    def _content(self, number: int) -> bytes:
        return self._sealer.open(self._store.bucket(number), *context(number))

    def _bucket(self, number: int) -> dict[str, str]:
        try:
            return dict(line.split("\t") for line in self._content(number).decode("utf-8").split("\n") if line)
        except ValueError:  # UnicodeError is one
            raise _not_readable(number) from None

    def _value(self, key: str) -> str | None:
        # Searched as bytes: with a million users a bucket holds thousands of lines, and a login reads only one.
        number = bucket_of(key)
        content = b"\n" + self._content(number)
        start = content.find(b"\n" + key.encode("utf-8", "surrogateescape") + b"\t")
        if start < 0:
            return None
        start = content.index(b"\t", start) + 1
        try:
            return content[start : content.index(b"\n", start)].decode("utf-8")
        except ValueError:
            raise _not_readable(number) from None

    def _change(self, key: str, change: Callable[[str | None], str | None]) -> None:
        number = bucket_of(key)
        entries = self._bucket(number)
        before = entries.pop(key, None)
        value = change(before)
        if value == before:
            return
        if value is not None:
            entries[key] = value
        self._store.put_bucket(number, sealed(self._sealer, number, entries))


def sealed(sealer: Sealer, number: int, entries: dict[str, str]) -> bytes:
    """One bucket with these entries, sealed."""
    content = "".join(f"{key}\t{value}\n" for key, value in sorted(entries.items()))
    return sealer.seal(content.encode("utf-8"), *context(number))


def context(number: int) -> tuple[str, ...]:
    """What a sealed bucket is bound to."""
    return "roster", str(number)


def empty(sealer: Sealer) -> list[bytes]:
    """All buckets of a roster that lists nobody, sealed."""
    return [sealed(sealer, number, {}) for number in range(store.BUCKETS)]


def bucket_of(key: str) -> int:
    """The number of the bucket that a key belongs in."""
    return crc32(key.encode("utf-8", "surrogateescape")) % store.BUCKETS


def disagreement(who: str) -> DamageError:
    """What to raise where rows and roster disagree."""
    return DamageError(
        f"the records of {who} and the roster disagree: restore /var/lib/pam-totp from a backup, "
        "or run pam-totp reset for the user and enrol again"
    )


def _parsed(name: str, value: str) -> tuple[int, str]:
    uid, _, authenticators = value.partition(" ")
    try:
        return int(uid), authenticators
    except ValueError:
        raise disagreement(name) from None


def _joined(names: str | None, name: str, present: bool) -> str | None:
    kept = set(names.split("/") if names else ()) - {name}
    return "/".join(sorted(kept | ({name} if present else set()))) or None


def _not_readable(number: int) -> DamageError:
    return DamageError(f"roster bucket {number} is not readable: restore a backup")
