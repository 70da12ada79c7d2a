"""pam-totp export: real age and real gpg encrypt, nothing is in the clear, and what comes out can be imported again."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.pretend import ALICE, BOB, Host

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command

PHRASE = "correct horse battery staple"


@pytest.fixture
def secrets(host: Host) -> list[bytes]:
    """Alice has two authenticators, bob one, and carol's is pending."""
    return [host.enroll(ALICE, "phone"), host.enroll(ALICE, "fob"), host.enroll(BOB)]


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "out")


@pytest.fixture
def phrase(tmp_path: Path) -> str:
    path = tmp_path / "phrase"
    path.write_text(f"{PHRASE}\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def age_key(tmp_path: Path) -> tuple[str, str]:
    """A key file of age, and its recipient."""
    path = str(tmp_path / "age.key")
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    return path, subprocess.run(["age-keygen", "-y", path], check=True, capture_output=True, text=True).stdout.strip()


def in_the_clear(secret: bytes) -> tuple[bytes, ...]:
    return secret, secret.hex().encode(), base64.b32encode(secret)


def opened_by_age(path: str, key: str) -> str:
    return subprocess.run(["age", "-d", "-i", key, path], check=True, capture_output=True, text=True).stdout


def opened_by_gpg(path: str, home: str, *words: str) -> str:
    command = ["gpg", "--homedir", home, "--batch", "-q", "--pinentry-mode", "loopback", *words, "-d", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_age_opens_what_was_encrypted_for_its_recipient_and_it_can_be_imported_again(
    command: Command, host: Host, secrets: list[bytes], target: str, age_key: tuple[str, str]
) -> None:
    key, recipient = age_key
    ran = command("export", "--all", "--age", recipient, "--output", target)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"wrote {target}: 3 authenticators of 2 users, encrypted\n"
    assert os.stat(target).st_mode & 0o777 == 0o600
    written = Path(target).read_bytes()
    assert not any(form in written for secret in secrets for form in in_the_clear(secret))
    text = opened_by_age(target, key)
    assert [line.split()[0] for line in text.splitlines()] == ["alice", "alice", "bob"]
    for user in ("alice", "bob"):
        assert command("reset", user, "--yes").code == 0
    assert command("import", "--format", "uri", "-", piped=text).code == 0
    assert {each.secret for each in host.account().active} == set(secrets[:2])
    assert [each.secret for each in host.account(BOB).active] == secrets[2:]


def test_recipients_may_stand_in_a_file_and_one_user_is_exported_alone(
    command: Command, secrets: list[bytes], target: str, age_key: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "recipients").write_text(f"{age_key[1]}\n")
    assert command("export", "bob", "--age", str(tmp_path / "recipients"), "--output", target).code == 0
    assert [line.split()[0] for line in opened_by_age(target, age_key[0]).splitlines()] == ["bob"]


def test_gpg_opens_what_was_encrypted_for_a_public_key(
    command: Command, secrets: list[bytes], target: str, tmp_path: Path
) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "-q", "--pinentry-mode", "loopback", "--passphrase", ""]
    try:
        subprocess.run(
            [*gpg, "--quick-gen-key", "backup@example.org", "future-default"], check=True, capture_output=True
        )
        public = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
        (tmp_path / "public").write_bytes(public)
        ran = command("export", "--all", "--openpgp", str(tmp_path / "public"), "--output", target)
        assert ran.code == 0, ran
        assert opened_by_gpg(target, str(home)).count("otpauth://totp/") == 3
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def test_gpg_opens_what_was_encrypted_with_a_passphrase(
    command: Command, secrets: list[bytes], target: str, phrase: str, tmp_path: Path
) -> None:
    assert command("export", "--all", "--passphrase-file", phrase, "--output", target).code == 0
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    try:
        assert opened_by_gpg(target, str(home), "--passphrase-file", phrase).count("otpauth://totp/") == 3
        command_line = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback"]
        command_line += ["--passphrase-file", phrase, "--list-packets", target]
        packets = subprocess.run(command_line, check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    # AES-256; iterated and salted, SHA-512, as often as the format allows.
    for word in ("cipher 9,", "s2k 3,", "hash 10", "count 65011712"):
        assert word in packets


def test_no_secret_is_an_argument_or_in_the_environment_or_printed_or_logged(
    command: Command,
    secrets: list[bytes],
    target: str,
    phrase: str,
    age_key: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    journal: list[tuple[int, str]],
) -> None:
    started = []
    real = subprocess.run

    def run(*arguments: object, **options: object) -> object:
        started.append(f"{arguments} {options['env']}")
        return real(*arguments, **options)  # type: ignore[call-overload]  # whatever it was called with

    monkeypatch.setattr("pam_totp.host.programs.subprocess.run", run)
    for number, how in enumerate((("--age", age_key[1]), ("--passphrase-file", phrase))):
        ran = command("export", "--all", *how, "--output", f"{target}{number}")
        assert ran.code == 0
        for text in (ran.out, ran.err, str(journal), str(started)):
            assert PHRASE not in text
            assert not any(form.decode("latin-1") in text for secret in secrets for form in in_the_clear(secret))
    assert len(started) == 2
    assert [line.split()[:2] for _, line in journal] == [["pam-totp:", "user=alice"], ["pam-totp:", "user=bob"]] * 2


@pytest.mark.parametrize(
    "words",
    [
        ("--all", "--output", "OUT"),
        ("--age", "age1x", "--output", "OUT"),
        ("alice", "--all", "--age", "age1x", "--output", "OUT"),
        ("--all", "--age", "age1x", "--passphrase-file", "PHRASE", "--output", "OUT"),
        ("--all", "--age", "AGE-SECRET-KEY-1X", "--output", "OUT"),
        ("--all", "--age", "age1x"),
        ("mallory", "--age", "age1x", "--output", "OUT"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_and_writes_nothing(
    command: Command, secrets: list[bytes], target: str, phrase: str, words: tuple[str, ...]
) -> None:
    places = {"OUT": target, "PHRASE": phrase}
    assert command("export", *(places.get(word, word) for word in words)).code == 2
    assert not os.path.lexists(target)


def test_a_recipient_that_is_none_or_a_short_passphrase_writes_nothing(
    command: Command, secrets: list[bytes], target: str, phrase: str
) -> None:
    ran = command("export", "--all", "--age", "age1nobody", "--output", target)
    assert (ran.code, ran.err.startswith("pam-totp: age says: ")) == (3, True)
    Path(phrase).write_text("short\n")
    assert command("export", "--all", "--passphrase-file", phrase, "--output", target).code == 2
    assert not os.path.lexists(target)


def test_a_tool_that_does_not_encrypt_writes_nothing(
    command: Command, secrets: list[bytes], target: str, phrase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("age", "gpg"):
        (tmp_path / tool).write_text("#!/bin/sh\nexec /bin/cat\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setitem(__import__("pam_totp.host.programs").host.programs._ENVIRONMENT, "PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("export", "--all", "--age", "age1x", "--output", target).code == 3
    assert command("export", "--all", "--passphrase-file", phrase, "--output", target).code == 3
    assert not os.path.lexists(target)


def test_a_tool_that_is_missing_is_named(
    command: Command, secrets: list[bytes], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("pam_totp.host.programs").host.programs._ENVIRONMENT, "PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = command("export", "--all", "--age", "age1x", "--output", target)
    assert (ran.code, ran.err) == (3, "pam-totp: age is not there: install it\n")


def test_nothing_to_export_and_an_existing_file_are_told(
    command: Command, host: Host, target: str, age_key: tuple[str, str]
) -> None:
    how = ("--age", age_key[1], "--output", target)
    assert command("export", "--all", *how).code == 1
    host.enroll(ALICE)
    assert command("export", "alice", "bob", *how).code == 1
    assert not os.path.lexists(target)
    assert command("export", "alice", *how).code == 0
    before = Path(target).read_bytes()
    assert command("export", "alice", *how).code == 2
    assert Path(target).read_bytes() == before


def test_a_damaged_record_stops_an_export_of_all(
    command: Command, host: Host, secrets: list[bytes], target: str, age_key: tuple[str, str]
) -> None:
    with host.accounts() as accounts:
        accounts._store.execute("UPDATE account SET ledger = x'00' WHERE name = 'bob'")
    ran = command("export", "--all", "--age", age_key[1], "--output", target)
    assert ran.code == 3
    assert "the record of bob is damaged" in ran.err
    assert not os.path.lexists(target)
