"""docs/recovery.md, command by command: each section's trouble is made, its blocks are run as written, and it works."""

from __future__ import annotations

import base64
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.code import STEP, code, left
from tests.lab.recovery import sections
from tests.lab.setup import enroll, use
from tests.lab.user import User

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.machine import Machine

pytestmark = pytest.mark.row("recovery")

KEY = "/etc/pam-totp/key"
CACHE = "/var/lib/pam-totp/cache.db"
CONFIG = "/etc/pam-totp/config.toml"


class Scene:
    """A host with sshd and one user, and the blocks of a section to run on it."""

    def __init__(self, machine: Machine, blocks: list[str]) -> None:
        self.machine = machine
        self._blocks = iter(blocks)
        self.alice: User = machine.user("alice")
        use(machine, "key-and-code")
        self.secret = enroll(machine, self.alice)

    def run(self) -> str:
        """Run the next block on a terminal, as root; where it enrols, scan the key and type its code."""
        block = next(self._blocks)
        with self.machine.terminal(["sh", "-e", "-c", block]) as session:
            if "enroll" in block:
                session.expect("Code from the app: ")
                key = re.findall(r"^  key  ([A-Z2-7 ]+)$", session.screen, re.MULTILINE)[-1]
                self.secret = key.replace(" ", "")
                base64.b32decode(self.secret)
                # The code of the step before: this step's is then good for a login.
                if left() < 10:
                    time.sleep(left())
                session.answer(code(self.secret, time.time() - STEP))
                session.expect("Print recovery codes too")
                session.answer("n")
            elif "pam-totp check" in block:
                session.expect("Code from the app: ")
                session.answer(code(self.secret))
            status = session.wait()
            assert status == 0, session.screen
            return session.screen

    def refused(self) -> str:
        """No login; what the log says."""
        mark = self.machine.mark()
        assert not self.machine.login(self.alice, key=True, code=code(self.secret)).ok
        return "\n".join(map(str, self.machine.log(mark)))

    def works(self, step: int = 0) -> None:
        """A login with a code works, and no login without one."""
        assert not self.machine.login(self.alice, key=True, code="000000").ok
        assert self.machine.login(self.alice, key=True, code=code(self.secret, time.time() + step * STEP)).ok

    def backed_up(self) -> None:
        """Do what the page says to do before anything happens."""
        (block,) = sections()["Before anything happens"]
        self.machine.sh(block)

    def done(self) -> None:
        """Nothing of the section was left out."""
        assert next(self._blocks, None) is None


@pytest.fixture
def scene(request: pytest.FixtureRequest, fresh_machine: Machine, tally: Callable[..., None]) -> Iterator[Scene]:
    """The section that a test's name stands for."""
    marker = request.node.get_closest_marker("section")
    blocks = sections()[marker.args[0]]
    scene = Scene(fresh_machine, blocks)
    yield scene
    scene.done()
    tally(len(blocks))


def test_every_section_of_the_page_is_tried() -> None:
    tried = {
        mark.args[0]
        for name, function in globals().items()
        if name.startswith("test_")
        for mark in getattr(function, "pytestmark", [])
        if mark.name == "section"
    }
    # That one needs systemd: tests/login/test_key_booted.py tries it.
    assert tried | {"Sealed key"} == set(sections())


@pytest.mark.section("Before anything happens")
def test_a_backup_is_whole_and_private(scene: Scene) -> None:
    scene.run()
    scene.machine.sh(f"rm {KEY} {CACHE}")
    assert "key-missing" in scene.refused()
    scene.machine.sh("pam-totp restore /root/backup/pam-totp.tar --yes")
    scene.works()
    assert scene.machine.sh("stat -c %a /root/backup /root/backup/pam-totp.tar").stdout.split() == ["700", "600"]


@pytest.mark.section("Lost phone")
def test_a_lost_phone_is_replaced_and_bridged(scene: Scene) -> None:
    lost = scene.secret
    scene.run()
    assert scene.secret != lost
    scene.works()
    scene.run()
    assert not scene.machine.login(scene.alice, key=True).asked_code
    scene.run()
    assert scene.machine.login(scene.alice, key=True).asked_code


@pytest.mark.section("Another uid")
def test_a_user_whose_uid_was_changed_keeps_the_enrolment(scene: Scene) -> None:
    scene.machine.account("usermod", "--uid", "5001", scene.alice.name)
    assert "uid-changed" in scene.refused()
    assert "for uid 5001 now" in scene.run()
    scene.works(1)


@pytest.mark.section("Renamed user")
def test_a_renamed_user_keeps_the_enrolment_and_a_successor_gets_rid_of_it(scene: Scene) -> None:
    machine, alice = scene.machine, scene.alice
    machine.account("usermod", "--login", "alicia", "alice")
    machine.run(["cp", "/root/.ssh/alice", "/root/.ssh/alicia"])
    scene.alice = User("alicia", alice.uid, alice.password)
    assert "name-changed" in scene.refused()
    scene.run()
    scene.works()
    machine.account("usermod", "--login", "alice", "alicia")
    machine.run(["pam-totp", "rename", "alicia", "alice", "--yes"])
    machine.account("usermod", "--login", "alicia", "alice")
    scene.run()
    assert machine.login(scene.alice, key=True).ok


@pytest.mark.section("Locked account")
def test_a_locked_account_is_unlocked(scene: Scene) -> None:
    changed(scene, "account.ledger.locked, account.ledger.row = True, 100")
    assert "locked" in scene.refused()
    scene.run()
    scene.works()


@pytest.mark.section("Lost key")
def test_a_lost_key_is_restored_or_replaced(scene: Scene) -> None:
    scene.backed_up()
    scene.machine.sh(f"rm {KEY}")
    assert "key-missing" in scene.refused()
    scene.run()
    scene.works()
    scene.machine.sh(f"rm {KEY}")
    scene.run()
    scene.works()


