"""The files that an administrator copies from ``config/``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pam_totp.config import Arguments, Config

EXAMPLES = Path(__file__).resolve().parents[2] / "config"
VARIANTS = ("password-and-code", "key-and-code")


def lines(path: str) -> list[str]:
    """What is in force in a file: no comments, no empty lines, single spaces."""
    text = (EXAMPLES / path).read_text(encoding="utf-8")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_configuration_as_it_comes_sets_nothing() -> None:
    assert tomllib.loads((EXAMPLES / "config.toml").read_text(encoding="utf-8")) == {}


def test_the_configuration_shows_every_key_with_its_default() -> None:
    text = re.sub(r"^#(\w+ = )", r"\1", (EXAMPLES / "config.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert tomllib.loads(text) == {key: getattr(Config(), key) for key in Config.__slots__}


def test_the_code_is_asked_for_right_after_the_password() -> None:
    found = lines("pam.d/sshd-password-and-code")
    assert found[:2] == ["@include common-auth", "auth required pam_python.so pam_totp.py"]
    assert not [line for line in found[2:] if line.startswith("auth")]


def test_without_a_password_the_key_is_demanded() -> None:
    found = lines("pam.d/sshd-key-and-code")
    assert found[:2] == [
        "auth required pam_python.so pam_totp.py first_factor=publickey",
        "auth required pam_permit.so",
    ]
    assert not [line for line in found[2:] if line.startswith(("auth", "@include common-auth"))]
    assert Arguments(found[0].split()[4:]).first_factor == "publickey"


def test_both_variants_are_the_same_after_authentication() -> None:
    password, key = (lines(f"pam.d/sshd-{variant}") for variant in VARIANTS)
    assert password[2:] == key[2:]
    assert "@include common-account" in key
    assert "@include common-session" in key


@pytest.mark.parametrize(
    ("variant", "methods"),
    zip(VARIANTS, ("keyboard-interactive:pam", "publickey,keyboard-interactive:pam"), strict=True),
)
def test_a_drop_in_closes_every_way_around_pam(variant: str, methods: str) -> None:
    assert lines(f"sshd_config.d/00-pam-totp-{variant}.conf") == [
        "UsePAM yes",
        "KbdInteractiveAuthentication yes",
        "PasswordAuthentication no",
        f"AuthenticationMethods {methods}",
    ]
