"""A throw-away Debian machine: namespaces around a root, gone without trace when it is left."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab import cache, syslog
from tests.lab.helpers import settle
from tests.lab.pam import OURS
from tests.lab.process import end
from tests.lab.ssh import Client, Session
from tests.lab.sshd import Sshd
from tests.lab.user import User

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.lab.roots import Root

HERE = Path(__file__).parent
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "xterm"}
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
DRAIN = b"lab drain "
Completed = subprocess.CompletedProcess[str]


class MachineError(Exception):
    """A machine did not start, or a command in it failed or took too long."""


class Machine(Client):
    """A running machine, as a context manager.

    `upper` is where changes go: nowhere but memory by default, or a directory on disk that the caller removes.
    `module` is what its PAM lines name where a test does not say: tests/lab/pam.py has both engines.
    Only `lo` is up: 127.0.0.0/8, ::1 and fd00::/16, any of them as a source. No process of it outlives this one.
    """

    def __init__(self, root: Root, *, upper: Path | None = None, module: str = OURS) -> None:
        self.root = root
        self.module = module
        self.suite = root.suite
        self.sshd = Sshd(self)
        self._upper = upper
        self._pid = 0
        self._log = -1
        self._sessions = 0
        self._leave = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for layer in self.root.layers:
                stack.enter_context(cache.locked(cache.lock_of(layer), shared=True))
            self._log = stack.enter_context(tempfile.TemporaryFile()).fileno()
            self._boot(stack)
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def _boot(self, stack: ExitStack) -> None:
        stage = cache.home() / "stage"
        stage.mkdir(mode=0o700, exist_ok=True)
        held, rope = os.pipe()
        stack.callback(os.close, rope)
        with tempfile.TemporaryFile() as errors, open(held, "rb"):
            process = subprocess.Popen(
                [
                    *("unshare", *NAMESPACES, "--fork", "--propagation", "private", "--"),
                    *(HERE / "boot.sh", stage, ":".join(map(str, self.root.layers)), self._upper or ""),
                    *(HERE / "init.py", str(self._log), str(held)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=(self._log, held),
                start_new_session=True,
            )
            stack.callback(self._end, process)
            if process.stdout is None:
                raise AssertionError
            with process.stdout as output:
                first, second = output.readline(), output.readline()
            self._pid = int(first or 0)
            if second.strip() != b"ready":
                errors.seek(0)
                raise MachineError(f"the machine did not start: {errors.read().decode(errors='replace').strip()}")
        # A command for the machine must never reach the host.
        self.run(["test", "-f", "/run/lab/init.py"])

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill pid 1, and with it everything else in the machine."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        process.wait()
        self._pid = 0

    # -- commands

    def inside(self, argv: Sequence[str | Path], *, user: str | User | None = None) -> list[str]:
        """The command line that runs `argv` in this machine, as root or as `user`."""
        if not self._pid:
            raise MachineError("the machine is not running")
        command = ["nsenter", "--target", str(self._pid), "--root", "--wd", *NAMESPACES, "--"]
        if user is not None:
            command += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--reset-env"]
        return command + [str(word) for word in argv]

    def around(self, *namespaces: str) -> list[str]:
        """The beginning of a command line that runs a program of the host in some of the machine's namespaces."""
        return ["nsenter", "--target", str(self._pid), *namespaces, "--"]

    @property
    def pid(self) -> int:
        """The machine's pid 1, by the number that the host knows it by."""
        return self._pid

    @property
    def seen_from_outside(self) -> str:
        """The machine's root as the host, or a program `around` it, sees it."""
        return f"/proc/{self._pid}/root"

    def terminal(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 30
    ) -> Session:
        """Run a command in the machine on a terminal of its own; `timeout` is for each thing that is waited for."""
        self._sessions += 1
        return Session(self.inside(argv), {**ENVIRONMENT, **(env or {})}, timeout, self._closed)

    def _closed(self, hung_up: bool) -> None:
        """A session has ended. Where it was hung up on, wait until whatever asked its client has written its line."""
        self._sessions -= 1
        if hung_up and self._pid:
            settle(self, self._sessions)

    def popen(
        self, argv: Sequence[str | Path], *, user: str | User | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command in the machine, with pipes to all three of its streams."""
        return subprocess.Popen(
            self.inside(argv, user=user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
            env={**ENVIRONMENT, **(env or {})},
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str]) -> None:
        """Kill what `popen` started, and whatever that has started in its process group."""
        end(process.pid, lambda: process.poll() is not None)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        input: str = "",  # noqa: A002 - as in subprocess.run
        user: str | User | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Completed:
        """Run a command in the machine for at most `timeout` seconds.

        Raises MachineError if it takes longer, or, with `check`, if its exit status is not 0.
        """
        with self.popen(argv, user=user, env=env) as process:
            try:
                output, errors = process.communicate(input, timeout=timeout)
            except BaseException as error:
                self.end(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise MachineError(f"not finished after {timeout:g} s: {shlex.join(map(str, argv))}") from None
                raise
        if check and process.returncode:
            raise MachineError(f"exit status {process.returncode}: {shlex.join(map(str, argv))}\n{output}{errors}")
        return subprocess.CompletedProcess([str(word) for word in argv], process.returncode, output, errors)

    def sh(
        self,
        script: str,
        *arguments: str | Path,
        check: bool = True,
        input: str = "",  # noqa: A002 - as in subprocess.run
        user: str | User | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Completed:
        """Run a shell script in the machine; `arguments` are its $1, $2 and so on. Like `run` otherwise."""
        argv = ["sh", "-c", script, "sh", *arguments]
        return self.run(argv, check=check, input=input, user=user, env=env, timeout=timeout)

    # -- files

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run(["cat", "--", path]).stdout

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """Write a file, in a directory that is made if it is missing."""
        data = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1" && chown "$3" "$1"'
        self.sh(script, path, f"{mode:o}", owner, input=data)

    def replace(self, path: str, old: str, new: str) -> None:
        """Put `new` in the place of `old`, which a file must contain. Mode and owner stay."""
        text = self.read(path)
        if old not in text:
            raise MachineError(f"{path} does not contain {old!r}")
        self.sh('cat >"$1"', path, input=text.replace(old, new))

    @contextmanager
    def tmpfs(self, path: str, *, size: str = "1m", mode: int = 0o700, keep: bool = True) -> Iterator[None]:
        """Mount a small file system over `path`, with what was there if `keep` is true, and take it away again."""
        script = """
            set -e
            mount -t tmpfs -o "size=$2,mode=$3" tmpfs /mnt
            if [ "$4" = True ]; then cp -a "$1/." /mnt/; fi
            mkdir -p "$1"
            mount --move /mnt "$1"
        """
        self.sh(script, path, size, f"{mode:o}", str(keep))
        try:
            yield
        finally:
            self.run(["umount", "--lazy", path], check=False)

    # -- users

    def user(self, name: str, *, password: str = "correct horse", key: bool = True, uid: int = 0) -> User:
        """Create a user with a home, a password and, with `key`, an authorised key that root's client has too."""
        script = """
            set -e
            useradd --create-home --shell /bin/bash ${3:+--uid "$3"} -- "$1"
            chpasswd
            if [ "$2" = True ]; then
                install -d -o "$1" -g "$1" -m 700 "/home/$1/.ssh"
                mkdir -p -m 700 /root/.ssh
                ssh-keygen -q -t ed25519 -N '' -C "$1" -f "/root/.ssh/$1"
                install -o "$1" -g "$1" -m 600 "/root/.ssh/$1.pub" "/home/$1/.ssh/authorized_keys"
            fi
            id -u -- "$1"
        """
        done = self.sh(script, name, str(key), str(uid or ""), input=f"{name}:{password}\n")
        return User(name, int(done.stdout), password)

    def account(self, *command: str) -> None:
        """usermod or userdel, whose last word is the user: they refuse one whose session is still about to end.

        The client of a session is gone before what the session's user has running.
        """
        self.sh('while pgrep -u "$1" >/dev/null 2>&1; do sleep 0.02; done', command[-1], timeout=60)
        self.run(command)

    # -- the log

    def mark(self) -> int:
        """Where the log ends now, for `log` to start from."""
        self._drain()
        return os.fstat(self._log).st_size

    def log(self, since: int = 0) -> list[syslog.Record]:
        """Every record that was sent to syslog before this call (and since a mark), in order."""
        self._drain()
        lines = [line.split() for line in self._records(since).splitlines()]
        datagrams = [(float(received), bytes.fromhex(raw)) for received, raw in lines]
        return [syslog.parse(received, raw) for received, raw in datagrams if not raw.startswith(DRAIN)]

    def _drain(self) -> None:
        """Wait until all that was sent is kept: the receiver takes datagrams in order, so one of ours comes last."""
        start = os.fstat(self._log).st_size
        token = DRAIN + os.urandom(8)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(f"/proc/{self._pid}/root/dev/log")
            sender.send(token)
        end = time.monotonic() + 10
        while token.hex() not in self._records(start):
            if time.monotonic() > end:
                raise MachineError("the machine's syslog receiver does not answer")
            time.sleep(0.001)

    def _records(self, start: int) -> str:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, size - start, start).decode("ascii")
