"""The warm process where no systemd runs: on a machine, behind its socket, with the command of the installed unit."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.lab.machine import Machine

SOCKET = "/run/pam-totp/login.sock"
UNIT = "pam-totp-login.service"
# What systemd does: the socket as descriptor 3, then the unit's command in its place.
LISTEN = """
import os, socket, sys
path, *command = sys.argv[1:]
os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
if os.path.exists(path):
    os.unlink(path)
os.umask(0o177)
listener.bind(path)
listener.listen(64)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
print(os.getpid(), flush=True)
os.execve(command[0], command, {"LISTEN_FDS": "1"})
"""
# It has everything imported when it says its first word.
GREET = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"


class Warm:
    """A context manager: while it is entered, logins find a warm helper."""

    def __init__(self, machine: Machine, *, group: str = "") -> None:
        self._machine = machine
        self._group = group

    def __enter__(self) -> Self:
        machine = self._machine
        found = machine.sh('cat /lib/systemd/system/"$1" /usr/lib/systemd/system/"$1"', UNIT, check=False).stdout
        (command, *_) = [line.partition("=")[2] for line in found.splitlines() if line.startswith("ExecStart=")]
        join = 'test -z "$1" || echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        start = ["sh", "-c", join, "sh", self._group, "/usr/bin/python3", "-I", "-S", "-c", LISTEN, SOCKET]
        self._process = machine.popen([*start, *shlex.split(command)])
        if self._process.stdout is None:
            raise AssertionError
        self.pid = int(self._process.stdout.readline())
        machine.run(["/usr/bin/python3", "-I", "-S", "-c", GREET, SOCKET])
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.end(self._process)

    def serving(self) -> int:
        """How many logins it is serving now."""
        return len(self._machine.run(["pgrep", "-P", str(self.pid)], check=False).stdout.split())
