"""The keeper's keys: one file that only the keeper reads, and what everybody may know of them."""

from __future__ import annotations

import base64
import json
import os
import stat
from dataclasses import dataclass, field

from pam_totp.cache.seal import KEY_BYTES
from pam_totp.errors import HostKeyError
from pam_totp.fleet import tree

FILE = "keys"


@dataclass(frozen=True)
class Keys:
    """``seal`` seals what the database keeps, ``box`` opens what hosts hand up, ``signing`` signs manifests."""

    directory: str
    seal: bytes = field(repr=False)
    box: bytes = field(repr=False)
    signing: bytes = field(repr=False)


@dataclass(frozen=True)
class Identity:
    """The directory's id and its public keys."""

    directory: str
    box: bytes
    signing: bytes


def new() -> Keys:
    """New keys for a new directory."""
    return Keys(tree.new_identifier(), os.urandom(KEY_BYTES), tree.new_box_key()[0], tree.new_signing_key()[0])


def identity_of(keys: Keys) -> Identity:
    """What everybody may know of these keys."""
    return Identity(keys.directory, tree.public_box_key(keys.box), tree.public_signing_key(keys.signing))


def keys_text(keys: Keys) -> bytes:
    """The content of the file of keys."""
    return _text(keys.directory, seal=keys.seal, box=keys.box, signing=keys.signing)


def identity_text(identity: Identity) -> bytes:
    """The content of the file of public keys."""
    return _text(identity.directory, box=identity.box, signing=identity.signing)


def load_keys(path: str) -> Keys:
    """Read the keys. Raises HostKeyError, also where somebody else may read them."""
    directory, found = _load(path, ("seal", "box", "signing"), private=True)
    return Keys(directory, **found)


def load_identity(path: str) -> Identity:
    """Read the public keys. Raises HostKeyError."""
    directory, found = _load(path, ("box", "signing"), private=False)
    return Identity(directory, **found)


def _text(directory: str, **keys: bytes) -> bytes:
    fields = {name: base64.b64encode(key).decode("ascii") for name, key in keys.items()}
    return json.dumps({"format": 1, "directory": directory, **fields}, sort_keys=True).encode("ascii") + b"\n"


def _load(path: str, names: tuple[str, ...], *, private: bool) -> tuple[str, dict[str, bytes]]:
    try:
        with open(path, "rb") as file:
            # What was opened is what is checked.
            if private and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise HostKeyError(f"{path} can be read by others: have chmod 600 done, and find out who has read it")
            fields = json.loads(file.read(1 << 16))
        found = {name: base64.b64decode(fields[name], validate=True) for name in names}
        if fields["format"] != 1 or any(len(key) != KEY_BYTES for key in found.values()):
            raise ValueError
        return str(fields["directory"]), found
    except OSError as error:
        raise HostKeyError(f"{path}: {error.strerror}: restore it, or run pam-totp-directory init") from None
    except (ValueError, KeyError, TypeError):
        raise HostKeyError(f"{path} is damaged: restore it from a backup") from None
