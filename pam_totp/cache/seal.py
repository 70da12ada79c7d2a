"""Sealing what is kept on disk: XChaCha20-Poly1305 from libsodium, bound to its place by associated data.

The only importer of the AEAD. Never opens files. A sealed value is a version byte, a random nonce of 24 bytes, and the
ciphertext with its tag of 16 bytes.

PyNaCl's binding layer is used directly: ``nacl.bindings`` imports the whole of libsodium's surface and costs a login
more than everything else together, for the same two C functions.
"""

from __future__ import annotations

import os

from nacl._sodium import ffi, lib

from pam_totp.errors import DamageError

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 24
_TAG_BYTES = 16
_TOKEN_BYTES = 16
# BLAKE2b's personalisation for each use of the keyed hash: no use yields the token of another. Accounts and the key id
# keep that of 0.1.0: what was spent is found by the account's token, and each sealed value is bound to the key id.
_USES = {
    "account": b"pam-totp token",
    "key id": b"pam-totp token",
    "source": b"pam-totp source",
    "client": b"pam-totp client",
    "invitation": b"pam-totp invite",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Use = Literal["account", "key id", "source", "client", "invitation"]


class Sealer:
    """Seals and opens with one host key. Neither ``repr`` nor errors show the key."""

    __slots__ = ("_host_id", "_key", "_key_id")

    def __init__(self, key: bytes, host_id: str) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("the host key must have 32 bytes")
        if lib.sodium_init() < 0:
            raise RuntimeError("libsodium cannot be initialised")
        self._key = key
        self._host_id = host_id
        self._key_id = self.token("key id", "key id")

    def __repr__(self) -> str:
        return "Sealer()"

    def seal(self, plaintext: bytes, *context: str) -> bytes:
        """Encrypt and authenticate; ``context`` must be the same when the value is opened."""
        nonce = os.urandom(_NONCE_BYTES)
        data = self._associated_data(context)
        sealed = ffi.new("unsigned char[]", len(plaintext) + _TAG_BYTES)
        lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
            sealed, ffi.NULL, plaintext, len(plaintext), data, len(data), ffi.NULL, nonce, self._key
        )
        return _VERSION + nonce + bytes(ffi.buffer(sealed))

    def open(self, sealed: object, *context: str) -> bytes:
        """The plaintext of a value sealed with this key, on this host, in this context.

        Raises DamageError, the same for every cause.
        """
        # A rotted type in the cache makes bytes or a number of what was text.
        if isinstance(sealed, bytes) and sealed[:1] == _VERSION and all(isinstance(part, str) for part in context):
            nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
            if len(ciphertext) >= _TAG_BYTES:
                data = self._associated_data(context)
                plaintext = ffi.new("unsigned char[]", max(1, len(ciphertext) - _TAG_BYTES))
                failed = lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
                    plaintext, ffi.NULL, ffi.NULL, ciphertext, len(ciphertext), data, len(data), nonce, self._key
                )
                if failed == 0:
                    return bytes(ffi.buffer(plaintext, len(ciphertext) - _TAG_BYTES))
        raise DamageError(
            f"a sealed value of the cache does not open ({context[0]}): "
            "restore /var/lib/pam-totp and /etc/pam-totp/key from the same backup, or reset the user"
        )

    def token(self, text: str, use: Use = "account") -> str:
        """A name of 32 hexadecimal digits for ``text`` that tells nothing about it without the key (BLAKE2b).

        No two uses have a token in common. (An account named "key id" would have the key id's, which is no secret.)
        """
        message = text.encode("utf-8", "surrogateescape")
        digest = ffi.new("unsigned char[]", _TOKEN_BYTES)
        lib.crypto_generichash_blake2b_salt_personal(
            digest, _TOKEN_BYTES, message, len(message), self._key, KEY_BYTES, bytes(16), _USES[use].ljust(16)
        )
        return bytes(ffi.buffer(digest)).hex()

    def slow_hash(self, text: str, salt: bytes) -> bytes:
        """Argon2id of a short secret with a salt of 16 bytes: 16 bytes, about 30 ms and 16 MiB.

        Raises MemoryError where the memory is not to be had.
        """
        message = text.encode("utf-8")
        digest = ffi.new("unsigned char[]", _TOKEN_BYTES)
        failed = lib.crypto_pwhash(
            digest, _TOKEN_BYTES, message, len(message), salt, 2, 16 << 20, lib.crypto_pwhash_alg_argon2id13()
        )
        if failed:
            raise MemoryError("no memory for a slow hash")
        return bytes(ffi.buffer(digest))

    def _associated_data(self, context: tuple[str, ...]) -> bytes:
        # Each part carries its length, so no two different contexts share an encoding.
        parts = [part.encode("utf-8", "surrogateescape") for part in (self._host_id, self._key_id, *context)]
        return _VERSION + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
