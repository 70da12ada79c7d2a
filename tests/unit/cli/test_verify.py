"""verify: the service on and off, and who may ask it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cli import verify
from pam_totp.host import programs, systemd
from pam_totp.verify import clients

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

    Journal = list[tuple[int, str]]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that are run where systemd is, and the place of the drop-in."""
    found: list[str] = []

    def run(*command: str, fail: bool = True) -> str:
        found.append(" ".join(command[1:]))
        return "active\n"

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(systemd, "_RUNNING", str(tmp_path))
    monkeypatch.setattr(verify, "DROP_IN", str(tmp_path / "pam-totp-verify.socket.d" / "listen.conf"))
    return found


def test_it_is_enabled_with_a_socket_and_where_asked_for_a_loopback_port(
    command: Command, asked: list[str], journal: Journal
) -> None:
    ran = command("verify", "enable", "--listen", "127.0.0.1:722")
    assert ran.code == 0
    assert ran.out == (
        "enabled: http on /run/pam-totp-verify.sock and 127.0.0.1:722\nNobody may ask yet: pam-totp verify add CLIENT\n"
    )
    assert Path(verify.DROP_IN).read_text("ascii").endswith("[Socket]\nListenStream=127.0.0.1:722\n")
    assert asked == ["daemon-reload", f"enable --quiet {verify.UNIT}", f"restart {verify.UNIT}"]
    assert "action=verify-enable by=" in journal[-1][1]
    # Without an address, it listens there no more.
    assert command("verify", "enable").code == 0
    assert not os.path.exists(os.path.dirname(verify.DROP_IN))


def test_it_is_disabled_and_its_clients_stay(command: Command, asked: list[str], host: Host) -> None:
    command("verify", "add", "vpn")
    command("verify", "enable", "--listen", "[::1]:722")
    asked.clear()
    assert command("verify", "disable").out == "disabled; the 1 clients stay: pam-totp verify remove CLIENT\n"
    assert asked == [f"disable --quiet --now {verify.UNIT}", "disable --quiet --now pam-totp-verify.service"]
    assert not os.path.exists(verify.DROP_IN)
    assert clients.load("vpn", host.paths) is not None


def test_a_drop_in_of_the_administrators_own_stays(command: Command, asked: list[str]) -> None:
    command("verify", "enable", "--listen", "127.0.0.1:722")
    own = Path(verify.DROP_IN).with_name("own.conf")
    own.write_text("[Socket]\n", "ascii")
    assert command("verify", "disable").code == 0
    assert own.exists()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "722",
        "0.0.0.0:722",
        "192.0.2.1:722",
        "localhost:722",
        "::1:722",
        "[127.0.0.1]:722",
        "[::]:722",
        "127.0.0.1:x",
    ],
)
def test_it_listens_on_no_other_address(address: str, command: Command, asked: list[str]) -> None:
    ran = command("verify", "enable", f"--listen={address}")
    if not address:
        assert ran.code == 0  # none
        return
    assert ran.code == 2
    assert "127.0.0.1" in ran.err
    assert asked == []


@pytest.mark.parametrize("port", ["0", "1024", "8080", "99999", "-1", "²"])
def test_nor_on_a_port_that_others_could_take(port: str, command: Command, asked: list[str]) -> None:
    ran = command("verify", "enable", "--listen", f"127.0.0.1:{port}")
    assert ran.code == 2
    assert "where only root's programs can listen" in ran.err
    assert asked == []


def test_without_systemd_it_says_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_RUNNING", "/nonexistent")
    ran = command("verify", "enable")
    assert (ran.code, ran.out) == (3, "")
    assert "systemd is not running here" in ran.err
    assert "enable it on a host" in ran.err


def test_a_token_is_shown_once_and_is_good(command: Command, host: Host, journal: Journal) -> None:
    ran = command("verify", "add", "vpn", "--service", "vpn", "--service", "wifi", "--may-know")
    [token] = [line.strip() for line in ran.out.splitlines() if line.startswith("  ")]
    found = clients.with_token(token, host.paths)
    assert found is not None
    assert (found.services, found.identity, found.may_know) == (["vpn", "wifi"], "nss", True)
    listed = command("verify", "list")
    assert token.partition(".")[2] not in listed.out + str(journal)
    assert 'action=verify-add by=root detail="client vpn"' in journal[-1][1]
    again = command("verify", "add", "vpn")
    assert again.code == 2
    assert "there is a client vpn already" in again.err


def test_a_client_can_be_known_by_its_user(command: Command, host: Host) -> None:
    ran = command("verify", "add", "portal", "--runs-as", "alice")
    assert ran.out == "portal is whatever asks on /run/pam-totp-verify.sock as uid 1001.\n"
    found = clients.with_uid(1001, host.paths)
    assert found is not None
    assert found.name == "portal"
    assert command("verify", "add", "other", "--runs-as", "mallory").code == 2


def test_programs_get_one_document(command: Command, asked: list[str], host: Host) -> None:
    added = command("verify", "add", "vpn", "--identity", "record", "--json").json
    assert clients.with_token(added.pop("token"), host.paths) is not None
    assert added == {"client": "vpn", "services": ["vpn"], "identity": "record", "may_know": False, "uid": None}
    command("verify", "enable", "--listen", "127.0.0.1:722")
    listed = command("verify", "list", "--json").json
    assert listed == {"enabled": True, "listen": [verify.SOCKET, "127.0.0.1:722"], "clients": [added]}


def test_a_client_is_removed_once(command: Command) -> None:
    command("verify", "add", "vpn")
    assert command("verify", "remove", "vpn").out == "vpn may not ask any more\n"
    ran = command("verify", "remove", "vpn")
    assert ran.code == 1
    assert "there is no client vpn" in ran.err


def test_the_list_says_what_there_is(command: Command, asked: list[str], host: Host) -> None:
    assert command("verify", "list").code == 1
    command("verify", "add", "vpn", "--identity", "record", "--may-know")
    command("verify", "add", "portal", "--runs-as", "alice")
    ran = command("verify", "list")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "the service is on: /run/pam-totp-verify.sock",
        "CLIENT  SERVICES  IDENTITY  MAY KNOW  KNOWN BY",
        "portal  portal    nss       no        uid 1001",
        "vpn     vpn       record    yes       a token",
    ]
    os.chmod(f"{os.path.dirname(host.paths.config)}/verify/vpn.json", 0o644)
    broken = command("verify", "list")
    assert broken.code == 3
    assert "the client vpn is not safe" in broken.err
    assert "portal" in broken.out


def test_without_systemd_the_service_is_off(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_RUNNING", "/nonexistent")
    assert command("verify", "list").out == "the service is off: pam-totp verify enable\n"
    assert command("verify", "disable").out == "disabled\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add",), "say which client"),
        (("remove",), "say which client"),
        (("enable", "vpn"), "takes no CLIENT"),
        (("list", "--may-know"), "takes no --may-know"),
        (("add", "vpn", "--listen", "127.0.0.1:722"), "takes no --listen"),
        (("remove", "vpn", "--json"), "takes no --json"),
        (("disable", "--runs-as", "alice"), "takes no --runs-as"),
        (("add", "V"), "is no name of a client"),
    ],
)
def test_what_does_not_fit_is_refused(words: tuple[str, ...], said: str, command: Command) -> None:
    ran = command("verify", *words)
    assert ran.code == 2
    assert said in ran.err
