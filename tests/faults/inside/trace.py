"""The system calls of a process that has stopped itself, by strace: listed, or one of them made to fail or to kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CALL = re.compile(r"^(?:(\d+) +)?(\w+)\(")
Call = tuple[str, int]
# What a crash can fall between: all other calls change nothing that outlives the process.
CHANGING = {
    *("pwrite64", "write", "fdatasync", "fsync", "ftruncate"),
    *("rename", "link", "unlink", "mkdir", "flock", "sendto"),
}


def resumed(pid: int, options: list[str], wait: Callable[[], object]) -> None:
    """Let a stopped process go on under strace; `wait` returns when it has ended."""
    while state(pid) != "T":
        time.sleep(0.0002)
    command = ["strace", "-f", "-p", str(pid), *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8") as tracer:
        if tracer.stderr is None:
            raise AssertionError
        line = tracer.stderr.readline()
        if "attached" not in line:
            os.kill(pid, signal.SIGKILL)
            raise OSError(line)
        os.kill(pid, signal.SIGCONT)
        wait()


def state(pid: int) -> str:
    """The state of a process as one letter (proc(5)): R, S, D, T, t, Z."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0]


def calls(pid: int, wait: Callable[[], object]) -> list[Call]:
    """The system calls of a stopped process up to its end: name, and how many of that name there have been by then.

    Each process that it starts is counted for itself, as strace does for what it injects.
    """
    seen: dict[tuple[str, str], int] = {}
    found: dict[Call, None] = {}
    for line in lines(pid, wait):
        match = CALL.match(line)
        if match is not None and match[2] != "exit_group":
            which = match[1] or "", match[2]
            seen[which] = seen.get(which, 0) + 1
            found[match[2], seen[which]] = None
    return list(found)


def chosen(sequence: list[Call], every: int) -> list[Call]:
    """The calls that change something, and each `every`-th of the others."""
    return [call for number, call in enumerate(sequence) if call[0] in CHANGING or number % every == 0]


def lines(pid: int, wait: Callable[[], object], *options: str) -> list[str]:
    """What strace writes about a stopped process up to its end."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", dir="/run/lab") as file:
        resumed(pid, ["-o", file.name, *options], wait)
        return file.read().splitlines()


def killed_at(pid: int, call: Call, wait: Callable[[], object]) -> None:
    """Kill a stopped process with SIGKILL on entry to one of its calls."""
    name, number = call
    inject(pid, f"{name}:signal=KILL:when={number}", wait)


def inject(pid: int, what: str, wait: Callable[[], object]) -> None:
    """Let a stopped process go on with an injection, in strace's words (strace(1), "Tampering")."""
    resumed(pid, ["-o", "/dev/null", "-e", f"trace={what.partition(':')[0]}", "-e", f"inject={what}"], wait)
