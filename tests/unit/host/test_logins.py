"""Whom a variant would keep out."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import files, logins, users

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"permitrootlogin": "without-password", "authorizedkeysfile": ".ssh/authorized_keys /etc/keys/%u"}
KEY = "ssh-ed25519 AAAA x\n"


@pytest.fixture(autouse=True)
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """root and alice with both, bob with a password, carol with a key, two robots, dave of LDAP, and a daemon."""
    entries = []
    for name, uid, shell in (
        *(("root", 0, "/bin/bash"), ("alice", 1000, "/bin/bash"), ("bob", 1001, "/bin/sh"), ("carol", 1002, "/bin/sh")),
        *(("robot", 1003, "/bin/sh"), ("system", 200, "/bin/sh"), ("dave", 5000, "/bin/bash")),
        ("daemon", 1, "/usr/sbin/nologin"),
    ):
        home = tmp_path / name
        (home / ".ssh").mkdir(parents=True)
        if name in ("root", "alice", "carol", "robot", "system"):
            options = 'from="10.0.0.1",command="/bin/backup" ' if name == "robot" else ""
            (home / ".ssh/authorized_keys").write_text(f"# mine\n\n{options}{KEY}")
        entries.append(pwd.struct_passwd((name, "x", uid, uid, "", str(home), shell)))
    shadow = tmp_path / "shadow"
    shadow.write_text(
        "root:$y$x:1::::::\nalice:$y$x:1::::::\nbob:$y$x:1::::::\ncarol:!:1::::::\nrobot:*:1::::::\nsystem:*:1::::::\n"
    )
    shells = tmp_path / "shells"
    shells.write_text("# /etc/shells\n/bin/bash\n/bin/sh\n")
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    monkeypatch.setattr(logins, "SHADOW", str(shadow))
    monkeypatch.setattr(logins, "SHELLS", str(shells))
    real = files.read
    monkeypatch.setattr(files, "read", lambda path, _, limit, private: real(path, os.geteuid(), limit, private=private))
    return tmp_path


def names(variant: str, *robots: str, **settings: str) -> list[str]:
    return [name for name, _ in logins.shut_out(variant, robots, {**SETTINGS, **settings})]


def test_with_a_key_who_has_none_is_kept_out() -> None:
    assert names("key") == ["bob", "dave", "robot", "root", "system"]


@pytest.mark.parametrize("variant", ["password", "combined"])
def test_with_a_password_who_has_none_is_kept_out(variant: str) -> None:
    assert names(variant) == ["carol", "robot", "root", "system"]


def test_where_keys_come_from_elsewhere_nobody_is_said_to_have_none() -> None:
    assert "bob" not in names("key", authorizedkeyscommand="/usr/bin/sss_ssh_authorizedkeys")
    assert "bob" not in names("key", trustedusercakeys="/etc/ssh/ca.pub")


def test_a_robot_that_is_named_is_not() -> None:
    assert names("key", "robot", "root@192.0.2.1", "system@10.0.0.0/8") == ["bob", "dave"]


@pytest.mark.parametrize(("setting", "listed"), [("yes", False), ("no", False), ("forced-commands-only", True)])
def test_root_is_kept_out_where_sshd_lets_root_answer_nothing(setting: str, listed: bool) -> None:
    assert ("root" in names("key", permitrootlogin=setting)) is listed


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "nothing"])
def test_nothing_that_a_user_puts_there_stops_it(kind: str, people: Path) -> None:
    file = people / "alice/.ssh/authorized_keys"
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    assert "alice" in names("key")


def test_tokens_in_the_name_of_the_file_are_understood() -> None:
    place = logins._place
    assert place("%h/.keys/%u.%U", "alice", 7, "/home/alice") == "/home/alice/.keys/alice.7"
    assert place("/etc/keys/%u", "alice", 7, "/home/alice") == "/etc/keys/alice"
    assert place("50%%u", "alice", 7, "/home/alice") == "/home/alice/50%u"


# Who can log in at all


def able(**settings: str) -> set[str]:
    return {each.name for each in logins.able({**SETTINGS, "pubkeyauthentication": "yes", **settings})}


def test_who_has_neither_a_password_nor_a_key_cannot_log_in() -> None:
    everybody = {each.name for each in logins.all_of_them(SETTINGS["authorizedkeysfile"].split())}
    assert able(permitrootlogin="yes") == everybody
    assert able(permitrootlogin="yes", authorizedkeysfile="none") < everybody
    assert able(permitrootlogin="yes", pubkeyauthentication="no") == able(
        permitrootlogin="yes", authorizedkeysfile="none"
    )
    assert able(permitrootlogin="yes", authorizedkeysfile="none", authorizedkeyscommand="/bin/x") == everybody


def test_root_logs_in_as_far_as_sshd_lets_root() -> None:
    assert "root" in able()  # with a key
    assert "root" not in able(authorizedkeysfile="none")
    assert "root" not in able(permitrootlogin="no")
    assert "root" in able(permitrootlogin="yes", authorizedkeysfile="none")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"allowusers": "bob car*"}, {"bob", "carol"}),
        ({"allowusers": "bob@192.0.2.1 [bc]arol"}, {"bob"}),
        ({"denyusers": "?ob root alice@192.0.2.1"}, {"alice", "carol"}),
        ({"allowgroups": "staff"}, {"alice", "bob"}),
        ({"denygroups": "staff"}, {"root", "carol"}),
        ({"allowgroups": "staff adm*"}, {"root", "alice", "bob", "carol"}),
        ({"denygroups": "st*"}, {"root", "alice", "bob", "carol"}),
    ],
)
def test_who_is_not_allowed_by_sshd_cannot_log_in(
    settings: dict[str, str], found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def groups(user: users.User, wanted: set[str]) -> frozenset[str]:
        return frozenset(wanted & {"staff"}) if user.name in ("alice", "bob") else frozenset()

    monkeypatch.setattr(users, "groups", groups)
    assert able(permitrootlogin="yes", **settings) & {"root", "alice", "bob", "carol"} == found