@pytest.mark.section("Broken cache")
def test_a_broken_record_is_replaced_and_a_broken_cache_restored(scene: Scene) -> None:
    scene.machine.run(["sqlite3", CACHE, "UPDATE account SET ledger = x'00' WHERE name = 'alice'"])
    assert "cache-damaged" in scene.refused()
    with pytest.raises(AssertionError, match="alice"):
        scene.run()
    scene.run()
    scene.works()
    scene.backed_up()
    scene.machine.sh(f"dd if=/dev/urandom of={CACHE} bs=4096 count=4 conv=notrunc")
    assert "cache-unusable" in scene.refused()
    scene.run()
    scene.works(step=1)


@pytest.mark.section("Broken configuration")
def test_a_broken_configuration_is_found_and_put_aside(scene: Scene) -> None:
    scene.machine.write(CONFIG, "window = 99\n")
    assert "bad-config" in scene.refused()
    assert "window" in scene.run()
    scene.run()
    scene.works()


@pytest.mark.section("Wrong clock")
def test_a_clock_that_was_ahead_costs_nothing_once_it_is_right(scene: Scene) -> None:
    # As if a login had happened in a year: the machine's clock is everybody's, so only the record says so.
    changed(scene, "account.ledger.marks[account.active[0].identifier].step += 1_051_200")
    assert "spent-code" in scene.refused()
    assert "already used" in scene.run()
    scene.run()
    # Up to a minute from now, what could have been used stays used.
    assert "spent-code" in scene.refused()
    later = f"""
import time
from pam_totp.host import clock
from pam_totp.login import login
from pam_totp.host.config import Arguments
from pam_totp.host.clock import Moment
from pam_totp.host.paths import Paths
class Talk(login.Conversation):
    def ask(self, prompt, echo=False):
        return {code(scene.secret, time.time() + 2 * STEP)!r}
    def tell(self, text):
        pass
now = clock.now()
then = Moment(now.wall + {2 * STEP}, now.boot_id, now.uptime + {2 * STEP})
print(login.attempt(login.Request("alice"), Arguments([]), Paths(), lambda: then, Talk()).reason)
"""
    assert scene.machine.run(["/usr/bin/python3", "-c", later]).stdout.strip() == "code"


@pytest.mark.section("Nobody gets in any more")
def test_everything_is_undone_by_one_command_or_without_python(scene: Scene) -> None:
    before = fresh(scene)
    for broken in ("", "chmod 0 /usr/bin/python3*"):
        scene.machine.run(["pam-totp", "setup", "--variant", "key", "--yes"])
        assert scene.machine.login(scene.alice, key=True, code="000000").asked_code
        scene.machine.sh(broken)
        scene.run()
        assert scene.machine.read("/etc/pam.d/sshd") == before
        assert scene.machine.login(scene.alice, key=True).ok


@pytest.mark.section("Enforcement lost")
def test_what_is_gone_is_said_and_put_back(scene: Scene) -> None:
    before = fresh(scene)
    scene.machine.run(["pam-totp", "setup", "--variant", "key", "--yes"])
    scene.machine.write("/etc/pam.d/sshd", before)
    assert "is missing" in scene.run()
    scene.run()
    scene.works()


def fresh(scene: Scene) -> str:
    """A host as Debian has it, for setup to change; returns PAM's file."""
    text = scene.machine.read("/etc/pam.d/sshd").replace(
        "auth       required     pam_permit.so\n", "@include common-auth\n"
    )
    text = "".join(line for line in text.splitlines(keepends=True) if "pam_totp" not in line)
    scene.machine.write("/etc/pam.d/sshd", text)
    scene.machine.sshd.remove("00-pam-totp-key-and-code")
    scene.machine.sshd.restart()
    return text


@pytest.mark.section("Package removed")
def test_a_removed_package_is_installed_again_or_taken_out_of_the_stack(scene: Scene, debs: tuple[Path, ...]) -> None:
    repository(scene.machine, debs)
    removal = {"PAM_TOTP_REMOVE": "force", "DEBIAN_FRONTEND": "noninteractive"}
    scene.machine.run(["apt-get", "remove", "-y", "pam-totp"], env=removal)
    assert not scene.machine.login(scene.alice, key=True, code=code(scene.secret)).ok
    scene.run()
    scene.works()
    scene.machine.run(["apt-get", "remove", "-y", "pam-totp"], env=removal)
    scene.run()
    assert scene.machine.login(scene.alice, key=True).ok


def changed(scene: Scene, statement: str) -> None:
    """Change alice's record, as something that cannot be waited for would have."""
    program = f"""
from pam_totp.host import users
from pam_totp.cache.accounts import Accounts
from pam_totp.host.paths import Paths
with Accounts(Paths()) as accounts:
    account = accounts.find(users.find("alice"))
    {statement}
    accounts.save(account)
"""
    scene.machine.run(["/usr/bin/python3", "-c", program])


def repository(machine: Machine, debs: tuple[Path, ...]) -> None:
    """Have apt know the packages from a place on the machine."""
    for deb in debs:
        machine.write(f"/srv/apt/{deb.name}", deb.read_bytes())
    machine.sh(
        """
        set -e
        cd /srv/apt
        for file; do
            dpkg-deb -f "$file"; echo "Filename: ./$file"; echo "Size: $(stat -c %s "$file")"
            echo "SHA256: $(sha256sum "$file" | cut -d ' ' -f 1)"; echo
        done >Packages
        echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list.d/local.list
        apt-get update -q -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/local.list -o Dir::Etc::sourceparts=-
        """,
        *(deb.name for deb in debs),
    )
