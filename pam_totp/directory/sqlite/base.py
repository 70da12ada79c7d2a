"""Django's SQLite backend, but that a transaction takes the write lock when it begins.

Django 4.2 begins with a lock for reading only: two that read and then write would fail, one of them at once. Later
versions of Django have a setting for this.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db.backends.sqlite3 import base

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose transactions wait for their turn, and whose commits are on the disk when they are done."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        """A connection that reads while another one writes."""
        # Django says nothing of its type, its stubs do.
        connection: sqlite3.Connection = super().get_new_connection(conn_params)  # type: ignore[misc, unused-ignore]
        connection.execute("PRAGMA journal_mode=WAL")
        # A spent code must stay spent when the power fails.
        connection.execute("PRAGMA synchronous=FULL")
        # Moving the log's pages into the file is the publisher's; nobody's login waits for it, but where there is none.
        connection.execute("PRAGMA wal_autocheckpoint=20000")
        return connection

    def _start_transaction_under_autocommit(self) -> None:
        # SQLite's own waiting is looking again after ever longer pauses: who comes later overtakes. So one at a time
        # looks, and the others are in a queue. Who has the write lock is not in it, so nobody waits for somebody who
        # waits for him.
        with self._turn():
            self.cursor().execute("BEGIN IMMEDIATE")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self.is_in_memory_db():
            yield
            return
        path = f"{self.settings_dict['NAME']}.turn"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
