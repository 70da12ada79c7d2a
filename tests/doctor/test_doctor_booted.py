"""``pam-totp doctor`` where systemd runs: the daily timer, what dpkg starts, and an sshd that systemd starts itself."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.booted import Booted
from tests.lab.fleet import Fleet
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.machine import Completed

pytestmark = pytest.mark.full

STACK = "/etc/pam.d/sshd"
# A container cannot know whether the clock of its host is synchronised.
CLOCK = "clock-not-synchronised"
PATIENCE = 60


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite that systemd has booted, with the key variant in force and one user, who is enrolled."""
    with Booted(suite) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        machine.run(
            ["apt-get", "-q", "-y", "--no-install-recommends", "install", *(f"/root/{each.name}" for each in debs)],
            env={"DEBIAN_FRONTEND": "noninteractive"},
            timeout=120,
        )
        machine.run(["systemctl", "restart", "ssh.service"])
        enroll(machine, machine.user("alice"))
        machine.run(["pam-totp", "setup", "--variant", "key", "--yes"])
        yield machine


def doctor(machine: Booted) -> set[str]:
    document = json.loads(machine.run(["pam-totp", "doctor", "--json"], check=False).stdout)
    return {each["id"] for each in document["findings"]} - {CLOCK}


def proof(machine: Booted) -> Completed:
    """What the timer starts."""
    return machine.run(["systemctl", "start", "pam-totp-doctor.service"], check=False)


def until(machine: Booted, text: str, since: int) -> str:
    """The first line of the journal with a text in it, waited for."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = [line for line in machine.journal()[since:] if text in line]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"not in the journal: {text}\n" + "\n".join(machine.journal()[since:]))


def test_the_timer_waits_for_its_day_and_what_it_starts_proves_that_codes_are_in_force(booted: Booted) -> None:
    for word in ("is-enabled", "is-active"):
        assert booted.run(["systemctl", word, "pam-totp-doctor.timer"]).stdout.strip() in ("enabled", "active")
    since = len(booted.journal())
    assert proof(booted).returncode == 0
    assert until(booted, "MFA is in force: sshd", since)
    # What the trial decided is nobody's login.
    assert not [line for line in booted.journal()[since:] if "outcome=" in line or "su:" in line]
    assert doctor(booted) == set()


def test_a_loss_is_an_alert_and_a_unit_that_failed(booted: Booted) -> None:
    line = booted.read(STACK)
    booted.run(["systemctl", "stop", "pam-totp-pinned.path"])
    since = len(booted.journal())
    try:
        booted.sh(f"sed -i 's/^auth required pam_totp/auth optional pam_totp/' {STACK}")
        assert proof(booted).returncode != 0
        assert "reason=line-not-required" in until(booted, "action=not-in-force", since)
        urgent = booted.run(["journalctl", "--priority=alert", "--output=cat", "--no-pager", "--quiet"]).stdout
        assert "reason=line-not-required" in urgent
    finally:
        booted.write(STACK, line)
        booted.run(["systemctl", "start", "pam-totp-pinned.path"])
    assert proof(booted).returncode == 0


def test_an_upgrade_of_pam_or_python_starts_it(booted: Booted) -> None:
    """A package with a file in the place of one of theirs, as a newer version of theirs has."""
    script = """
        set -e
        rm -rf /root/tree
        mkdir -p "/root/tree/DEBIAN" "/root/tree$(dirname "$1")"
        printf 'Package: of-a-newer-release\\nVersion: %s\\nArchitecture: all\\n' "$2" >/root/tree/DEBIAN/control
        printf 'Maintainer: a <a@example.org>\\nDescription: brings another file\\n' >>/root/tree/DEBIAN/control
        echo new >"/root/tree$1"
        dpkg-deb --root-owner-group -b /root/tree /root/newer.deb >/dev/null
        dpkg -i /root/newer.deb
    """
    multiarch = booted.sh("dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || ls /usr/lib | grep linux-gnu").stdout
    for number, path in enumerate((f"/usr/lib/{multiarch.split()[0]}/security/pam_new.so", "/usr/share/pam/new")):
        done = booted.sh(script, path, str(number + 1))
        assert "MFA is in force: sshd" in done.stderr, done.stdout


def test_a_changed_configuration_is_found_until_the_printed_command_has_reloaded_it(booted: Booted) -> None:
    booted.sh("echo '# later' >>/etc/ssh/sshd_config")
    document = json.loads(booted.run(["pam-totp", "doctor", "--json"], check=False).stdout)
    [each] = [each for each in document["findings"] if each["id"] != CLOCK]
    assert (each["id"], each["mend"]) == ("not-reloaded", "systemctl reload ssh.service")
    booted.sh(each["mend"])
    end = time.monotonic() + PATIENCE
    while doctor(booted) and time.monotonic() < end:
        time.sleep(0.2)
    assert doctor(booted) == set()


def test_an_sshd_that_systemd_starts_for_each_connection_is_as_good(booted: Booted) -> None:
    booted.sh("systemctl stop ssh.service; systemctl start ssh.socket")
    try:
        assert doctor(booted) == set()
        assert booted.login("alice", key=True, code="000000").asked_code
    finally:
        booted.sh("systemctl stop ssh.socket; systemctl start ssh.service")


def test_an_agent_that_does_not_run_is_found_and_started_by_the_printed_command(booted: Booted) -> None:
    with Fleet(booted) as fleet:
        fleet.join()
        fleet.directory.publish([])
        booted.run(["pam-totp", "sync"])
        assert doctor(booted) == set()
        booted.run(["systemctl", "disable", "--now", "pam-totp-agent.service"])
        document = json.loads(booted.run(["pam-totp", "doctor", "--json"], check=False).stdout)
        [each] = [each for each in document["findings"] if each["id"] != CLOCK]
        assert each["id"] == "fleet-agent-off"
        booted.sh(each["mend"])
        assert doctor(booted) == set()
        booted.run(["pam-totp", "leave", "--yes"])
