"""Sealing what is kept on disk: XChaCha20-Poly1305 from libsodium, bound to its place by associated data.

The only importer of the AEAD. Never opens files. A sealed value is a version byte, a random nonce of 24 bytes, and the
ciphertext with its tag of 16 bytes.

PyNaCl's binding layer is used directly: ``nacl.bindings`` imports the whole of libsodium's surface and costs a login
more than everything else together, for the same two C functions.
"""

from __future__ import annotations

import posix as os

from nacl._sodium import ffi, lib

from pam_totp.errors import DamageError

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 24
_TAG_BYTES = 16
_TOKEN_BYTES = 16
# BLAKE2b's personalisation for each use of the keyed hash: no use yields the token of another. "0.1.0" is what that
# version hashed with the key that seals: the key id above all, which each sealed value is bound to.
_USES = {
    "account": b"pam-totp token",
    "0.1.0": b"pam-totp token",
    "source": b"pam-totp source",
    "client": b"pam-totp client",
    "invitation": b"pam-totp invite",
}
_NAMING = b"pam-totp naming"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    Use = Literal["account", "0.1.0", "source", "client", "invitation"]


def stamp(sealed: object) -> str:
    """What a sealed value has in common with no other one, of whatever content: its nonce, in hexadecimal."""
    return sealed[1 : 1 + _NONCE_BYTES].hex() if isinstance(sealed, bytes) else ""


class Sealer:
    """Seals with one host key, and opens with that one and its predecessor. Neither ``repr`` nor errors show a key.

    The key that names (``token``) stays the same when the one that seals is rotated: locks and the copies in ``/run``
    keep their names, and what is kept as a token stays good. It opens nothing. ``naming`` is that key; by default it is
    derived from the one that seals.

    ``renew``, where it is set, is asked before a value is given up that does not open: are there other keys now?
    """

    __slots__ = ("_host_id", "_keys", "_naming", "renew")

    def __init__(self, key: bytes, host_id: str, naming: bytes = b"") -> None:
        if len(key) != KEY_BYTES or len(naming) not in (0, KEY_BYTES):
            raise ValueError("the host key must have 32 bytes")
        if lib.sodium_init() < 0:
            raise RuntimeError("libsodium cannot be initialised")
        self._host_id = host_id
        self._naming = naming or naming_key(key)
        self._keys = [(_key_id(key), key)]
        self.renew: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return "Sealer()"

    @property
    def key_id(self) -> str:
        """Which key seals: 32 hexadecimal digits that tell nothing about it."""
        return self._keys[0][0]

    def add(self, other: Sealer) -> None:
        """Open what ``other`` has sealed, too."""
        self._keys += [each for each in other._keys if each not in self._keys]

    def become(self, other: Sealer) -> None:
        """Seal and open with the keys of ``other``."""
        self._keys = other._keys

    def seal(self, plaintext: bytes, *context: str) -> bytes:
        """Encrypt and authenticate; ``context`` must be the same when the value is opened."""
        nonce = os.urandom(_NONCE_BYTES)
        key_id, key = self._keys[0]
        data = self._associated_data(key_id, context)
        sealed = ffi.new("unsigned char[]", len(plaintext) + _TAG_BYTES)
        lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
            sealed, ffi.NULL, plaintext, len(plaintext), data, len(data), ffi.NULL, nonce, key
        )
        return _VERSION + nonce + bytes(ffi.buffer(sealed))

    def open(self, sealed: object, *context: str) -> bytes:
        """The plaintext of a value sealed with a key of this host in this context.

        Raises DamageError, the same for every cause.
        """
        # A rotted type in the cache makes bytes or a number of what was text.
        if isinstance(sealed, bytes) and sealed[:1] == _VERSION and all(isinstance(part, str) for part in context):
            while True:
                for key_id, key in self._keys:
                    plaintext = self._opened(sealed, key_id, key, context)
                    if plaintext is not None:
                        return plaintext
                if self.renew is None or not self.renew():
                    break
        raise DamageError(
            f"a sealed value of the cache does not open ({context[0]}): "
            "restore /var/lib/pam-totp and /etc/pam-totp/key from the same backup, or reset the user"
        )

    def resealed(self, sealed: object, *context: str) -> bytes | None:
        """A value sealed anew with the key that seals; None where it is sealed with that one. Raises DamageError."""
        plaintext = self.open(sealed, *context)
        if isinstance(sealed, bytes) and self._opened(sealed, *self._keys[0], context) is not None:
            return None
        return self.seal(plaintext, *context)

    def _opened(self, sealed: bytes, key_id: str, key: bytes, context: tuple[str, ...]) -> bytes | None:
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if len(ciphertext) < _TAG_BYTES:
            return None
        data = self._associated_data(key_id, context)
        plaintext = ffi.new("unsigned char[]", max(1, len(ciphertext) - _TAG_BYTES))
        failed = lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
            plaintext, ffi.NULL, ffi.NULL, ciphertext, len(ciphertext), data, len(data), nonce, key
        )
        return None if failed else bytes(ffi.buffer(plaintext, len(ciphertext) - _TAG_BYTES))

    def token(self, text: str, use: Use = "account") -> str:
        """A name of 32 hexadecimal digits for ``text`` that tells nothing about it without the key (BLAKE2b).

        No two uses have a token in common. It is the same whichever key seals, but for the use "0.1.0".
        """
        key = self._keys[0][1] if use == "0.1.0" else self._naming
        return _hashed(key, text.encode("utf-8", "surrogateescape"), _USES[use], _TOKEN_BYTES).hex()

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

    def _associated_data(self, key_id: str, context: tuple[str, ...]) -> bytes:
        # Each part carries its length, so no two different contexts share an encoding.
        parts = [part.encode("utf-8", "surrogateescape") for part in (self._host_id, key_id, *context)]
        return _VERSION + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def naming_key(key: bytes) -> bytes:
    """The key that names, of a host whose key was never rotated."""
    return _hashed(key, b"", _NAMING, KEY_BYTES)


def _key_id(key: bytes) -> str:
    return _hashed(key, b"key id", _USES["0.1.0"], _TOKEN_BYTES).hex()


def _hashed(key: bytes, message: bytes, use: bytes, size: int) -> bytes:
    digest = ffi.new("unsigned char[]", size)
    lib.crypto_generichash_blake2b_salt_personal(
        digest, size, message, len(message), key, len(key), bytes(16), use.ljust(16)
    )
    return bytes(ffi.buffer(digest))
