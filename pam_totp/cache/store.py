"""The only owner of the cache file (SQLite): rows, transactions, permissions. Sees sealed values, never a key.

Durability rests on three settings: the rollback journal in PERSIST mode, so that a full disk still takes a one-row
update; full synchronous writes; and ``secure_delete``, so that no old value stays in a free page.
"""

from __future__ import annotations

import posix as os
import sys

from pam_totp.errors import CacheError, CacheReadOnlyError
from pam_totp.host import files

# Schema 2 added the table of facts. A cache of schema 1 is used as it is, and has none: so logins go on between the
# unpacking of a new package and its migration, which the package runs when it is configured (debian/postinst), and
# where that fails on a full disk. An older version refuses what is newer than itself, and is refused by debian/preinst.
SCHEMA_VERSION = 2
_OLDEST_SCHEMA = 1
APPLICATION_ID = 0x5054_4F54
BUCKETS = 512
EVENTS = 256
BUSY_SECONDS = 10.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any


class _Functools:
    """Stands in the place of ``functools`` while SQLite's C module starts, where nobody has imported that yet.

    The C module wants ``lru_cache`` of it, for its statements, and nothing else; ``functools`` itself costs a login
    2 to 3 ms, as it imports ``collections`` and others. This is the same cache, of the same C function. Whatever else a
    Python wants, or wants in another way, is the real one's: such a Python starts more slowly, and nothing fails.
    """

    __spec__ = None

    def lru_cache(self, *arguments: Any, **named: Any) -> Any:
        """What makes a function one that keeps so many of its results."""
        if len(arguments) != 1 or named:
            return self._real().lru_cache(*arguments, **named)
        return lambda function: self._cached(function, arguments[0])

    def _cached(self, function: Any, size: Any) -> Any:
        try:
            from _functools import _lru_cache_wrapper as cached  # type: ignore[import-not-found]  # private

            return cached(function, size, False, tuple)
        except (ImportError, TypeError):
            return self._real().lru_cache(size)(function)

    def _real(self) -> Any:
        if isinstance(sys.modules.get("functools"), _Functools):
            del sys.modules["functools"]
        import functools

        return functools

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what an import looks for, and a module need not have
            raise AttributeError(name)
        return getattr(self._real(), name)


sys.modules.setdefault("functools", _Functools())  # type: ignore[arg-type]  # where a module is expected
try:
    # The C module alone: what the sqlite3 package adds, adapters for dates, costs a login 1 to 2 ms.
    import _sqlite3 as sqlite3
finally:
    if isinstance(sys.modules.get("functools"), _Functools):
        del sys.modules["functools"]

_SETTINGS = """
PRAGMA journal_mode = PERSIST;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cell_size_check = ON;
PRAGMA trusted_schema = OFF;
"""

# The fact that names the key that seals; none while the key was never rotated. What it says is no secret.
KEY_FACT = "key"

# The full disk and the read-only disk: the cache is whole, it only takes no write now.
_NOT_WRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
# Text that is not UTF-8, in a column or in what SQLite says about a broken schema; a number that is none; and a size
# in a broken file that no memory has.
UNUSABLE = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)


