"""The self-service without systemd: what accepts connections as its socket unit does, and users who come by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.login.host import Person, spelled

if TYPE_CHECKING:
    from tests.lab.machine import Completed, Machine
    from tests.lab.ssh import Session

ACCEPT = Path(__file__).with_name("accept.py")
SOCKET = "/run/pam-totp-self.sock"
KEY = re.compile(r"  key  ((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})")
RECOVERY_CODE = re.compile(r"\b[a-km-np-z2-9]{5}-[a-km-np-z2-9]{5}\b")
CODE_OF_THE_APP = "Code from the app: "
CODE = "Verification code: "
ENTER = "type yes: "


class Service:
    """The socket and its service in a machine, as a context manager."""

    def __init__(self, machine: Machine) -> None:
        machine.write("/run/lab/accept.py", ACCEPT.read_bytes())
        self._machine = machine
        self._process = machine.popen(["/usr/bin/python3", "-I", "/run/lab/accept.py", SOCKET])

    def __enter__(self) -> Self:
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            raise AssertionError
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.end(self._process)
        self._process.communicate()
        self._machine.run(["rm", SOCKET])


def visit(person: Person, *words: str, answers: tuple[str, ...] = (), user: str = "") -> Completed:
    """Run `pam-totp self` as the person, with these lines as its input."""
    lines = "".join(f"{answer}\n" for answer in answers)
    return person.host.machine.run(["pam-totp", "self", *words], check=False, input=lines, user=user or person.name)


def terminal(person: Person, *words: str) -> Session:
    """The same on a terminal."""
    become = ["setpriv", f"--reuid={person}", f"--regid={person}", "--init-groups"]
    return person.host.machine.terminal([*become, "pam-totp", "self", *words])


def scanned(person: Person, screen: str) -> Person:
    """The person with the key that was shown last, which must not be in any log."""
    key = KEY.findall(screen)[-1].replace(" ", "")
    person.host.confidential |= spelled(key)
    return Person(person.host, person.user, key)


def recovery_codes(person: Person, screen: str) -> list[str]:
    """The recovery codes on a screen."""
    codes = RECOVERY_CODE.findall(screen)
    person.host.confidential |= {form for code in codes for form in (code, code.replace("-", ""))}
    return codes


def enrolled(person: Person, *words: str, code: str = "") -> tuple[Person, list[str]]:
    """Enrol on a terminal: the person with the new key, and the recovery codes. This step's code is not spent."""
    with terminal(person, "enroll", *words) as session:
        if code:
            session.expect(CODE)
            session.answer(code)
        session.expect(CODE_OF_THE_APP)
        person = scanned(person, session.screen)
        session.answer(person.code(-1))
        if session.expect(ENTER, "is set up") == 0:
            session.answer("yes")
        assert session.wait() == 0, session.screen
        return person, recovery_codes(person, session.screen)
