"""What the keeper remembers: which hosts have joined, which tokens let one join, and what was signed last.

A restored or altered database of the web process does not change it. The file is the keeper's alone.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "keeper.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (
    id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, closed INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS hosts (
    ident TEXT PRIMARY KEY, name TEXT NOT NULL, key BLOB NOT NULL, joined INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0, sequence INTEGER NOT NULL DEFAULT 0, revoked INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    hash TEXT PRIMARY KEY, host TEXT NOT NULL, expires INTEGER NOT NULL, used TEXT
) STRICT;
INSERT OR IGNORE INTO counters VALUES (1, 1, 0, NULL);
"""


@dataclass(frozen=True)
class Counters:
    """``closed`` is the last sequence of the epoch before, where there was one."""

    epoch: int
    sequence: int
    closed: int | None


@dataclass(frozen=True)
class Host:
    """A host that has joined; ``revoked``: since when it gets nothing any more."""

    ident: str
    name: str
    key: bytes
    joined: int
    epoch: int
    sequence: int
    revoked: int | None


@dataclass(frozen=True)
class Token:
    """A join token: for one host by name, or for any number until it ends. ``used`` is the host that has used it."""

    host: str
    expires: int
    used: str | None


def copy(path: str, target: str) -> None:
    """Write a whole copy of a keeper's database, also while it is in use, to a file that is not there yet."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        connection.execute("VACUUM INTO ?", (target,))


class State:
    """The keeper's database. Every change is on the disk before the method returns."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def change(self) -> Iterator[None]:
        """All of it, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def counters(self) -> Counters:
        """What was signed last."""
        return Counters(*self._connection.execute("SELECT epoch, sequence, closed FROM counters").fetchone())

    def begin_epoch(self) -> Counters:
        """Close the epoch."""
        with self.change():
            self._connection.execute("UPDATE counters SET epoch = epoch + 1, closed = sequence")
        return self.counters()

    def catch_up(self, epoch: int, closed: int | None, sequence: int) -> None:
        """Note an epoch that another keeper has begun, and a number that one has reached. Neither ever falls."""
        self._connection.execute("UPDATE counters SET epoch = ?, closed = ? WHERE epoch < ?", (epoch, closed, epoch))
        self._connection.execute("UPDATE counters SET sequence = ? WHERE sequence < ?", (sequence, sequence))

    def signed(self, host: str, epoch: int, sequence: int) -> None:
        """Note what is about to be signed for a host: never less again."""
        self._connection.execute("UPDATE counters SET sequence = max(sequence, ?)", (sequence,))
        self._connection.execute("UPDATE hosts SET epoch = ?, sequence = ? WHERE ident = ?", (epoch, sequence, host))

    def host(self, ident: str) -> Host | None:
        """A host by its id."""
        return self._host("ident = ?", ident)

    def host_with_key(self, key: bytes) -> Host | None:
        """A host by its key, for one that asks again because an answer was lost."""
        return self._host("key = ?", key)

    def add_host(self, ident: str, name: str, key: bytes, now: int) -> None:
        """A host has joined."""
        self._connection.execute(
            "INSERT INTO hosts (ident, name, key, joined) VALUES (?, ?, ?, ?)", (ident, name, key, now)
        )

    def revoke_host(self, ident: str, now: int) -> bool:
        """Sign nothing for this host any more. False where there is no such one."""
        done = self._connection.execute("UPDATE hosts SET revoked = coalesce(revoked, ?) WHERE ident = ?", (now, ident))
        return done.rowcount > 0

    def token(self, secret: str) -> Token | None:
        """A join token by its secret."""
        row = self._connection.execute("SELECT host, expires, used FROM tokens WHERE hash = ?", (_hash(secret),))
        found = row.fetchone()
        return None if found is None else Token(*found)

    def add_token(self, secret: str, host: str, expires: int, now: int) -> None:
        """Let hosts join with it."""
        with self.change():
            self._connection.execute("DELETE FROM tokens WHERE expires < ?", (now,))
            self._connection.execute(
                "INSERT INTO tokens (hash, host, expires) VALUES (?, ?, ?)", (_hash(secret), host, expires)
            )

    def use_token(self, secret: str, ident: str) -> None:
        """Note which host has used it."""
        self._connection.execute("UPDATE tokens SET used = ? WHERE hash = ?", (ident, _hash(secret)))

    def _host(self, where: str, value: object) -> Host | None:
        columns = "ident, name, key, joined, epoch, sequence, revoked"
        row = self._connection.execute(f"SELECT {columns} FROM hosts WHERE {where}", (value,)).fetchone()  # noqa: S608  # both are written above
        return None if row is None else Host(*row)


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
