"""The units of the self-service and of the warm helper, as systemd itself understands them without running."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pam_totp.engine import helper
from pam_totp.host.paths import Paths
from pam_totp.selfservice import server

UNITS = Path(__file__).resolve().parents[2] / "debian"
SOCKET = "pam-totp-self.socket"
SERVICE = "pam-totp-self@.service"
WARM_SOCKET = "pam-totp-login.socket"
WARM = "pam-totp-login.service"


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


@pytest.mark.parametrize("unit", [SOCKET, "pam-totp-self@0.service", WARM_SOCKET, WARM])
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    for name in (SOCKET, SERVICE, WARM_SOCKET, WARM):
        shutil.copy(UNITS / name, tmp_path)
    done = analyze("verify", "--man=no", tmp_path / unit)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


@pytest.mark.parametrize("service", [SERVICE, WARM])
def test_the_exposure_of_the_service_is_low(service: str) -> None:
    done = analyze("security", "--offline=yes", "--threshold=30", "--no-pager", UNITS / service)
    assert done.returncode == 0, done.stdout + done.stderr
    [exposure] = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    # Of the network, the warm helper may ask a name service there.
    assert float(exposure) <= (2.0 if service == SERVICE else 3.0)


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


@pytest.mark.parametrize("unit", [SERVICE, WARM])
def test_the_service_has_no_capability_and_leaves_no_core(unit: str) -> None:
    service = section(unit, "Service")
    assert service["CapabilityBoundingSet"] == [""]
    assert service["LimitCORE"] == ["0"]


@pytest.mark.parametrize("unit", [SERVICE, WARM])
def test_the_service_may_write_its_own_data_only(unit: str) -> None:
    service = section(unit, "Service")
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


def test_the_warm_helper_is_where_the_module_looks_for_it_and_roots_alone() -> None:
    source = (UNITS.parent / "pam_totp/engine/pam_totp.c").read_text(encoding="utf-8")
    socket = section(WARM_SOCKET, "Socket")
    assert re.findall(r'#define WARM "(.*)"', source) == socket["ListenStream"]
    assert Path(socket["ListenStream"][0]).parent == Path(Paths().run)
    assert (socket["SocketMode"], socket["DirectoryMode"]) == (["0600"], ["0700"])
    [library] = re.findall(r'#define LIBRARY "(.*)"', source)
    [command] = section(WARM, "Service")["ExecStart"]
    assert command == (
        f"/usr/bin/python3 -I -S -B -c \"import sys; sys.path.append('{library}'); "
        f'from pam_totp.engine import helper; helper.{helper.stay_warm.__name__}(3)"'
    )
