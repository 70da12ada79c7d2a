"""A full disk and a read-only one: logins go on, no code works twice, and nothing is lost once there is space again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import alone, pamtester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.login.host import Host, Person

    Trouble = Callable[[Host], AbstractContextManager[None]]

CACHE = "/var/lib/pam-totp"
RUN = "/run/pam-totp"
FILL = """
    dd if=/dev/zero of="$1/fill" bs=4k 2>/dev/null
    ! dd if=/dev/zero of="$1/more" bs=1 count=1 2>/dev/null && rm "$1/more"
"""


@pytest.fixture(scope="module", autouse=True)
def long_up(host: Host) -> None:
    """An sshd to which the machine has been up for long, and /run/pam-totp is as old.

    For some minutes after a boot, or while /run is new, nothing but the cache suffices.
    """
    host.use("key-and-code")
    host.machine.sshd.stop()
    host.machine.run(["unshare", "--time", "--boottime", "100000", "--fork", "/usr/sbin/sshd"])
    host.machine.sh("until test -s /run/sshd.pid; do sleep 0.01; done")
    host.run_is_old()


@contextmanager
def full(host: Host) -> Iterator[None]:
    """The cache on a file system that takes no further byte. SQLite's journal is there, and large enough."""
    with host.machine.tmpfs(CACHE, size="1m"):
        host.machine.sh(FILL, CACHE)
        yield
        host.machine.run(["cp", "-a", f"{CACHE}/cache.db", "/root/cache.db"])
    # The small file system is gone; what it held at the end is what counts.
    host.machine.sh('cat /root/cache.db >"$1/cache.db"; rm -f "$1/cache.db-journal"', CACHE)


@contextmanager
def full_without_a_journal(host: Host) -> Iterator[None]:
    """The same where the cache can take no write."""
    host.machine.run(["rm", "-f", f"{CACHE}/cache.db-journal"])
    with full(host):
        yield


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    """The cache on a mount that is read-only."""
    host.machine.sh('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', CACHE)
    assert "Read-only" in host.machine.sh('touch "$1/x" 2>&1', CACHE, check=False).stdout
    try:
        yield
    finally:
        host.machine.run(["umount", CACHE])


troubles = pytest.mark.parametrize("trouble", [full, full_without_a_journal, read_only])
no_writes = pytest.mark.parametrize("trouble", [full_without_a_journal, read_only])


@troubles
def test_a_code_lets_in_once_and_is_refused_the_second_time_then_and_later(host: Host, trouble: Trouble) -> None:
    alice = host.person()
    code = alice.code()
    with trouble(host):
        assert alice.log_in(code).ok
        again = alice.log_in(code)
        assert not again.ok
        assert again.asked_code
    assert not alice.log_in(code).ok
    assert alice.log_in(alice.code(1)).ok


@troubles
def test_wrong_codes_count_and_make_the_user_wait_then_and_later(host: Host, trouble: Trouble) -> None:
    alice = host.person()
    with trouble(host):
        for _ in range(3):
            assert alice.log_in(alice.wrong()).asked_code
        assert not alice.log_in(alice.code()).asked_code
        assert host.status(alice)["failures"] == 3
    mark = host.machine.mark()
    assert not alice.log_in(alice.code()).asked_code
    assert [line["reason"] for line in host.decisions(mark)] == ["throttled"]
    assert host.status(alice)["failures"] == 3
    host.unlock(alice)
    assert alice.log_in(alice.code()).ok


@no_writes
def test_the_log_says_that_the_cache_takes_no_writes(host: Host, trouble: Trouble) -> None:
    alice, bob = host.person(), host.person()
    mark = host.machine.mark()
    with trouble(host):
        assert alice.log_in(alice.code()).ok
        assert not bob.log_in(bob.wrong()).ok
    lines = host.decisions(mark)
    assert [line["outcome"] for line in lines] == ["accepted", "refused"]
    assert all("recorded in /run/pam-totp only, the cache takes no writes: free space" in x["detail"] for x in lines)


@no_writes
def test_who_is_not_enrolled_gets_in_as_ever(host: Host, trouble: Trouble) -> None:
    bob = host.person(enrolled=False)
    with trouble(host):
        result = bob.log_in()
    assert result.ok
    assert not result.asked_code


@no_writes
def test_the_command_says_that_it_cannot_write_and_changes_nothing(host: Host, trouble: Trouble) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with trouble(host):
        for command in (["enroll", "--no-confirm", bob.name], ["reset", "--yes", alice.name]):
            done = host.machine.run(["pam-totp", *command], check=False)
            assert done.returncode == 3
            assert "free space or remount it read-write" in done.stderr
            assert done.stdout == ""
    assert host.status(bob)["state"] == "none"
    assert alice.log_in(alice.code()).ok


@no_writes
def test_shortly_after_a_boot_no_code_is_accepted_because_what_was_spent_before_it_is_not_known(
    host: Host, trouble: Trouble
) -> None:
    alice = host.person()
    mark = host.machine.mark()
    with trouble(host):
        assert attempt(host, alice, alice.code(), uptime=100) == "PAM_AUTHINFO_UNAVAIL"
        assert attempt(host, alice, alice.wrong(), uptime=100) == "PAM_AUTHINFO_UNAVAIL"
    assert [line["reason"] for line in host.decisions(mark)] == ["fallback-closed"] * 2
    assert attempt(host, alice, alice.code(1), uptime=100) == "PAM_SUCCESS"


@no_writes
def test_after_a_wipe_of_run_no_code_is_accepted_because_what_was_spent_before_it_is_not_known(
    host: Host, trouble: Trouble
) -> None:
    alice = host.person()
    code = alice.code()
    mark = host.machine.mark()
    with trouble(host):
        assert alice.log_in(code).ok
        host.machine.run(["rm", "-rf", RUN])
        again = alice.log_in(code)
    host.run_is_old()
    assert not again.ok
    assert [line["reason"] for line in host.decisions(mark)] == ["code", "fallback-closed"]


def attempt(host: Host, person: Person, code: str, *, uptime: float) -> str:
    """One login without sshd on a machine that has been up for so many seconds."""
    offset = int(uptime - float(host.machine.read("/proc/uptime").split()[0]))
    shifted = ["unshare", "--time", "--boottime", str(offset), "--fork"]
    return pamtester(host.machine, alone(host.machine), person.name, answers=[code], prefix=shifted).code


@no_writes
def test_where_an_attempt_can_be_recorded_nowhere_a_right_code_looks_like_a_wrong_one(
    host: Host, trouble: Trouble
) -> None:
    alice, bob = host.person(), host.person()
    code = alice.code()
    assert not alice.log_in(alice.wrong()).ok
    assert not bob.log_in(bob.wrong()).ok
    mark = host.machine.mark()
    with trouble(host), host.machine.tmpfs(RUN, size="2m"):
        host.machine.sh(FILL, RUN)
        right, wrong = alice.log_in(code), bob.log_in(bob.wrong())
    assert not right.ok
    assert not wrong.ok
    assert right.screen.replace(alice.name, bob.name) == wrong.screen
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [
        ("unavailable", "not-chargeable")
    ] * 2
    assert alice.log_in(code).ok
