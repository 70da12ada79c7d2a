"""forget: remembered clients are asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.pretend import STEP

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

KEY = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQq\n"


def test_remembered_clients_are_forgotten(command: Command, host: Host) -> None:
    host.configure('remember = "12h"\n')
    secret = host.enroll()
    for rhost in ("192.0.2.1", "192.0.2.2"):
        assert host.login("alice", host.code(secret), auth_info=KEY, rhost=rhost).reason == "code"
        host.later(STEP)
    assert host.login("alice", auth_info=KEY, rhost="192.0.2.1").reason == "remembered"
    ran = command("forget", "alice")
    assert (ran.code, ran.out) == (0, "alice: 2 remembered clients forgotten\n")
    assert host.login("alice", host.code(secret), auth_info=KEY, rhost="192.0.2.1").reason == "code"
    assert command("forget", "alice").out == "alice: 1 remembered client forgotten\n"


def test_where_nobody_is_remembered_nothing_is_left_behind(command: Command, host: Host) -> None:
    assert command("forget", "alice").out == "alice: 0 remembered clients forgotten\n"
    assert host.account().empty
    assert command("forget", "mallory").code == 2


def test_it_is_logged(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    host.enroll()
    command("forget", "alice")
    assert [line for _, line in journal] == ['pam-totp: user=alice action=forget by=root detail="0 clients"']
