"""pam-totp backup: one file that is whole, private, never overwritten, and of one moment while others write."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.host.users import User
from tests.unit.pretend import ALICE, BOB, Host

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "backup")


def members(path: str) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {each.name: (archive.extractfile(each) or io.BytesIO()).read() for each in archive}


def test_a_backup_holds_key_and_cache_and_is_private(command: Command, host: Host, target: str) -> None:
    host.enroll(ALICE)
    ran = command("backup", target)
    assert (ran.code, ran.err) == (0, "")
    secret = "(with both, whoever has it has all secrets)"
    assert ran.out == f"wrote {target}: cache and key {secret}; read back, and every record opens\n"
    assert os.stat(target).st_mode & 0o777 == 0o600
    held = members(target)
    assert sorted(held) == ["cache.db", "key", "manifest.json"]
    assert held["key"] == Path(host.paths.key).read_bytes()
    assert json.loads(held["manifest.json"])["made"] == int(host.wall)


@pytest.mark.parametrize(("only", "held"), [("key", "key"), ("cache", "cache.db")])
def test_one_of_the_two_can_be_backed_up_alone(command: Command, target: str, only: str, held: str) -> None:
    ran = command("backup", target, "--only", only)
    assert (ran.code, ran.out) == (0, f"wrote {target}: {only}; read back, and every record opens\n")
    assert sorted(members(target)) == sorted([held, "manifest.json"])


def test_a_file_that_is_there_is_not_overwritten(command: Command, target: str) -> None:
    Path(target).write_text("precious")
    ran = command("backup", target)
    assert ran.code == 2
    assert "backups are never overwritten" in ran.err
    assert Path(target).read_text() == "precious"


def test_a_leftover_of_a_killed_backup_is_in_nobodys_way(command: Command, target: str) -> None:
    Path(f"{target}.new").write_text("half")
    assert command("backup", target).code == 0
    assert not os.path.lexists(f"{target}.new")


def test_a_backup_leaves_nothing_else_behind(command: Command, host: Host, target: str) -> None:
    before = sorted(os.listdir(os.path.dirname(host.paths.cache)))
    assert command("backup", target).code == 0
    assert sorted(os.listdir(os.path.dirname(host.paths.cache))) == before
    assert command("backup", f"{target}-nowhere/file").code == 3
    assert sorted(os.listdir(os.path.dirname(host.paths.cache))) == before


def test_damage_is_backed_up_and_told(command: Command, host: Host, target: str) -> None:
    host.enroll(ALICE)
    with host.accounts() as accounts:
        accounts._store.execute("UPDATE account SET ledger = x'00' WHERE name = 'alice'")
    ran = command("backup", target)
    assert ran.code == 3
    assert "damaged: the record of alice is damaged" in ran.err
    assert "keep your older backup" in ran.err
    assert "cache.db" in members(target)


def test_without_the_key_or_with_another_nothing_is_written(command: Command, host: Host, target: str) -> None:
    os.unlink(host.paths.key)
    assert command("backup", target).code == 3
    assert not os.path.lexists(target)


def test_a_backup_is_of_one_moment_while_others_write(command: Command, host: Host, target: str) -> None:
    for number in range(30):
        host.enroll(User(f"user{number}", 5000 + number))
    host.enroll(ALICE)
    host.enroll(BOB)
    stop = threading.Event()
    written = []

    def write() -> None:
        while not stop.is_set():
            # Both in one transaction: a copy with one of the two alone is not of one moment.
            with host.accounts() as accounts:
                both = [accounts.find(ALICE), accounts.find(BOB)]
                for account in both:
                    account.ledger.row += 1
                accounts.save_all(both)
            written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            seen = len(written)
            while len(written) == seen and writer.is_alive():
                pass
            assert command("backup", f"{target}{number}").code == 0
    finally:
        stop.set()
        writer.join()
    assert len(written) >= 5
    for number in range(5):
        copy = Path(f"{target}{number}.db")
        copy.write_bytes(members(f"{target}{number}")["cache.db"])
        assert sqlite3.connect(copy).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        host.put_back(copy.read_bytes())
        for name in host.in_run():
            os.unlink(name)
        assert host.account(ALICE).ledger.row == host.account(BOB).ledger.row
