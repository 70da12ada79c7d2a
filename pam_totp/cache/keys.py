"""Where the host key comes from: a file of one line, 0400 and root's.

It is ``/etc/pam-totp/key``, or, where the key is kept sealed (binding.py), the file below ``/run`` that a boot unseals
it to. While the key is rotated (rotation.py), the new one lies beside it as ``key.next``, and the cache says which of
the two seals.

The line is ``pam-totp-key-1``, the host id (32 hexadecimal digits) and the key (64), with spaces between. Of a key that
was rotated: ``pam-totp-key-2``, both, and the key that names (64). The host id is drawn together with the first key, so
a cloned machine image keeps working and a new key means a new host; a rotation keeps it, and the key that names.
"""

from __future__ import annotations

import posix as os

from pam_totp.cache.seal import KEY_BYTES, Sealer, naming_key
from pam_totp.errors import HostKeyError
from pam_totp.host import files

_MARK = "pam-totp-key-1"
_MARK_ROTATED = "pam-totp-key-2"
_HOST_ID_BYTES = 16
_LIMIT = 4096
NEXT = ".next"
FORMER = ".former"
SEALED = ".cred"
_ATTEMPTS = 3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.paths import Paths


def find(paths: Paths, current: str | None = None) -> Sealer:
    """The sealer of this host. ``current`` is the id of the key that seals; None: the first key there is.

    With ``current`` it also opens what the other keys that are there have sealed.

    Raises HostKeyError when there is no key, a file is malformed or not kept private, or none is the current one.
    """
    # A rotation that ends just now takes the key from one name to the other, and overwrites what was opened before.
    for _ in range(_ATTEMPTS):
        try:
            return _found(paths, current)
        except HostKeyError:
            pass
    return _found(paths, current)


def _found(paths: Paths, current: str | None) -> Sealer:
    found: list[Sealer] = []
    for path in (paths.key, f"{paths.key}{NEXT}", paths.unsealed, f"{paths.unsealed}{NEXT}"):
        try:
            found.append(load(path, paths.owner))
        except HostKeyError as error:
            if error.reason != "key-missing":
                raise
        if found and current is None:
            return found[0]
    for sealer in found:
        if sealer.key_id == current:
            for other in found:
                sealer.add(other)
            return sealer
    raise _none(paths, found)


def _none(paths: Paths, found: list[Sealer]) -> HostKeyError:
    if found:
        return HostKeyError(
            "the host key does not belong to this cache: restore both from the same backup", "key-wrong"
        )
    if files.exists(f"{paths.key}{SEALED}"):
        return HostKeyError(
            f"the host key is sealed in {paths.key}{SEALED}, and no boot has unsealed it: "
            "run pam-totp key unseal --boot, which does it or says why not (docs/recovery.md, Sealed key)",
            "key-sealed",
        )
    return _missing(paths.key)


def load(path: str, owner: int) -> Sealer:
    """The sealer made of the key file at ``path``.

    Raises HostKeyError when the file is missing, malformed or not kept private.
    """
    host_id, key, naming = parse(read(path, owner), path)
    return Sealer(key, host_id, naming)


def read(path: str, owner: int) -> bytes:
    """The content of the key file at ``path``. Raises HostKeyError when it is missing or not kept private."""
    try:
        files.check_parents(path, owner)
        return files.read(path, owner, _LIMIT)
    except FileNotFoundError:
        raise _missing(path) from None
    except files.UnsafeFileError as error:
        raise HostKeyError(f"the host key is not safe: {error}") from None
    except OSError as error:
        raise HostKeyError(f"the host key {path} cannot be read: {error.strerror}") from None


def parse(content: bytes, path: str) -> tuple[str, bytes, bytes]:
    """The host id, the key that seals and the key that names (empty: that of the first key).

    Raises HostKeyError, which names ``path`` and shows nothing of the content.
    """
    mark, *fields = content.decode("ascii", "replace").split() or [""]
    if (mark, len(fields)) in ((_MARK, 2), (_MARK_ROTATED, 3)):
        host_id = _unhex(fields[0], _HOST_ID_BYTES)
        secrets = [_unhex(field, KEY_BYTES) for field in fields[1:]]
        key, naming = secrets[0], secrets[1] if len(secrets) > 1 else b""
        if host_id is not None and key is not None and naming is not None:
            return host_id.hex(), key, naming
    raise HostKeyError(f"{path} is not a pam-totp key: restore it from your backup")


def create(path: str) -> None:
    """Write a new random key; never touches an existing one.

    Raises FileExistsError, or another OSError.
    """
    line = f"{_MARK} {os.urandom(_HOST_ID_BYTES).hex()} {os.urandom(KEY_BYTES).hex()}\n"
    files.write_new(path, line.encode("ascii"), 0o400)


def successor(content: bytes, path: str) -> bytes:
    """The content of the file of a new random key, in the place of this one. Raises HostKeyError as ``parse``."""
    host_id, key, naming = parse(content, path)
    naming = naming or naming_key(key)
    return f"{_MARK_ROTATED} {host_id} {os.urandom(KEY_BYTES).hex()} {naming.hex()}\n".encode("ascii")


def _missing(path: str) -> HostKeyError:
    return HostKeyError(
        f"the host key {path} is missing: restore it from your backup; "
        "without it no record can be opened (on a new host, or to start over, see pam-totp(8), init)",
        "key-missing",
    )


def _unhex(text: str, size: int) -> bytes | None:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        return None
    return value if len(value) == size else None
