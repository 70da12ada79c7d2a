"""Public keys and certificates, against those that ssh-keygen makes."""

from __future__ import annotations

import subprocess
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.factors import publickeys
from pam_totp.factors.publickeys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = [("ed25519", ""), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")]


def keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True).stdout


def make(path: Path, kind: str = "ed25519", bits: str = "") -> PublicKey:
    keygen("-q", "-t", kind, *(["-b", bits] if bits else []), "-N", "", "-f", str(path))
    return read(path.with_name(path.name + ".pub"))


def read(path: Path) -> PublicKey:
    [key] = publickeys.parse("publickey " + path.read_text(encoding="ascii")) or []
    return key


def certify(path: Path, authority: Path, serial: int) -> PublicKey:
    keygen("-q", "-s", str(authority), "-I", f"id {serial}", "-n", "alice", "-z", str(serial), f"{path}.pub")
    return read(path.with_name(path.name + "-cert.pub"))


def printed(path: Path) -> str:
    """The fingerprint as ssh-keygen prints it."""
    return keygen("-l", "-f", str(path)).split()[1]


def fields(*contents: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "big") + each for each in contents)


def split(blob: bytes) -> list[bytes]:
    found = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return found


def encoded(blob: bytes) -> str:
    return b64encode(blob).decode("ascii")


def make_key_of_a_token(path: Path, kind: str) -> PublicKey:
    """The public half of a key in a FIDO token, which is that of another key and the name of an application."""
    bits = "256" if kind == "ecdsa" else ""
    name, *key = split(b64decode(make(path, kind, bits).text))
    name = b"sk-" + name + b"@openssh.com"
    public = PublicKey(name.decode("ascii"), encoded(fields(name, *key, b"ssh:")))
    path.with_name(path.name + ".pub").write_text(f"{public.kind} {public.text}\n", encoding="ascii")
    return public


def made(path: Path, kind: str, bits: str) -> PublicKey:
    return make_key_of_a_token(path, kind.removeprefix("sk-")) if kind.startswith("sk-") else make(path, kind, bits)


EVERY_KIND = [*KINDS, ("sk-ed25519", ""), ("sk-ecdsa", "")]


@pytest.mark.parametrize(("kind", "bits"), EVERY_KIND)
def test_a_fingerprint_is_that_of_ssh_keygen(kind: str, bits: str, tmp_path: Path) -> None:
    key = made(tmp_path / "key", kind, bits)
    assert key.fingerprint() == printed(tmp_path / "key.pub")
    assert not key.is_certificate
    assert key.authority() is None


@pytest.mark.parametrize(("kind", "bits"), EVERY_KIND)
def test_a_certificate_has_the_fingerprint_of_its_key_as_ssh_keygen_prints_it(
    kind: str, bits: str, tmp_path: Path
) -> None:
    make(tmp_path / "authority")
    key = made(tmp_path / "key", kind, bits)
    certificate = certify(tmp_path / "key", tmp_path / "authority", 1)
    assert certificate.is_certificate
    assert certificate.fingerprint() == printed(tmp_path / "key-cert.pub") == key.fingerprint()


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_a_certificate_tells_the_fingerprint_of_its_authority(kind: str, bits: str, tmp_path: Path) -> None:
    make(tmp_path / "authority", kind, bits)
    make(tmp_path / "key")
    certificate = certify(tmp_path / "key", tmp_path / "authority", 1)
    assert certificate.authority() == printed(tmp_path / "authority.pub")
    assert f"{certificate.authority()} " in keygen("-L", "-f", str(tmp_path / "key-cert.pub"))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_an_authority_may_be_in_a_token(kind: str, tmp_path: Path) -> None:
    authority, certificate, _ = certified(tmp_path)
    token = make_key_of_a_token(tmp_path / "token", kind)
    blob = b64decode(certificate.text).replace(fields(b64decode(authority.text)), fields(b64decode(token.text)))
    assert PublicKey(certificate.kind, encoded(blob)).authority() == printed(tmp_path / "token.pub")


def certified(path: Path, kind: str = "ed25519", bits: str = "") -> tuple[PublicKey, PublicKey, PublicKey]:
    """An authority, a certificate of it, and the key that this is for."""
    authority = make(path / "authority")
    key = made(path / "key", kind, bits)
    return authority, certify(path / "key", path / "authority", 1), key


