"""``pam-totp key`` where systemd runs: sealed to the host, unsealed at boot before sshd, or not."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.booted import Booted
from tests.lab.code import STEP, code
from tests.lab.recovery import sections
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.user import User

KEY, SEALED, UNSEALED = "/etc/pam-totp/key", "/etc/pam-totp/key.cred", "/run/pam-totp-key/key"
UNIT = "pam-totp-unseal.service"
WINDOW = 10


def apt(machine: Booted, *words: str) -> str:
    return machine.run(
        ["apt-get", "-q", "-y", "--no-install-recommends", *words],
        env={"DEBIAN_FRONTEND": "noninteractive"},
        timeout=120,
    ).stdout


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite that systemd has booted, with the packages, set up for key + code."""
    with Booted(suite) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        apt(machine, "install", *(f"/root/{package.name}" for package in debs))
        machine.sshd.drop_in("90-lab", "PerSourcePenalties no\n" if machine.sshd.knows("PerSourcePenalties=no") else "")
        machine.run(["pam-totp", "setup", "--variant", "key", "--yes"])
        yield machine


class Person:
    """alice, who types a code of a further step at each login: within the window, and not used yet."""

    def __init__(self, machine: Booted, user: User, secret: str) -> None:
        self._step = int(time.time() // STEP)
        self._machine = machine
        self._user = user
        self._secret = secret

    def gets_in(self) -> bool:
        """With a right code; and not with a wrong one."""
        self._machine.run(["pam-totp", "unlock", "alice"], check=False)
        wrong = self._machine.login(self._user, key=True, code="000000")
        assert wrong.asked_code
        assert not wrong.ok
        # A wide window is configured: each login has a code of its own.
        self._step = max(self._step + 1, int(time.time() // STEP))
        time.sleep(max(0, (self._step - WINDOW) * STEP - time.time()))
        return self._machine.login(self._user, key=True, code=code(self._secret, self._step * STEP)).ok

    def refused(self) -> str:
        """No login with a right code, and the reason in the log."""
        since = len(self._machine.journal())
        assert not self._machine.login(self._user, key=True, code=code(self._secret)).ok
        return "\n".join(line for line in self._machine.journal()[since:] if "pam_totp(" in line)


@pytest.fixture(scope="module")
def alice(booted: Booted) -> Person:
    user = booted.user("alice")
    secret = enroll(booted, user)
    booted.write("/etc/pam-totp/config.toml", f"window = {WINDOW}\n")
    booted.run(["pam-totp", "unlock", "alice"])
    return Person(booted, user, secret)


def status(machine: Booted, exit_code: int = 0) -> Any:
    done = machine.run(["pam-totp", "key", "status", "--json"], check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout)


def problems(machine: Booted, exit_code: int = 1) -> set[str]:
    return {each["id"] for each in status(machine, exit_code)["problems"]}


def exists(machine: Booted, path: str) -> bool:
    return machine.run(["test", "-e", path], check=False).returncode == 0


def mode(machine: Booted, path: str) -> str:
    return machine.run(["stat", "-c", "%U %a", path]).stdout.strip()


def test_a_sealed_key_is_unsealed_at_boot_before_sshd(booted: Booted, alice: Person) -> None:
    assert alice.gets_in()
    plain = booted.read(KEY)
    done = booted.run(["pam-totp", "key", "seal"]).stdout
    assert "bound to this host's key" in done
    assert not exists(booted, KEY)
    assert (mode(booted, SEALED), mode(booted, UNSEALED)) == ("root 400", "root 400")
    assert mode(booted, "/run/pam-totp-key") == "root 700"
    assert plain.split()[2] not in booted.sh("cat /etc/pam-totp/*").stdout
    assert status(booted)["bound"] == ["host"]
    assert alice.gets_in()
    assert "nothing to do" in booted.run(["pam-totp", "key", "seal"]).stdout
    assert "nothing to do" in booted.run(["pam-totp", "init"]).stdout
    booted.reboot()
    assert alice.gets_in()
    assert booted.read(UNSEALED) == plain
    assert status(booted)["problems"] == []
    times = [
        int(booted.run(["systemctl", "show", f"--property={name}Monotonic", "--value", unit]).stdout)
        for name, unit in (("ActiveEnterTimestamp", UNIT), ("ExecMainStartTimestamp", "ssh.service"))
    ]
    assert 0 < times[0] <= times[1]


def test_a_sealed_key_is_rotated_and_the_new_one_is_sealed(booted: Booted, alice: Person) -> None:
    former = booted.read(UNSEALED)
    booted.run(["pam-totp", "key", "rotate"])
    assert booted.read(UNSEALED) != former
    assert booted.run(["ls", "-A", "/etc/pam-totp", "/run/pam-totp-key"]).stdout.split() == [
        *("/etc/pam-totp:", "config.toml", "key.cred"),
        *("/run/pam-totp-key:", "key"),
    ]
    assert status(booted)["rotated"]
    assert alice.gets_in()


def test_a_rotation_that_a_reboot_cuts_short_goes_on_after_it(booted: Booted, alice: Person) -> None:
    program = """
import os
from pam_totp.cache import rotation
from pam_totp.host.paths import Paths
rotation.rotate(Paths(), lambda _: os._exit(7))
"""
    assert booted.run(["/usr/bin/python3", "-c", program], check=False).returncode == 7
    booted.reboot()
    assert exists(booted, f"{UNSEALED}.next")
    assert problems(booted) == {"key-unfinished"}
    assert alice.gets_in()
    assert booted.run(["pam-totp", "key", "seal"], check=False).returncode == 3
    booted.run(["pam-totp", "key", "rotate"])
    assert status(booted)["problems"] == []
    assert alice.gets_in()


def test_an_upgrade_and_a_reinstallation_keep_it_sealed(booted: Booted, debs: tuple[Path, ...], alice: Person) -> None:
    booted.run(["dpkg", "--install", *(f"/root/{package.name}" for package in debs)])
    assert status(booted)["problems"] == []
    assert alice.gets_in()


def test_a_backup_put_back_leaves_the_key_sealed_and_one_of_before_a_rotation_is_sealed_anew(
    booted: Booted, alice: Person
) -> None:
    sealed = booted.read(SEALED)
    booted.run(["pam-totp", "backup", "/root/sealed.tar"])
    assert "in the clear" not in booted.run(["pam-totp", "restore", "/root/sealed.tar", "--yes"]).stdout
    assert not exists(booted, KEY)
    assert booted.read(SEALED) == sealed
    assert status(booted)["problems"] == []
    assert alice.gets_in()

    booted.run(["pam-totp", "key", "rotate"])
    said = booted.run(["pam-totp", "restore", "/root/sealed.tar", "--yes"]).stdout
    assert f"the key is in {KEY} in the clear, beside one that is sealed: run pam-totp key seal\n" in said
    assert problems(booted) == {"key-plain", "key-another-sealed", "key-bound-to-less"}
    assert alice.gets_in()
    booted.run(["pam-totp", "key", "seal"])
    assert not exists(booted, KEY)
    assert status(booted)["problems"] == []
    booted.reboot()
    assert status(booted)["problems"] == []
    assert alice.gets_in()


def test_without_the_unit_it_is_not_sealed_and_that_is_told(booted: Booted) -> None:
    booted.run(["systemctl", "disable", UNIT])
    assert problems(booted) == {"key-unseal-disabled"}
    done = booted.run(["pam-totp", "key", "seal"], check=False)
    assert (done.returncode, f"systemctl enable {UNIT}" in done.stderr) == (3, True)
    booted.run(["systemctl", "enable", UNIT])


def test_one_that_is_bound_to_nothing_is_told_and_not_unsealed(booted: Booted) -> None:
    kept = booted.read(SEALED)
    # Its name differs between the releases of systemd.
    script = """
        for with in null tpm2-absent; do
            systemd-creds encrypt --name=pam-totp-key --with-key=$with "$1" - >"$2" && exit
        done
    """
    booted.sh(script, UNSEALED, SEALED)
    assert {"key-bound-to-nothing", "key-bound-to-less"} <= problems(booted)
    done = booted.run(["pam-totp", "key", "unseal", "--boot"], check=False)
    assert (done.returncode, "bound to nothing" in done.stderr) == (3, True)
    booted.write(SEALED, kept, mode=0o400)
    assert status(booted)["problems"] == []


def test_where_it_does_not_open_sshd_starts_and_refuses_until_the_key_is_restored(
    booted: Booted, alice: Person
) -> None:
    why, restore, seal = sections()["Sealed key"]
    booted.run(["install", "-D", "-m", "400", UNSEALED, "/root/backup/key"])
    booted.run(["mv", "/var/lib/systemd/credential.secret", "/root/"])
    booted.reboot()
    assert booted.run(["systemctl", "is-active", "ssh.service"]).stdout.strip() == "active"
    assert booted.run(["systemctl", "is-failed", UNIT]).stdout.strip() == "failed"
    assert "reason=key-sealed" in alice.refused()
    assert problems(booted, 3) == {"key-unusable", "key-not-openable"}
    assert "does not open here" in booted.sh(why).stdout
    booted.sh(restore)
    assert alice.gets_in()
    assert problems(booted) == {"key-plain", "key-not-openable", "key-bound-to-less"}
    booted.sh(seal)
    assert status(booted)["problems"] == []
    assert alice.gets_in()


@pytest.mark.full
def test_where_unsealing_hangs_sshd_starts_all_the_same(booted: Booted, alice: Person) -> None:
    hangs = "[Service]\nExecStart=\nExecStart=/bin/sleep 1000\nTimeoutStartSec=3\n"
    booted.write(f"/etc/systemd/system/{UNIT}.d/hangs.conf", hangs)
    booted.reboot()
    assert booted.run(["systemctl", "is-active", "ssh.service"]).stdout.strip() == "active"
    assert "reason=key-sealed" in alice.refused()
    booted.run(["rm", "-r", f"/etc/systemd/system/{UNIT}.d"])
    booted.run(["systemctl", "daemon-reload"])
    booted.run(["systemctl", "restart", UNIT])
    assert alice.gets_in()


def test_it_is_put_back_in_the_clear(booted: Booted, alice: Person) -> None:
    plain = booted.read(UNSEALED)
    booted.run(["pam-totp", "key", "unseal"])
    assert booted.read(KEY) == plain
    assert not exists(booted, SEALED)
    assert not exists(booted, UNSEALED)
    assert status(booted)["sealed"] is None
    assert status(booted)["problems"] == []
    assert alice.gets_in()


def test_a_purge_leaves_nothing(booted: Booted) -> None:
    booted.run(["pam-totp", "key", "seal"])
    booted.run(["pam-totp", "setup", "--undo", "--yes"])
    apt(booted, "purge", "pam-totp")
    for path in (SEALED, UNSEALED, "/etc/pam-totp", "/run/pam-totp-key"):
        assert not exists(booted, path)
