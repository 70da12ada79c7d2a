"""Logins at the same moment: with one code, with wrong codes, and while an administrator changes the record."""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from pam_totp.cache.accounts import Accounts
from pam_totp.cache.ledger import FAILURES_A_DAY, FREE_FAILURES, RECOVERY_FAILURES_OF_ALL
from tests.faults.inside import host, kill
from tests.faults.inside.holder import Holder, NotHeldError, login, verdict

if TYPE_CHECKING:
    Result = dict[str, object]

USUAL = "rhost=192.0.2.1"
# How many hostile connections there are at the same moment.
AT_ONCE = 20
REFUSED = (host.AUTH_ERR, host.AUTHINFO_UNAVAIL)
# What a command complained of.
SAID = Path("/run/lab/said")


def same_code(logins: int, rounds: int) -> Result:
    """The same code from many logins that stand at the prompt: exactly one gets in, each time."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    slowest = 0.0
    with Holder("alice") as holder:
        for number in range(rounds):
            host.put_back(kept)
            start = time.monotonic()
            results = holder.at_once([host.code(secret, host.step_now())] * logins)
            slowest = max(slowest, time.monotonic() - start)
            if results.count(host.SUCCESS) != 1 or not {*results} <= {host.SUCCESS, *REFUSED}:
                counts = {verdict(code): results.count(code) for code in {*results}}
                problems.append(f"round {number}: {counts}")
    return {"cases": rounds, "pam": rounds * logins, "slowest": slowest, "problems": problems}


def wrong_codes(logins: int, sources: int) -> Result:
    """Wrong codes from some sources at once: none is evaluated beyond the limit, and the usual source gets in."""
    secret = host.enrolled("alice")
    problems = []
    with ExitStack() as stack:
        step = host.step_now()
        usual = stack.enter_context(Holder("alice", "rhost=192.0.2.1"))
        if usual.login(host.code(secret, step)) != host.SUCCESS:
            problems.append("the first login is refused")
        usual = stack.enter_context(Holder("alice", "rhost=192.0.2.1"))
        holders = [stack.enter_context(Holder("alice", f"rhost=198.51.100.{number}")) for number in range(sources)]
        each = logins // sources
        wrong = host.wrong(secret, step)
        for holder in holders:
            for _ in range(each):
                holder.start(wrong, "gate")
        middle = usual.start(host.code(secret, step + 1), "gate")
        for number, holder in enumerate(holders):
            if number == len(holders) // 2:
                usual.go()
            holder.go()
        pid, got = usual.wait()
        if pid != middle or got != host.SUCCESS:
            problems.append(f"the usual source in the middle of it: {verdict(got)}")
        results = [holder.wait()[1] for holder in holders for _ in range(each)]
        if not {*results} <= {*REFUSED}:
            problems.append(f"{ {verdict(code): results.count(code) for code in {*results}} }")
        limit = min(FREE_FAILURES * sources, FAILURES_A_DAY)
        with Accounts(host.PATHS) as accounts:
            account = accounts.get("alice")
            evaluated = 0 if account is None else len(account.ledger.recent)
        if evaluated != limit:
            problems.append(f"{evaluated} wrong codes were evaluated, not {limit}")
        try:
            with Holder("alice", "rhost=198.51.100.0") as late:
                got = late.login(host.code(secret, host.step_now() + 1))
        except NotHeldError:
            got = host.AUTH_ERR
        if got != host.AUTH_ERR:
            problems.append(f"a right code from where the wrong ones came from: {verdict(got)}")
    return {"cases": logins, "evaluated": evaluated, "problems": problems}


def strangers(logins: int) -> Result:
    """Wrong answers of every kind, each from another address, until the account is locked and beyond.

    Then the user comes from the usual source: first with a code from the app, then with a recovery code.
    """
    secret = host.enrolled("alice")
    codes = host.issued("alice")
    host.configure("lock_after = 10")
    problems = []
    try:
        step = host.step_now()
        if login("alice", host.code(secret, step), USUAL) != host.SUCCESS:
            problems.append("the first login is refused")
        answers = cycle([host.wrong(secret, step), "aaaaa-aaaaa", "nonsense", host.code(secret, step), "bbbbb-bbbbb"])
        hostile = [(next(answers), f"rhost=198.51.{number // 250}.{number % 250}") for number in range(logins)]
        for start in range(0, logins, AT_ONCE):
            with ExitStack() as stack:
                holders = []
                for answer, rhost in hostile[start : start + AT_ONCE]:
                    holders.append(stack.enter_context(Holder("alice", rhost, hold=False)))
                    holders[-1].start(answer)
                results = [holder.wait()[1] for holder in holders]
            if not {*results} <= {*REFUSED}:
                problems.append(f"{ {verdict(code): results.count(code) for code in {*results}} }")
        view = host.View("alice")
        if not view.locked:
            problems.append("the account is not locked: nothing was tried")
        slow = view.wrong_recovery_codes
        if slow > RECOVERY_FAILURES_OF_ALL * 2:
            problems.append(f"{slow} slow hashes were computed for strangers")
        for what, answer in (("a code", host.code(secret, host.step_now() + 1)), ("a recovery code", codes[0])):
            got = login("alice", answer, USUAL)
            if got != host.SUCCESS:
                problems.append(f"{what} from the usual source: {verdict(got)}")
    finally:
        host.configure("")
    recovery = sum("-" in answer for answer, _ in hostile)
    return {"cases": logins, "slow": slow, "recovery": recovery, "problems": problems}


def changes(rounds: int, seed: int) -> Result:
    """Logins while alice is enrolled again, reset and unlocked: by the old or the new state, never in by accident."""
    source = random.Random(seed)
    problems = []
    seen: dict[str, dict[str, int]] = {}
    pam = 0
    prepared = {name: _prepared(name) for name in ("confirm again", "enroll again", "reset", "unlock", "recovery")}
    for number in range(rounds):
        name = source.choice(list(prepared))
        secrets, kept = prepared[name]
        host.put_back(kept)
        step = host.step_now() + 1
        codes = [host.code(secret, step) for secret in secrets]
        rhost = "rhost=192.0.2.1" if name == "unlock" else "rhost=192.0.2.9"
        with ExitStack() as stack:
            # One has been asked already, one is only beginning.
            early = [stack.enter_context(Holder("alice", rhost))] if name != "unlock" else []
            late = stack.enter_context(Holder("alice", rhost, hold=False))
            for holder in (*early, late):
                holder.start(source.choice(codes), "gate")
            pid = _changing(name, secrets, source.random() * 0.01)
            time.sleep(source.random() * 0.02)
            for holder in (*early, late):
                holder.go()
            results = [holder.wait()[1] for holder in (*early, late)]
            changed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        pam += len(results)
        for when, code in zip(("asked", "beginning")[-len(results) :], results, strict=True):
            kinds = seen.setdefault(f"{name}, {when}", {})
            kinds[verdict(code)] = kinds.get(verdict(code), 0) + 1
            allowed = {host.SUCCESS, host.AUTH_ERR}
            if name == "reset" and when == "beginning":
                allowed |= {host.IGNORE}
            if code not in allowed:
                problems.append(f"round {number}, {name}, {when}: {verdict(code)}")
        if changed != 0:
            problems.append(f"round {number}: {name} ended with {changed}: {SAID.read_text(encoding='utf-8')}")
        if results.count(host.SUCCESS) > len(codes):
            problems.append(f"round {number}, {name}: a code worked twice: {results}")
        view = host.View("alice")
        if view.damage or (name == "reset") is not (not view.active):
            problems.append(f"round {number}, {name}: {view}")
    return {"cases": rounds, "pam": pam, "seen": seen, "problems": problems}


def rotations(rounds: int, seed: int) -> Result:
    """Logins while the key is rotated: each right code gets in, and who is not enrolled is not asked, every time."""
    source = random.Random(seed)
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    for number in range(rounds):
        host.put_back(kept)
        with ExitStack() as stack:
            early = stack.enter_context(Holder("alice"))
            late = [stack.enter_context(Holder(name, hold=False)) for name in ("alice", "carol")]
            for holder, step in ((early, 0), (late[0], 1), (late[1], 0)):
                holder.start(host.code(secret, host.step_now() + step), "gate")
            pid = _changing("key rotate", [secret], 0.0)
            for holder in (early, *late):
                time.sleep(source.random() * 0.15)
                holder.go()
            results = [holder.wait()[1] for holder in (early, *late)]
            changed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if changed or results != [host.SUCCESS, host.SUCCESS, host.IGNORE]:
            said = SAID.read_text(encoding="utf-8")
            problems.append(f"round {number}: {[verdict(code) for code in results]}, rotation {changed} {said}")
        if damage := host.damage():
            problems.append(f"round {number}: {damage}")
    host.put_back(kept)  # with a key that was never rotated, as other tests expect it
    return {"cases": rounds, "pam": rounds * 3, "problems": problems}


def _prepared(name: str) -> tuple[list[bytes], host.Kept]:
    secrets = kill.COMMANDS[name][1]()
    return secrets, host.keep()


def _changing(name: str, secrets: list[bytes], delay: float) -> int:
    argv, _, typed, _, _ = kill.COMMANDS[name]
    pid = os.fork()
    if pid == 0:
        time.sleep(delay)
        sys.stderr = SAID.open("w", encoding="utf-8", buffering=1)
        kill.be(argv, typed(secrets[-1]))
    return pid
