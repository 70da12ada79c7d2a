"""Django's SQLite backend, but that a transaction takes the write lock when it begins.

Django 4.2 begins with a lock for reading only: two that read and then write would fail, one of them at once. Later
versions of Django have a setting for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.backends.sqlite3 import base

if TYPE_CHECKING:
    import sqlite3


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose transactions wait for their turn, and whose commits are on the disk when they are done."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> sqlite3.Connection:
        """A connection that reads while another one writes."""
        connection: sqlite3.Connection = super().get_new_connection(conn_params)  # type: ignore[misc, unused-ignore]
        connection.execute("PRAGMA journal_mode=WAL")
        # A spent code must stay spent when the power fails.
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _start_transaction_under_autocommit(self) -> None:
        self.cursor().execute("BEGIN IMMEDIATE")
