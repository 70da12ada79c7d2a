"""migrate: brings the cache to the form of this version."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host


@pytest.fixture
def old(host: Host) -> Host:
    """A host whose cache has the form of 0.1.0."""
    connection = sqlite3.connect(host.paths.cache)
    connection.executescript("DROP TABLE fact; PRAGMA user_version = 1")
    connection.close()
    return host


def known(host: Host) -> bool | None:
    with host.accounts() as accounts:
        return accounts.configured.known()


@pytest.mark.parametrize("verb", ["migrate", "init"])
@pytest.mark.parametrize("configured", [True, False])
def test_an_old_cache_gets_the_new_form_once(configured: bool, verb: str, command: Command, old: Host) -> None:
    if configured:
        old.configure("window = 2")
    assert command("status").code == 3
    assert command(verb).code == 0
    assert known(old) is configured
    assert command("status").code == 0
    before = old.snapshot()
    ran = command("migrate")
    assert (ran.code, ran.out) == (0, f"{old.paths.cache} has the form of this version already\n")
    assert old.snapshot() == before


def test_a_host_without_key_and_cache_gets_none_and_is_marked(command: Command, host: Host) -> None:
    for path in (host.paths.key, host.paths.cache):
        shutil.rmtree(os.path.dirname(path))
    ran = command("migrate")
    assert ran.code == 3
    assert "is missing" in ran.err
    assert os.path.exists(host.paths.marker)
    assert not os.path.exists(host.paths.key)
    assert command("init").code == 3


def test_a_key_of_another_cache_is_told_and_nothing_is_migrated(command: Command, old: Host) -> None:
    os.unlink(old.paths.key)
    with open(old.paths.key, "w", encoding="ascii") as file:
        file.write(f"pam-totp-key-1 {'00' * 16} {'11' * 32}\n")
    os.chmod(old.paths.key, 0o400)
    assert command("migrate").code == 3
    assert known(old) is None
