"""That there was a configuration is known, and a missing one is missed."""

from __future__ import annotations

import gzip
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.store import Store
from pam_totp.errors import CacheError, CacheReadOnlyError, ConfigError, DamageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.configured import Configured
    from tests.unit.pretend import Host


def ask(host: Host, question: Callable[[Configured], object]) -> object:
    with host.accounts() as accounts:
        return question(accounts.configured)


def sql(host: Host, statement: str) -> None:
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_new_host_has_none_and_misses_none(host: Host) -> None:
    assert ask(host, lambda configured: configured.known()) is False
    ask(host, lambda configured: configured.require(False, "config.toml"))


def test_a_file_that_was_seen_is_missed_until_somebody_says_that_it_is_meant(host: Host) -> None:
    ask(host, lambda configured: configured.learn())
    assert ask(host, lambda configured: configured.known()) is True
    ask(host, lambda configured: configured.require(True, "config.toml"))
    with pytest.raises(ConfigError, match=r"config\.toml is gone.*config reset") as caught:
        ask(host, lambda configured: configured.require(False, "config.toml"))
    assert caught.value.reason == "config-missing"
    ask(host, lambda configured: configured.note(False))
    ask(host, lambda configured: configured.require(False, "config.toml"))


def test_it_is_learned_with_one_write_and_no_other(host: Host) -> None:
    ask(host, lambda configured: configured.learn())
    before = host.snapshot()
    ask(host, lambda configured: configured.learn())
    assert host.snapshot() == before


def test_where_it_cannot_be_written_it_can_wait(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise CacheReadOnlyError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_fact", full)
        ask(host, lambda configured: configured.learn())
    assert ask(host, lambda configured: configured.known()) is False


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM fact", "UPDATE fact SET value = X'01'", "UPDATE fact SET name = 'other'", "DROP TABLE fact"],
)
def test_what_is_damaged_refuses_where_the_file_is_missing_and_nowhere_else(damage: str, host: Host) -> None:
    sql(host, damage)
    ask(host, lambda configured: configured.require(True, "config.toml"))
    ask(host, lambda configured: configured.learn())
    with pytest.raises(CacheError):
        ask(host, lambda configured: configured.require(False, "config.toml"))
    with host.accounts() as accounts:
        assert "whether there is a configuration is not known: run pam-totp config check" in accounts.damage()


def test_a_word_that_is_none_is_damage(host: Host) -> None:
    with Store(host.paths.cache, host.paths.owner) as opened:
        opened.put_fact("configured", host.sealer().seal(b"may", "fact", "configured"))
    with pytest.raises(DamageError):
        ask(host, lambda configured: configured.known())


# The cache of the first release

DATA = Path(__file__).parent / "data"


@pytest.fixture
def old(host: Host) -> Host:
    """A host with the key and the cache that 0.1.0 made."""
    for name, path in (("key-0.1.0", host.paths.key), ("cache-0.1.0.db.gz", host.paths.cache)):
        content = (DATA / name).read_bytes()
        os.chmod(path, 0o600)
        Path(path).write_bytes(gzip.decompress(content) if name.endswith(".gz") else content)
    os.chmod(host.paths.key, 0o400)
    return host


def test_a_cache_of_the_first_schema_knows_nothing_and_refuses_nobody(old: Host) -> None:
    assert ask(old, lambda configured: configured.known()) is None
    ask(old, lambda configured: configured.learn())
    ask(old, lambda configured: configured.require(False, "config.toml"))
    with pytest.raises(CacheError, match="pam-totp migrate"):
        ask(old, lambda configured: configured.note(True))


@pytest.mark.parametrize("present", [True, False])
def test_a_migrated_cache_knows_what_its_migration_saw(present: bool, old: Host) -> None:
    with old.accounts() as accounts:
        assert accounts.migrate(present)
        assert accounts.configured.known() is present
    assert ask(old, lambda configured: configured.known()) is present
