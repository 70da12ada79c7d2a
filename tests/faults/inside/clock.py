"""Clocks that are set while logins happen."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pam_totp.host.clock import Moment
from pam_totp.host.config import Arguments
from pam_totp.login import login as package
from tests.faults.inside import host
from tests.faults.inside.holder import HERE, login, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pam_totp.login.attempt import Outcome

PRELOADED = "/run/lab/shift.so"
# Seconds, read by shift.c.
SHIFT = Path("/run/lab/shift")
HOUR, DAY, YEAR = 3600, 86_400, 31_536_000
JUMPS = [sign * size for size in (1, 30, 90, HOUR, DAY, YEAR) for sign in (1, -1)]
Y2038 = 2**31


def _jumps(now: float) -> list[float]:
    return [*JUMPS, -now, Y2038 - now]


def in_process() -> dict[str, object]:
    """Each jump between two logins, and in the middle of one, between the prompt and the answer."""
    problems = []
    cases = 0
    secret = host.enrolled("alice")
    kept = host.keep()
    start = Moment(float(int(time.time())), "boot", 5000.0)
    step = int(start.wall) // host.STEP
    for jump in _jumps(start.wall):
        after = Moment(start.wall + jump, "boot", 5001.0)
        there = max(0, int(after.wall) // host.STEP)
        host.put_back(kept)
        if not host.let_in(host.attempt("alice", host.code(secret, step), moment=start)):
            problems.append("the first code is refused")
        for which in sorted({*range(there - 2, there + 3), *range(step - 3, step + 3)}):
            if which < 0:
                continue
            cases += 1
            host.put_back(kept)
            host.attempt("alice", host.code(secret, step), moment=start)
            accepted = host.let_in(host.attempt("alice", host.code(secret, which), moment=after))
            wanted = which > step and abs(which - there) <= 1
            if accepted is not wanted:
                problems.append(f"{jump:+.0f} s, step {which - step:+}: accepted is {accepted}")
            host.put_back(kept)
            host.attempt("alice", host.code(secret, step), moment=start)
            middle = _in_the_middle(host.code(secret, which), start, after)
            if host.let_in(middle) is not wanted:
                problems.append(f"{jump:+.0f} s while the user types, step {which - step:+}: {middle.reason}")
        problems += _waits(secret, start, after, jump)
    host.put_back(kept)
    return {"cases": cases, "problems": problems}


def _in_the_middle(answer: str, before: Moment, after: Moment) -> Outcome:
    moments: Iterator[Moment] = iter([before])
    return package.attempt(
        package.Request("alice", "sshd", "127.0.0.1"),
        Arguments([]),
        host.PATHS,
        lambda: next(moments, after),
        host.Answers(answer),
    )


def _waits(secret: bytes, start: Moment, after: Moment, jump: float) -> list[str]:
    problems = []
    step = int(after.wall) // host.STEP + 1
    for _ in range(3):
        host.attempt("alice", host.wrong(secret, step), moment=start, rhost="192.0.2.9")
    for uptime, wanted in ((5001.0, "throttled"), (5029.0, "throttled")):
        moment = Moment(after.wall + uptime - 5001, "boot", uptime)
        got = host.attempt("alice", host.code(secret, step), moment=moment, rhost="192.0.2.9")
        if got.reason != wanted:
            problems.append(f"{jump:+.0f} s, {uptime - 5000:.0f} s after the third wrong code: {got.reason}")
    over = Moment(after.wall + 30, "boot", 5031.0)
    got = host.attempt("alice", "000000", moment=over, rhost="192.0.2.9")
    if got.reason == "throttled":
        problems.append(f"{jump:+.0f} s: still waiting after 31 s: {got.detail}")
    return problems


def locked() -> dict[str, object]:
    """A lock holds whatever the clock says."""
    secret = host.enrolled("alice")
    start = Moment(time.time(), "boot", 5000.0)
    moment = start
    for number in range(100):
        moment = Moment(moment.wall + DAY, "boot", moment.uptime + DAY)
        host.attempt(
            "alice", host.wrong(secret, int(moment.wall) // host.STEP), moment=moment, rhost=f"192.0.2.{number}"
        )
    problems = []
    for jump in _jumps(moment.wall):
        after = Moment(moment.wall + jump, "boot", moment.uptime + 1)
        got = host.attempt("alice", host.code(secret, max(0, int(after.wall) // host.STEP)), moment=after)
        if got.reason != "locked":
            problems.append(f"{jump:+.0f} s: {got.reason}")
    return {"cases": len(_jumps(0.0)), "problems": problems}


@contextmanager
def _preloaded() -> Iterator[None]:
    """Every program that is started meanwhile is off: a variable would not reach our engine's helper."""
    preload = Path("/etc/ld.so.preload")
    preload.write_text(PRELOADED + "\n", encoding="ascii")
    try:
        yield
    finally:
        preload.unlink()


def through_pam() -> dict[str, object]:
    """The same through the real module, whose wall clock is set off: no step at or below the mark, the next ones do."""
    subprocess.run(["tcc", "-shared", "-o", PRELOADED, os.path.join(HERE, "shift.c")], check=True)
    secret = host.enrolled("alice")
    problems = []
    step = host.step_now()
    if login("alice", host.code(secret, step)) != host.SUCCESS:
        problems.append("the first code is refused")
    kept = host.keep()
    jumps = _jumps(time.time())
    for jump in jumps:
        SHIFT.write_text(str(int(jump)), encoding="ascii")
        there = max(0, int(time.time() + int(jump)) // host.STEP)
        for which in (step, there):
            host.put_back(kept)
            with _preloaded():
                got = login("alice", host.code(secret, which))
            if got != (host.SUCCESS if which > step else host.AUTH_ERR):
                problems.append(f"{jump:+.0f} s, step {which - step:+}: {verdict(got)}")
    return {"cases": len(jumps), "pam": 2 * len(jumps) + 1, "problems": problems}
