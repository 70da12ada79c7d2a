"""A directory in a machine: published to from outside, served inside; and the agent, where no systemd runs."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.directory import Directory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.lab.machine import Machine

FOLDER = "/srv/directory"
AGENT = ["/usr/bin/python3", "-I", "-m", "pam_totp.fleet.agent"]


CLAIM = """
import base64, hashlib, sys
from pam_totp.fleet import tree, web
url, identifier, step = sys.argv[1:]
token = tree.parse_token(sys.stdin.read())
ca = web.fetch_ca(url, token.ca, 5)
key = base64.b64encode(tree.new_box_key()[1]).decode()
digest = hashlib.sha256(b"of another host").hexdigest()
fields = {"token": token.secret, "name": "other", "key": key, "bearer": digest}
assert web.Web(url, ca).post("/api/v1/join", fields, 5).status == 200
claim = {"authenticator": identifier, "step": int(step), "login": "e" * 32}
assert web.Web(url, ca, "of another host").post("/api/v1/claim", claim, 5).fields() == {"claimed": True}
"""


class Fleet:
    """A context manager: a directory that the machine can join; ``start`` the agent when it has."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.directory = Directory(Path(f"{machine.seen_from_outside}{FOLDER}"))
        self._agent: subprocess.Popen[str] | None = None
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.directory.certify()
        self.serve()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_agent()
        self.kill_directory()

    def serve(self) -> None:
        """Start the directory's server."""
        program = (Path(__file__).parent / "directory.py").read_text(encoding="utf-8")
        self._server = self.machine.popen(["/usr/bin/python3", "-I", "-c", program, FOLDER])
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n"

    def kill_directory(self) -> None:
        """SIGKILL for the directory's server."""
        if self._server is not None:
            self.machine.end(self._server)
            self._server.communicate()
        self._server = None

    def join(self) -> str:
        """Join the machine; returns the token that was used."""
        token = self.directory.token()
        self.machine.run(["pam-totp", "join", self.directory.url], input=f"{token}\n", check=False)
        return token

    def start(self, poll: float | None = None) -> None:
        """Start the agent, as its unit does; where ``poll`` is given, it looks every so many seconds."""
        often = f"import sys; from pam_totp.fleet import agent; agent.POLL_SECONDS = {poll}; sys.exit(agent.main())"
        self._agent = self.machine.popen(AGENT if poll is None else [*AGENT[:2], "-c", often])
        wait(lambda: self.machine.run(["test", "-S", "/run/pam-totp/agent/claim.sock"], check=False).returncode == 0)

    @property
    def runs(self) -> bool:
        """Whether the agent does still."""
        return self._agent is not None and self._agent.poll() is None

    def claim_elsewhere(self, identifier: str, step: int) -> None:
        """Have another host of the fleet claim a code."""
        ours = self.directory.host
        command = ["/usr/bin/python3", "-I", "-c", CLAIM, self.directory.url, identifier, str(step)]
        self.machine.run(command, input=self.directory.token())
        # The one that a test publishes for stays the last that joined.
        self.directory.state(lambda state: state["hosts"].update({ours: state["hosts"].pop(ours)}))

    def kill_agent(self) -> None:
        """SIGKILL for the agent."""
        if self._agent is not None:
            self.machine.end(self._agent)
            self._agent.communicate()
        self._agent = None


def wait(what: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so. Raises AssertionError where it does not come to that in time."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def raw(secret: str) -> bytes:
    """The bytes of a secret in base32."""
    return base64.b32decode(secret)
