"""Runs in a Debian 13 (tests/directory/lane.py): every test may use the database."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _database(db: None) -> None:
    """A database of its own for each test."""
