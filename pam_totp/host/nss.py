"""What each name service of nsswitch.conf answers, with "not found" told from "did not answer".

The C library does not tell them apart: getgrouplist hides every error, the service that is asked last hides the failure
of those before it (Debian's "files sss systemd"), and a service may fail with errno 0. So the services' own functions
are called, which return a status. Importing ctypes takes 4 ms: only rules about groups, and names that are not found,
need this module.
"""

from __future__ import annotations

import ctypes
import errno

from pam_totp.errors import NameServiceError

PATH = "/etc/nsswitch.conf"
# These may be listed in nsswitch.conf without having anything to read, and then they know nobody.
_OPTIONAL = ("extrausers", "systemd")
# What these know is kept on this host, so their "not found" is final.
_LOCAL = ("files", *_OPTIONAL)

# The group that every /etc/group has.
_ALWAYS = b"root"

# enum nss_status of nss.h
_TRYAGAIN, _NOTFOUND, _SUCCESS = -2, 0, 1
_STATUS = {_TRYAGAIN: "TRYAGAIN", -1: "UNAVAIL", _NOTFOUND: "NOTFOUND"}
_NOTHING = (0, errno.ENOENT, errno.ESRCH)
# Bytes of an answer: a group can have many thousands of members.
_FIRST, _LARGEST = 1 << 12, 1 << 24


class _Passwd(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("gecos", ctypes.c_char_p),
        ("directory", ctypes.c_char_p),
        ("shell", ctypes.c_char_p),
    )


class _Group(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("password", ctypes.c_char_p),
        ("gid", ctypes.c_uint32),
        ("members", ctypes.POINTER(ctypes.c_char_p)),
    )


def group(name: bytes) -> list[tuple[int, frozenset[bytes]]]:
    """The number and the members of a group, from every service that knows it; empty where there is no such group.

    Raises NameServiceError where a service does not answer; where none knows the group, but one of them is not on
    this host: it may be cut off without having kept the group, as sssd is when it is offline with an empty cache; and
    where none knows the group, and the file of groups has not even root's, as it was emptied.
    """
    services = _services("group")
    found = [entry for service in services if (entry := service.group(name)) is not None]
    if not found and any(service.name == "files" and service.group(_ALWAYS) is None for service in services):
        raise NameServiceError(
            f"a rule names the group {_text(name)!r}, and /etc/group has not even {_text(_ALWAYS)!r}: restore that file"
        )
    remote = [service.name for service in services if service.name not in _LOCAL]
    if remote and not found:
        raise NameServiceError(
            f"a rule names the group {_text(name)!r}, which {remote[0]} does not know, perhaps because it is cut off: "
            "see getent group, and create the group or take it out of the rule"
        )
    return found


def group_numbers(user: bytes, primary: int) -> set[int]:
    """The numbers of all groups that the services put a user into, the primary one among them.

    Raises NameServiceError where a service does not answer.
    """
    return {primary}.union(*(each.group_numbers(user, primary) for each in _services("initgroups", "group")))


def require_no_user(key: bytes | int) -> None:
    """Make sure that nobody has this name, or this uid, now that the C library has found nobody.

    Raises NameServiceError where a service does not answer, or answers otherwise.
    """
    for service in _services("passwd"):
        if service.knows_user(key):
            shown = key if isinstance(key, int) else repr(_text(key))
            raise NameServiceError(f"NSS gives two answers about the user {shown}: check {service.name} in {PATH}")


