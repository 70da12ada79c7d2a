"""recovery: new recovery codes, printed once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from tests.unit.pretend import ALICE

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Disk
    from tests.unit.pretend import Host

pytestmark = pytest.mark.usefixtures("quick_hash")


def test_ten_codes_are_printed_a_line_each_and_work(command: Command, host: Host) -> None:
    host.enroll()
    ran = command("recovery", "alice")
    assert (ran.code, ran.err) == (0, "")
    codes = ran.out.split("\n")[:-1]
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"[a-z2-9]{5}-[a-z2-9]{5}", code) for code in codes)
    outcome = host.login("alice", codes[3])
    assert (outcome.reason, outcome.message) == ("recovery-code", "9 recovery codes are left.")


def test_the_old_ones_are_void_and_that_is_said(command: Command, host: Host) -> None:
    host.enroll()
    first = command("recovery", "alice").out.split()
    host.login("alice", first[1])
    again = command("recovery", "alice")
    second = again.out.split()
    assert (len(second), again.err) == (10, "pam-totp: alice: 9 earlier recovery codes are void now.\n")
    assert host.login("alice", first[0]).reason == "wrong-recovery-code"
    assert host.login("alice", second[0]).reason == "recovery-code"


@pytest.mark.parametrize("pending", [True, False])
def test_who_is_not_enrolled_gets_none(pending: bool, command: Command, host: Host) -> None:
    if pending:
        host.enroll(ALICE, state=PENDING)
    ran = command("recovery", "alice")
    assert (ran.code, ran.out) == (1, "")
    assert "run pam-totp enroll alice first" in ran.err


def test_on_a_full_disk_no_code_is_shown(command: Command, host: Host, disk: Disk) -> None:
    host.enroll()
    disk.full = True
    ran = command("recovery", "alice")
    assert (ran.code, ran.out) == (3, "")


def test_the_codes_are_in_no_log(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    host.enroll()
    codes = command("recovery", "alice").out.split()
    [(_, line)] = journal
    assert line == 'pam-totp: user=alice action=recovery by=root detail="10 new codes"'
    assert not [code for code in codes if code in line]
