"""The units of the self-service, as systemd itself understands them without running."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pam_totp.host.paths import Paths
from pam_totp.selfservice import server

UNITS = Path(__file__).resolve().parents[2] / "debian"
SOCKET = "pam-totp-self.socket"
SERVICE = "pam-totp-self@.service"


def section(unit: str, name: str) -> dict[str, list[str]]:
    """The settings of a section, each with all its values."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in (UNITS / unit).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == name and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("unit", [SOCKET, "pam-totp-self@0.service"])
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    for name in (SOCKET, SERVICE):
        shutil.copy(UNITS / name, tmp_path)
    done = analyze("verify", "--man=no", tmp_path / unit)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


def test_the_exposure_of_the_service_is_low() -> None:
    done = analyze("security", "--offline=yes", "--threshold=20", "--no-pager", UNITS / SERVICE)
    assert done.returncode == 0, done.stdout + done.stderr
    [exposure] = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert float(exposure) <= 2.0


def test_client_and_socket_agree_on_the_place() -> None:
    assert section(SOCKET, "Socket")["ListenStream"] == [Paths().socket]


def test_everybody_may_connect_and_the_kernel_says_who_it_is() -> None:
    assert section(SOCKET, "Socket")["SocketMode"] == ["0666"]
    service = section(SERVICE, "Service")
    assert "PrivateUsers" not in service  # it would hide the caller's uid
    assert service["StandardInput"] == ["socket"]


def test_what_the_service_prints_is_not_sent_to_the_caller() -> None:
    service = section(SERVICE, "Service")
    assert (service["StandardOutput"], service["StandardError"]) == (["null"], ["journal"])


def test_the_service_has_no_capability_and_leaves_no_core() -> None:
    service = section(SERVICE, "Service")
    assert service["CapabilityBoundingSet"] == [""]
    assert service["LimitCORE"] == ["0"]


def test_the_service_may_write_its_own_data_only() -> None:
    service = section(SERVICE, "Service")
    assert service["ProtectSystem"] == ["strict"]
    assert service["ReadWritePaths"] == ["-" + str(Path(Paths().cache).parent)]
    assert service["RuntimeDirectory"] == [Path(Paths().run).name]


def test_the_program_that_it_starts_reads_no_environment_and_is_there() -> None:
    assert section(SERVICE, "Service")["ExecStart"] == [f"/usr/bin/python3 -I -m {server.__name__}"]


def test_systemd_ends_what_does_not_end_by_itself_and_limits_connections() -> None:
    assert int(section(SERVICE, "Service")["RuntimeMaxSec"][0]) > server.SECONDS
    socket = section(SOCKET, "Socket")
    assert int(socket["MaxConnectionsPerSource"][0]) > server.CONNECTIONS
    assert int(socket["MaxConnections"][0]) >= 4 * int(socket["MaxConnectionsPerSource"][0])
