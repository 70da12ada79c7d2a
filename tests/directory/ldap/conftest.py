"""Runs in a Debian 13 with slapd: a server for each module; for each test, the database and the keeper of inside/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.directory.inside.conftest import _database, _no_throttle, keeper
from tests.directory.ldap.server import Slapd

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["_database", "_no_throttle", "keeper"]


@pytest.fixture(scope="module")
def _slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    made = Slapd(tmp_path_factory.mktemp("slapd"))
    yield made
    made.stop()


@pytest.fixture
def slapd(_slapd: Slapd) -> Slapd:
    """A server, which each test fills itself."""
    return _slapd
