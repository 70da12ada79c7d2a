"""The cache file as a whole: how it is made, replaced, copied and migrated. No login does any of that."""

from __future__ import annotations

import posix as os

from pam_totp.cache import store
from pam_totp.errors import CacheError
from pam_totp.host import files

# How long a copy waits for somebody else's write before it looks again.
_BACKUP_PAUSE = 0.05

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from sqlite3 import Connection

_FACTS = "CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"
_SCHEMA = f"""
{_FACTS};
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    uid INTEGER NOT NULL,
    ledger BLOB NOT NULL
) STRICT;
CREATE INDEX account_uid ON account (uid);
CREATE TABLE authenticator (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    label TEXT NOT NULL,
    source TEXT NOT NULL,
    created INTEGER NOT NULL,
    secret BLOB NOT NULL
) STRICT;
CREATE INDEX authenticator_name ON authenticator (name);
CREATE TABLE roster (bucket INTEGER PRIMARY KEY, entries BLOB NOT NULL) STRICT;
CREATE TABLE event (
    slot INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    time INTEGER NOT NULL,
    name TEXT NOT NULL,
    line TEXT NOT NULL
) STRICT;
CREATE INDEX event_name ON event (name, number);
PRAGMA application_id = {store.APPLICATION_ID};
PRAGMA user_version = {store.SCHEMA_VERSION};
"""


def create(path: str, buckets: Sequence[bytes], facts: Mapping[str, bytes]) -> None:
    """Write a new cache with the given sealed roster and facts, complete before it gets its name.

    Raises FileExistsError, another OSError, or CacheError.
    """
    temporary = f"{path}.new"
    for leftover in (temporary, f"{temporary}-journal"):
        if files.exists(leftover):
            os.unlink(leftover)
    files.write_new(temporary, b"", 0o600)
    connection = store.connect(temporary)
    try:
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO roster VALUES (?, ?)", enumerate(buckets))
        connection.executemany("INSERT INTO fact VALUES (?, ?)", facts.items())
        connection.executemany(
            "INSERT INTO event VALUES (?, 0, 0, '', ?)", ((slot, " " * 160) for slot in range(store.EVENTS))
        )
        connection.execute("COMMIT")
    except store.UNUSABLE as error:
        raise store.translated(error, temporary) from None
    finally:
        connection.close()
    os.unlink(f"{temporary}-journal")
    os.link(temporary, path)  # unlike a rename, never replaces
    os.unlink(temporary)
    files.sync_directory(files.parent(path))


def replace(path: str, owner: int, source: str) -> None:
    """Have the cache be what the one at ``source`` is, in one transaction: logins meanwhile see the old or the new one.

    One that cannot be opened is moved aside with its journal, which belongs to it, and gets the name ``.broken``.

    Raises CacheError, or OSError.
    """
    try:
        with store.Store(path, owner) as opened:
            _copy(source, opened.file)
        return
    except CacheError as error:
        if error.reason not in ("cache-missing", "cache-unusable", "cache-version"):
            raise
    # Without its name nobody uses the journal; and between the two steps logins find no cache and are refused.
    for suffix in ("-journal", ""):
        if files.exists(f"{path}{suffix}"):
            os.rename(f"{path}{suffix}", f"{path}.broken{suffix}")
    os.link(source, path)
    os.unlink(source)
    files.sync_directory(files.parent(path))
    with store.Store(path, owner) as opened, opened.transaction():
        # The kept journal file is to be large enough for every later transaction.
        opened.execute("UPDATE roster SET entries = entries")


def copy(source: str, path: str) -> None:
    """Write a copy as of one moment to a new file; users may log in meanwhile. Raises CacheError, or OSError."""
    files.write_new(path, b"", 0o600)
    _copy(source, path)
    os.unlink(f"{path}-journal")
    files.sync(path)


def migrate(opened: store.Store, facts: Mapping[str, bytes]) -> None:
    """Bring the file to the schema of this version, with these sealed facts, in one transaction. Raises CacheError."""
    with opened.transaction():
        # Somebody else may have done it since this connection was opened.
        if opened.execute("PRAGMA user_version") == [(1,)]:
            opened.execute(_FACTS)
            for name, value in facts.items():
                opened.put_fact(name, value)
            opened.execute(f"PRAGMA user_version = {store.SCHEMA_VERSION}")
    opened.schema = store.SCHEMA_VERSION


def _copy(source: str, target: Connection | str) -> None:
    """Copy a cache page by page, as of one moment. The pages are those of one transaction at the target."""
    into = store.connect(target) if isinstance(target, str) else target
    try:
        out_of = store.connect(source)
        try:
            out_of.backup(into, sleep=_BACKUP_PAUSE)
        finally:
            out_of.close()
    except store.UNUSABLE as error:
        raise store.translated(error, source) from None
    finally:
        if into is not target:
            into.close()
