"""The self-service where systemd runs it, from the installation of the package to its removal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.booted import Booted
from tests.lab.code import code
from tests.login.self_service import CODE_OF_THE_APP, KEY, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.machine import Completed

pytestmark = pytest.mark.full

UNIT = "pam-totp-self.socket"
# As a user, connects as often as it can for some seconds, and keeps the connections.
FLOOD = """
import socket, time
kept = []
end = time.monotonic() + 4
while time.monotonic() < end:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(0.1)
    try:
        connection.connect("/run/pam-totp-self.sock")
    except OSError:
        continue
    kept = [*kept[-100:], connection]
"""


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite in which apt has installed the packages while systemd was running."""
    with Booted(suite) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        apt(machine, "install", *on_it(debs))
        for name in ("alice", "bob", "carol"):
            machine.user(name, key=False)
        machine.write("/etc/pam-totp/config.toml", "self_enroll = true\n")
        yield machine


def on_it(debs: tuple[Path, ...]) -> list[str]:
    """Where the packages lie on the machine."""
    return [f"/root/{package.name}" for package in debs]


def apt(machine: Booted, *words: str) -> None:
    machine.run(
        ["apt-get", "-q", "-y", "--no-install-recommends", *words],
        env={"DEBIAN_FRONTEND": "noninteractive"},
        timeout=120,
    )


def status(machine: Booted, user: str) -> Completed:
    return machine.run(["pam-totp", "self", "status"], user=user, check=False)


def test_installing_enables_and_starts_the_socket(booted: Booted) -> None:
    assert booted.run(["systemctl", "is-enabled", UNIT]).stdout == "enabled\n"
    assert booted.run(["systemctl", "is-active", UNIT]).stdout == "active\n"
    assert booted.run(["stat", "-c", "%U %a", SOCKET]).stdout == "root 666\n"


def test_the_exposure_of_the_service_is_low(booted: Booted) -> None:
    said = booted.run(["systemd-analyze", "security", "--no-pager", "--threshold=20", "pam-totp-self@0.service"]).stdout
    [exposure] = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert float(exposure) <= 2.0


def test_a_user_enrols_in_the_hardened_service_and_it_is_logged(booted: Booted) -> None:
    become = ["setpriv", "--reuid=alice", "--regid=alice", "--init-groups"]
    with booted.terminal([*become, "pam-totp", "self", "enroll"]) as session:
        session.expect(CODE_OF_THE_APP)
        secret = KEY.findall(session.screen)[-1].replace(" ", "")
        session.answer(code(secret))
        session.expect("type yes: ")
        session.answer("yes")
        assert session.wait() == 0
    assert status(booted, "alice").stdout.startswith("alice: active\n")
    assert booted.run(["pam-totp", "status", "alice"]).returncode == 0
    journal = booted.journal()
    assert 'pam-totp: user=alice action=self-enroll by=alice detail="label phone"' in journal
    assert not [line for line in journal if secret in line or code(secret) in line]


def test_a_record_of_an_earlier_owner_of_the_uid_is_looked_up_too(booted: Booted) -> None:
    """For which the name service is asked in another way, that must not need what the service may not do."""
    dave = booted.user("dave", key=False)
    booted.run(["pam-totp", "enroll", "dave", "--no-confirm"])
    booted.run(["usermod", "--login", "erin", "dave"])
    done = booted.run(
        ["setpriv", f"--reuid={dave.uid}", f"--regid={dave.uid}", "--clear-groups", "pam-totp", "self", "status"]
    )
    assert done.stdout.startswith("erin: none\n")


def test_nothing_is_left_running_and_nothing_has_failed(booted: Booted) -> None:
    status(booted, "carol")
    script = (
        "for _ in 1 2 3 4 5; do sleep 0.2; systemctl list-units --all --no-legend 'pam-totp-self@*'; done | tail -1"
    )
    assert booted.sh(script).stdout == ""
    assert booted.run(["systemctl", "list-units", "--failed", "--no-legend", "pam-totp*"]).stdout == ""


def test_a_flood_of_one_user_does_not_stop_the_service_for_others(booted: Booted) -> None:
    booted.run(["python3", "-c", FLOOD], user="bob")
    assert booted.run(["systemctl", "is-active", UNIT]).stdout == "active\n"
    script = "for _ in 1 2 3 4 5 6 7 8 9 10; do pam-totp self status && exit; sleep 1; done; exit 1"
    assert booted.sh(script, user="carol").stdout == (
        "carol: none\nTo set up an authenticator app: pam-totp self enroll\n"
    )


def test_stopped_it_says_so(booted: Booted) -> None:
    booted.run(["systemctl", "stop", UNIT])
    try:
        absent = status(booted, "alice")
    finally:
        booted.run(["systemctl", "start", UNIT])
    assert absent.returncode == 3
    assert "self-service is not available on this host" in absent.stderr


def test_disabled_it_stays_so_after_an_upgrade(booted: Booted, debs: tuple[Path, ...]) -> None:
    booted.run(["systemctl", "disable", "--now", UNIT])
    try:
        apt(booted, "install", "--reinstall", *on_it(debs))
        assert booted.run(["systemctl", "is-enabled", UNIT], check=False).stdout == "disabled\n"
    finally:
        booted.run(["systemctl", "enable", "--now", UNIT])


def test_a_removal_stops_it_and_a_purge_leaves_nothing(booted: Booted, debs: tuple[Path, ...]) -> None:
    try:
        apt(booted, "remove", "pam-totp")
        assert booted.run(["test", "-e", SOCKET], check=False).returncode == 1
        apt(booted, "purge", "pam-totp")
        assert booted.sh("find /etc /lib/systemd /var/lib /run -name '*pam[-_]totp*'").stdout == ""
    finally:
        apt(booted, "install", *on_it(debs))
