"""The units of the self-service, the warm helper, the verify service and the watch over a set-up, as systemd itself
understands them without running.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pam_totp.cli import join, verify
from pam_totp.doctor import fleet as doctor_fleet
from pam_totp.engine import warm
from pam_totp.fleet import agent
from pam_totp.host import systemd
from pam_totp.host.paths import Paths
from pam_totp.selfservice import server, verbs
from pam_totp.verify import server as verify_server

UNITS = Path(__file__).resolve().parents[2] / "debian"
SOCKET = "pam-totp-self.socket"
SERVICE = "pam-totp-self@.service"
WARM_SOCKET = "pam-totp-login.socket"
WARM = "pam-totp-login.service"
VERIFY_SOCKET = "pam-totp-verify.socket"
VERIFY = "pam-totp-verify.service"
WATCH = "pam-totp-pinned.path"
CHANGED = "pam-totp-changed.service"
CHECK = "pam-totp-pinned.service"
AGENT = "pam-totp-agent.service"
DOCTOR, DAILY = "pam-totp-doctor.service", "pam-totp-doctor.timer"


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


@pytest.mark.parametrize("unit", [SOCKET, "pam-totp-self@0.service", WARM_SOCKET, WARM, VERIFY_SOCKET, VERIFY, AGENT])
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    for name in (SOCKET, SERVICE, WARM_SOCKET, WARM, VERIFY_SOCKET, VERIFY, AGENT):
        shutil.copy(UNITS / name, tmp_path)
    done = analyze("verify", "--man=no", tmp_path / unit)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


@pytest.mark.parametrize("service", [SERVICE, WARM, VERIFY, AGENT])
def test_the_exposure_of_the_service_is_low(service: str) -> None:
    done = analyze("security", "--offline=yes", "--threshold=30", "--no-pager", UNITS / service)
    assert done.returncode == 0, done.stdout + done.stderr
    [exposure] = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    # Of the network, the warm helper and the verify service may ask a name service there, and the agent the directory.
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


@pytest.mark.parametrize("unit", [SERVICE, WARM, VERIFY, AGENT])
def test_the_service_has_no_capability_and_leaves_no_core(unit: str) -> None:
    service = section(unit, "Service")
    assert service["CapabilityBoundingSet"] == [""]
    assert service["LimitCORE"] == ["0"]


@pytest.mark.parametrize("unit", [SERVICE, WARM, VERIFY, AGENT])
def test_the_service_may_write_its_own_data_only(unit: str) -> None:
    service = section(unit, "Service")
    assert service["ProtectSystem"] == ["strict"]
    assert service["ReadWritePaths"] == ["-" + str(Path(Paths().cache).parent)]
    assert service["RuntimeDirectory"] == [Path(Paths().run).name]


def test_the_program_that_it_starts_reads_no_environment_and_is_there() -> None:
    assert section(SERVICE, "Service")["ExecStart"] == [f"/usr/bin/python3 -I -m {server.__name__}"]


def test_systemd_ends_what_does_not_end_by_itself_and_limits_connections() -> None:
    assert int(section(SERVICE, "Service")["RuntimeMaxSec"][0]) > verbs.SECONDS
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
        f'from pam_totp.engine import warm; warm.{warm.stay_warm.__name__}(3)"'
    )


# The verify service


def test_the_verify_service_is_where_the_command_says_and_knows_its_clients_by_the_kernel() -> None:
    socket = section(VERIFY_SOCKET, "Socket")
    assert socket["ListenStream"] == [verify.SOCKET] == [verify_server.SOCKET]
    assert socket["SocketMode"] == ["0666"]
    service = section(VERIFY, "Service")
    assert "PrivateUsers" not in service  # it would hide the client's uid
    assert service["ExecStart"] == [f"/usr/bin/python3 -I -m {verify_server.__name__}"]


def test_the_verify_service_begins_again_however_often_it_ended() -> None:
    assert section(VERIFY_SOCKET, "Socket")["TriggerLimitIntervalSec"] == ["0"]
    assert section(VERIFY, "Unit")["StartLimitIntervalSec"] == ["0"]
    assert int(section(VERIFY, "Service")["TasksMax"][0]) > 4 * verify_server.WORKERS


# The agent of a host of a fleet


def test_the_agent_is_off_until_the_host_joins_and_begins_again_however_often_it_was_killed() -> None:
    rules = (UNITS / "rules").read_text(encoding="utf-8")
    assert "--name=pam-totp-agent --no-enable\n" in rules
    assert join.UNIT == doctor_fleet.UNIT == AGENT
    assert section(AGENT, "Unit")["StartLimitIntervalSec"] == ["0"]
    service = section(AGENT, "Service")
    assert service["Restart"] == ["on-failure"]
    assert service["ExecStart"] == [f"/usr/bin/python3 -I -m {agent.__name__}"]
    assert "PrivateUsers" not in service  # it would hide whether a login is root's


# What watches over a set-up


def test_systemd_understands_every_line_of_the_watch(tmp_path: Path) -> None:
    for name in (WATCH, CHANGED, CHECK):
        text = (UNITS / name).read_text(encoding="utf-8").replace("/usr/bin/pam-totp", "/bin/true")
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = analyze("verify", "--man=no", *(tmp_path / name for name in (WATCH, CHANGED, CHECK)))
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


def test_the_watch_has_the_places_that_setup_changes_and_starts_the_check() -> None:
    here = Paths()
    assert section(WATCH, "Path")["PathChanged"] == [here.services, str(Path(here.drop_ins).parent), here.drop_ins]
    assert section(WATCH, "Path")["Unit"] == [CHANGED]
    assert section(CHANGED, "Service")["ExecStart"] == [f"/usr/bin/systemctl --no-block restart {CHECK}"]
    assert systemd.SERVICE == CHECK
    assert section(CHECK, "Service")["ExecStart"] == ["/usr/bin/pam-totp setup --check"]


def test_many_changes_do_not_stop_the_watch_and_sshd_never_waits_for_it() -> None:
    assert section(WATCH, "Path")["TriggerLimitIntervalSec"] == ["0"]
    for unit in (CHANGED, CHECK):
        assert section(unit, "Unit")["StartLimitIntervalSec"] == ["0"]
    assert not {"Before", "After"} & set(section(CHECK, "Unit"))
    assert section(CHECK, "Service")["KillMode"] == ["mixed"]
    assert section(CHECK, "Install")["WantedBy"] == ["multi-user.target"]


# What proves every day that codes are asked for


def test_systemd_understands_every_line_of_the_daily_proof(tmp_path: Path) -> None:
    for name in (DOCTOR, DAILY):
        text = (UNITS / name).read_text(encoding="utf-8").replace("/usr/bin/pam-totp", "/bin/true")
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = analyze("verify", "--man=no", *(tmp_path / name for name in (DOCTOR, DAILY)))
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])


def test_it_runs_daily_also_where_the_host_was_off_and_may_do_what_its_trial_needs() -> None:
    assert section(DAILY, "Timer")["OnCalendar"] == ["daily"]
    assert section(DAILY, "Timer")["Persistent"] == ["yes"]
    service = section(DOCTOR, "Service")
    assert service["ExecStart"] == ["/usr/bin/pam-totp doctor --log"]
    # A mount namespace of its own, and the question whether the clock is synchronised.
    assert not {"RestrictNamespaces", "ProtectClock", "PrivateMounts"} & set(service)


# What the directory does by timers


@pytest.mark.parametrize("name", ["pam-totp-mail", "pam-totp-renew"])
def test_systemd_understands_the_timers_of_the_directory_and_what_they_start_is_sandboxed(
    name: str, tmp_path: Path
) -> None:
    units = [f"{name}.service", f"{name}.timer"]
    for unit in units:
        text = (UNITS / "directory" / unit).read_text(encoding="utf-8")
        (tmp_path / unit).write_text(text.replace("/usr/bin/pam-totp-directory", "/bin/true"), encoding="utf-8")
    done = analyze("verify", "--man=no", *(tmp_path / unit for unit in units))
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])
    done = analyze("security", "--offline=yes", "--threshold=30", "--no-pager", tmp_path / units[0])
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_directory_may_open_as_many_files_as_it_takes_connections() -> None:
    # Its modules need Django, which is not here.
    source = (UNITS.parent / "pam_totp/directory/serve.py").read_text(encoding="utf-8")
    found = re.search(r"^MOST_CONNECTIONS = (\d+)$", source, re.MULTILINE)
    assert found is not None
    (limit,) = section("directory/pam-totp-directory.service", "Service")["LimitNOFILE"]
    assert int(limit) >= 2 * int(found[1])
