"""A process that stops in the middle of a commit, and a disk that is slow: others are denied in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from tests.faults.inside import host, trace
from tests.faults.inside.holder import Holder, login, verdict
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

# Of a commit's five the one that makes the database durable: SQLite's exclusive lock is held, and so is the user's.
SYNC = 4


def _timed(name: str, secret: bytes, into: dict[str, tuple[int, float]]) -> threading.Thread:
    def run() -> None:
        start = time.monotonic()
        code = login(name, host.code(secret, host.step_now() + 1))
        into[name] = code, time.monotonic() - start

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def stopped() -> dict[str, object]:
    """A login stopped (SIGSTOP) while it holds every lock: its user and another are denied; then all goes on."""
    secrets = {name: host.enrolled(name) for name in ("alice", "bob")}
    problems: list[str] = []
    ended: dict[str, tuple[int, float]] = {}
    released = threading.Event()
    with Log() as log, Holder("alice") as holder:
        pid = holder.stopped(host.code(secrets["alice"], host.step_now()))

        def wait() -> None:
            released.wait()

        tracer = threading.Thread(
            target=trace.inject, args=(pid, f"fdatasync:signal=STOP:when={SYNC}", wait), daemon=True
        )
        tracer.start()
        _until(lambda: _hot() and trace.state(pid) in "tT")
        for thread in [_timed(name, secret, ended) for name, secret in secrets.items()]:
            thread.join()
        lines = log.lines()
        os.kill(pid, signal.SIGCONT)
        first = holder.wait()[1]
        released.set()
        tracer.join()
    for name, (code, _) in ended.items():
        if code != host.AUTHINFO_UNAVAIL:
            problems.append(f"{name}: {verdict(code)}")
    if not any("lock-timeout" in line or "cache-busy" in line for line in lines):
        problems.append(f"not logged: {lines}")
    if first != host.SUCCESS:
        problems.append(f"the stopped one, when it goes on: {verdict(first)}")
    for name, secret in secrets.items():
        problems += host.works(name, secret)
    slowest = max(seconds for _, seconds in ended.values())
    return {"cases": 1, "pam": 3, "slowest": slowest, "problems": problems}


def slow_disk() -> dict[str, object]:
    """Every sync of a login takes 2.5 s: another login of that user is denied or let in within the limit."""
    secret = host.enrolled("alice")
    problems: list[str] = []
    ended: dict[str, tuple[int, float]] = {}
    with Holder("alice") as holder:
        first: list[int] = []
        pid = holder.stopped(host.code(secret, host.step_now()))
        tracer = threading.Thread(
            target=trace.resumed,
            args=(
                pid,
                ["-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=2500000"],
                lambda: first.append(holder.wait()[1]),
            ),
        )
        tracer.start()
        time.sleep(1)
        _timed("alice", secret, ended).join()
        tracer.join()
    code, slowest = ended["alice"]
    if code not in (host.AUTHINFO_UNAVAIL, host.SUCCESS):
        problems.append(f"the other login: {verdict(code)}")
    if first != [host.SUCCESS]:
        problems.append(f"the slow login: {verdict(first[0])}")
    problems += [problem for problem in host.works("alice", secret) if code != host.SUCCESS]
    return {"cases": 1, "pam": 2, "slowest": slowest, "problems": problems}


def _hot() -> bool:
    with open(f"{host.PATHS.cache}-journal", "rb") as file:
        return file.read(8) == bytes.fromhex("d9d505f920a163d7")


def _until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)
