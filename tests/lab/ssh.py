"""Logins with OpenSSH's own client on a real terminal."""

from __future__ import annotations

import io
import re
import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pexpect

from tests.lab.process import end

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.lab.user import User

PASSWORD = r"[^\r\n]*[Pp]assword(?: for \w+)?: ?"
CODE = r"[^\r\n]*Verification code: ?"


class SessionError(Exception):
    """A session did not show what was expected; the message has the whole screen."""


@dataclass(frozen=True)
class Result:
    """How a login went. `asked` has the prompts as they were shown, `seconds` the time until the client ended."""

    ok: bool
    status: int
    asked: tuple[str, ...]
    asked_password: bool
    asked_code: bool
    screen: str
    seconds: float


class Session:
    """A client program on a terminal of its own, driven from outside. A context manager: leaving it hangs up.

    `closed` is called once, when the client is gone, with whether it was hung up on.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        timeout: float,
        closed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._closed = closed
        self._record = io.StringIO()
        self._started = time.monotonic()
        self._child = pexpect.spawn(
            command[0],
            list(command[1:]),
            env=dict(environment),
            encoding="utf-8",
            codec_errors="backslashreplace",
            dimensions=(50, 100),
            timeout=timeout,
        )
        self._child.logfile_read = self._record
        # The client switches echo off and discards what was typed ahead before it prompts: no need to wait.
        self._child.delaybeforesend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def screen(self) -> str:
        """Everything the terminal has shown so far."""
        return re.sub(r"\r+\n", "\n", self._record.getvalue())

    def expect(self, *patterns: str, timeout: float | None = None) -> int:
        """Wait for one of some regular expressions; return which. Raises SessionError."""
        try:
            return int(self._child.expect(list(patterns), timeout=-1 if timeout is None else timeout))
        except (pexpect.EOF, pexpect.TIMEOUT) as error:
            what = "ended" if isinstance(error, pexpect.EOF) else "timed out"
            raise SessionError(
                f"{what} without showing {' or '.join(map(repr, patterns))}; screen:\n{self.screen}"
            ) from None

    def answer(self, text: str) -> None:
        """Type a line."""
        self._child.send(text + "\r")

    def hidden(self) -> None:
        """Wait until the program has switched echo off: one that first prompts discards what was typed before that.

        Raises SessionError.
        """
        end = time.monotonic() + 10
        while self._child.getecho():
            if time.monotonic() > end:
                raise SessionError(f"the answer would be shown; screen:\n{self.screen}")
            time.sleep(0.01)

    def send(self, text: str) -> None:
        """Type, without the return key ("\\x03" is Ctrl-C)."""
        self._child.send(text)

    def wait(self, *, timeout: float | None = None) -> int:
        """Wait for the client to end; return its exit status (128 + N if signal N ended it). Raises SessionError."""
        try:
            self._child.expect(pexpect.EOF, timeout=-1 if timeout is None else timeout)
        except pexpect.TIMEOUT:
            raise SessionError(f"the client does not end; screen:\n{self.screen}") from None
        self.close()
        if self._child.exitstatus is None:
            return 128 + int(self._child.signalstatus or 0)
        return int(self._child.exitstatus)

    def close(self) -> None:
        """Hang up, and make sure that the client ends."""
        if self._child.closed:
            return
        hung_up = not self._child.flag_eof
        end(self._child.pid or 0, lambda: not self._child.isalive(), signal.SIGHUP)
        self._child.ptyproc.delayafterclose = 0  # type: ignore[attr-defined] # the stubs have no ptyproc
        self._child.close()
        self._closed(hung_up)

    def authenticate(self, *, password: str | None = None, code: str | None = None, until: str = "") -> Result:
        """Answer the prompts of a login that come, in whatever order, until the client ends (or shows `until`).

        A prompt for which there is no answer, and a second one of a kind, is answered by hanging up.
        """
        answers = {PASSWORD: password, CODE: code}
        asked: list[str] = []
        kinds: list[str] = []
        patterns: list[str | type[pexpect.EOF]] = [*answers, pexpect.EOF, *([until] if until else [])]
        status = 0
        while True:
            try:
                which = int(self._child.expect([*patterns]))
            except pexpect.TIMEOUT:
                raise SessionError(f"neither a prompt nor the end; screen:\n{self.screen}") from None
            if which >= len(answers):
                status = self.wait() if patterns[which] is pexpect.EOF else 0
                break
            kind = tuple(answers)[which]
            asked.append(str(self._child.after).strip())
            reply = answers[kind]
            if reply is None or kind in kinds:
                self.close()
                status = 255
                kinds.append(kind)
                break
            kinds.append(kind)
            self.answer(reply)
        return Result(
            ok=status == 0,
            status=status,
            asked=tuple(asked),
            asked_password=PASSWORD in kinds,
            asked_code=CODE in kinds,
            screen=self.screen,
            seconds=time.monotonic() - self._started,
        )


class Client(ABC):
    """The ssh, sftp and scp of a machine, run there by root.

    `source` is the client's address (127.0.0.0/8, ::1, fd00::/16), `key` the name of a key in root's ~/.ssh (True: the
    user's own; False: none is offered).
    """

    @abstractmethod
    def terminal(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 30
    ) -> Session:
        """Run a command in the machine on a terminal of its own."""

    def ssh(
        self,
        user: str | User,
        *options: str,
        command: str | None = "true",
        source: str = "",
        key: bool | str = False,
        env: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Session:
        """Start a login that runs `command` (None: a shell on a terminal). `options` are more of ssh's, as in "-v"."""
        host = "::1" if ":" in source else "127.0.0.1"
        argv = ["ssh", *_options(user, source, key), *options, f"{user}@{host}", *([command] if command else [])]
        return self.terminal(argv, env=env, timeout=timeout)

    def login(
        self,
        user: str | User,
        *options: str,
        password: str | None = None,
        code: str | None = None,
        command: str = "true",
        source: str = "",
        key: bool | str = False,
        env: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Result:
        """Log in, answer what is asked, one try of each method, and tell how it went."""
        once = ("-o", "NumberOfPasswordPrompts=1")
        with self.ssh(
            user, *once, *options, command=command, source=source, key=key, env=env, timeout=timeout
        ) as session:
            return session.authenticate(password=password, code=code)

    def sftp(self, user: str | User, *options: str, source: str = "", key: bool | str = False) -> Session:
        """Start an interactive sftp session; its prompt is `sftp> `."""
        host = "[::1]" if ":" in source else "127.0.0.1"
        return self.terminal(["sftp", *_options(user, source, key), *options, f"{user}@{host}"])

    def scp(self, user: str | User, file: str, target: str, *, source: str = "", key: bool | str = False) -> Session:
        """Start copying root's `file` to `target` in the user's home."""
        host = "[::1]" if ":" in source else "127.0.0.1"
        return self.terminal(["scp", *_options(user, source, key), file, f"{user}@{host}:{target}"])


def _options(user: str | User, source: str, key: bool | str) -> list[str]:
    options = ["-o", f"BindAddress={source}"] if source else []
    if key is False:
        return [*options, "-o", "PubkeyAuthentication=no"]
    name = str(user) if key is True else key
    return [*options, "-o", "IdentitiesOnly=yes", "-i", f"/root/.ssh/{name}"]
