"""pam-totp restore: checked before anything is changed, and nothing that was spent or removed comes back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import binding, configured, keys, roster, schema
from pam_totp.factors import enroll, recovery
from tests.unit.cache.test_binding import Creds, creds
from tests.unit.pretend import ALICE, BOB, Host

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command

__all__ = ["creds"]  # the fixture
STAYS = "recovery codes that were spent and authenticators that were removed since then stay so\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "backup")


def lose(host: Host, *parts: str) -> None:
    """Lose the key or the cache."""
    for part in parts:
        os.unlink(getattr(host.paths, part))


def forget_run(host: Host) -> None:
    """What a boot does to /run."""
    for path in host.in_run():
        os.unlink(path)


def recovery_codes(host: Host) -> list[str]:
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        codes = recovery.issue(account.ledger, accounts.sealer)
        recovery.acknowledge(account.ledger, codes, accounts.sealer)
        accounts.save(account)
    return codes


@pytest.mark.parametrize("lost", [(), ("key",), ("cache",), ("key", "cache")])
def test_what_was_lost_comes_back_and_users_log_in(
    command: Command, host: Host, file: str, lost: tuple[str, ...]
) -> None:
    secret = host.enroll(ALICE)
    assert command("backup", file).code == 0
    lose(host, *lost)
    ran = command("restore", file, "--yes")
    assert ran.code == 0, ran
    assert ran.out.endswith("put back: cache and key\n")
    assert host.login("alice", host.code(secret)).reason == "code"
    assert os.stat(host.paths.key).st_mode & 0o777 == 0o400
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_a_cache_that_is_none_any_more_is_moved_aside_with_its_journal(command: Command, host: Host, file: str) -> None:
    secret = host.enroll(ALICE)
    assert command("backup", file).code == 0
    Path(host.paths.cache).write_bytes(b"x" * 8192)
    ran = command("restore", file, "--yes")
    assert ran.code == 0, ran
    assert "the present cache cannot be read" in ran.out
    assert Path(f"{host.paths.cache}.broken").read_bytes() == b"x" * 8192
    assert host.login("alice", host.code(secret)).reason == "code"
    assert os.stat(f"{host.paths.cache}-journal").st_size > 20_000


def test_the_former_cache_is_kept(command: Command, host: Host, file: str) -> None:
    assert command("backup", file).code == 0
    host.enroll(BOB)
    assert command("restore", file, "--yes").code == 0
    assert host.account(BOB).active == []
    shutil.copy(f"{host.paths.cache}.before-restore", host.paths.cache)
    assert len(host.account(BOB).active) == 1


def test_it_names_who_is_not_enrolled_any_more_and_asks(command: Command, host: Host, file: str) -> None:
    host.enroll(ALICE)
    assert command("backup", file).code == 0
    host.enroll(BOB)
    before = host.snapshot()
    ran = command("restore", file, typed=("n\n",))
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "Put the cache and key back? [y/N] nothing changed")
    assert "not enrolled any more afterwards, because that came later: bob\n" in ran.out
    assert host.snapshot() == before
    assert command("restore", file, piped="").code == 2


def test_a_file_that_is_not_there_is_named(command: Command, host: Host, file: str) -> None:
    host.enroll(ALICE)
    before = host.snapshot()
    ran = command("restore", f"{file}.gone", "--yes")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == f"pam-totp: {file}.gone is not there: name a file that pam-totp backup has written\n"
    assert host.snapshot() == before


def test_codes_and_recovery_codes_that_were_spent_stay_spent_also_after_a_boot(
    command: Command, host: Host, file: str, quick_hash: None
) -> None:
    secret = host.enroll(ALICE)
    codes = recovery_codes(host)
    assert command("backup", file).code == 0
    assert host.login("alice", codes[0]).reason == "recovery-code"
    assert host.login("alice", host.code(secret)).reason == "code"
    ran = command("restore", file, "--yes")
    assert (ran.code, STAYS in ran.out) == (0, True)
    for boot in (False, True):
        if boot:
            forget_run(host)
        assert host.login("alice", codes[0]).reason == "wrong-recovery-code"
        assert host.login("alice", host.code(secret)).reason == "spent-code"
    assert host.login("alice", codes[1]).reason == "recovery-code"


def test_an_authenticator_that_was_removed_stays_removed_also_after_a_boot(
    command: Command, host: Host, file: str
) -> None:
    lost, kept = host.enroll(ALICE, "lost"), host.enroll(ALICE, "kept")
    assert command("backup", file).code == 0
    host.change(lambda account: enroll.remove(account, "lost"))
    assert command("restore", file, "--yes").code == 0
    forget_run(host)
    assert [each.label for each in host.account().active] == ["kept"]
    assert host.login("alice", host.code(lost)).reason == "wrong-code"
    assert host.login("alice", host.code(kept)).reason == "code"


def test_what_was_spent_is_known_from_run_where_the_cache_is_lost(
    command: Command, host: Host, file: str, quick_hash: None
) -> None:
    host.enroll(ALICE)
    codes = recovery_codes(host)
    assert command("backup", file).code == 0
    assert host.login("alice", codes[0]).reason == "recovery-code"
    lose(host, "cache")
    ran = command("restore", file, "--yes")
    assert (ran.code, STAYS in ran.out) == (0, True)
    assert host.login("alice", codes[0]).reason == "wrong-recovery-code"


def test_it_says_what_it_cannot_know_after_a_boot(
    command: Command, host: Host, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll(ALICE)
    monkeypatch.setattr("pam_totp.cli.backup.now", lambda: type(host.now())(host.wall, "another boot", 1.0))
    assert command("backup", file).code == 0
    lose(host, "cache")
    ran = command("restore", file, "--yes")
    assert ran.code == 0
    assert "and the boot nothing is known, and it is good again: run pam-totp recovery" in ran.out


def test_who_has_another_authenticator_since_then_is_refused_and_named(command: Command, host: Host, file: str) -> None:
    host.enroll(ALICE, "lost")
    assert command("backup", file).code == 0
    host.change(lambda account: enroll.remove(account, None))
    host.enroll(ALICE, "new")
    ran = command("restore", file, "--yes")
    assert ran.code == 3
    assert "the record of alice is older than what was enrolled or removed in this boot" in ran.err
    assert host.login("alice").verdict == "unavailable"
    assert command("reset", "alice", "--yes").code == 0
    new = host.enroll(ALICE, "newer")
    assert host.login("alice", host.code(new)).reason == "code"


def test_a_backup_with_another_key_brings_its_key_and_what_was_spent_stays_spent(
    command: Command, host: Host, file: str, quick_hash: None
) -> None:
    host.enroll(ALICE)
    codes = recovery_codes(host)
    assert command("backup", file).code == 0
    assert host.login("alice", codes[0]).reason == "recovery-code"
    # The same host under another key, as after a rotation.
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        host_id = Path(host.paths.key).read_text().split()[1]
        former = accounts.sealer
    lose(host, "key", "cache")
    Path(host.paths.key).write_text(f"pam-totp-key-1 {host_id} {'5a' * 32}\n")
    os.chmod(host.paths.key, 0o400)
    sealer = keys.load(host.paths.key, host.paths.owner)
    schema.create(host.paths.cache, roster.empty(sealer), configured.facts(sealer, present=False))
    os.unlink(f"{host.paths.run}/{former.token('alice')}")
    with host.accounts() as accounts:
        accounts.save(account)
    ran = command("restore", file, "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert host.login("alice", codes[0]).reason == "wrong-recovery-code"
    assert host.login("alice", codes[1]).reason == "recovery-code"


def test_one_of_the_two_is_put_back_alone_if_it_belongs_to_the_other(command: Command, host: Host, file: str) -> None:
    secret = host.enroll(ALICE)
    assert command("backup", file, "--only", "key").code == 0
    assert command("restore", file, "--only", "cache", "--yes").code == 3
    lose(host, "key")
    assert command("restore", file, "--yes").code == 0
    assert host.login("alice", host.code(secret)).reason == "code"
    lose(host, "key")
    keys.create(host.paths.key)
    other = f"{file}2"
    shutil.copy(file, other)
    before = host.snapshot()
    assert command("restore", other, "--yes").code == 0
    assert host.snapshot() == before
    lose(host, "key")
    keys.create(host.paths.key)
    assert command("backup", f"{file}3", "--only", "key").code == 3  # a key of another cache
    assert command("backup", f"{file}4", "--only", "cache").code == 3


@pytest.mark.parametrize("place", ["manifest", "key", "cache", "end"])
def test_a_file_that_is_not_whole_changes_nothing(command: Command, host: Host, file: str, place: str) -> None:
    host.enroll(ALICE)
    assert command("backup", file).code == 0
    content = bytearray(Path(file).read_bytes())
    if place == "end":
        del content[len(content) // 2 :]
    else:
        start = content.index({"manifest": b'"sha256"', "key": b"pam-totp-key-1", "cache": b"SQLite format 3"}[place])
        content[start + 12] ^= 1
    Path(file).write_bytes(content)
    before = host.snapshot(), Path(host.paths.key).read_bytes()
    ran = command("restore", file, "--yes")
    assert ran.code == 3
    assert "is not a whole backup of pam-totp, and nothing was changed" in ran.err
    assert (host.snapshot(), Path(host.paths.key).read_bytes()) == before


def test_a_backup_of_damage_is_not_put_back(command: Command, host: Host, file: str) -> None:
    host.enroll(ALICE)
    with host.accounts() as accounts:
        accounts._store.execute("UPDATE account SET ledger = x'00' WHERE name = 'alice'")
    assert command("backup", file).code == 3
    before = host.snapshot()
    ran = command("restore", file, "--yes")
    assert ran.code == 3
    assert "is damaged, and nothing was changed: the record of alice is damaged" in ran.err
    assert host.snapshot() == before


CLEAR = "in the clear"


def unsealed_at_boot(host: Host) -> bool:
    forget_run(host)
    Path(host.paths.unsealed).unlink(missing_ok=True)
    return binding.unseal_at_boot(host.paths)


@pytest.mark.parametrize("unsealed", ["a boot has", "no boot has"])
def test_a_key_that_is_kept_sealed_stays_sealed(
    unsealed: str, command: Command, host: Host, file: str, creds: Creds
) -> None:
    secret = host.enroll(ALICE)
    assert command("key", "seal").code == 0
    assert command("backup", file).code == 0
    if unsealed == "no boot has":
        os.unlink(host.paths.unsealed)
    ran = command("restore", file, "--yes")
    assert (ran.code, CLEAR in ran.out) == (0, False)
    assert host.login("alice", host.code(secret)).reason == "code"
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key.cred"]
    assert unsealed_at_boot(host)
    assert host.login("alice", host.code(secret, 1)).reason == "code"


@pytest.mark.parametrize("why", ["it was rotated since", "it does not open any more"])
def test_a_key_that_the_sealed_one_is_not_is_put_back_in_the_clear_and_told(
    why: str, command: Command, host: Host, file: str, creds: Creds
) -> None:
    secret = host.enroll(ALICE)
    assert command("key", "seal").code == 0
    assert command("backup", file).code == 0
    if why == "it was rotated since":
        assert command("key", "rotate").code == 0
    else:
        creds.host = "another"
    ran = command("restore", file, "--yes")
    said = f"the key is in {host.paths.key} in the clear, beside one that is sealed: run pam-totp key seal"
    assert (ran.code, ran.out.splitlines()[-1]) == (0, said)
    assert host.login("alice", host.code(secret)).reason == "code"
    assert command("key", "seal").code == 0
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key.cred"]
    assert unsealed_at_boot(host)
    assert host.login("alice", host.code(secret, 1)).reason == "code"
