"""Logins while the disk under the cache is full or read-only, and after a reboot in that state."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.faults.inside import host, trace
from tests.faults.inside.holder import Holder, NotHeldError, login, verdict
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = host.DIRECTORIES[1]
JOURNAL = f"{host.PATHS.cache}-journal"
HOT = bytes.fromhex("d9d505f920a163d7")
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@contextmanager
def mounted(size: str = "1m") -> Iterator[None]:
    """A small file system of its own over the cache's directory, with what was there."""
    script = 'mount -t tmpfs -o "mode=700,size=$2" t /mnt && cp -a "$1/." /mnt/ && mount --move /mnt "$1"'
    subprocess.run(["sh", "-c", script, "sh", DIRECTORY, size], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", DIRECTORY], check=True)


def full() -> None:
    """Leave no byte free."""
    with open(f"{DIRECTORY}/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            pass
        try:
            while True:
                file.write(b"\0")
        except OSError:
            pass


def not_full() -> None:
    """Free the space again."""
    os.unlink(f"{DIRECTORY}/filler")


def remounted(how: str) -> bool:
    """Remount it; False where a writer keeps it from becoming read-only."""
    command = ["mount", "-o", f"remount,{how}", DIRECTORY]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


@contextmanager
def rebooted(uptime: float) -> Iterator[tuple[str, ...]]:
    """What is below /run is gone and the boot id is another; yields the command for a machine up for `uptime` s."""
    for name in os.listdir(host.PATHS.run):
        os.unlink(f"{host.PATHS.run}/{name}")
    with open("/run/lab/boot_id", "w", encoding="ascii") as file:
        file.write("00000000-0000-4000-8000-000000000000\n")
    subprocess.run(["mount", "--bind", "/run/lab/boot_id", BOOT_ID], check=True)
    offset = int(uptime - time.clock_gettime(time.CLOCK_BOOTTIME))
    try:
        yield ("unshare", "--time", "--boottime", str(offset), "--fork", "--kill-child", "--")
    finally:
        subprocess.run(["umount", BOOT_ID], check=True)


def run_is_old() -> None:
    """Have /run/pam-totp note that it was made right after the boot."""
    with open(BOOT_ID, encoding="ascii") as boot_id, open(f"{host.PATHS.run}/made", "w", encoding="ascii") as file:
        file.write(f"0 {boot_id.read().strip()} 0")
    os.chmod(file.name, 0o600)


def fallback(how: str, journal: bool) -> dict[str, object]:
    """All that is promised for a full ("full") or read-only ("ro") disk; `journal`: the kept one is still there."""
    secret = host.enrolled("alice")
    codes = host.issued("alice")
    problems: list[str] = []
    cases = 0

    def expect(wanted: int, answer: str, what: str, source: str = "192.0.2.1") -> list[str]:
        nonlocal cases
        cases += 1
        log.lines()
        try:
            with Holder("alice", f"rhost={source}") as holder:
                got = holder.login(answer)
        except NotHeldError:
            got = host.AUTH_ERR if wanted == NOT_ASKED else NOT_ASKED
            wanted = host.AUTH_ERR if wanted == NOT_ASKED else wanted
        if got != wanted:
            problems.append(f"{what}: {verdict(got)} instead of {verdict(wanted)}")
        lines = log.lines()
        if not lines:
            problems.append(f"{what}: not logged")
        return lines

    with mounted(), Log() as log:
        run_is_old()
        if not journal:
            os.unlink(JOURNAL)
        full() if how == "full" else remounted("ro")
        step = host.step_now()
        right = host.code(secret, step)
        spent = host.code(secret, step - 1)
        expect(host.AUTH_ERR, spent, "a code spent before")
        lines = expect(host.SUCCESS, right, "a right code")
        durable = how == "full" and journal
        if not durable and not any("recorded in /run/pam-totp only" in line for line in lines):
            problems.append(f"the log does not say why: {lines}")
        expect(host.AUTH_ERR, right, "the same code again")
        expect(host.AUTH_ERR, right, "and from elsewhere", "192.0.2.2")
        # With the kept journal SQLite writes to a full disk, durably: then a recovery code is as good as ever.
        lines = expect(host.SUCCESS if durable else host.AUTHINFO_UNAVAIL, codes[0], "a recovery code", "192.0.2.3")
        if not durable and not any("recovery code needs a durable record" in line for line in lines):
            problems.append(f"the log does not say why a recovery code is refused: {lines}")
        for number in range(3):
            expect(host.AUTH_ERR, host.wrong(secret, step), f"wrong code {number}", "192.0.2.4")
        # Recovery codes are asked for in a wait, and are of no use here: so a code is refused whoever is asked.
        lines = expect(host.AUTH_ERR, host.code(secret, step + 1), "a right code in the wait", "192.0.2.4")
        if not any("throttled" in line for line in lines):
            problems.append(f"three wrong codes, and no wait: {lines}")
        before = host.View("alice")
        not_full() if how == "full" else remounted("rw")
        expect(host.SUCCESS, host.code(secret, step + 1), "the next code, with space again", "192.0.2.5")
        for file in os.listdir(host.PATHS.run):
            os.unlink(f"{host.PATHS.run}/{file}")
        behind = host.View("alice")
        left = len(codes) - durable
        if before.row < 3 or behind.codes != left or max(behind.marks.values()) != step + 1 or behind.damage:
            problems.append(f"lost: {before}, then {behind}")
        expect(host.SUCCESS, codes[1], "a recovery code, with space again")
    return {"cases": cases, "problems": problems}


NOT_ASKED = 98


def after_reboot(how: str) -> dict[str, object]:
    """A code spent in /run, and a reboot while the disk is as it was: nothing gets in for the first 300 s."""
    secret = host.enrolled("alice")
    problems = []
    with mounted():
        os.unlink(JOURNAL)
        full() if how == "full" else remounted("ro")
        step = host.step_now()
        run_is_old()
        first = login("alice", host.code(secret, step))
        if first != host.SUCCESS:
            problems.append(f"before the reboot: {verdict(first)}")
        cases = [(20, step), (20, step + 1), (299 - 20, step), (299 - 20, host.step_now() + 1)]
        for uptime, which in cases:
            with rebooted(uptime) as under:
                got = login("alice", host.code(secret, which), under=under)
            if got != host.AUTHINFO_UNAVAIL:
                problems.append(f"{uptime} s after the boot, step {which - step:+}: {verdict(got)}")
        with rebooted(301) as under:
            run_is_old()
            got = login("alice", host.code(secret, host.step_now() + 1), under=under)
            if got != host.SUCCESS:
                problems.append(f"after the first 300 s: {verdict(got)}")
        if how == "ro":
            remounted("rw")
    return {"cases": len(cases) + 2, "problems": problems}


def both_paths(rounds: int) -> dict[str, object]:
    """The same code four times at once while the disk goes read-only and back: at most one gets in, then none."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    won = {"ro": 0, "rw": 0}
    for number in range(rounds):
        host.put_back(kept)
        run_is_old()
        with mounted():
            start, end = ("ro", "rw") if number % 2 else ("rw", "ro")
            remounted(start)
            code = host.code(secret, host.step_now())
            with Holder("alice") as holder:
                flip = threading.Timer(0.0005 * (number % 9), _until, [end])
                flip.start()
                results = holder.at_once([code] * 4)
                flip.join()
                results.append(holder.login(code))
            winners = results.count(host.SUCCESS)
            if winners > 1 or (winners == 1 and results[-1] == host.SUCCESS) or host.IGNORE in results:
                problems.append(f"round {number}: {results}")
            won[start] += winners
            remounted("rw")
    return {"cases": rounds, "won": won, "problems": problems}


def _until(how: str) -> None:
    end = time.monotonic() + 5
    while not remounted(how) and time.monotonic() < end:
        time.sleep(0.001)


def hot_journal() -> dict[str, object]:
    """A login killed in its commit leaves a hot journal; under a read-only mount that is said and nobody gets in."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    cases = 0
    with Holder("alice") as holder, Log() as log:
        calls = trace.calls(holder.stopped(host.code(secret, host.step_now())), holder.wait)
        for call in [call for call in calls if call[0] in ("pwrite64", "fdatasync")]:
            host.put_back(kept)
            step = host.step_now()
            trace.killed_at(holder.stopped(host.code(secret, step)), call, holder.wait)
            with open(JOURNAL, "rb") as file:
                if file.read(8) != HOT:
                    continue
            cases += 1
            with mounted():
                remounted("ro")
                log.lines()
                got = [login("alice", host.code(secret, which)) for which in (step, step + 1)]
                lines = log.lines()
                if set(got) != {host.AUTHINFO_UNAVAIL} or not all("cache-hot-journal" in line for line in lines):
                    problems.append(f"killed at {call}: {list(map(verdict, got))} {lines}")
                remounted("rw")
                got = [login("alice", host.code(secret, which)) for which in (step, step + 1)]
                if got != [host.AUTH_ERR, host.SUCCESS] or host.View("alice").damage:
                    problems.append(f"killed at {call}, writable again: {list(map(verdict, got))} {log.lines()}")
    return {"cases": cases, "problems": problems}