class Service:
    """One name service, by its name in nsswitch.conf. Every method raises NameServiceError where it does not answer."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            # The C library itself has "files".
            self._library = ctypes.CDLL(None if name == "files" else f"libnss_{name}.so.2")
        except OSError:
            raise NameServiceError(
                f"the name service {name!r} cannot be loaded: install it, or take it out of {PATH}"
            ) from None

    def knows_user(self, key: bytes | int) -> bool:
        """Whether somebody has this name, or this uid."""
        if isinstance(key, bytes):
            return self._find("getpwnam_r", key, _Passwd()) is not None
        return self._find("getpwuid_r", ctypes.c_uint32(key), _Passwd()) is not None

    def group(self, name: bytes) -> tuple[int, frozenset[bytes]] | None:
        """The number and the members of a group; None where there is no such group here."""
        entry = _Group()
        kept = self._find("getgrnam_r", name, entry)
        if kept is None:
            return None
        members: list[bytes] = []
        while entry.members and (member := entry.members[len(members)]) is not None:
            members.append(member)
        del kept  # what the entry points at
        return entry.gid, frozenset(members)

    def group_numbers(self, user: bytes, primary: int) -> set[int]:
        """The numbers of the groups that a user is in, with the primary one."""
        size, used = ctypes.c_long(64), ctypes.c_long(1)
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        # The service calls realloc where there are more.
        numbers = ctypes.cast(libc.malloc(ctypes.c_size_t(64 * 4)), ctypes.POINTER(ctypes.c_uint32))
        if not numbers:
            raise MemoryError
        numbers[0] = primary
        try:
            status = self._ask(
                "initgroups_dyn",
                *(user, ctypes.c_uint32(primary), ctypes.byref(used), ctypes.byref(size), ctypes.byref(numbers)),
                ctypes.c_long(-1),  # no limit
            )
            if status == _TRYAGAIN:
                raise self._failed(status, errno.ERANGE)
            return set(numbers[: used.value])
        finally:
            libc.free(numbers)

    def _find(self, function: str, key: object, entry: ctypes.Structure) -> object | None:
        """Fill in an entry; return the memory that it points at, or None where there is no such entry."""
        size = _FIRST
        while size <= _LARGEST:
            buffer = ctypes.create_string_buffer(size)
            status = self._ask(function, key, ctypes.byref(entry), buffer, ctypes.c_size_t(size))
            if status != _TRYAGAIN:
                return buffer if status == _SUCCESS else None
            size *= 4
        raise self._failed(_TRYAGAIN, errno.ERANGE)

    def _ask(self, function: str, *arguments: object) -> int:
        """The status: SUCCESS, NOTFOUND, or TRYAGAIN where nothing but memory for the answer was missing."""
        try:
            call = getattr(self._library, f"_nss_{self.name}_{function}")
        except AttributeError:
            return _NOTFOUND  # the service has no such thing to tell
        number = ctypes.c_int(0)
        status = int(call(*arguments, ctypes.byref(number)))
        nothing = number.value in _NOTHING
        if status == _SUCCESS or (status == _NOTFOUND and nothing):
            return status
        if status == _TRYAGAIN and number.value == errno.ERANGE:
            return status
        if nothing and self.name in _OPTIONAL:
            return _NOTFOUND
        raise self._failed(status, number.value)

    def _failed(self, status: int, number: int) -> NameServiceError:
        what = f"{_STATUS.get(status, status)}, {errno.errorcode.get(number, number)}"
        return NameServiceError(f"the name service {self.name!r} does not answer ({what}): see whether it runs")


def _services(*databases: str) -> list[Service]:
    """The services of the first of these databases that nsswitch.conf has a line for.

    Raises NameServiceError where it has none, or one that names none. The C library would then ask "files" alone, or
    nobody; but what was written there may have been lost, and with it the service that knows who is in a group.
    """
    try:
        with open(PATH, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise NameServiceError(f"{PATH} cannot be read: {error.strerror}") from None
    for database in databases:
        for line in reversed(lines):  # the last one counts
            name, colon, names = line.partition("#")[0].partition(":")
            if colon and name.strip() == database:
                # The actions in brackets say when not to ask the next service. Here every service is asked: one that
                # would be skipped because another failed must not be taken for one that knows nobody.
                names = " ".join(part.rpartition("]")[2] for part in names.split("["))
                if names.split():
                    return [Service(each) for each in dict.fromkeys(names.split())]
                break
    what = "groups" if "group" in databases else "users"
    raise NameServiceError(f"{PATH} does not say which services know {what}: add the line {databases[-1]}: files")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
