"""The verify service where no systemd runs: on a machine, behind its sockets, with the installed unit's command."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.lab.machine import Machine

SOCKET = "/run/pam-totp-verify.sock"
ADDRESS = "127.0.0.1:722"
UNIT = "pam-totp-verify.service"
# What systemd does: the sockets stay open in a process that starts the unit's command at a connection, and again when
# that has ended.
LISTEN = """
import os, select, signal, socket, sys
path, address, *command = sys.argv[1:]
os.path.exists(path) and os.unlink(path)
listeners = [socket.socket(socket.AF_UNIX), socket.socket()]
host, _, port = address.rpartition(":")
listeners[1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
for listener, where in zip(listeners, (path, (host, int(port)))):
    listener.bind(where)
    listener.listen(256)
os.chmod(path, 0o666)
for number, listener in enumerate(listeners):
    os.dup2(listener.fileno(), 3 + number)
    os.set_inheritable(3 + number, True)
print("listening", flush=True)
while True:
    select.select(listeners, [], [])
    pid = os.posix_spawn(command[0], command, {"LISTEN_FDS": "2"})
    print(pid, flush=True)
    os.waitpid(pid, 0)
"""
# A line of its input is [place, path, token, fields, headers], all in JSON; the answer is [status, text].
ASK = """
import http.client, json, socket, sys
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(40)
        self.sock.connect(self.host)
for line in sys.stdin:
    place, path, token, fields, headers = json.loads(line)
    try:
        connection = (Local if place.startswith("/") else http.client.HTTPConnection)(place, timeout=40)
        if token:
            headers["Authorization"] = "Bearer " + token
        body = None if fields is None else json.dumps(fields)
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request("GET" if body is None else "POST", path, body, {"Host": "localhost", **headers})
        answer = connection.getresponse()
        print(json.dumps([answer.status, answer.read().decode()]), flush=True)
    except (OSError, http.client.HTTPException) as error:
        print(json.dumps([0, type(error).__name__]), flush=True)
    connection.close()
"""


class Verify:
    """A context manager: while it is entered, programs on the machine can ask."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> Self:
        machine = self._machine
        found = machine.sh('cat /lib/systemd/system/"$1" /usr/lib/systemd/system/"$1"', UNIT, check=False).stdout
        (command, *_) = [line.partition("=")[2] for line in found.splitlines() if line.startswith("ExecStart=")]
        start = ["/usr/bin/python3", "-I", "-S", "-c", LISTEN, SOCKET, ADDRESS, *shlex.split(command)]
        self._process = machine.popen(start)
        self._asking = machine.popen(["/usr/bin/python3", "-I", "-c", ASK])
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.end(self._asking)
        self.stop()

    def stop(self) -> None:
        """Have nobody listen any more."""
        if self._process.poll() is None:
            self._machine.end(self._process)

    @property
    def started(self) -> int:
        """The pid of the service that was started last and not asked about yet; waits for it."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def client(self, name: str, *options: str) -> str:
        """A new client of this name; returns its token."""
        done = self._machine.run(["pam-totp", "verify", "add", name, *options, "--json"])
        return str(json.loads(done.stdout)["token"] or "")

    def ask(
        self, path: str, token: str, *, place: str = SOCKET, headers: dict[str, str] | None = None, **fields: str
    ) -> tuple[int, Any]:
        """Ask, with a JSON body or, where there are headers, without one. Status 0: the connection broke."""
        assert self._asking.stdin is not None
        assert self._asking.stdout is not None
        body = fields if headers is None else None
        self._asking.stdin.write(json.dumps([place, path, token, body, headers or {}]) + "\n")
        self._asking.stdin.flush()
        status, text = json.loads(self._asking.stdout.readline())
        return status, json.loads(text) if status else text
