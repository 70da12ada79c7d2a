"""A new cache file: whole before it has its name. What becomes of an old one is in test_migration.py."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import schema
from pam_totp.cache.store import BUCKETS, Store
from pam_totp.errors import CacheError
from tests.unit.places import ME

if TYPE_CHECKING:
    from pathlib import Path

ROSTER = [f"bucket {number}".encode() for number in range(BUCKETS)]
FACTS = {"fact": b"sealed"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir(0o700)
    schema.create(str(directory / "cache.db"), ROSTER, FACTS)
    return directory / "cache.db"


def test_a_new_cache_is_private_whole_and_empty(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert [file.name for file in made.parent.iterdir()] == ["cache.db"]
    with Store(str(made), ME) as cache:
        assert cache.names() == []
        assert [cache.bucket(number) for number in range(BUCKETS)] == ROSTER
        assert cache.damage() == []


def test_what_is_there_is_never_replaced(made: Path) -> None:
    before = made.read_bytes()
    with pytest.raises(FileExistsError):
        schema.create(str(made), ROSTER, FACTS)
    assert made.read_bytes() == before


def test_what_an_interrupted_creation_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("cache.db.new", "cache.db.new-journal"):
        (tmp_path / name).write_bytes(b"half")
    schema.create(str(tmp_path / "cache.db"), ROSTER, FACTS)
    assert [file.name for file in tmp_path.iterdir()] == ["cache.db"]


def test_the_name_of_a_new_cache_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def sync(path: str) -> None:
        synced.append(f"{path}: {sorted(file.name for file in tmp_path.iterdir())}")

    monkeypatch.setattr("pam_totp.host.files.sync_directory", sync)
    schema.create(str(tmp_path / "cache.db"), ROSTER, FACTS)
    assert synced[-1] == f"{tmp_path}: ['cache.db']"


def test_a_cache_that_cannot_be_written_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_SCHEMA", "CREATE TABLE broken (")
    with pytest.raises(CacheError):
        schema.create(str(tmp_path / "cache.db"), ROSTER, FACTS)
    assert not (tmp_path / "cache.db").exists()
