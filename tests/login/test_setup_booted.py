"""``pam-totp setup`` where systemd runs: reload, the dead man's switch, and noticing that enforcement is gone."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.booted import Booted
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.machine import Completed
    from tests.lab.user import User

pytestmark = pytest.mark.full

STACK = "/etc/pam.d/sshd"
DROP_IN = "/etc/ssh/sshd_config.d/00-pam-totp.conf"
PATIENCE = 30


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite that systemd has booted, with the packages and no limits on connections."""
    with Booted(suite) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        apt(machine, "install", *(f"/root/{package.name}" for package in debs))
        machine.sshd.drop_in("90-lab", "PerSourcePenalties no\n" if machine.sshd.knows("PerSourcePenalties=no") else "")
        machine.run(["systemctl", "restart", "ssh.service"])
        yield machine


@pytest.fixture(scope="module")
def alice(booted: Booted) -> User:
    """Enrolled, and allowed to use sudo without a password."""
    alice = booted.user("alice")
    booted.write("/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    enroll(booted, alice)
    return alice


@pytest.fixture(autouse=True)
def undone(booted: Booted) -> Iterator[None]:
    """Nothing is in force before and after each test."""
    yield
    run_setup(booted, "--undo", "--yes")


def apt(machine: Booted, *words: str) -> str:
    return machine.run(
        ["apt-get", "-q", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confnew", *words],
        env={"DEBIAN_FRONTEND": "noninteractive"},
        timeout=120,
    ).stdout


def run_setup(machine: Booted, *words: str, check: bool = True) -> Completed:
    return machine.run(["pam-totp", "setup", *words], check=check)


def asked(machine: Booted, user: User) -> bool:
    """Whether a login with the key comes to the question for the code."""
    machine.run(["pam-totp", "unlock", user.name])
    return machine.login(user, key=True, code="000000").asked_code


def until(machine: Booted, text: str, since: int) -> str:
    """The first line of the journal with a text in it, waited for."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = [line for line in machine.journal()[since:] if text in line]
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError(f"not in the journal: {text}\n" + "\n".join(machine.journal()[since:]))


def state(machine: Booted) -> str:
    script = """
        find /etc/pam.d /etc/ssh -type f -exec stat -c '%n %a %U %G' {} + | sort
        find /etc/pam.d /etc/ssh -type f -exec sha256sum {} + | sort
    """
    return machine.sh(script).stdout


def timer(machine: Booted) -> bool:
    return machine.run(["systemctl", "is-active", "pam-totp-pinned.timer"], check=False).stdout.strip() == "active"


def keep(machine: Booted, user: User, *, command: str = "sudo pam-totp setup --keep") -> bool:
    return machine.login(user, key=True, source="127.0.0.7", command=command).ok


def test_sshd_is_reloaded_by_systemd_and_what_the_package_installs_watches(booted: Booted, alice: User) -> None:
    done = json.loads(run_setup(booted, "--variant", "key", "--yes", "--json").stdout)
    assert done["reloaded"] == "systemctl reload ssh.service"
    assert asked(booted, alice)
    for unit, states in (("pam-totp-pinned.path", ("enabled", "active")), ("pam-totp-pinned.service", ("enabled",))):
        assert booted.run(["systemctl", "is-enabled", unit]).stdout.strip() == states[0]
    assert booted.run(["systemctl", "is-active", "pam-totp-pinned.path"]).stdout.strip() == "active"
    assert booted.run(["systemctl", "list-units", "--failed", "--no-legend", "pam-totp*"]).stdout == ""


def test_a_set_up_that_nobody_keeps_is_undone_by_itself(booted: Booted, alice: User) -> None:
    before = state(booted)
    since = len(booted.journal())
    run_setup(booted, "--variant", "key", "--revert-after", "1m", "--yes")
    assert asked(booted, alice)
    assert timer(booted)
    # As if a minute were nearly over.
    booted.sh('sed -i \'s/^  "until": .*/  "until": 1,/\' /var/lib/pam-totp/setup/sshd.json')
    booted.run(["systemctl", "start", "pam-totp-pinned.service"])
    until(booted, "action=setup-revert", since)
    assert state(booted) == before
    assert not asked(booted, alice)
    assert not timer(booted)


def test_the_timer_itself_undoes_it_and_brings_back_the_variant_of_before(booted: Booted, alice: User) -> None:
    run_setup(booted, "--variant", "key", "--yes")
    former = state(booted)
    run_setup(booted, "--variant", "combined", "--revert-after", "1m", "--yes")
    since = len(booted.journal())
    assert state(booted) != former
    end = time.monotonic() + 90
    while state(booted) != former and time.monotonic() < end:
        time.sleep(1)
    assert state(booted) == former
    until(booted, "action=setup-revert", since)
    assert run_setup(booted, "--check").stdout == "sshd: in force\n"
    assert asked(booted, alice)


def test_only_a_login_that_came_after_it_keeps_it(booted: Booted, alice: User) -> None:
    master = ("-M", "-S", "/run/shared", "-o", "ControlPersist=60")
    assert booted.login(alice, *master, key=True).ok
    run_setup(booted, "--variant", "key", "--robot", "alice@127.0.0.7", "--revert-after", "10m", "--yes")
    time.sleep(1)
    # Not on the console, not through a connection of before, and not in a shell that no login has.
    assert run_setup(booted, "--keep", check=False).returncode == 1
    shared = booted.run(["ssh", "-S", "/run/shared", "alice@127.0.0.1", "sudo pam-totp setup --keep"], check=False)
    assert (shared.returncode, "not kept" in shared.stderr) == (1, True)
    apart = "sudo systemd-run --quiet --pipe --wait pam-totp setup --keep"
    assert not keep(booted, alice, command=apart)
    assert timer(booted)
    assert keep(booted, alice)
    assert not timer(booted)
    assert "nothing to keep" in run_setup(booted, "--keep").stdout
    assert run_setup(booted, "--check").stdout == "sshd: in force\n"


def test_a_file_that_is_put_back_is_an_alert_at_once(booted: Booted, alice: User) -> None:
    original = booted.read(STACK)
    run_setup(booted, "--variant", "key", "--yes")
    since = len(booted.journal())
    booted.sh(f"cat >{STACK}.new && mv {STACK}.new {STACK}", input=original)
    assert "is missing" in until(booted, "action=enforcement-lost", since)
    urgent = booted.run(["journalctl", "--priority=alert", "--output=cat", "--no-pager", "--quiet"]).stdout
    assert "action=enforcement-lost" in urgent


def test_a_change_while_a_check_is_running_is_not_missed(booted: Booted, alice: User) -> None:
    original = booted.read(STACK)
    for _ in range(5):
        run_setup(booted, "--variant", "key", "--yes")
        since = len(booted.journal())
        # What starts a check, and the change that matters a moment later, while that check looks.
        booted.sh(
            f"touch /etc/pam.d/nothing; sleep 0.$(shuf -i 05-35 -n 1); cat >{STACK}.new && mv {STACK}.new {STACK}",
            input=original,
        )
        until(booted, "action=enforcement-lost", since)


def test_where_it_is_enforced_it_comes_back_by_itself(booted: Booted, alice: User) -> None:
    original = booted.read(STACK)
    run_setup(booted, "--variant", "key", "--enforce", "--yes")
    since = len(booted.journal())
    booted.write(STACK, original)
    until(booted, "action=enforcement-restored", since)
    assert asked(booted, alice)
    since = len(booted.journal())
    booted.run(["rm", DROP_IN])
    until(booted, "action=enforcement-restored", since)
    assert asked(booted, alice)


def test_a_newer_openssh_server_with_its_own_file_is_noticed_by_dpkg(booted: Booted, alice: User) -> None:
    """As in an upgrade of the distribution that is told to take its own configuration files."""
    booted.sh(
        """
        set -e
        rm -rf /root/tree
        mkdir -p /root/tree/DEBIAN /root/tree/etc/pam.d
        printf 'Package: of-a-newer-release\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@example.org>\\n' \\
            >/root/tree/DEBIAN/control
        printf 'Replaces: openssh-server\\nDescription: brings another file\\n' >>/root/tree/DEBIAN/control
        cp /etc/pam.d/sshd /root/tree/etc/pam.d/sshd
        echo '# of a newer release' >>/root/tree/etc/pam.d/sshd
        echo /etc/pam.d/sshd >/root/tree/DEBIAN/conffiles
        dpkg-deb --root-owner-group -b /root/tree /root/newer.deb >/dev/null
        """
    )
    run_setup(booted, "--variant", "key", "--enforce", "--yes")
    # dpkg alone has to notice it.
    booted.run(["systemctl", "stop", "pam-totp-pinned.path"])
    since = len(booted.journal())
    try:
        said = booted.run(["dpkg", "--force-confnew", "-i", "/root/newer.deb"]).stdout
    finally:
        booted.run(["systemctl", "start", "pam-totp-pinned.path"])
    assert "of a newer release" in booted.read(STACK), said
    until(booted, "action=enforcement-lost", since)
    until(booted, "action=enforcement-restored", since)
    assert asked(booted, alice)
