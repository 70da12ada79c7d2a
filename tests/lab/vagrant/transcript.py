"""What `./run vagrant` prints: each step, what came of it, and whether that is right."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.vagrant.guest import Login


@dataclass(frozen=True)
class Wanted:
    """What has to come of a login. `reason` is the log's, such as "accepted code"; empty: the module is not reached."""

    asked: bool
    ok: bool
    reason: str

    def met(self, login: Login) -> bool:
        """Whether that is how it went; where several codes were typed, with all of them."""
        outcome, _, reason = self.reason.partition(" ")
        words = f" outcome={outcome} reason={reason}"
        logged = all(words in f"{line} " for line in login.log) and bool(login.log) == bool(self.reason)
        return (login.asked_code, login.ok) == (self.asked, self.ok) and logged

    def __str__(self) -> str:
        asked = "asked for a code" if self.asked else "not asked for a code"
        log = f'with "{self.reason}" in the log' if self.reason else "with nothing in the log"
        return f"{asked}, {'let in' if self.ok else 'not let in'}, {log}"


class Transcript:
    """Prints steps, and counts those that are right."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.steps = 0
        self.right = 0

    def section(self, title: str) -> None:
        """A headline."""
        print(f"\n{self._in('1;4', title)}\n", flush=True)

    def login(self, title: str, command: str, login: Login, wanted: Wanted) -> None:
        """A login, and whether it went as wanted."""
        self._title(title)
        print(f"  {self._in('2', time.strftime('%H:%M:%S'))} $ {command}")
        typed = iter(login.typed)
        for line in filter(None, map(str.strip, login.screen.splitlines())):
            hidden = ""
            if line.endswith("Password:"):
                hidden = " *************"
            elif line.endswith("code:"):
                code = next(typed, "")
                hidden = f" {code} (not shown as it is typed)" if code else ""
            self._line(line + self._in("2", hidden))
        asked = "asked for a code" if login.asked_code else "not asked for a code"
        got_in = "got in" if login.ok else "did not get in"
        verdict = self._in("32" if login.ok else "31", f"{asked}, {got_in}")
        self._line(f"{verdict} {self._in('2', f'({login.seconds:.1f} s)')}")
        for line in login.log[-1:]:
            self._line(self._in("2", f"log: {line}"))
        self._judge(wanted.met(login), f"has to be {wanted}")

    def fact(self, title: str, right: bool, *lines: str, wanted: str = "") -> None:
        """Something else that has to hold, and what was seen."""
        self._title(title)
        for line in lines:
            self._line(self._in("2", line))
        self._judge(right, wanted)

    def end(self) -> bool:
        """The last line; whether every step was right."""
        good = self.right == self.steps
        print(self._in("32" if good else "31", f"{self.right} of {self.steps} steps went as they should"), flush=True)
        return good

    def _title(self, title: str) -> None:
        self.steps += 1
        print(self._in("1", f"{self.steps}. {title}"))

    def _line(self, text: str) -> None:
        print(f"           {text}")

    def _judge(self, right: bool, wanted: str) -> None:
        self.right += right
        if not right:
            self._line(self._in("1;31", f"this is wrong: {wanted}"))
        print(flush=True)

    def _in(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._coloured and text else text
