"""A container that is restarted: another /run, the same disk, and a boot that was long ago."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.code import STEP, code, left
from tests.lab.machine import Machine
from tests.lab.pam import alone, pamtester
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.pam import PamResult
    from tests.lab.roots import Root

CACHE = "/var/lib/pam-totp"
# The machine that the containers run on booted long ago, whenever it did.
LONG_UP = ("unshare", "--time", "--boottime", "100000", "--fork")


def read_only(machine: Machine) -> None:
    machine.sh('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', CACHE)


def attempt(machine: Machine, answer: str) -> PamResult:
    return pamtester(machine, alone(machine), "alice", answers=[answer], prefix=LONG_UP)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """What the container has on disk, and keeps."""
    return tmp_path / "container"


def test_a_code_that_only_run_knew_is_not_accepted_again_after_a_restart(installed_root: Root, disk: Path) -> None:
    with Machine(installed_root, upper=disk) as first:
        alice = first.user("alice")
        secret = enroll(first, alice)
        first.sh('mkdir -p -m 700 /run/pam-totp; echo "0 $(cat /proc/sys/kernel/random/boot_id) 0" >/run/pam-totp/made')
        first.run(["chmod", "600", "/run/pam-totp/made"])
        read_only(first)
        if left() < 5:
            time.sleep(left() + 0.1)
        spent = code(secret)
        assert attempt(first, spent).code == "PAM_SUCCESS"
        assert attempt(first, spent).code == "PAM_AUTH_ERR"
    with Machine(installed_root, upper=disk) as second:
        read_only(second)
        mark = second.mark()
        assert attempt(second, spent).code == "PAM_AUTHINFO_UNAVAIL"
        assert ["fallback-closed" in record.message for record in second.log(mark)] == [True]
        # With a disk that takes writes nobody has to wait.
        second.run(["umount", CACHE])
        assert attempt(second, code(secret, time.time() + STEP)).code == "PAM_SUCCESS"


def test_what_the_disk_knew_is_known_after_a_restart(installed_root: Root, disk: Path) -> None:
    with Machine(installed_root, upper=disk) as first:
        secret = enroll(first, first.user("alice"))
        spent = code(secret)
        assert attempt(first, spent).code == "PAM_SUCCESS"
    with Machine(installed_root, upper=disk) as second:
        assert attempt(second, spent).code == "PAM_AUTH_ERR"
