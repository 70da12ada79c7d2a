"""The lock and the copy in /run."""

from __future__ import annotations

import os
import posix
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.volatile import Volatile
from pam_totp.errors import CacheError, LockTimeoutError
from pam_totp.host import files
from pam_totp.host.clock import Moment
from tests.unit import places
from tests.unit.places import ME

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def volatile(run: Path) -> Volatile:
    return Volatile(str(run), ME)


def refused(path: Path, match: str, owner: int = ME) -> None:
    with pytest.raises(CacheError, match=match) as caught:
        Volatile(str(path), owner)
    assert caught.value.reason == "run-unusable"


def test_the_directory_is_made_private_where_it_is_missing(run: Path) -> None:
    for _ in range(2):
        Volatile(str(run), ME)
        assert run.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777, 0o1777])
def test_a_directory_that_is_open_to_others_is_refused(mode: int, run: Path) -> None:
    run.mkdir()
    run.chmod(mode)
    refused(run, "not a private directory")


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "fifo", "hard link", "device"])
def test_what_is_no_directory_is_refused(kind: str, run: Path) -> None:
    run.write_text("")
    places.replace(run, kind)
    refused(run, "not a private directory")


def test_somebody_elses_directory_is_refused(run: Path) -> None:
    run.mkdir(0o700)
    refused(run, "not a private directory|belongs to uid", owner=places.foreign(run))


def test_a_directory_below_one_that_others_can_write_is_refused(run: Path) -> None:
    run.parent.chmod(0o777)
    refused(run, "can be written by others")


def test_a_directory_that_cannot_be_made_is_an_error(run: Path) -> None:
    refused(run / "deeper", "cannot be made: No such file")


# The copy


def test_what_is_written_is_read_and_what_is_not_is_missing(volatile: Volatile) -> None:
    assert volatile.read(TOKEN) is None
    for content in (b"one", b"another", b""):
        assert volatile.write(TOKEN, content)
        assert volatile.read(TOKEN) == content
    assert volatile.read(TOKEN[::-1]) is None


def test_a_copy_is_private(volatile: Volatile, run: Path) -> None:
    volatile.write(TOKEN, b"content")
    with volatile.lock(TOKEN):
        assert {file.name: file.stat().st_mode & 0o777 for file in run.iterdir()} == {
            TOKEN: 0o600,
            f"{TOKEN}.lock": 0o600,
        }


def test_what_a_killed_writer_left_behind_is_in_nobodys_way(volatile: Volatile, run: Path) -> None:
    volatile.write(TOKEN, b"old")
    (run / f"{TOKEN}.new").write_bytes(b"ha")
    assert volatile.read(TOKEN) == b"old"
    assert volatile.write(TOKEN, b"new")
    assert volatile.read(TOKEN) == b"new"


