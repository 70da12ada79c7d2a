"""A marked secret and marked codes, looked for wherever they must not be; and the time that a wrong digit takes."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from pam_totp.factors import otp
from tests.faults.inside import host, trace
from tests.faults.inside.holder import Holder, ended_by
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where files are that somebody may read, keep or find; the user's home, and the installation itself.
TREES = ("/tmp", "/var", "/run", "/dev/shm", "/root", "/home", "/etc")
BIG = 1 << 26
CORE = re.compile(r"core(\.\d+)?")


class Watch:
    """Reads titles, arguments and environments of all processes again and again, and looks for markers."""

    def __init__(self, markers: dict[str, bytes]) -> None:
        self._markers = markers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.found: set[str] = set()
        self.looked = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        own = str(os.getpid())
        while not self._stop.is_set():
            self.looked += 1
            for pid in os.listdir("/proc"):
                if pid.isdigit() and pid != own:
                    for name in ("cmdline", "environ", "comm"):
                        self._look(f"/proc/{pid}/{name}")

    def _look(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            return
        self.found |= {f"{what} in {path}" for what, marker in self._markers.items() if marker in content}


def leaks() -> dict[str, object]:
    """Enrol, log in, fail, crash and reset with a marked secret: it and its codes are found nowhere."""
    host.removed("alice")
    problems = []
    begun = time.time()
    with Log() as log:
        # What the administrator is shown is where the secret has to be, and only there.
        argv = ["pam-totp", "enroll", "alice", "--no-confirm", "--json"]
        shown = subprocess.run(argv, check=True, capture_output=True).stdout
        text = json.loads(shown)["secret"]
        secret = base64.b32decode(text)
        step = host.step_now()
        codes = {f"the code of step {number:+}": host.code(secret, step + number) for number in range(-1, 3)}
        wrong = host.wrong(secret, step)
        markers = {
            "the secret": secret,
            "the secret in base32": text.encode(),
            "the secret in hexadecimal": secret.hex().encode(),
            "the secret in base64": base64.b64encode(secret).rstrip(b"="),
            "the secret in Python": repr(secret)[2:-1].encode(),
        }
        watch = Watch({**markers, **{what: code.encode() for what, code in codes.items()}})
        watch.start()
        confirm = ["pam-totp", "confirm", "alice"]
        first = host.code(secret, step - 1).encode()
        subprocess.run(
            confirm, input=b"garbage\n" + wrong.encode() + b"\n" + first + b"\n", check=True, capture_output=True
        )
        for verb in ("status", "check"):
            subprocess.run(["pam-totp", verb, "alice"], input=wrong.encode(), check=False, capture_output=True)
        with Holder("alice") as holder:
            for code in (wrong, host.code(secret, step), host.code(secret, step)):
                holder.login(code)
            crash = holder.stopped(host.code(secret, step + 1))
            trace.inject(crash, "fdatasync:signal=SEGV:when=2", holder.wait)
            holder.login(host.code(secret, step + 1))
            subprocess.run(["pam-totp", "check", "alice"], input=wrong.encode(), check=False, capture_output=True)
            _broken(holder, host.code(secret, step + 2))
        watch.stop()
        lines = "\n".join(log.lines())
    spoken = {**codes, "the wrong code": wrong, "the secret": text}
    problems += [f"{what} in the log" for what, marker in spoken.items() if marker in lines]
    problems += sorted(watch.found)
    problems += _in_files(markers, {what: code.encode() for what, code in codes.items()}, begun)
    if not lines or not watch.looked:
        problems.append("nothing was looked at")
    problems += _after_reset(markers)
    return {"cases": len(markers) + len(spoken), "looked": watch.looked, "problems": problems}


def _broken(holder: Holder, code: str) -> None:
    """A login that ends in an error that nobody foresaw, and one with a broken cache."""
    kept = host.keep()
    with open(host.PATHS.cache, "r+b") as file:
        file.seek(5000)
        file.write(bytes(20_000))
    holder.login(code)
    host.put_back(kept)
    pid = holder.stopped(code)
    trace.inject(pid, "openat:error=ENOMEM:when=1+", holder.wait)


def _files() -> Iterator[tuple[str, bytes, float]]:
    """Path, content, and when it was last changed."""
    for tree in TREES:
        for directory, _, names in os.walk(tree):
            if directory.startswith("/run/lab"):
                continue  # the tests' own
            for name in names:
                path = os.path.join(directory, name)
                try:
                    if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < BIG:
                        with open(path, "rb") as file:
                            yield path, file.read(), os.fstat(file.fileno()).st_ctime
                except OSError:
                    continue


def _in_files(secrets: dict[str, bytes], codes: dict[str, bytes], begun: float) -> list[str]:
    problems = []
    for path, content, changed in _files():
        if CORE.fullmatch(os.path.basename(path)):
            problems.append(f"a core file: {path}")
        problems += [f"{what} in {path}" for what, marker in secrets.items() if marker in content]
        # Six digits are found by accident. Codes are looked for in what has changed since there are any, and of that in
        # small files and in our own.
        if changed >= begun and (len(content) < 4096 or "pam-totp" in path):
            problems += [f"{what} in {path}" for what, marker in codes.items() if marker in content]
    return problems


def _after_reset(markers: dict[str, bytes]) -> list[str]:
    """After a reset nothing of the sealed record is left in the cache, in free pages neither."""
    connection = sqlite3.connect(host.PATHS.cache)
    rows = connection.execute(
        "SELECT secret FROM authenticator WHERE name = 'alice' UNION SELECT ledger FROM account WHERE name = 'alice'"
    ).fetchall()
    connection.close()
    subprocess.run(["pam-totp", "reset", "alice", "--yes"], check=True, capture_output=True)
    with open(host.PATHS.cache, "rb") as file:
        content = file.read()
    left = [len(row[0]) for row in rows if row[0][8:40] in content]
    return [f"a sealed value of {size} bytes is left" for size in left] + [
        f"{what} after a reset" for what, marker in markers.items() if marker in content
    ]


def core_files() -> dict[str, object]:
    """A crash in a login, under Debian's default limit for services, leaves no core file."""
    secret = host.enrolled("alice")
    problems = []
    with Holder("alice") as holder:
        pid = holder.stopped(host.code(secret, host.step_now()))
        while trace.state(pid) != "T":
            time.sleep(0.001)
        subprocess.run(["prlimit", f"--pid={pid}", "--core=0:"], check=True)
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)
        if holder.wait()[1] != ended_by(signal.SIGSEGV):
            problems.append("it did not crash")
    problems += [
        path
        for path in (*os.listdir("/"), *(path for path, _, _ in _files()))
        if CORE.fullmatch(os.path.basename(path))
    ]
    return {"cases": 1, "problems": problems}


def timing(rounds: int) -> dict[str, object]:
    """Nanoseconds that it takes to refuse a code whose first wrong digit is at each position, interleaved.

    The first deciles: what makes a digit slower does so each time, and what makes the median slow is the machine.
    """
    secret = bytes(range(20))
    step = 59_000_000
    right = host.code(secret, step)
    wrong = [right[:at] + str((int(right[at]) + 1) % 10) + right[at + 1 :] for at in range(6)]
    took: list[list[int]] = [[] for _ in wrong]
    for number in range(rounds):
        for at in sorted(range(6), key=lambda at, number=number: (at * 7 + number) % 6):  # type: ignore[misc]  # its default
            start = time.perf_counter_ns()
            found = otp.matching_step(secret, wrong[at], range(step - 1, step + 2))
            took[at].append(time.perf_counter_ns() - start)
            if found is not None:
                raise AssertionError
    return {"cases": 6, "deciles": [statistics.quantiles(times, n=10)[0] for times in took]}
