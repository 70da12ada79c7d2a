"""Where the host key comes from: one file, ``/etc/pam-totp/key``, 0400 and root's.

The file is one line: ``pam-totp-key-1``, the host id (32 hexadecimal digits) and the key (64), with spaces between.
The host id is drawn together with the key, so a cloned machine image keeps working and a new key means a new host.
"""

from __future__ import annotations

import os

from pam_totp.cache.seal import KEY_BYTES, Sealer
from pam_totp.errors import HostKeyError
from pam_totp.host import files

_MARK = "pam-totp-key-1"
_HOST_ID_BYTES = 16
_LIMIT = 4096


def load(path: str, owner: int) -> Sealer:
    """The sealer made of the key file at ``path``.

    Raises HostKeyError when the file is missing, malformed or not kept private.
    """
    content = read(path, owner)
    fields = content.decode("ascii", "replace").split()
    if len(fields) == 3 and fields[0] == _MARK:
        host_id, key = _unhex(fields[1], _HOST_ID_BYTES), _unhex(fields[2], KEY_BYTES)
        if host_id is not None and key is not None:
            return Sealer(key, host_id.hex())
    raise HostKeyError(f"{path} is not a pam-totp key: restore it from your backup")


def read(path: str, owner: int) -> bytes:
    """The content of the key file at ``path``. Raises HostKeyError when it is missing or not kept private."""
    try:
        files.check_parents(path, owner)
        return files.read(path, owner, _LIMIT)
    except FileNotFoundError:
        raise HostKeyError(
            f"the host key {path} is missing: restore it from your backup; "
            "without it no record can be opened (on a new host, or to start over, see pam-totp(8), init)",
            "key-missing",
        ) from None
    except files.UnsafeFileError as error:
        raise HostKeyError(f"the host key is not safe: {error}") from None
    except OSError as error:
        raise HostKeyError(f"the host key {path} cannot be read: {error.strerror}") from None


def create(path: str) -> None:
    """Write a new random key; never touches an existing one.

    Raises FileExistsError, or another OSError.
    """
    line = f"{_MARK} {os.urandom(_HOST_ID_BYTES).hex()} {os.urandom(KEY_BYTES).hex()}\n"
    files.write_new(path, line.encode("ascii"), 0o400)


def _unhex(text: str, size: int) -> bytes | None:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        return None
    return value if len(value) == size else None