@pytest.mark.parametrize("step", ["write_new", "rename"])
def test_where_nothing_can_be_written_the_old_copy_stays(
    step: str, volatile: Volatile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    volatile.write(TOKEN, b"old")
    monkeypatch.setattr(files if step == "write_new" else posix, step, fail)
    assert not volatile.write(TOKEN, b"new")
    assert volatile.read(TOKEN) == b"old"


def test_a_copy_can_be_forgotten_twice(volatile: Volatile) -> None:
    volatile.write(TOKEN, b"content")
    for _ in range(2):
        volatile.forget(TOKEN)
        assert volatile.read(TOKEN) is None


@pytest.mark.parametrize("kind", [kind for kind in places.KINDS if kind != "dangling symlink"])
def test_a_copy_that_is_not_a_plain_file_is_refused(kind: str, volatile: Volatile, run: Path) -> None:
    volatile.write(TOKEN, b"content")
    places.replace(run / TOKEN, kind)
    with pytest.raises(CacheError) as caught:
        volatile.read(TOKEN)
    assert caught.value.reason == "run-unusable"


@pytest.mark.parametrize(("function", "act"), [("read", "read"), ("unlink", "forget")])
def test_a_copy_that_the_system_does_not_give_is_an_error(
    function: str, act: str, volatile: Volatile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    volatile.write(TOKEN, b"content")
    with monkeypatch.context() as patch:
        patch.setattr(f"posix.{function}", fail)
        with pytest.raises(CacheError, match="Input/output error") as caught:
            getattr(volatile, act)(TOKEN)
    assert caught.value.reason == "run-unusable"


# The lock


def test_a_lock_that_is_held_is_waited_for_no_longer_than_told(volatile: Volatile) -> None:
    with volatile.lock(TOKEN):
        start = time.monotonic()
        with pytest.raises(LockTimeoutError, match="held its lock"):
            volatile.lock(TOKEN, 0.2)
        assert 0.2 <= time.monotonic() - start < 5


def test_a_lock_is_free_again_afterwards_and_others_are_never_held(volatile: Volatile) -> None:
    with volatile.lock(TOKEN, 0), volatile.lock(TOKEN[::-1], 0):
        pass
    with pytest.raises(ZeroDivisionError), volatile.lock(TOKEN, 0):
        raise ZeroDivisionError
    with volatile.lock(TOKEN, 0):
        pass


def test_a_lock_that_is_given_up_goes_to_who_waits(volatile: Volatile, run: Path) -> None:
    program = f"""
from pam_totp.cache.volatile import Volatile
import os, sys
lock = Volatile({str(run)!r}, {ME}).lock({TOKEN!r})
print("held", flush=True)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": os.getcwd()}
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockTimeoutError):
            volatile.lock(TOKEN, 0)
        holder.stdin.close()  # it kills itself with the lock in its hands
        with volatile.lock(TOKEN, 10):
            pass


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "hard link", "fifo", "directory", "device"])
def test_a_lock_that_is_not_a_plain_file_is_refused_and_nothing_hangs(kind: str, volatile: Volatile, run: Path) -> None:
    with volatile.lock(TOKEN):
        pass
    places.replace(run / f"{TOKEN}.lock", kind)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CacheError) as caught:
        volatile.lock(TOKEN)
    assert caught.value.reason == "run-unusable"
    assert os.listdir("/proc/self/fd") == before


def test_a_lock_that_the_system_does_not_give_is_an_error(volatile: Volatile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(37, "No locks available")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(CacheError, match="No locks available"):
        volatile.lock(TOKEN)
    assert os.listdir("/proc/self/fd") == before


def test_an_interrupt_while_waiting_leaves_nothing_open(volatile: Volatile, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with volatile.lock(TOKEN):
        before = os.listdir("/proc/self/fd")
        monkeypatch.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            volatile.lock(TOKEN)
        assert os.listdir("/proc/self/fd") == before


def test_the_first_looks_come_soon_and_then_whoever_has_waited_longest_looks_most_often(
    volatile: Volatile, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    begun = 1000.0

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    with volatile.lock(TOKEN):
        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(time, "monotonic", lambda: begun + sum(slept))
        with pytest.raises(LockTimeoutError):
            volatile.lock(TOKEN, 10)
    assert slept[:5] == [0.002, 0.004, 0.008, 0.016, 0.032]
    assert slept[6:] == sorted(slept[6:], reverse=True)
    assert 0.078 < slept[6] < 0.080
    assert min(slept) == slept[-1] == 0.002


# Giving way


def test_who_gives_way_waits_until_all_have_left(volatile: Volatile, run: Path) -> None:
    entered = [Volatile(str(run), ME).enter() for _ in range(2)]  # nobody keeps the next one out
    waiting = threading.Thread(target=volatile.give_way)
    waiting.start()
    for lock in entered:
        assert lock is not None
        waiting.join(0.2)
        assert waiting.is_alive()
        with lock:
            pass
    waiting.join(30)
    assert not waiting.is_alive()
    before = os.listdir("/proc/self/fd")
    volatile.give_way()
    assert os.listdir("/proc/self/fd") == before


def test_one_who_does_not_leave_is_not_waited_for_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pam_totp.cache.volatile._WAY_SECONDS", 0.05)
    volatile = Volatile(str(run), ME)
    with volatile.lock(TOKEN):  # of one user, which is nothing to others
        volatile.give_way()
        assert volatile._way > 0.04
    entered = Volatile(str(run), ME).enter()
    assert entered is not None
    with entered:
        volatile.give_way()
        assert volatile._way <= 0
        monkeypatch.setattr(time, "sleep", None)
        volatile.give_way()


@pytest.mark.parametrize("what", ["open", "flock"])
def test_where_the_system_does_not_let_anybody_enter_nobody_waits(
    volatile: Volatile, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr({"open": "posix.open", "flock": "fcntl.flock"}[what], fail)
    volatile.give_way()
    lock = volatile.enter()
    if lock is not None:
        lock.__exit__(None, None, None)
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before


# How old the directory is


def test_the_first_look_notes_the_time_and_later_ones_count_from_it(run: Path) -> None:
    kept = Volatile(str(run), ME)
    assert kept.age(Moment(1_000.0, "boot", 5_000.0)) == 0
    assert kept.age(Moment(9_000.0, "boot", 5_010.0)) == 10
    assert Volatile(str(run), ME).age(Moment(0.0, "boot", 5_400.0)) == 400


def test_the_boot_counts_where_it_is_later(run: Path) -> None:
    kept = Volatile(str(run), ME)
    kept.age(Moment(1_000.0, "boot", 5_000.0))
    assert kept.age(Moment(9_000.0, "another boot", 20.0)) == 20


def test_a_directory_that_takes_no_note_is_new(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Volatile(str(run), ME)
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    for uptime in (5_000.0, 6_000.0):
        assert kept.age(Moment(1_000.0, "boot", uptime)) == 0


# Names


def test_a_copy_gets_another_name_unless_there_is_a_newer_one(volatile: Volatile, run: Path) -> None:
    volatile.write("a" * 32, b"one")
    volatile.rename("a" * 32, TOKEN)
    assert volatile.read(TOKEN) == b"one"
    volatile.write("b" * 32, b"older")
    volatile.rename("b" * 32, TOKEN)
    assert volatile.read(TOKEN) == b"one"
    with pytest.raises(CacheError, match="cannot be changed"):
        volatile.rename("c" * 32, "d" * 32)


def test_who_has_a_copy_or_a_lock_is_listed(volatile: Volatile, run: Path) -> None:
    volatile.age(Moment(1_000.0, "boot", 5_000.0))
    volatile.write("a" * 32, b"one")
    (run / f"{'c' * 32}.new").touch()
    (run / "login.sock").touch()
    with volatile.lock("b" * 32):
        assert volatile.tokens() == {"a" * 32, "b" * 32}
    (run).rename(run.with_name("gone"))
    with pytest.raises(CacheError, match="cannot be listed"):
        volatile.tokens()
