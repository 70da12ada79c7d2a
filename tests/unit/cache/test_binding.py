"""Keeping the key sealed, with a systemd-creds that is made up; the real one is in tests/login/test_key_booted.py."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import binding, keys, rotation
from pam_totp.errors import CacheError, HostKeyError
from pam_totp.host import credentials, systemd
from pam_totp.host.programs import ProgramError

if TYPE_CHECKING:
    from tests.unit.pretend import Host

BY_HOST = frozenset({"host"})
BY_BOTH = frozenset({"host", "tpm2"})
HEADERS = {
    BY_HOST: "5a1c6a86df9d4096b1d5a65e0862f19a",
    BY_BOTH: "93a894094874449090caf2fc93cab553",
    frozenset(): "058469daf6f54324800549da0f8ea2fb",
}


class Creds:
    """systemd-creds: what it seals opens while host and TPM are what they were. ``weaker``: it binds to less."""

    def __init__(self) -> None:
        self.tpm: str | None = None
        self.host = "host"
        self.weaker: frozenset[str] | None = None

    def encrypt(self, content: bytes, to: frozenset[str]) -> bytes:
        if "tpm2" in to and self.tpm is None:
            raise ProgramError("systemd-creds says: no TPM2")
        to = to if self.weaker is None else self.weaker
        names = f"{self.host if 'host' in to else ''}/{self.tpm if 'tpm2' in to else ''}"
        return base64.encodebytes(bytes.fromhex(HEADERS[to]) + names.encode() + b"\0" + content)

    def decrypt(self, sealed: bytes) -> bytes:
        names, _, content = base64.decodebytes(sealed)[16:].partition(b"\0")
        host, _, tpm = names.decode().partition("/")
        if host not in ("", self.host) or tpm not in ("", self.tpm):
            raise ProgramError("systemd-creds says: it does not open")
        return content


@pytest.fixture
def creds(monkeypatch: pytest.MonkeyPatch) -> Creds:
    creds = Creds()
    monkeypatch.setattr(credentials, "encrypt", creds.encrypt)
    monkeypatch.setattr(credentials, "decrypt", creds.decrypt)
    monkeypatch.setattr(credentials, "tpm2_there", lambda: creds.tpm is not None)
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(systemd, "enabled", lambda _: True)
    return creds


def found(host: Host) -> set[str]:
    return {problem.identifier for problem in binding.look(host.paths).problems}


def boot(host: Host) -> bool:
    """/run is empty, and the unit runs."""
    for name in (host.paths.unsealed, f"{host.paths.unsealed}.next"):
        Path(name).unlink(missing_ok=True)
    host.reboot()
    return binding.unseal_at_boot(host.paths)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def put(path: str, text: bytes) -> None:
    Path(path).unlink(missing_ok=True)
    Path(path).write_bytes(text)
    os.chmod(path, 0o400)


@pytest.mark.parametrize(("tpm", "bound"), [(None, BY_HOST), ("one", BY_BOTH)])
def test_it_is_bound_to_all_there_is_and_opens_after_a_boot(
    tpm: str | None, bound: frozenset[str], host: Host, creds: Creds
) -> None:
    creds.tpm = tpm
    secret, plain = host.enroll(), content(host.paths.key)
    assert binding.seal(host.paths) == (bound, True)
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key.cred"]
    assert host.login("alice", host.code(secret)).reason == "code"
    assert binding.seal(host.paths) == (bound, False)
    assert boot(host)
    assert content(host.paths.unsealed) == plain
    assert host.login("alice", host.code(secret)).reason == "code"
    state = binding.look(host.paths)
    assert (state.bound, state.recorded, state.problems) == (bound, bound, [])
    assert binding.unseal(host.paths)
    assert content(host.paths.key) == plain
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key"]
    assert not binding.unseal(host.paths)
    assert found(host) == set()
    assert not binding.unseal_at_boot(host.paths)


def test_it_is_not_sealed_where_systemd_binds_it_to_less(host: Host, creds: Creds) -> None:
    creds.tpm = "one"
    for weaker in (BY_HOST, frozenset[str]()):
        creds.weaker = weaker
        with pytest.raises(HostKeyError, match=r"has bound the key to .*, not to"):
            binding.seal(host.paths)
        assert os.listdir(os.path.dirname(host.paths.key)) == ["key"]


def test_it_is_not_sealed_where_it_would_not_open(host: Host, creds: Creds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "decrypt", lambda _: b"another")
    with pytest.raises(HostKeyError, match="does not open what it has sealed"):
        binding.seal(host.paths)
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key"]


def test_a_tpm_that_is_gone_is_no_reason_to_bind_to_less_unless_it_is_said(host: Host, creds: Creds) -> None:
    creds.tpm = "one"
    binding.seal(host.paths)
    creds.tpm = None
    with pytest.raises(HostKeyError, match="--without-tpm2"):
        binding.seal(host.paths)
    assert found(host) == {"key-not-openable"}
    assert binding.seal(host.paths, without_tpm2=True) == (BY_HOST, True)
    assert found(host) == set()
    creds.tpm = "another"
    assert found(host) == {"key-tpm2-unused"}
    assert binding.seal(host.paths) == (BY_BOTH, True)
    assert found(host) == set()


def test_another_tpm_opens_nothing_and_the_backup_helps(host: Host, creds: Creds) -> None:
    creds.tpm = "one"
    secret, plain = host.enroll(), content(host.paths.key)
    binding.seal(host.paths)
    creds.tpm = "another"
    with pytest.raises(ProgramError):
        boot(host)
    assert host.login("alice").reason == "key-sealed"
    assert found(host) == {"key-unusable", "key-not-openable"}
    put(host.paths.key, plain)
    assert host.login("alice", host.code(secret)).reason == "code"
    assert found(host) == {"key-plain", "key-not-openable", "key-bound-to-less"}
    binding.seal(host.paths)
    assert found(host) == set()
    assert boot(host)


def test_less_than_it_was_bound_to_is_told(host: Host, creds: Creds) -> None:
    creds.tpm = "one"
    plain = content(host.paths.key)
    binding.seal(host.paths)
    put(f"{host.paths.key}.cred", creds.encrypt(plain, BY_HOST))
    assert found(host) == {"key-bound-to-less", "key-tpm2-unused"}
    assert boot(host)
    put(f"{host.paths.key}.cred", creds.encrypt(plain, frozenset()))
    assert found(host) >= {"key-bound-to-less", "key-bound-to-nothing"}
    with pytest.raises(HostKeyError, match="bound to nothing"):
        boot(host)
    put(f"{host.paths.key}.cred", base64.encodebytes(bytes(16) + b"host/\0" + plain))
    assert found(host) >= {"key-binding-unknown"}


def test_a_key_put_back_in_the_clear_is_told(host: Host, creds: Creds) -> None:
    plain = content(host.paths.key)
    binding.seal(host.paths)
    os.unlink(f"{host.paths.key}.cred")
    put(host.paths.key, plain)
    assert found(host) == {"key-bound-to-less"}


def test_another_key_than_that_of_logins_in_the_credential_is_told(host: Host, creds: Creds) -> None:
    binding.seal(host.paths)
    other = f"pam-totp-key-1 {'00' * 16} {'11' * 32}\n".encode()
    put(f"{host.paths.key}.cred", creds.encrypt(other, BY_HOST))
    assert found(host) == {"key-another-sealed"}


def test_what_is_sealed_and_is_no_key_is_not_unsealed(host: Host, creds: Creds) -> None:
    binding.seal(host.paths)
    before = content(host.paths.unsealed)
    put(f"{host.paths.key}.cred", creds.encrypt(b"nonsense", BY_HOST))
    with pytest.raises(HostKeyError, match="is not a pam-totp key"):
        binding.unseal_at_boot(host.paths)
    assert content(host.paths.unsealed) == before


def test_without_the_unit_it_is_told(host: Host, creds: Creds, monkeypatch: pytest.MonkeyPatch) -> None:
    binding.seal(host.paths)
    monkeypatch.setattr(systemd, "enabled", lambda _: False)
    assert found(host) == {"key-unseal-disabled"}


def test_a_credential_that_others_can_read_is_told(host: Host, creds: Creds) -> None:
    binding.seal(host.paths)
    os.chmod(f"{host.paths.key}.cred", 0o444)
    assert found(host) == {"key-not-openable"}
    with pytest.raises(HostKeyError, match="not safe"):
        boot(host)


def test_a_key_of_another_cache_is_not_sealed(host: Host, creds: Creds) -> None:
    put(host.paths.key, f"pam-totp-key-1 {'00' * 16} {'11' * 32}\n".encode())
    with pytest.raises(HostKeyError):
        binding.seal(host.paths)
    assert found(host) == {"key-unusable"}


@pytest.mark.parametrize("rotated", [True, False])
def test_a_wrong_key_beside_the_sealed_one_never_takes_its_place(rotated: bool, host: Host, creds: Creds) -> None:
    plain = content(host.paths.key)
    binding.seal(host.paths)
    if rotated:
        rotation.rotate(host.paths, lambda _: None)
    wrong = plain if rotated else f"pam-totp-key-1 {'00' * 16} {'11' * 32}\n".encode()
    put(host.paths.key, wrong)
    before = content(f"{host.paths.key}.cred")
    for action in (binding.seal, binding.unseal, lambda paths: rotation.rotate(paths, lambda _: None)):
        with pytest.raises(HostKeyError, match=r"is not the key of this cache|does not belong"):
            action(host.paths)
    assert (content(f"{host.paths.key}.cred"), content(host.paths.key)) == (before, wrong)
    assert "key-plain" in found(host)
    os.unlink(host.paths.key)
    assert found(host) == set()


def test_a_key_is_not_unsealed_to_where_others_can_write(host: Host, creds: Creds) -> None:
    binding.seal(host.paths)
    os.chmod(os.path.dirname(host.paths.unsealed), 0o777)
    with pytest.raises(HostKeyError, match="can be written by others"):
        binding.unseal_at_boot(host.paths)


# With rotations


def test_a_sealed_key_is_rotated_and_the_next_boot_has_the_new_one(host: Host, creds: Creds) -> None:
    creds.tpm = "one"
    secret, plain = host.enroll(), content(host.paths.key)
    binding.seal(host.paths)
    assert rotation.rotate(host.paths, lambda _: None)
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key.cred"]
    assert os.listdir(os.path.dirname(host.paths.unsealed)) == ["key"]
    assert boot(host)
    assert content(host.paths.unsealed) != plain
    assert host.login("alice", host.code(secret)).reason == "code"
    state = binding.look(host.paths)
    assert (state.rotated, state.bound, state.problems) == (True, BY_BOTH, [])


@pytest.mark.parametrize("boots", [True, False])
@pytest.mark.parametrize("renames", range(12))
def test_wherever_it_is_cut_short_it_goes_on(
    renames: int, boots: bool, host: Host, creds: Creds, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll()
    binding.seal(host.paths)
    left = [renames]
    rename = os.rename

    def cut(old: str, new: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr("posix.rename", cut)
        try:
            rotation.rotate(host.paths, lambda _: None)
        except KeyboardInterrupt:
            pass
        else:
            assert left[0] >= 0
    if boots:
        boot(host)
    assert host.login("alice", host.code(secret)).reason == "code"
    rotation.rotate(host.paths, lambda _: None)
    assert os.listdir(os.path.dirname(host.paths.key)) == ["key.cred"]
    assert os.listdir(os.path.dirname(host.paths.unsealed)) == ["key"]
    assert found(host) == set()
    boot(host)
    assert host.login("alice", host.code(secret, 1)).reason == "code"
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_while_a_rotation_has_not_ended_nothing_is_sealed_or_unsealed(host: Host, creds: Creds) -> None:
    put(f"{host.paths.key}.next", keys.successor(content(host.paths.key), "key"))
    for action in (binding.seal, binding.unseal):
        with pytest.raises(HostKeyError, match="pam-totp key rotate"):
            action(host.paths)


def test_what_a_killed_sealing_has_left_is_destroyed(host: Host, creds: Creds, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(binding.files, "wipe", killed)  # type: ignore[attr-defined]  # the module's own import
        with pytest.raises(KeyboardInterrupt):
            binding.seal(host.paths)
    assert found(host) == {"key-unfinished"}
    assert binding.seal(host.paths) == (BY_HOST, False)
    assert found(host) == set()


def test_a_cache_of_the_first_schema_is_migrated_first(host: Host, creds: Creds) -> None:
    import sqlite3

    connection = sqlite3.connect(host.paths.cache)
    connection.executescript("DROP TABLE fact; PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(CacheError, match="pam-totp migrate"):
        binding.seal(host.paths)
    assert found(host) == {"key-unusable"}


def test_where_there_is_no_key_that_is_told(host: Host, creds: Creds) -> None:
    os.unlink(host.paths.key)
    assert found(host) == {"key-unusable"}
    assert not binding.present(host.paths)
