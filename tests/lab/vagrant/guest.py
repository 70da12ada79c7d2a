"""The box from outside: root in it by vagrant's own way in, and logins of its users by ssh on a real terminal."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pexpect

from tests.lab.machine import ENVIRONMENT, MachineError
from tests.lab.ssh import CODE, PASSWORD, Session, SessionError
from tests.lab.vagrant.project import SSH_CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.vagrant.host import Host

# Seconds. An emulated box beside other jobs has taken 20 for a login and 120 for a boot.
LOGIN_PATIENCE = 120
BOOT_PATIENCE = 600
LOG_PATIENCE = 20


@dataclass(frozen=True)
class Login:
    """How a login went. `typed` are the codes; `log` is what the box's log says of it, a line for each evaluation."""

    ok: bool
    asked_password: bool
    asked_code: bool
    screen: str
    typed: tuple[str, ...]
    log: tuple[str, ...]
    seconds: float


class Terminal(Session):
    """A client that asks."""

    def prompt(self) -> str | None:
        """Wait for the next prompt, PASSWORD or CODE; None when the client has ended. Raises SessionError."""
        patterns: list[str | type[pexpect.EOF]] = [PASSWORD, CODE, pexpect.EOF]
        try:
            which = int(self._child.expect([*patterns]))
        except pexpect.TIMEOUT:
            raise SessionError(f"neither a prompt nor the end; screen:\n{self.screen}") from None
        return (PASSWORD, CODE, None)[which]


class Guest:
    """A running box. ssh knows it as `default`, the name that vagrant has given it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._seen = 0

    # -- root in it

    def root(
        self,
        script: str,
        *arguments: str,
        input: str = "",  # noqa: A002 - as in subprocess.run
        check: bool = True,
        timeout: float = 120,
    ) -> str:
        """Run a shell script in the box as root, as `vagrant ssh -c` would; return its output. Raises MachineError."""
        inside = shlex.join(["sudo", "sh", "-c", script, "sh", *arguments])
        return self.host.run([*self._ssh(), "default", inside], input=input, check=check, timeout=timeout).stdout

    def hang_up(self) -> None:
        """Drop the connection that `root` keeps open."""
        self.host.run([*self._ssh(), "-O", "exit", "default"], check=False)

    def boot_id(self) -> str:
        """Which boot this is."""
        return self.root("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> None:
        """Reboot, and wait until root is back. Raises MachineError."""
        before = self.boot_id()
        self.root("systemctl --no-block reboot", check=False)
        self.hang_up()
        self._wait(lambda: self.boot_id() != before)

    def wait_for_root(self) -> None:
        """Wait until root's way in works, as after a snapshot was restored. Raises MachineError."""
        self._wait(lambda: bool(self.boot_id()))

    def _wait(self, back: Callable[[], bool]) -> None:
        end = time.monotonic() + BOOT_PATIENCE
        while time.monotonic() < end:
            time.sleep(2)
            try:
                if back():
                    return
            except MachineError:
                self.hang_up()
        raise MachineError("the box does not come back")

    def clock(self) -> float:
        """Seconds by which the box's clock is ahead of this computer's."""
        self.root(":")
        start = time.time()
        read = float(self.root("date +%s.%N"))
        return read - (start + time.time()) / 2

    def set_clock(self, ahead: float) -> None:
        """Set the box's clock to so many seconds ahead of this computer's, as exactly as a connection is quick."""
        self.root(":")
        self.root('date --set="@$1"', f"{time.time() + ahead:.3f}")

    # -- the log

    def mark(self) -> None:
        """What the module has logged so far is not asked for any more."""
        self._seen = len(self._log())

    def news(self, count: int) -> tuple[str, ...]:
        """What the module has logged since the last call, or `mark`; waits for `count` lines."""
        end = time.monotonic() + LOG_PATIENCE
        while len(lines := self._log()) < self._seen + count and time.monotonic() < end:
            time.sleep(0.5)
        new = lines[self._seen :]
        self._seen = len(lines)
        return tuple(new)

    def _log(self) -> list[str]:
        return self.root(r"journalctl --quiet --output=cat --no-pager -g '^pam_totp\(sshd:' || :").splitlines()

    # -- logins

    def login(
        self,
        user: str,
        *codes: str | Callable[[], str],
        password: str = "",
        key: str | None = "",
        source: str = "",
        logged: int = 1,
    ) -> Login:
        """Log in from outside the box, and tell how it went.

        The codes are answers to one prompt after the other; one that is a function is called when it is asked for. A
        prompt without an answer is answered by hanging up. The key is vagrant's, another file, or (None) none.
        `logged` is how many lines of the module's log it has to leave.
        """
        options = ["-F", SSH_CONFIG, "-o", f"NumberOfPasswordPrompts={max(1, len(codes))}"]
        options += ["-o", "PubkeyAuthentication=no"] if key is None else ["-i", key] if key else []
        options += ["-o", f"BindAddress={source}"] if source else []
        start = time.monotonic()
        waiting = list(codes)
        typed: list[str] = []
        asked: list[str] = []
        argv = self.host.inside(["ssh", *options, f"{user}@default", "true"])
        with Terminal(argv, ENVIRONMENT, LOGIN_PATIENCE) as terminal:
            while (prompt := terminal.prompt()) is not None:
                asked.append(prompt)
                if prompt == PASSWORD and password:
                    terminal.answer(password)
                elif prompt == CODE and waiting:
                    answer = waiting.pop(0)
                    typed.append(answer if isinstance(answer, str) else answer())
                    terminal.answer(typed[-1])
                else:
                    break
            ok = prompt is None and terminal.wait() == 0
            screen = terminal.screen
        seconds = time.monotonic() - start
        return Login(ok, PASSWORD in asked, CODE in asked, screen, tuple(typed), self.news(logged), seconds)

    def _ssh(self) -> list[str]:
        kept = ["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", "ControlPath=/run/lab/box"]
        return ["ssh", "-F", SSH_CONFIG, *kept, "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=20"]
