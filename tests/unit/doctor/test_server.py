"""sshd's configuration as it is read for its Match blocks; its effective settings are a real sshd's (tests/doctor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.doctor import server
from pam_totp.doctor.server import Wanted
from pam_totp.host import users

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "everybody", lambda: [("root", 0, "/root", ""), ("alice", 1001, "/home/alice", "")])
    monkeypatch.setattr(
        users, "groups", lambda user, wanted: frozenset(wanted) & ({"staff"} if user.name == "alice" else set())
    )


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("all", {}),
        ("User alice", {"user": "alice"}),
        ("User !bob,al*", {"user": "alice"}),
        ('User "nobody-*"', {"user": "nobody-x"}),
        ("Group wheel,staff", {"user": "alice"}),
        ("Address 10.0.0.0/8,192.0.2.1", {"addr": "10.0.0.0"}),
        ("Address 192.168.*.*", {"addr": "192.168.1.1"}),
        ("LocalPort 2222 User alice", {"lport": "2222", "user": "alice"}),
        ("Host *.example.org", {"host": "x.example.org"}),
        ("Group nobodys", None),
        ("Invalid-User", None),
        ("Exec true", None),
    ],
)
def test_a_connection_that_fits_a_match_block_is_made_up(match: str, expected: dict[str, str] | None) -> None:
    connection = server.connection_for(match)
    if expected is None:
        assert connection is None
        return
    assert connection is not None
    told = dict(each.split("=", 1) for each in connection.split(","))
    assert {key: told[key] for key in expected} == expected
    assert told.keys() == {"user", "host", "addr", "laddr", "lport", "rdomain"}


def test_lines_are_read_in_sshds_order_with_includes_and_match_blocks(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b.conf").write_text("Port 3\nMatch User alice\n  PasswordAuthentication no\n")
    (tmp_path / "d/a.conf").write_text("UsePAM=yes\n")
    (tmp_path / "config").write_text("# Port 1\nInclude d/*.conf\nPort 2\nMatch all\n X11Forwarding no\n")
    found = [(each.keyword, each.value, each.match) for each in server.settings_of(str(tmp_path / "config"))]
    assert found == [
        ("usepam", "yes", None),
        ("port", "3", None),
        ("match", "User alice", "User alice"),
        ("passwordauthentication", "no", "User alice"),
        ("include", "d/*.conf", None),
        ("port", "2", None),
        ("match", "all", "all"),
        ("x11forwarding", "no", "all"),
    ]


@pytest.mark.parametrize(
    ("methods", "first"),
    [
        ("publickey,keyboard-interactive:pam", True),
        ("any", False),
        ("keyboard-interactive:pam,publickey", False),
        ("hostbased,keyboard-interactive publickey,password", True),
    ],
)
def test_whether_a_key_is_asked_for_first(methods: str, first: bool) -> None:
    assert server.key_comes_first({"authenticationmethods": methods}) is first


@pytest.mark.parametrize(
    ("robot", "is_one"), [("alice", True), ("alice@192.0.2.0/24", True), ("alice@192.0.2.9", False), ("bob", False)]
)
def test_a_robot_is_known_by_user_and_address(robot: str, is_one: bool) -> None:
    connection = server.connection_for("User alice Address 192.0.2.0/25")
    assert connection is not None
    assert server._is_robot(connection, Wanted(key=True, combined=False, robots=[robot]).robots) is is_one
