"""Who a login name is, as NSS knows it."""

from __future__ import annotations

import pwd
import sys

from pam_totp.errors import NameServiceError

LONGEST_NAME = 256


class User:
    """A user by the name NSS spells, and the uid."""

    __slots__ = ("name", "uid")

    def __init__(self, name: str, uid: int) -> None:
        self.name = name
        self.uid = uid


def find(name: str) -> User | None:
    """The user whom NSS knows by ``name``, with NSS's own spelling of it; None where there is none.

    A name that no passwd entry can have (control characters, a colon, a slash, empty, too long, not UTF-8) is nobody's.
    """
    try:
        size = len(name.encode("utf-8"))
        if not 0 < size <= LONGEST_NAME or not name.isprintable() or ":" in name or "/" in name:
            return None
        entry = pwd.getpwnam(_to_file_system(name))
    except (KeyError, ValueError):  # UnicodeError is a ValueError
        return None
    return User(_from_file_system(entry.pw_name), entry.pw_uid)


def with_uid(uid: int) -> tuple[User, str] | None:
    """The user whom NSS names for a uid, and the login shell; None where there is none."""
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return None
    user = find(_from_file_system(entry.pw_name))
    return None if user is None or user.uid != uid else (user, entry.pw_shell or "/bin/sh")


def groups(user: User) -> frozenset[str]:
    """The names of all groups that NSS puts the user into.

    Raises NameServiceError where NSS does not know the user any more: without groups another rule could apply.
    """
    import grp
    import os

    try:
        primary = pwd.getpwnam(_to_file_system(user.name)).pw_gid
    except KeyError:
        raise NameServiceError(f"NSS could not look up the groups of {user.name!r}: check the name service") from None
    names = set()
    for number in os.getgrouplist(_to_file_system(user.name), primary):
        try:
            names.add(_from_file_system(grp.getgrgid(number).gr_name))
        except KeyError:
            continue  # a group without a name cannot be meant by any rule
    return frozenset(names)


def exists(name: str) -> User | None:
    """Like ``find``, but "no such user" is told from "NSS did not answer". Slow; for the rare case that needs it.

    Raises NameServiceError when NSS could not say.
    """
    user = find(name)
    if user is not None:
        return user
    # pwd.getpwnam raises KeyError for both; only the C function's return value tells them apart.
    import ctypes

    entry, result = ctypes.create_string_buffer(256), ctypes.c_void_p()
    buffer = ctypes.create_string_buffer(65_536)
    failed = ctypes.CDLL(None).getpwnam_r(
        name.encode("utf-8", "surrogateescape"), entry, buffer, ctypes.c_size_t(len(buffer)), ctypes.byref(result)
    )
    if failed:
        raise NameServiceError(f"NSS could not look up {name!r} (error {failed}): check the name service")
    return None


# Under sshd the file-system encoding is ASCII; names are UTF-8 all the same. The escape carries the bytes across.
def _to_file_system(name: str) -> str:
    return name.encode("utf-8").decode(sys.getfilesystemencoding(), "surrogateescape")


def _from_file_system(name: str) -> str:
    return name.encode(sys.getfilesystemencoding(), "surrogateescape").decode("utf-8", "surrogateescape")
