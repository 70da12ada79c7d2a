"""From the released 0.1.0 to this version, with logins going on, and where the disk has no room for the migration."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import package
from tests.lab.code import STEP, code, left
from tests.lab.machine import Machine
from tests.lab.setup import enroll, use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.roots import Root
    from tests.lab.user import User

# Where 0.1.0 was released.
RELEASED = "5a2cc24"
OLD, NEW = "/root/old.deb", "/root/new.deb"
CONFIG = "/etc/pam-totp/config.toml"
CACHE = "/var/lib/pam-totp"
PEOPLE = 14


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of 0.1.0, built from its own sources. The clone must have the history: git fetch --unshallow."""
    directory = tmp_path_factory.mktemp("released")
    tree = directory / "pam-totp"
    tree.mkdir()
    git = ["git", "-c", f"safe.directory={package.CHECKOUT}", "-C", str(package.CHECKOUT)]
    archive = subprocess.run([*git, "archive", RELEASED], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-C", str(tree), "-x"], input=archive, check=True)
    command = ["dpkg-buildpackage", "--build=binary", "--unsigned-source", "--unsigned-changes"]
    subprocess.run(command, cwd=tree, env=package.ENVIRONMENT, check=True, capture_output=True)
    [deb] = directory.glob("pam-totp_0.1.0_all.deb")
    return deb


@pytest.fixture
def machine(base_root: Root, released: Path, debs: tuple[Path, ...]) -> Iterator[Machine]:
    """A machine with 0.1.0, as apt leaves it, and the new package ready in it."""
    with Machine(base_root) as machine:
        machine.write(OLD, released.read_bytes())
        machine.write(NEW, debs[0].read_bytes())
        install(machine, OLD)
        yield machine


def install(machine: Machine, deb: str) -> str:
    script = 'apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$1" 2>&1'
    return machine.sh(script, deb, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=200).stdout


def schema(machine: Machine) -> str:
    return machine.run(["sqlite3", f"{CACHE}/cache.db", "PRAGMA user_version"]).stdout.strip()


class Crowd:
    """People who log in, each once with a right code, and others who must never get in; until told to stop."""

    def __init__(self, machine: Machine, secrets: dict[User, str], intruders: dict[User, str | None]) -> None:
        self.machine = machine
        self.waiting = list(secrets.items())
        self.intruders = intruders
        self.right: list[tuple[float, User, bool]] = []
        self.in_wrongly: list[User] = []
        self.tried = 0
        self.over = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._log_in, self._break_in)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _log_in(self) -> None:
        # Who is refused for a moment tries again with the next code, as people do.
        while self.waiting and not self.over.is_set():
            user, secret = self.waiting.pop(0)
            ok = self.machine.login(user, key=True, code=code(secret)).ok
            self.right.append((time.monotonic(), user, ok))
            if not ok:
                self.waiting.append((user, secret))

    def _break_in(self) -> None:
        while not self.over.is_set():
            for user, answer in self.intruders.items():
                self.tried += 1
                if self.machine.login(user, key=True, code=answer).ok:
                    self.in_wrongly.append(user)


def test_nobody_gets_in_wrongly_while_it_is_upgraded_and_refusals_last_a_moment(machine: Machine) -> None:
    people = {user: enroll(machine, user) for user in (machine.user(f"user{number}") for number in range(PEOPLE))}
    victim, stranger, pending = (machine.user(name) for name in ("victim", "stranger", "pending"))
    enroll(machine, victim)
    enroll(machine, pending, pending=True)
    machine.write(CONFIG, 'unenrolled = "deny"\n')
    use(machine, "key-and-code")
    before, during = dict(list(people.items())[:2]), dict(list(people.items())[2:])
    spent = {}
    for user, secret in before.items():
        if left() < 5:
            time.sleep(left() + 0.1)
        spent[user] = code(secret)
        assert machine.login(user, key=True, code=spent[user]).ok
    with Crowd(machine, during, {victim: "000000", stranger: None, pending: "000000"}) as crowd:
        time.sleep(1)
        start = time.monotonic()
        said = install(machine, NEW)
        end = time.monotonic()
        for user, answer in spent.items():
            assert not machine.login(user, key=True, code=answer).ok
        while crowd.waiting and time.monotonic() < end + 4 * STEP:
            time.sleep(0.1)
    assert "could not set up" not in said
    assert schema(machine) == "2"
    assert crowd.in_wrongly == []
    assert crowd.tried > 5
    assert {user for _, user, ok in crowd.right if ok} == set(during)
    refused = [when for when, _, ok in crowd.right if not ok]
    # A login that began before the upgrade may end a little after it.
    assert all(start < when < end + 10 for when in refused), (start, end, crowd.right)
    status = machine.run(["pam-totp", "status"])
    assert (status.returncode, "pending" in status.stdout) == (0, True)
    machine.run(["rm", CONFIG])
    assert not machine.login(stranger, key=True).ok


def test_a_disk_without_room_for_the_migration_locks_nobody_out(machine: Machine) -> None:
    alice, stranger = machine.user("alice"), machine.user("stranger")
    secret = enroll(machine, alice)
    machine.write(CONFIG, 'unenrolled = "deny"\n')
    use(machine, "key-and-code")
    if left() < 25:
        time.sleep(left() + 0.1)
    with machine.tmpfs(CACHE, size="1m"):
        machine.sh('rm -f "$1/cache.db-journal"; dd if=/dev/zero of="$1/fill" bs=4k 2>/dev/null || true', CACHE)
        machine.sh(
            'install -d -m 700 /run/pam-totp; echo "0 $(cat /proc/sys/kernel/random/boot_id) 0" >/run/pam-totp/made'
        )
        machine.run(["chmod", "600", "/run/pam-totp/made"])
        said = install(machine, NEW)
        assert "could not set up the key and the cache" in said
        assert "free space" in said
        assert "pam-totp migrate" in said
        assert schema(machine) == "1"
        right = code(secret)
        assert machine.login(alice, key=True, code=right).ok
        assert not machine.login(alice, key=True, code=right).ok
        assert not machine.login(stranger, key=True).ok
        status = machine.run(["pam-totp", "status"], check=False)
        assert (status.returncode, "pam-totp migrate" in status.stderr) == (3, True)
        machine.run(["rm", f"{CACHE}/fill"])
        machine.run(["pam-totp", "migrate"])
        assert schema(machine) == "2"
        assert machine.run(["pam-totp", "status"]).returncode == 0
        assert not machine.login(alice, key=True, code=right).ok
        assert machine.login(alice, key=True, code=code(secret, time.time() + STEP)).ok


def test_the_former_version_is_not_installed_over_this_one(machine: Machine) -> None:
    install(machine, NEW)
    done = machine.run(["dpkg", "--install", OLD], check=False)
    assert done.returncode != 0
    assert "refusing to replace version 0.2.0" in done.stderr + done.stdout
    assert machine.run(["pam-totp", "status"]).returncode == 0
