"""Credentials of systemd (systemd-creds(1)): content that only this host can open, and what one is really bound to."""

from __future__ import annotations

import base64
import binascii
import os

from pam_totp.host import programs

NAME = "pam-totp-key"
HOST = "host"
TPM2 = "tpm2"
# What the first 16 bytes of a credential say about the key that it is encrypted with (systemd's creds-util.h). Each is
# authenticated: with another one in its place nothing is decrypted.
_HEADERS = {
    "5a1c6a86df9d4096b1d5a65e0862f19a": {HOST},
    "55b9ed1d38594d43a8319d2ebb332ac6": {HOST},
    "0c7cc07b117645919c4b0bea08bc20fe": {TPM2},
    "faf7eb9341e3412ca1a436f95a29362f": {TPM2},
    "93a894094874449090caf2fc93cab553": {HOST, TPM2},
    "ef4ac13679a9480ea7db68897f9f165d": {HOST, TPM2},
    "af4950a849134eb1a73846304ff30c05": {HOST, TPM2},
    "adbc4ca3efb64201ba881b6f2e4095ea": {HOST, TPM2},
    "058469daf6f54324800549da0f8ea2fb": set(),  # a key of zeros, which everybody has
}
_ID_BYTES = 16
# The register that no firmware and no part of systemd writes: it is the same after each boot. systemd 252 does not open
# what is bound to no register at all.
_PCR = 23

TYPE_CHECKING = False
if TYPE_CHECKING:
    Bound = frozenset[str]


def bound(content: bytes) -> Bound | None:
    """What a credential is bound to: HOST, TPM2, both or nothing; None where this is no credential known here."""
    try:
        header = base64.b64decode(b"".join(content.split()), validate=True)[:_ID_BYTES]
    except binascii.Error:
        return None
    found = _HEADERS.get(header.hex())
    return None if found is None else frozenset(found)


def words(what: Bound) -> str:
    """For people."""
    names = [name for key, name in ((HOST, "this host's key"), (TPM2, "its TPM2")) if key in what]
    return " and ".join(names) or "nothing"


def tpm2_there() -> bool:
    """Whether this host has a TPM2 that its programs can use."""
    return os.path.exists("/dev/tpmrm0")


def encrypt(content: bytes, to: Bound) -> bytes:
    """A credential of this content, bound to the host's key and, if wanted, its TPM2. Raises ProgramError.

    It is bound to no state of the firmware: an update of that must not lock everybody out.
    """
    command = ["systemd-creds", "encrypt", f"--name={NAME}", f"--with-key={'+'.join(sorted(to))}"]
    command += [f"--tpm2-pcrs={_PCR}"] if TPM2 in to else []
    return programs.piped(*command, "-", "-", content=content)


def decrypt(content: bytes) -> bytes:
    """The content of a credential. Raises ProgramError."""
    return programs.piped("systemd-creds", "decrypt", f"--name={NAME}", "-", "-", content=content)
