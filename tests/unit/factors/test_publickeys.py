"""Public keys and certificates, against those that ssh-keygen makes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.factors import publickeys
from pam_totp.factors.publickeys import PublicKey

if TYPE_CHECKING:
    from pathlib import Path

KINDS = [("ed25519", ""), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")]


def keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True).stdout


def make(path: Path, kind: str = "ed25519", bits: str = "") -> PublicKey:
    keygen("-q", "-t", kind, *(["-b", bits] if bits else []), "-N", "", "-f", str(path))
    return read(path.with_name(path.name + ".pub"))


def read(path: Path) -> PublicKey:
    [key] = publickeys.parse("publickey " + path.read_text(encoding="ascii"))
    return key


def certify(path: Path, authority: Path, serial: int) -> PublicKey:
    keygen("-q", "-s", str(authority), "-I", f"id {serial}", "-n", "alice", "-z", str(serial), f"{path}.pub")
    return read(path.with_name(path.name + "-cert.pub"))


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_a_fingerprint_is_that_of_ssh_keygen(kind: str, bits: str, tmp_path: Path) -> None:
    key = make(tmp_path / "key", kind, bits)
    assert key.fingerprint() == keygen("-l", "-f", str(tmp_path / "key.pub")).split()[1]
    assert not key.is_certificate


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_a_certificate_that_is_issued_anew_stays_the_same_identity(kind: str, bits: str, tmp_path: Path) -> None:
    make(tmp_path / "authority")
    make(tmp_path / "other authority")
    plain = make(tmp_path / "key", kind, bits)
    make(tmp_path / "other key", kind, bits)
    first = certify(tmp_path / "key", tmp_path / "authority", 1)
    again = certify(tmp_path / "key", tmp_path / "authority", 2)
    assert first.is_certificate
    assert first.text != again.text
    assert first.identity() == again.identity()
    others = {
        plain.identity(),
        certify(tmp_path / "key", tmp_path / "other authority", 1).identity(),
        certify(tmp_path / "other key", tmp_path / "authority", 1).identity(),
    }
    assert len(others) == 3
    assert first.identity() not in others


def test_a_plain_key_stands_for_itself() -> None:
    assert PublicKey("ssh-ed25519", "AAAA").identity() == "ssh-ed25519 AAAA"


CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (CERTIFICATE, ""),
        (CERTIFICATE, "AAAA"),
        (CERTIFICATE, "not base64"),
        (CERTIFICATE, "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t"),
        ("future-cert-v01@openssh.com", "AAAA"),
    ],
)
def test_a_certificate_that_is_not_understood_stands_for_itself(kind: str, text: str) -> None:
    assert PublicKey(kind, text).identity() == f"{kind} {text}"


@given(st.text(), st.sampled_from([CERTIFICATE, "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "ssh-ed25519"]))
def test_no_text_makes_an_identity_or_a_fingerprint_fail(text: str, kind: str) -> None:
    key = PublicKey(kind, text)
    assert key.identity()
    assert len(key.fingerprint()) == len("SHA256:") + 43


@given(st.binary(max_size=400))
def test_no_bytes_make_the_identity_of_a_certificate_fail(content: bytes) -> None:
    from base64 import b64encode

    assert PublicKey(CERTIFICATE, b64encode(content).decode("ascii")).identity()


@given(st.text())
def test_any_text_has_public_keys_or_none(text: str) -> None:
    assert all(key.kind and key.text for key in publickeys.parse(text))