@pytest.mark.parametrize(
    ("kind", "bits", "place", "other"),
    [
        ("rsa", "2048", 1, lambda field: b"\0" + field),
        ("rsa", "2048", 2, lambda field: b"\0" + field),
        ("rsa", "2048", 1, lambda _: b""),
        ("rsa", "2048", 2, lambda field: field[1:]),
        ("ecdsa", "384", 1, lambda field: field + b"\0"),
        ("sk-ecdsa", "", 3, lambda field: field + b"\0"),
        ("sk-ed25519", "", 2, lambda field: field + b"\0"),
    ],
)
def test_another_spelling_of_a_certified_key_is_unknown_and_no_other_key(
    kind: str, bits: str, place: int, other: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    _, certificate, key = certified(tmp_path, kind, bits)
    written = split(b64decode(key.text))
    changed = [other(each) if place == number else each for number, each in enumerate(written)]
    blob = b64decode(certificate.text)
    assert blob.count(fields(*written[1:])) == 1
    respelled = PublicKey(certificate.kind, encoded(blob.replace(fields(*written[1:]), fields(*changed[1:]))))
    assert (respelled.fingerprint(), respelled.authority()) == (None, None)


def test_a_certificate_with_something_behind_or_of_another_type_is_unknown(tmp_path: Path) -> None:
    authority, certificate, key = certified(tmp_path)
    blob, signer = b64decode(certificate.text), b64decode(authority.text)
    for kind, content in [
        (certificate.kind, blob + b"\0"),
        (certificate.kind, blob[:-1]),
        (certificate.kind, blob.replace(fields(signer), fields(signer + b"\0"))),
        (certificate.kind, blob.replace(fields(signer), fields(fields(b"ssh-future", b"key")))),
        (certificate.kind, b64decode(key.text)),
        (certificate.kind.replace("v01", "v02"), blob.replace(b"v01", b"v02")),
        (certificate.kind.replace("ed25519", "future"), blob.replace(b"ssh-ed25519-", b"ssh-future-")),
        ("ssh-rsa-cert-v01@openssh.com", blob),
    ]:
        other = PublicKey(kind, encoded(content))
        assert other.is_certificate
        assert (other.fingerprint(), other.authority()) == (None, None)


def test_a_plain_key_of_another_type_than_it_says_is_unknown() -> None:
    assert PublicKey("ssh-ed25519", encoded(fields(b"ssh-future", b"key"))).fingerprint() is None
    assert PublicKey("ssh-future", encoded(fields(b"ssh-future", b"key"))).fingerprint() is not None


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


def test_a_certificate_is_for_its_principals_only(tmp_path: Path) -> None:
    authority, certificate, key = certified(tmp_path)
    assert certificate.is_for("alice")
    assert not any(each.is_for(name) for each in (certificate, key, authority) for name in ("", "mallory", "alic"))
    assert not key.is_for("alice")
    keygen("-q", "-s", str(tmp_path / "authority"), "-I", "id", str(tmp_path / "key.pub"))
    assert not read(tmp_path / "key-cert.pub").is_for("alice")  # for whom sshd is told to take it
    keygen("-q", "-s", str(tmp_path / "authority"), "-I", "id", "-n", "staff,alice", str(tmp_path / "key.pub"))
    assert read(tmp_path / "key-cert.pub").is_for("alice")


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
    assert key.fingerprint() is None or not key.is_certificate
    assert key.authority() is None


@given(st.binary(max_size=400))
def test_no_bytes_make_the_identity_of_a_certificate_fail(content: bytes) -> None:
    key = PublicKey(CERTIFICATE, encoded(content))
    assert key.identity()
    assert key.fingerprint() is None


@given(st.text())
def test_any_text_has_public_keys_or_none(text: str) -> None:
    assert all(key.kind and key.text for key in publickeys.parse(text) or ())


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_sshd_ends_a_line_of_its_report(end: str) -> None:
    # It keeps a newline out of the name that another method tells, and nothing else.
    forged = f"gssapi-with-mic alice{end}publickey ssh-ed25519 AAAA\n"
    assert publickeys.parse(forged) == []


@pytest.mark.parametrize("blank", ["\x1f", "\xa0", "\u2003", "\u3000"])
def test_only_a_space_divides_the_words_of_a_line(blank: str) -> None:
    assert publickeys.parse(f"publickey{blank}ssh-ed25519 AAAA") == []
