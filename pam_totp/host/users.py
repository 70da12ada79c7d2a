"""Who a login name is, as NSS knows it."""

from __future__ import annotations

import pwd
import sys

from pam_totp.errors import NameServiceError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_NAME = 256
_NO_UID = 2**32 - 1  # (uid_t) -1


class User:
    """A user by the name NSS spells, and the uid; below 0 for somebody without a Unix account.

    ``asked`` is the name that NSS was asked for.
    """

    __slots__ = ("asked", "name", "uid")

    def __init__(self, name: str, uid: int, asked: str = "") -> None:
        self.name = name
        self.uid = uid
        self.asked = asked or name

    @property
    def outside(self) -> bool:
        """Whether this is somebody without a Unix account, of whom NSS knows nothing."""
        return self.uid < 0


def without_account(name: str) -> User:
    """Somebody who is to have a record here, and no Unix account, under a name that an account could have.

    The number stands for the name alone, so no two of them share one; and no account has it. Once there is an account
    of that name, its logins are refused until root says whether it is the same person ("uid-changed").

    Raises UsageError for a name that no account could have.
    """
    from hashlib import sha256

    if not possible(name):
        raise UsageError(f"{name!r} cannot be a name: at most {LONGEST_NAME} bytes, printable, without : and /")
    return User(name, -1 - int.from_bytes(sha256(name.encode("utf-8")).digest()[:7], "big"))


def possible(name: str) -> bool:
    """Whether a passwd entry can have this name: no control characters, colon or slash; not empty; not too long."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return 0 < size <= LONGEST_NAME and name.isprintable() and ":" not in name and "/" not in name


def find(name: str) -> User | None:
    """The user whom NSS knows by ``name``, with NSS's own spelling of it; None where there is none.

    A name that no passwd entry can have (control characters, a colon, a slash, empty, too long, not UTF-8) is nobody's.

    Raises NameServiceError where NSS cannot say. Finding somebody is fast; finding nobody takes some ms.
    """
    if not possible(name):
        return None
    try:
        entry = pwd.getpwnam(_to_file_system(name))
    except KeyError:
        _require_nobody(name.encode("utf-8"))
        return None
    return User(_from_file_system(entry.pw_name), entry.pw_uid, name)


def with_uid(uid: int) -> tuple[User, str] | None:
    """The user whom NSS names for a uid, and the login shell; None where there is none.

    Raises NameServiceError where NSS cannot say.
    """
    if not 0 <= uid < _NO_UID:
        return None
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        _require_nobody(uid)
        return None
    user = find(_from_file_system(entry.pw_name))
    return None if user is None or user.uid != uid else (user, entry.pw_shell or "/bin/sh")


def everybody() -> list[tuple[str, int, str, str]]:
    """Name, uid, home and login shell of all users that NSS lists; a directory service may list none of its own."""
    return [
        (_from_file_system(entry.pw_name), entry.pw_uid, entry.pw_dir, entry.pw_shell or "/bin/sh")
        for entry in pwd.getpwall()
    ]


def members(group: str) -> list[str]:
    """The names of all users in a group, in order: by its list of members, or because it is their primary one.

    Raises NameServiceError where NSS cannot say.
    """
    from pam_totp.host import nss

    entries = nss.group(group.encode("utf-8"))
    numbers = {number for number, _ in entries}
    listed = {name.decode("utf-8", "surrogateescape") for _, names in entries for name in names}
    primary = {_from_file_system(each.pw_name) for each in pwd.getpwall() if each.pw_gid in numbers}
    return sorted(listed | primary)


def home(user: User) -> str:
    """The home of a user. Raises NameServiceError where NSS does not say."""
    try:
        return _from_file_system(pwd.getpwnam(_to_file_system(user.name)).pw_dir)
    except KeyError:
        raise NameServiceError(f"NSS could not look up the home of {user.name!r}: check the name service") from None


def groups(user: User, wanted: Iterable[str]) -> frozenset[str]:
    """The ``wanted`` groups that the user is in.

    Membership is asked from both sides: what groups NSS puts the user into, and whom NSS lists as a member of each
    group. One of the two is enough.

    Raises NameServiceError where NSS cannot say, or does not know the user any more: what is not known of a user is
    neither membership nor its absence.
    """
    from pam_totp.host import nss

    try:
        primary = pwd.getpwnam(_to_file_system(user.name)).pw_gid
    except KeyError:
        raise NameServiceError(f"NSS could not look up the groups of {user.name!r}: check the name service") from None
    name = user.name.encode("utf-8", "surrogateescape")
    numbers = nss.group_numbers(name, primary)
    return frozenset(
        each
        for each in set(wanted)
        if any(number in numbers or name in members for number, members in nss.group(each.encode("utf-8")))
    )


def _require_nobody(key: bytes | int) -> None:
    # Python raises KeyError also where NSS failed.
    from pam_totp.host import nss

    nss.require_no_user(key)


# Under sshd the file-system encoding is ASCII; names are UTF-8 all the same. The escape carries the bytes across.
def _to_file_system(name: str) -> str:
    return name.encode("utf-8").decode(sys.getfilesystemencoding(), "surrogateescape")


def _from_file_system(name: str) -> str:
    return name.encode(sys.getfilesystemencoding(), "surrogateescape").decode("utf-8", "surrogateescape")
