"""Login names as NSS knows them."""

from __future__ import annotations

import pwd
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.errors import NameServiceError, UsageError
from pam_totp.host import nss, users

if TYPE_CHECKING:
    from tests.unit.conftest import Passwd


def test_a_user_has_the_name_and_uid_that_nss_says() -> None:
    user = users.find("alice")
    assert user is not None
    assert (user.name, user.uid) == ("alice", 1001)


def test_the_spelling_is_that_of_nss(passwd: Passwd) -> None:
    passwd.add("ALICE@EXAMPLE", 1001, spelled="alice")
    user = users.find("ALICE@EXAMPLE")
    assert user is not None
    assert user.name == "alice"


def test_who_is_not_in_nss_is_nobody() -> None:
    assert users.find("mallory") is None


@pytest.mark.parametrize(
    "name", ["", "a:b", "a/b", "../key", "a\nb", "a\tb", "a\x00b", "a\x7f", "x" * 257, "ä" * 129, "\udcff"]
)
def test_a_name_that_no_entry_can_have_is_nobodys(name: str, passwd: Passwd) -> None:
    passwd.add(name, 1003)
    assert users.find(name) is None


def test_a_name_of_the_longest_length_is_looked_up(passwd: Passwd) -> None:
    passwd.add("x" * 256, 1003)
    assert users.find("x" * 256) is not None


@given(st.text())
def test_no_name_makes_the_look_up_fail(name: str) -> None:
    found = users.find(name)
    assert found is None or found.name == name


def test_a_name_that_is_not_ascii_is_looked_up_as_utf_8_whatever_the_locale(
    monkeypatch: pytest.MonkeyPatch, passwd: Passwd
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    passwd.add("zo\udcc3\udcab", 1003)  # what Python makes of the bytes of "zoë" under sshd
    user = users.find("zoë")
    assert user is not None
    assert (user.name, user.uid) == ("zoë", 1003)


def test_the_real_user_database_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    root = users.find("root")
    assert root is not None
    assert (root.name, root.uid) == ("root", 0)
    assert users.find("no-such-user-here") is None


def test_who_is_not_found_because_nss_fails_is_not_called_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes | int] = []

    def fail(key: bytes | int) -> None:
        asked.append(key)
        raise NameServiceError("the name service 'sss' does not answer")

    def by_uid(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(nss, "require_no_user", fail)
    monkeypatch.setattr(pwd, "getpwuid", by_uid)
    with pytest.raises(NameServiceError):
        users.find("zo\u00eb")
    with pytest.raises(NameServiceError):
        users.with_uid(1003)
    assert asked == ["zo\u00eb".encode(), 1003]


def test_a_name_that_no_entry_can_have_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes | int) -> None:
        raise AssertionError

    monkeypatch.setattr(nss, "require_no_user", fail)
    assert users.find("../key") is None
    assert users.with_uid(2**64) is None


def test_the_user_database_of_these_tests_is_no_more_than_a_table(passwd: Passwd) -> None:
    with pytest.raises(KeyError):
        pwd.getpwnam("root")
    assert set(passwd) == {"alice", "bob"}


def test_a_uid_belongs_to_the_user_whom_nss_names_for_it_and_for_whom_it_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = {1001: "alice", 1002: "alice", 1003: "mallory"}

    def by_uid(uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd((named[uid], "x", uid, uid, "", "/", "/bin/zsh" if uid == 1001 else ""))

    monkeypatch.setattr(pwd, "getpwuid", by_uid)
    found = users.with_uid(1001)
    assert found is not None
    assert (found[0].name, found[0].uid, found[1]) == ("alice", 1001, "/bin/zsh")
    assert [users.with_uid(uid) for uid in (1002, 1003, 1004)] == [None, None, None]


def test_the_uid_that_is_none_is_nobodys() -> None:
    assert users.with_uid(2**32 - 1) is None
    assert users.with_uid(2**64) is None


class Groups:
    """What NSS says about groups: each group's number and members, and the numbers of the groups of each user."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: dict[bytes, list[tuple[int, frozenset[bytes]]]] = {}
        self.numbers: dict[bytes, set[int]] = {}
        monkeypatch.setattr(nss, "group", lambda name: self.groups.get(name, []))
        monkeypatch.setattr(nss, "group_numbers", lambda user, primary: {primary} | self.numbers.get(user, set()))

    def add(self, name: str, number: int, *members: str) -> None:
        self.groups.setdefault(name.encode(), []).append((number, frozenset(each.encode() for each in members)))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Groups:
    return Groups(monkeypatch)


def test_a_user_is_in_a_group_by_either_side_or_by_the_primary_group(known: Groups) -> None:
    known.numbers[b"alice"] = {27}
    for group in (("alice", 1001), ("sudo", 27), ("staff", 50, "bob", "alice"), ("adm", 4, "bob"), ("games", 60)):
        known.add(group[0], group[1], *group[2:])
    wanted = ["alice", "sudo", "staff", "adm", "games", "no-such-group"]
    assert users.groups(users.User("alice", 1001), wanted) == {"alice", "sudo", "staff"}
    assert users.groups(users.User("alice", 1001), ["adm"]) == set()


def test_a_group_that_several_services_know_has_the_members_of_all(known: Groups) -> None:
    known.numbers[b"alice"] = {5000}
    known.add("sudo", 27)
    known.add("sudo", 5000)
    assert users.groups(users.User("alice", 1001), ["sudo"]) == {"sudo"}


def test_names_that_are_not_ascii_are_utf_8_whatever_the_locale(
    monkeypatch: pytest.MonkeyPatch, passwd: Passwd, known: Groups
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    passwd.add("zo\udcc3\udcab", 1003)
    known.add("caf\u00e9", 2000, "zo\u00eb")
    assert users.groups(users.User("zo\u00eb", 1003), ["caf\u00e9"]) == {"caf\u00e9"}


def test_the_real_groups_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert users.groups(users.User("root", 0), ["root", "daemon"]) == {"root"}


@pytest.mark.parametrize("function", ["group", "group_numbers"])
def test_where_nss_does_not_answer_nobody_is_taken_for_a_member_or_for_none(
    function: str, known: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NameServiceError("the name service 'sss' does not answer")

    known.add("staff", 50, "alice")
    monkeypatch.setattr(nss, function, fail)
    with pytest.raises(NameServiceError):
        users.groups(users.User("alice", 1001), ["staff"])


def test_who_is_gone_from_nss_is_not_taken_for_somebody_without_groups() -> None:
    with pytest.raises(NameServiceError, match="groups of 'mallory'"):
        users.groups(users.User("mallory", 1003), ["staff"])


def test_the_members_of_a_group_are_those_it_lists_and_those_whose_primary_group_it_is(
    passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {b"staff": [(1002, frozenset({b"alice", "zo\u00eb".encode()})), (1003, frozenset())], b"none": []}
    monkeypatch.setattr(nss, "group", listed.__getitem__)
    assert users.members("staff") == ["alice", "bob", "zo\u00eb"]
    assert users.members("none") == []


def test_somebody_without_an_account_has_a_number_of_the_name_alone_that_no_account_has() -> None:
    carol = users.without_account("carol")
    assert carol.outside
    assert -(1 << 62) < carol.uid < 0
    assert carol.uid == users.without_account("carol").uid != users.without_account("Carol").uid
    assert users.with_uid(carol.uid) is None
    for name in ("", "a:b", "a/b", "a\n", "\udcff", "x" * 257):
        with pytest.raises(UsageError, match="cannot be a name"):
            users.without_account(name)
