"""Whether a terminal is light, asked of terminals of every kind: each on the other end of a real pty."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

import pytest

from pam_totp.host import terminal

QUESTION = b"\x1b]11;?\a\x1b[c"
NO_COLOURS = b"\x1b[?6c"
PROGRAM = """
import os, sys, termios
from pam_totp.host import terminal
before = termios.tcgetattr(0)
try:
    said = str(terminal.light_background())
except KeyboardInterrupt:
    said = "interrupted"
print("<", said, before == termios.tcgetattr(0), ">", flush=True)
print("typed", sys.stdin.readline())
"""


class Screen:
    """The program above, on a terminal that we are."""

    def __init__(self, ahead: bytes = b"", **environment: str) -> None:
        """With what was typed before it started."""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            if ahead:
                select.select([0], [], [])
            os.environ.pop("COLORFGBG", None)
            os.environ.update({"TERM": "xterm", **environment})
            os.execv(sys.executable, [sys.executable, "-c", PROGRAM])
        self.shown = b""
        self.type(ahead)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)

    def until(self, text: bytes) -> bytes:
        """All that was shown up to a text, waited for."""
        end = time.monotonic() + 20
        while text not in self.shown and time.monotonic() < end:
            if select.select([self.descriptor], [], [], 1)[0]:
                self.shown += os.read(self.descriptor, 1000)
        assert text in self.shown, self.shown
        return self.shown

    def type(self, text: bytes) -> None:
        os.write(self.descriptor, text)

    def verdict(self) -> list[str]:
        """What was found, and whether the modes were put back."""
        return self.until(b">").split(b"<")[1].split(b">")[0].decode().split()


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize(
    ("colour", "light"),
    [
        *((b"rgb:ffff/ffff/ffff", True), (b"rgb:0000/0000/0000", False), (b"rgb:ff/ff/ee", True)),
        *((b"rgb:2828/2a2a/3636", False), (b"rgba:fdfd/f6f6/e3e3/ffff", True), (b"rgb:0/0/8", False)),
    ],
)
def test_a_terminal_says_its_colour(colour: bytes, light: bool) -> None:
    with Screen() as screen:
        screen.until(QUESTION)
        screen.type(b"\x1b]11;" + colour + b"\x1b\\" + b"\x1b[?62;22c")
        assert screen.verdict() == [str(light), "True"]
        # Nothing of the answer is taken for what somebody types.
        screen.type(b"123456\r")
        assert b"typed 123456" in screen.until(b"typed 1")


@pytest.mark.parametrize("answer", [NO_COLOURS, b"", b"\x1b]11;rgb:zz", b"x" * 1000, b"\x1b]11;#ffffff\x07\x1b[?1c"])
def test_a_terminal_that_does_not_say_counts_as_dark_and_its_modes_come_back(answer: bytes) -> None:
    with Screen() as screen:
        screen.until(QUESTION)
        screen.type(answer)
        assert screen.verdict() == ["False", "True"]


def test_the_modes_come_back_when_it_is_interrupted() -> None:
    with Screen() as screen:
        screen.until(QUESTION)
        screen.type(b"\x03")
        assert screen.verdict() == ["interrupted", "True"]


def test_what_somebody_has_typed_ahead_is_not_swallowed() -> None:
    with Screen(ahead=b"123456\r") as screen:
        assert screen.verdict() == ["False", "True"]
        assert QUESTION not in screen.shown
        assert b"typed 123456" in screen.until(b"typed 1")


@pytest.mark.parametrize(
    ("said", "light"),
    [("0;15", True), ("15;0", False), ("15;default;0", False), ("0;default;15", True), ("0;7", True), ("7;8", False)],
)
def test_the_environment_says_it_and_the_terminal_is_not_asked(said: str, light: bool) -> None:
    with Screen(COLORFGBG=said) as screen:
        assert screen.verdict() == [str(light), "True"]
        assert QUESTION not in screen.shown


@pytest.mark.parametrize("kind", ["dumb", "", "unknown"])
def test_a_terminal_that_knows_no_sequences_is_not_asked(kind: str) -> None:
    with Screen(TERM=kind) as screen:
        assert screen.verdict() == ["False", "True"]
        assert QUESTION not in screen.shown


def test_without_a_terminal_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLORFGBG", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "PATH", "/dev/nowhere")
    assert terminal.light_background() is False
