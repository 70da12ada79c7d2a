"""Credentials of systemd: what one is bound to, and how they are asked for. The real ones: tests/login/test_key_*."""

from __future__ import annotations

import base64

import pytest

from pam_totp.host import credentials, programs

# As systemd-creds of Debian 12 made it: --with-key=host.
HOST = (
    b"Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAADGUDOkjaGgyINWcaoAAAAAQdbg56s/K6I52Kl\nIuAAmRGlssVflLT7Tb8M+9TmsGvnp\n"
)


def of(header: str) -> bytes:
    return base64.encodebytes(bytes.fromhex(header) + bytes(100))


@pytest.mark.parametrize(
    ("content", "bound"),
    [
        (HOST, {"host"}),
        (of("0c7cc07b117645919c4b0bea08bc20fe"), {"tpm2"}),
        (of("93a894094874449090caf2fc93cab553"), {"host", "tpm2"}),
        (of("058469daf6f54324800549da0f8ea2fb"), set()),
    ],
)
def test_the_header_says_what_it_is_bound_to(content: bytes, bound: set[str]) -> None:
    assert credentials.bound(content) == frozenset(bound)


@pytest.mark.parametrize("content", [b"", b"Wh", b"\xff" * 40, of("00" * 16), b"pam-totp-key-1 0f0f 0f0f\n"])
def test_what_is_no_credential_that_is_known_is_told_apart(content: bytes) -> None:
    assert credentials.bound(content) is None


def test_both_are_named_for_people() -> None:
    assert credentials.words(frozenset({"tpm2", "host"})) == "this host's key and its TPM2"
    assert credentials.words(frozenset()) == "nothing"


def test_the_key_goes_through_pipes_and_no_state_of_the_firmware_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, str]] = []

    def piped(*command: str, content: bytes) -> bytes:
        asked.append((content, " ".join(command)))
        return b"made"

    monkeypatch.setattr(programs, "piped", piped)
    assert credentials.encrypt(b"key", frozenset({"host"})) == b"made"
    credentials.encrypt(b"key", frozenset({"tpm2", "host"}))
    credentials.decrypt(b"sealed")
    assert asked == [
        (b"key", "systemd-creds encrypt --name=pam-totp-key --with-key=host - -"),
        (b"key", "systemd-creds encrypt --name=pam-totp-key --with-key=host+tpm2 --tpm2-pcrs=23 - -"),
        (b"sealed", "systemd-creds decrypt --name=pam-totp-key - -"),
    ]
