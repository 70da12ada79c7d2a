"""Name services that answer, know nothing, or fail. Real ones are in tests/faults/test_nss.py and tests/login."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.errors import NameServiceError
from pam_totp.host import nss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REQUIRE_NO_USER = nss.require_no_user
LIBC = ctypes.CDLL(None)
REALLOC = LIBC.realloc
REALLOC.restype = ctypes.c_void_p
TRYAGAIN, UNAVAIL, NOTFOUND, SUCCESS, RETURN = -2, -1, 0, 1, 2
NUMBERS = [0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM, errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.EINTR]


class Library:
    """A service's library: users, groups and memberships; ``status`` and ``number`` where it fails."""

    def __init__(self, name: str) -> None:
        self.users: dict[bytes, int] = {}
        self.groups: dict[bytes, tuple[int, list[bytes]]] = {}
        self.numbers: dict[bytes, list[int]] = {}
        self.fails: tuple[int, int] | None = None
        self.smallest = 0
        self.asked: list[object] = []
        for function, answer in (
            ("getpwnam_r", self._user),
            ("getpwuid_r", self._uid),
            ("getgrnam_r", self._group),
            ("initgroups_dyn", self._numbers),
        ):
            setattr(self, f"_nss_{name}_{function}", self._answer(answer))

    def _answer(self, answer: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.asked.append(arguments[0])
            if self.fails is None:
                return answer(*arguments)
            status, arguments[-1]._obj.value = self.fails
            return status

        return call

    def _user(self, name: bytes, *_: object) -> int:
        return SUCCESS if name in self.users else NOTFOUND

    def _uid(self, uid: ctypes.c_uint32, *_: object) -> int:
        return SUCCESS if uid.value in self.users.values() else NOTFOUND

    def _group(self, name: bytes, entry: Any, _: object, size: ctypes.c_size_t, number: Any) -> int:
        if name not in self.groups:
            return NOTFOUND
        if size.value < self.smallest:
            number._obj.value = errno.ERANGE
            return TRYAGAIN
        gid, members = self.groups[name]
        self.array = (ctypes.c_char_p * (len(members) + 1))(*members)
        entry._obj.gid = gid
        entry._obj.members = ctypes.cast(self.array, ctypes.POINTER(ctypes.c_char_p))
        return SUCCESS

    def _numbers(self, user: bytes, primary: ctypes.c_uint32, used: Any, size: Any, numbers: Any, *_: object) -> int:
        assert numbers._obj[0] == primary.value
        if user not in self.numbers:
            return NOTFOUND
        more = self.numbers[user]
        if len(more) >= size._obj.value:
            longer = REALLOC(numbers._obj, ctypes.c_size_t(4 * (len(more) + 1)))
            numbers._obj.contents = ctypes.c_uint32.from_address(longer)
            size._obj.value = len(more) + 1
        for number in more:
            numbers._obj[used._obj.value] = number
            used._obj.value += 1
        return SUCCESS


class Host:
    """A host whose nsswitch.conf lists some services."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.libraries: dict[str | None, Library] = {}
        self.switch("passwd: files sss\ngroup: files sss\n")
        self.files, self.sss = self.library("files"), self.library("sss")
        self.files.groups[b"root"] = 0, []

        def load(file: str | None) -> Any:
            if file is None:
                self.files.malloc, self.files.free = LIBC.malloc, LIBC.free  # type: ignore[attr-defined]  # of libc
                return self.files
            if file not in self.libraries:
                raise OSError(file)
            return self.libraries[file]

        monkeypatch.setattr(nss, "PATH", str(path))
        monkeypatch.setattr(ctypes, "CDLL", load)

    def switch(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")

    def library(self, name: str) -> Library:
        return self.libraries.setdefault(f"libnss_{name}.so.2", Library(name))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "nsswitch.conf", monkeypatch)


def ask(here: Host, what: str) -> object:
    if what == "user":
        return REQUIRE_NO_USER(b"alice")
    if what == "uid":
        return REQUIRE_NO_USER(1001)
    if what == "numbers":
        return nss.group_numbers(b"alice", 100)
    here.files.groups[b"corpadmins"] = 27, []  # one of the services knows it
    return nss.group(b"corpadmins")


EVERY = pytest.mark.parametrize("what", ["user", "uid", "numbers", "group"])


# Failures


@EVERY
@pytest.mark.parametrize("status", [TRYAGAIN, UNAVAIL, RETURN, 7])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("order", ["files sss", "sss files", "files sss systemd"])
def test_a_service_that_fails_is_an_error_whatever_its_errno_and_whoever_is_asked_after_it(
    here: Host, what: str, status: int, number: int, order: str
) -> None:
    here.library("systemd")
    here.switch(f"passwd: {order}\ngroup: {order}\n")
    here.sss.fails = status, number
    with pytest.raises(NameServiceError, match="'sss' does not answer") as caught:
        ask(here, what)
    assert caught.value.reason == "nss-unavailable"


@EVERY
@pytest.mark.parametrize("number", NUMBERS)
def test_a_service_that_says_not_found_is_believed_unless_it_names_an_error(here: Host, what: str, number: int) -> None:
    here.sss.fails = NOTFOUND, number
    if number in (0, errno.ENOENT, errno.ESRCH):
        ask(here, what)
    else:
        with pytest.raises(NameServiceError, match=f"NOTFOUND, {errno.errorcode[number]}"):
            ask(here, what)


@EVERY
@pytest.mark.parametrize("name", ["systemd", "extrausers"])
def test_a_local_service_without_its_files_knows_nobody_but_may_fail_too(here: Host, what: str, name: str) -> None:
    here.switch(f"passwd: files {name}\ngroup: files {name}\n")
    library = here.library(name)
    library.fails = UNAVAIL, errno.ENOENT
    ask(here, what)
    library.fails = UNAVAIL, errno.EIO
    with pytest.raises(NameServiceError, match=name):
        ask(here, what)


@EVERY
def test_a_passwd_or_group_file_that_is_gone_is_an_error(here: Host, what: str) -> None:
    here.files.fails = UNAVAIL, errno.ENOENT
    with pytest.raises(NameServiceError, match="'files' does not answer"):
        ask(here, what)


@EVERY
def test_a_service_that_cannot_be_loaded_is_an_error(here: Host, what: str) -> None:
    here.switch("passwd: files gone\ngroup: files gone\n")
    with pytest.raises(NameServiceError, match="'gone' cannot be loaded: install it"):
        ask(here, what)


@EVERY
def test_a_service_that_never_has_enough_memory_for_its_answer_is_an_error(here: Host, what: str) -> None:
    here.sss.fails = TRYAGAIN, errno.ERANGE
    with pytest.raises(NameServiceError, match="TRYAGAIN, ERANGE"):
        ask(here, what)


@EVERY
def test_a_service_that_has_no_such_function_has_nothing_to_tell(here: Host, what: str) -> None:
    for function in ("getpwnam_r", "getpwuid_r", "initgroups_dyn", "getgrnam_r"):
        delattr(here.sss, f"_nss_sss_{function}")
    ask(here, what)


# nsswitch.conf


@pytest.mark.parametrize(
    ("text", "services"),
    [
        ("group: files sss", ["files", "sss"]),
        ("# group: ldap\n  group:\tfiles   sss # ldap\npasswd: nis", ["files", "sss"]),
        ("group: files [!UNAVAIL=return SUCCESS=merge] sss [NOTFOUND=return] files", ["files", "sss"]),
        ("group:files [SUCCESS=merge]sss", ["files", "sss"]),
        ("group: nis\ngroup: files sss", ["files", "sss"]),
    ],
)
def test_the_services_are_those_of_nsswitch_conf(
    here: Host, text: str, services: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Service(nss.Service):
        def group(self, name: bytes) -> tuple[int, frozenset[bytes]]:
            asked.append(self.name)
            return 50, frozenset()

        def group_numbers(self, user: bytes, primary: int) -> set[int]:
            asked.append(self.name)
            return set()

    monkeypatch.setattr(nss, "Service", Service)
    monkeypatch.setattr(nss, "_LOCAL", ("files", "sss"))
    here.switch(text)
    nss.group(b"staff")
    assert asked == services
    nss.group_numbers(b"alice", 100)
    assert asked == 2 * services


@EVERY
@pytest.mark.parametrize(
    "text",
    ["", "# group: files\n# passwd: files\n", "shadow: files\n", "passwd:\ngroup:\n", "passwd: [A=return]\ngroup: #x"],
)
def test_an_nsswitch_conf_that_does_not_say_whom_to_ask_is_an_error(here: Host, what: str, text: str) -> None:
    here.switch(text)
    with pytest.raises(NameServiceError, match="does not say which services know"):
        ask(here, what)
    assert here.files.asked == here.sss.asked == []


@EVERY
def test_an_nsswitch_conf_that_is_gone_is_an_error(here: Host, what: str) -> None:
    here.path.unlink()
    with pytest.raises(NameServiceError, match="cannot be read"):
        ask(here, what)


def test_an_nsswitch_conf_that_cannot_be_read_is_an_error(here: Host) -> None:
    here.path.unlink()
    here.path.mkdir()
    with pytest.raises(NameServiceError, match="cannot be read"):
        nss.group(b"staff")


def test_a_line_for_initgroups_goes_before_that_for_groups(here: Host) -> None:
    here.switch("initgroups: sss\ngroup: files\n")
    here.files.numbers[b"alice"], here.sss.numbers[b"alice"] = [27], [5000]
    assert nss.group_numbers(b"alice", 100) == {100, 5000}


# Answers


def test_the_numbers_of_a_user_are_those_of_all_services_and_the_primary_one(here: Host) -> None:
    here.files.numbers[b"alice"], here.sss.numbers[b"alice"] = [27, 4], [5000]
    assert nss.group_numbers(b"alice", 100) == {100, 27, 4, 5000}
    assert nss.group_numbers(b"bob", 100) == {100}


def test_somebody_may_be_in_thousands_of_groups(here: Host) -> None:
    here.sss.numbers[b"alice"] = list(range(10_000, 75_000))
    assert nss.group_numbers(b"alice", 100) == {100, *range(10_000, 75_000)}


def test_a_group_is_that_of_each_service_that_knows_it(here: Host) -> None:
    here.files.groups[b"sudo"] = 27, [b"alice", b"bob"]
    here.sss.groups[b"sudo"] = 5000, []
    assert nss.group(b"sudo") == [(27, frozenset((b"alice", b"bob"))), (5000, frozenset())]


def test_a_group_may_take_much_memory(here: Host) -> None:
    here.sss.groups[b"everybody"] = 5000, [b"alice"]
    here.sss.smallest = 10 << 20
    assert nss.group(b"everybody") == [(5000, frozenset((b"alice",)))]


def test_an_emptied_group_file_is_an_error_and_no_proof_that_there_is_no_such_group(here: Host) -> None:
    here.switch("group: files\n")
    del here.files.groups[b"root"]
    with pytest.raises(NameServiceError, match="/etc/group has not even 'root'"):
        nss.group(b"corpadmins")


def test_a_group_that_nobody_knows_is_no_group_only_where_no_service_can_be_cut_off(here: Host) -> None:
    with pytest.raises(NameServiceError, match="names the group 'corpadmins', which sss does not know"):
        nss.group(b"corpadmins")
    here.library("systemd")
    here.switch("group: files systemd\n")
    assert nss.group(b"corpadmins") == []


def test_who_is_found_after_all_is_not_nobody(here: Host) -> None:
    here.sss.users[b"alice"] = 1001
    for key, shown in ((b"alice", "'alice'"), (1001, "1001")):
        with pytest.raises(NameServiceError, match=f"two answers about the user {shown}: check sss"):
            REQUIRE_NO_USER(key)


def test_the_real_services_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nss, "_services", lambda *_: [nss.Service("files")])
    assert nss.group(b"root") == [(0, frozenset())]
    assert nss.group(b"no-such-group-here") == []
    assert nss.group_numbers(b"root", 0) >= {0}
    REQUIRE_NO_USER(b"no-such-user-here")
    with pytest.raises(NameServiceError, match="'root'"):
        REQUIRE_NO_USER(b"root")
    with pytest.raises(NameServiceError, match="user 0"):
        REQUIRE_NO_USER(0)
