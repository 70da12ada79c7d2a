"""Django's SQLite backend, but that a transaction takes the write lock when it begins.

Django 4.2 begins with a lock for reading only: two that read and then write would fail, one of them at once. Later
versions of Django have a setting for this.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db.backends.sqlite3 import base

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVERY = 0.001  # seconds from one look at the write lock to the next


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
        # SQLite's own waiting is looking again after ever longer pauses: who comes later overtakes, and a lock is free
        # for up to 100 ms before it is seen. So one at a time looks, each millisecond, and the others are in a queue.
        # Who has the write lock is not in it, so nobody waits for somebody who waits for him.
        patience = self.settings_dict["OPTIONS"]["timeout"]
        with self._turn(), self.wrap_database_errors:
            end = time.monotonic() + patience
            self._look_for(_EVERY)
            try:
                while not self._begun(last=time.monotonic() > end):
                    pass
            finally:
                self._look_for(patience)

    def _look_for(self, seconds: float) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def _begun(self, *, last: bool) -> bool:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

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
