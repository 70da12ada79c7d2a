"""Running the command in this process: what it is given, what it prints, how it exits."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp import cli
from pam_totp.doctor import stacks
from pam_totp.host import clock, sshd

if TYPE_CHECKING:
    from tests.unit.pretend import Host

CTRL_C = KeyboardInterrupt


class Terminal:
    """Somebody at the keyboard, who types these lines in order. Fails on a question nobody foresaw."""

    def __init__(self, *lines: str | type[KeyboardInterrupt]) -> None:
        self.lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        assert self.lines, "unexpected question"
        line = self.lines.pop(0)
        if not isinstance(line, str):
            raise line
        return line


def pipe(text: str) -> io.TextIOWrapper:
    """Standard input that is no terminal; also bytes can be read from it."""
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")


class Ran:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


class Command:
    """``pam-totp`` on one host."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._host = host
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(
        self, *argv: str, typed: tuple[str | type[KeyboardInterrupt], ...] | None = None, piped: str | None = None
    ) -> Ran:
        """Run it with somebody who types, or with a pipe, or with a terminal at which nothing may be asked."""
        terminal = Terminal(*(typed or ()))
        self._monkeypatch.setattr(sys, "stdin", terminal if piped is None else pipe(piped))
        self._capsys.readouterr()
        try:
            code = cli.main(list(argv), self._host.paths)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        assert terminal.lines == [], "never asked for"
        out, err = self._capsys.readouterr()
        for text in (out, err):
            assert "Traceback" not in text
        return Ran(code, out, err)


@pytest.fixture
def command(host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, on the host's own clock."""

    class Time:
        CLOCK_BOOTTIME = 7

        @staticmethod
        def time() -> float:
            return host.wall

        @staticmethod
        def sleep(_: float) -> None:
            pass

        @staticmethod
        def clock_gettime(_: int) -> float:
            return host.uptime

    # No sshd of this machine's is asked.
    monkeypatch.setattr(sshd, "PROGRAM", "/nowhere/sshd")
    host.boot_id = clock.now().boot_id
    # PAM asks, as far as the verbs are concerned; tests of what they say where it does not are in test_doctor.py.
    monkeypatch.setattr(stacks, "not_asked", lambda *_: "")
    monkeypatch.setattr(clock, "time", Time)
    return Command(host, monkeypatch, capsys)
