"""Logins through the real module that stand still at the prompt: what holder.c does, from Python."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

from tests.faults.inside import host

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = "/run/lab/holder"
SERVICE = "lab"
OURS = "pam_totp.so"
# How the command line of a helper ends: our engine's process, in which the login is.
HELPER = b"helper.main()\0"
# In the place of an answer: a conversation that fails.
REFUSED = b"!"


class NotHeldError(Exception):
    """The login ended before the prompt."""


class Engine:
    """What the PAM lines of this machine name."""

    module = ""

    @classmethod
    def apart(cls) -> bool:
        """Whether the login is in a process of its own."""
        return cls.module == OURS


class Holder:
    """One login of `user`; each answer goes on in a process of its own. A context manager: leaving it ends them all.

    `items` are rhost=ADDRESS and what goes into the PAM environment, `under` is a command to run it under. Raises
    NotHeldError where no prompt came.
    """

    def __init__(
        self, user: str, *items: str, service: str = SERVICE, hold: bool = True, under: tuple[str, ...] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [*under, PROGRAM, "apart" if Engine.apart() else "whole", service, user, *items],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            env={},
            cwd="/",
        )
        if hold and self._ask("hold") != ["held"]:
            self.__exit__()
            raise NotHeldError(user)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def stopped(self, answer: str | bytes | None) -> int:
        """Go on with an answer in a process that has stopped itself; return the pid of the one that the login is in."""
        if not Engine.apart():
            return self.start(answer, "stop")
        others = _helpers()
        self.start(answer, "gate")
        [pid] = _helpers() - others
        os.kill(pid, signal.SIGSTOP)
        while _state(pid) != "T":
            time.sleep(0.0002)
        self.go()
        return pid

    def start(self, answer: str | bytes | None, how: str = "fork") -> int:
        """Go on with an answer (None: there is none) in a process of its own; return its pid. `how`: see holder.c."""
        data = answer.encode() if isinstance(answer, str) else answer
        text = "-" if data is None else "!" if data is REFUSED else data.hex()
        return int(self._ask(f"{how} {text}")[1])

    def close(self, descriptors: Iterable[int]) -> None:
        """Let those that start from now on be without some of standard input, output and error."""
        self._ask(f"close {sum(1 << number for number in descriptors)}")

    def go(self) -> None:
        """Let all go that wait."""
        self._ask("go")

    def wait(self) -> tuple[int, int]:
        """Wait for one to end: its pid, and what pam_authenticate returned, or minus the signal that ended it."""
        _, pid, how, number = self._ask("wait")
        return int(pid), int(number) if how == "exit" else -int(number)

    def login(self, answer: str | bytes | None) -> int:
        """Go on with an answer; return what pam_authenticate returned."""
        self.start(answer)
        return self.wait()[1]

    def at_once(self, answers: Iterable[str | bytes | None]) -> list[int]:
        """Go on with all these answers at the same moment; return what pam_authenticate returned, in their order."""
        pids = [self.start(answer, "gate") for answer in answers]
        self.go()
        ended = dict(self.wait() for _ in pids)
        return [ended[pid] for pid in pids]

    def _ask(self, line: str) -> list[str]:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()


def ended_by(number: int) -> int:
    """What `wait` tells of a login that a signal has ended."""
    return host.SERVICE_ERR if Engine.apart() else -number


def _helpers() -> set[int]:
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().endswith(HELPER):
                    found.add(int(pid))
        except OSError:
            continue  # it has ended
    return found


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0]


def prepare(line: str) -> None:
    """Build the client; ``line`` is what the PAM service names: the module, and its first argument where it has one."""
    Engine.module = line
    subprocess.run(["tcc", "-o", PROGRAM, os.path.join(HERE, "holder.c"), "-lpam"], check=True)


def login(user: str, answer: str | bytes | None, *items: str, under: tuple[str, ...] = ()) -> int:
    """One whole login through the module: what pam_authenticate returned, or minus the signal that ended it."""
    with Holder(user, *items, hold=False, under=under) as holder:
        return holder.login(answer)


def verdict(number: int) -> str:
    """What pam_authenticate returned, in words."""
    names = {value: name for name, value in vars(host).items() if name.isupper() and isinstance(value, int)}
    return names.get(number, f"signal {-number}" if number < 0 else str(number))
