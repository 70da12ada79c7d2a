"""Login names as NSS knows them."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.errors import NameServiceError
from pam_totp.host import users

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
    assert users.exists("no-such-user-here") is None


def test_who_exists_is_found_and_who_does_not_is_nobody() -> None:
    user = users.exists("alice")
    assert user is not None
    assert user.uid == 1001
    assert users.exists("mallory-was-never-here") is None


def test_a_name_service_that_does_not_answer_is_an_error_and_not_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, name: object) -> None:
            pass

        @staticmethod
        def getpwnam_r(*_: object) -> int:
            return 110  # ETIMEDOUT

    monkeypatch.setattr(ctypes, "CDLL", Broken)
    with pytest.raises(NameServiceError, match=r"mallory.*110"):
        users.exists("mallory")


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


def test_a_user_has_all_groups_that_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {1001: "alice", 27: "sudo", 2000: "zo\udcc3\udcab"}
    asked: list[tuple[str, int]] = []

    def group_list(name: str, primary: int) -> list[int]:
        asked.append((name, primary))
        return [1001, 27, 2000, 3000]

    monkeypatch.setattr(os, "getgrouplist", group_list)
    monkeypatch.setattr(grp, "getgrgid", lambda number: grp.struct_group((named[number], "x", number, [])))
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert users.groups(users.User("alice", 1001)) == {"alice", "sudo", "zoë"}
    assert asked == [("alice", 1001)]


def test_who_is_gone_from_nss_is_not_taken_for_somebody_without_groups() -> None:
    with pytest.raises(NameServiceError, match="groups of 'mallory'"):
        users.groups(users.User("mallory", 1003))
