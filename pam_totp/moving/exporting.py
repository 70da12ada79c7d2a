"""Secrets on their way out: always encrypted, by age or gpg of the distribution, which get them on standard input."""

from __future__ import annotations

import os
import tempfile

from pam_totp.errors import PamTotpError, UsageError
from pam_totp.factors import enroll
from pam_totp.host import programs

SHORTEST_PASSPHRASE = 12
_AGE_HEADER = b"age-encryption.org/v1\n"
# What takes a guesser the most work that OpenPGP has (RFC 4880, section 3.7.1.3): 65 million bytes hashed a guess.
_SLOWEST = ("--s2k-mode", "3", "--s2k-count", "65011712", "--s2k-digest-algo", "SHA512", "--cipher-algo", "AES256")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pam_totp.cache.accounts import Account
    from pam_totp.host.config import Config


class ExportError(PamTotpError):
    """What was to be encrypted is not, so nothing was written."""

    reason = "bad-export"


def lines(accounts: Iterable[Account], config: Config) -> bytes:
    """What is to be encrypted: for each active authenticator the name and the URI, in a line, as import reads it."""
    text = "".join(
        f"{account.name} {enroll.uri(account, each, config)}\n" for account in accounts for each in account.active
    )
    return text.encode("utf-8")


def for_age(content: bytes, recipients: Sequence[str]) -> bytes:
    """Encrypt for recipients of age, or those in files. Raises UsageError, ExportError, or ProgramError."""
    options: list[str] = []
    for each in recipients:
        if each.upper().startswith("AGE-SECRET-KEY-"):
            raise UsageError("--age takes a recipient (age1...), no secret key: this one is known now, make another")
        options += ["--recipients-file" if os.path.isfile(each) else "--recipient", each]
    sealed = programs.piped("age", "--encrypt", *options, content=content)
    if not sealed.startswith(_AGE_HEADER):
        raise ExportError("age has not encrypted: see whether it is the real one")
    return _checked(sealed, content)


def for_openpgp(content: bytes, files: Sequence[str]) -> bytes:
    """Encrypt for the OpenPGP public keys in files. Raises ExportError, or ProgramError."""
    recipients = [word for each in files for word in ("--recipient-file", os.path.abspath(each))]
    return _gpg(content, "--trust-model", "always", *recipients, "--encrypt")


def with_passphrase(content: bytes, passphrase: bytes) -> bytes:
    """Encrypt with a passphrase, in OpenPGP's format. Raises UsageError, ExportError, or ProgramError."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise UsageError(f"the passphrase is too short: take {SHORTEST_PASSPHRASE} characters or more")
    words = ("--pinentry-mode", "loopback", "--passphrase-fd", "FD", *_SLOWEST, "--symmetric")
    return _gpg(content, *words, passphrase=passphrase)


def _gpg(content: bytes, *words: str, passphrase: bytes = b"") -> bytes:
    # A home of its own: no keyring, no configuration and no agent of root's is used or changed.
    with tempfile.TemporaryDirectory(prefix="pam-totp-") as home:
        options = ("--batch", "--quiet", "--no-tty", "--no-options", "--no-autostart", "--homedir", home)
        return _checked(programs.piped("gpg", *options, *words, content=content, passphrase=passphrase), content)


def _checked(sealed: bytes, content: bytes) -> bytes:
    """What was sealed, after a last look that it was. Raises ExportError."""
    clear = [line for line in content.splitlines() if line in sealed]
    if not sealed or clear or b"otpauth:" in sealed:
        raise ExportError("the export is not encrypted, and was not written: see whether the tool is the real one")
    return sealed