class Store:
    """One open connection. Use as a context manager; never keep one across a prompt. ``schema`` is what the file has.

    ``begun``, where it is set, is called at the beginning of each transaction that writes.

    Opening raises CacheError: missing, unsafe, not a cache of ours, another schema version, unreadable.
    Every method raises CacheError, also when another process keeps a lock for more than ``patience`` seconds, and
    CacheReadOnlyError where the disk is full or read-only.
    """

    def __init__(self, path: str, owner: int, patience: float = BUSY_SECONDS) -> None:
        self._path = path
        self.begun: Callable[[], object] | None = None
        try:
            files.check_parents(path, owner)
            directory = os.lstat(files.parent(path))
            if directory.st_mode & 0o077:
                raise files.UnsafeFileError(f"{files.parent(path)} is open to others: run chmod go= on it")
            files.inspect(path, owner)
            try:
                files.inspect(f"{path}-journal", owner)
            except FileNotFoundError:
                pass  # removed by hand, or by a tool with another journal mode; the next write makes it again
        except FileNotFoundError:
            raise CacheError(
                f"the cache {path} is missing: restore it from your backup, with the key of the same time",
                "cache-missing",
            ) from None
        except files.UnsafeFileError as error:
            raise CacheError(f"the cache is not safe: {error}", "cache-unsafe") from None
        except OSError as error:
            raise CacheError(f"the cache {path} cannot be looked at: {error.strerror}") from None
        self._connection = connect(path, patience)
        try:
            found = (self._pragma("application_id"), self._pragma("user_version"))
        except CacheError:
            self._connection.close()
            raise
        application, schema = found
        self.schema = schema if isinstance(schema, int) and application == APPLICATION_ID else 0
        if not _OLDEST_SCHEMA <= self.schema <= SCHEMA_VERSION:
            self._connection.close()
            if self.schema > SCHEMA_VERSION:
                raise CacheError(f"{path} was written by a newer pam-totp: upgrade the package", "cache-version")
            raise CacheError(f"{path} is not a pam-totp cache of this version: restore a backup", "cache-version")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._connection.close()

    @property
    def file(self) -> sqlite3.Connection:
        """The connection itself, for copying into it."""
        return self._connection

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except UNUSABLE as error:
            raise translated(error, self._path) from None

    def transaction(self) -> _Transaction:
        """A context manager: commits durably on success, rolls back on any exception."""
        return _Transaction(self, "BEGIN IMMEDIATE")

    def snapshot(self) -> _Transaction:
        """A context manager: what is read in it is of one moment, however others write meanwhile. Keep it short."""
        return _Transaction(self, "BEGIN")

    def account(self, name: str) -> tuple[Any, ...] | None:
        """The row (name, uid, ledger) of ``name``."""
        rows = self.execute("SELECT name, uid, ledger FROM account WHERE name = ?", name)
        return rows[0] if rows else None

    def accounts_with(self, uid: int) -> list[tuple[Any, ...]]:
        """The rows (name, uid, ledger) that hold ``uid``."""
        return self.execute("SELECT name, uid, ledger FROM account WHERE uid = ? ORDER BY name", uid)

    def unbound(self) -> list[str]:
        """The names of records that hold no account's uid, in order."""
        statement = "SELECT name FROM account WHERE uid < 0 AND typeof(name) = 'text' ORDER BY name"
        return [row[0] for row in self.execute(statement)]

    def local_authenticators(self) -> list[tuple[Any, ...]]:
        """Rows (id, name, created) of the active authenticators that were made on this host, oldest first."""
        where = "source = 'local' AND state = 'active'"
        return self.execute(f"SELECT id, name, created FROM authenticator WHERE {where} ORDER BY created, id")  # noqa: S608  # the text above

    def authenticator(self, identifier: str) -> tuple[Any, ...] | None:
        """Name and source of the authenticator with an id, whosever it is."""
        rows = self.execute("SELECT name, source FROM authenticator WHERE id = ?", identifier)
        return rows[0] if rows else None

    def accounts_after(self, name: str, most: int) -> list[tuple[Any, ...]]:
        """The rows (name, uid, ledger) that come after ``name`` in the order of names; at most so many."""
        return self.execute("SELECT name, uid, ledger FROM account WHERE name > ? ORDER BY name LIMIT ?", name, most)

    def names(self) -> list[str]:
        """All names that have a record, in order. One that has rotted to something else is none: the roster has it."""
        return [row[0] for row in self.execute("SELECT name FROM account WHERE typeof(name) = 'text' ORDER BY name")]

    def put_account(self, name: str, uid: int, ledger: bytes) -> None:
        """Insert or replace an account."""
        self.execute("INSERT OR REPLACE INTO account VALUES (?, ?, ?)", name, uid, ledger)

    def update_ledger(self, name: str, ledger: bytes) -> None:
        """Replace the ledger of an existing account, in place."""
        self.execute("UPDATE account SET ledger = ? WHERE name = ?", ledger, name)
        if self.execute("SELECT changes()") != [(1,)]:
            raise CacheError(f"the account of {name!r} was removed meanwhile: log in again")

    def authenticators(self, name: str) -> list[tuple[Any, ...]]:
        """The rows (id, state, label, source, created, secret) of ``name``, oldest first."""
        return self.execute(
            "SELECT id, state, label, source, created, secret FROM authenticator WHERE name = ? ORDER BY created, id",
            name,
        )

    def put_authenticator(self, name: str, row: tuple[object, ...]) -> None:
        """Insert or replace an authenticator (id, state, label, source, created, secret)."""
        identifier, *rest = row
        self.execute("INSERT OR REPLACE INTO authenticator VALUES (?, ?, ?, ?, ?, ?, ?)", identifier, name, *rest)

    def delete(self, name: str, authenticator: str | None = None) -> None:
        """Delete an account with all its authenticators, or one authenticator."""
        if authenticator is None:
            self.execute("DELETE FROM authenticator WHERE name = ?", name)
            self.execute("DELETE FROM account WHERE name = ?", name)
        else:
            self.execute("DELETE FROM authenticator WHERE name = ? AND id = ?", name, authenticator)

    def bucket(self, number: int) -> object:
        """The sealed roster bucket of a number in 0 .. BUCKETS - 1; None where it is gone."""
        rows = self.execute("SELECT entries FROM roster WHERE bucket = ?", number)
        return rows[0][0] if rows else None

    def put_bucket(self, number: int, entries: bytes) -> None:
        """Replace a roster bucket."""
        self.execute("INSERT OR REPLACE INTO roster VALUES (?, ?)", number, entries)

    def fact(self, name: str) -> object:
        """The sealed value of a fact about the host; None where it is gone."""
        rows = self.execute("SELECT value FROM fact WHERE name = ?", name)
        return rows[0][0] if rows else None

    def put_fact(self, name: str, value: bytes) -> None:
        """Insert or replace a fact."""
        self.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", name, value)

    def forget_fact(self, name: str) -> None:
        """Delete a fact."""
        self.execute("DELETE FROM fact WHERE name = ?", name)

    def facts(self) -> list[tuple[Any, ...]]:
        """All facts (name, value) but the one that names the key."""
        return self.execute("SELECT name, value FROM fact WHERE name != ?", KEY_FACT)

    def key_id(self) -> str | None:
        """The id of the key that seals what is written; None while the host key was never rotated."""
        value = None if self.schema == 1 else self.fact(KEY_FACT)
        return None if value is None else value.decode("ascii", "replace") if isinstance(value, bytes) else "rotted"

    def record_event(self, time: int, name: str, line: str, size: int = 0) -> None:
        """Write one refusal over the oldest one of the ring, of this size. ``time`` in seconds since the epoch."""
        size = size or EVENTS
        with self.transaction():
            (number,) = self.execute("SELECT max(number) FROM event")[0]
            number = (number if isinstance(number, int) else 0) + 1
            self.execute("INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?)", number % size, number, time, name, line)
            # Those of a larger ring, and what an enlarged one has kept for too long.
            self.execute("DELETE FROM event WHERE slot >= ? OR (number > 0 AND number <= ?)", size, number - size)

    def events(self, name: str | None, most: int = -1) -> list[tuple[int, str]]:
        """The latest refusals (time, line) of ``name``, or of everybody (None), newest first; -1: all that are kept."""
        statement = (
            "SELECT time, line FROM event WHERE number > 0 AND name = coalesce(?, name) ORDER BY number DESC LIMIT ?"
        )
        rows = self.execute(statement, name, most)
        return [(time, line) for time, line in rows if isinstance(time, int) and isinstance(line, str)]

    def damage(self) -> list[str]:
        """What SQLite itself finds wrong with the file; empty where nothing is."""
        found = [str(row[0]) for row in self.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def _pragma(self, name: str) -> object:
        return self.execute(f"PRAGMA {name}")[0][0]


class _Transaction:
    def __init__(self, store: Store, begin: str) -> None:
        self._store = store
        self._begin = begin

    def __enter__(self) -> None:
        self._store.execute(self._begin)
        if self._begin != "BEGIN" and self._store.begun is not None:
            try:
                self._store.begun()
            except BaseException:
                self._roll_back()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._store.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself (full disk); and closing the connection rolls back in any case.
        try:
            self._store.execute("ROLLBACK")
        except CacheError:
            pass


def connect(path: str, patience: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open a cache file that is there. Raises CacheError."""
    try:
        # mode=rw never creates a file; on a read-only disk SQLite opens for reading by itself.
        quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(f"file:{quoted}?mode=rw", uri=True, timeout=patience, isolation_level=None)
        connection.executescript(_SETTINGS)
    except UNUSABLE as error:
        raise translated(error, path) from None
    return connection


def translated(error: Exception, path: str) -> CacheError:
    """What to raise for one of ``UNUSABLE``."""
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in _NOT_WRITABLE:
        return CacheReadOnlyError(f"the cache {path} cannot be written ({name}): free space or remount it read-write")
    if code in (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY):
        return CacheError(
            f"the cache {path} has an unfinished write (hot journal) on a read-only disk: remount it read-write",
            "cache-hot-journal",
        )
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CacheError(f"the cache {path} stayed locked: see which process holds it (fuser {path})", "cache-busy")
    if isinstance(error, MemoryError):
        return CacheError(f"the cache {path} asks for more memory than there is: free some, or restore your backup")
    return CacheError(f"the cache {path} cannot be used ({name}): restore it from your backup with its key")
