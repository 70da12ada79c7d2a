"""``pam-totp doctor`` in a real Debian, with a real sshd: each broken set-up is found by its id, and mended by the
command that is printed; the unusual ones that are right have no findings.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.doctor import broken, healthy
from tests.lab import directory
from tests.lab.fleet import Fleet
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.doctor.broken import Broken
    from tests.doctor.healthy import Healthy
    from tests.lab.machine import Machine

INSIDE, PUBLISHED = (Path(__file__).with_name(name) for name in ("inside.py", "published.py"))
DIRECTORY = Path(directory.__file__)
# A sheet of changes to alice's record that would take long otherwise.
USE_UP = """
from pam_totp.cache.accounts import Accounts
from pam_totp.host.paths import Paths
with Accounts(Paths()) as accounts, accounts.lock("alice"):
    account = accounts.get("alice")
    account.ledger.recovery["hashes"] = []
    accounts.save(account)
"""
LOCK = USE_UP.replace(
    'account.ledger.recovery["hashes"] = []', "account.ledger.locked = True; account.ledger.row = 100"
)


class Patient:
    """A machine in which set-ups are broken, examined and mended, one after the other."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._process = machine.popen(["/usr/bin/python3", "-I", "/root/inside.py"])

    def close(self) -> None:
        """End what runs in the machine."""
        self._process.communicate()

    def do(self, name: str, *arguments: Any) -> Any:
        """The result of a function of inside.py."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(json.dumps([name, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        done, result = json.loads(line) if line else (False, self._process.communicate()[1])
        assert done, result
        return result

    def examine(self, *, real: bool = False) -> tuple[int, list[dict[str, str]]]:
        """The exit code, and the findings."""
        if real:
            done = self.machine.run(["pam-totp", "doctor", "--json"], check=False)
            code, document, errors = done.returncode, json.loads(done.stdout or "null"), done.stderr
        else:
            code, document, errors = self.do("doctor")
        assert document is not None, errors
        return code, document["findings"]


@pytest.fixture(scope="module")
def patient(machine: Machine, debs: tuple[Path, ...]) -> Iterator[Patient]:
    """Alice is enrolled; each variant is kept as a base, as `setup` makes it, and `pinned` with its record."""
    machine.write("/root/inside.py", INSIDE.read_text(encoding="utf-8"))
    machine.write("/root/use_up.py", USE_UP)
    machine.write("/root/lock.py", LOCK)
    machine.sh("mkdir -p /run/systemd/timesync /root/.ssh; touch /run/systemd/timesync/synchronized")
    machine.sh("cp /etc/pam.d/sshd /root/original-sshd")
    repository(machine, debs)
    enroll(machine, machine.user("alice"))
    patient = Patient(machine)
    patient.do("save_program")
    for variant in ("key", "password", "combined"):
        machine.run(["pam-totp", "setup", "--variant", variant, "--yes"])
        if variant == "key":
            patient.do("save", "pinned")
        machine.sh("mv /var/lib/pam-totp/setup /root/setup")
        patient.do("save", variant)
        machine.sh("mv /root/setup /var/lib/pam-totp/setup; pam-totp setup --undo --yes")
    patient.do("restore", "key")
    enroll(machine, "root")
    patient.do("save", "root")
    patient.do("restore", "key")
    with in_a_fleet(patient):
        yield patient
    patient.close()


@contextmanager
def in_a_fleet(patient: Patient) -> Iterator[None]:
    """A directory; `joined` to it is a base that has taken nothing of it yet, and `fleet` one that has."""
    machine = patient.machine
    machine.write("/root/published.py", PUBLISHED.read_text(encoding="utf-8"))
    machine.write("/root/directory.py", DIRECTORY.read_text(encoding="utf-8"))
    with Fleet(machine) as fleet:
        fleet.join()
        patient.do("save", "joined")
        machine.sh("python3 -I /root/published.py good && pam-totp sync")
        patient.do("save", "fleet")
        yield


def repository(machine: Machine, debs: tuple[Path, ...]) -> None:
    """Have apt know the packages, and nothing else."""
    for package in debs:
        machine.write(f"/root/repository/{package.name}", package.read_bytes())
    machine.sh(
        """
        set -e
        cd /root/repository
        for package in *.deb; do
            dpkg-deb -f "$package"
            printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \\
                "$package" "$(stat -c %s "$package")" "$(sha256sum "$package" | cut -d ' ' -f 1)"
        done >Packages
        rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo 'deb [trusted=yes] file:/root/repository ./' >/etc/apt/sources.list
        apt-get -qq update
        """
    )


def ids(found: list[dict[str, str]]) -> set[str]:
    return {each["id"] for each in found}


@pytest.mark.parametrize("each", broken.ROWS, ids=lambda each: each.name.replace(" ", "-"))
def test_what_is_broken_is_found_and_mended_by_the_printed_command(patient: Patient, each: Broken) -> None:
    patient.do("restore", each.base)
    patient.do("sh", each.script)
    try:
        code, found = patient.examine(real=each.real)
        assert ids(found) == {each.found, *each.also}, found
        wrong = [one for one in found if one["id"] == each.found]
        expected = {"error": 1, "unknown": 3}
        assert code == max(
            (expected.get(one["severity"], 0) for one in found if one["severity"] != "unknown"), default=0
        ) or (code == 3 and {one["severity"] for one in found} & {"unknown"})
        for one in wrong:
            assert bool(one["mend"]) is not bool(each.elsewhere), one
            if each.elsewhere:
                patient.do("sh", each.elsewhere)
                continue
            status, screen = patient.do("mend", one["mend"], each.edit)
            assert status == 0, f"{one['mend']}: {screen}"
        if wrong[0]["id"] == "not-reloaded":
            patient.do("sh", "until test -s /run/sshd.pid; do sleep 0.01; done")
        code, found = patient.examine(real=each.real)
        assert ids(found) == set(each.left), (wrong, found)
    finally:
        if each.real:
            patient.do("restore_program")


def test_loss_of_enforcement_is_an_alert_in_the_log(patient: Patient) -> None:
    patient.do("restore", "pinned")
    since = patient.machine.mark()
    assert patient.machine.run(["pam-totp", "doctor", "--log"]).stdout == "MFA is in force: sshd\n"
    assert patient.machine.log(since) == []
    patient.do("sh", f"cp /root/original-sshd {broken.PAM}")
    assert patient.machine.run(["pam-totp", "doctor", "--log"], check=False).returncode == 1
    alerts = [record for record in patient.machine.log(since) if record.message.startswith("pam-totp: action=not-in")]
    assert {record.severity for record in alerts} == {"alert"}
    reasons = [record.message.split()[2] for record in alerts]
    assert reasons == ["reason=line-missing", "reason=enforcement-lost"]


def test_a_trial_leaves_nothing_behind(patient: Patient) -> None:
    patient.do("restore", "pinned")
    look = """
        find /etc /run/pam-totp /var/lib/pam-totp /var/log -type f -exec sha256sum {} + | sort -k 2
        cat /proc/mounts
    """
    patient.machine.run(["pam-totp", "doctor"])  # makes /run/pam-totp
    before, since = patient.machine.sh(look).stdout, patient.machine.mark()
    patient.machine.run(["pam-totp", "doctor"])
    assert patient.machine.sh(look).stdout == before
    assert patient.machine.log(since) == []


def test_the_log_names_the_setting_that_keeps_roots_answer_back(patient: Patient) -> None:
    patient.do("restore", "root")
    patient.do("sh", "install -d -m 700 /root/.ssh; cp /home/alice/.ssh/authorized_keys /root/.ssh/")
    patient.machine.sshd.start()
    since = patient.machine.mark()
    assert not patient.machine.login("root", key="alice", code="123456").ok
    [line] = [each.message for each in patient.machine.log(since) if "malformed-code" in each.message]
    assert "PermitRootLogin is not yes" in line


@pytest.mark.parametrize("each", healthy.ROWS, ids=lambda each: each.name.replace(" ", "-"))
def test_what_is_unusual_and_right_has_no_findings(patient: Patient, each: Healthy) -> None:
    patient.do("restore", each.base)
    if each.needs and not patient.machine.sshd.knows(f"{each.needs}=sshd"):
        # An older sshd has no such keyword: what it would say is refused there.
        assert patient.machine.suite == "bookworm"
        return
    if each.script:
        patient.do("sh", each.script)
    assert patient.examine(real=each.real) == (0, [])
