"""A directory at work: the package, installed and set up, in a machine that systemd has booted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nacl.public import PrivateKey

from pam_totp.fleet import tree
from tests.lab.code import code
from tests.lab.machine import MachineError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.booted import Booted
    from tests.lab.machine import Completed

NAME = "dir.example.org"
CA = "/etc/pam-totp-directory/ca.crt"
# A request over TLS, as a host makes it.
CLIENT = """
import base64, http.client, json, ssl, sys
asked = json.load(sys.stdin)
context = ssl.create_default_context(cafile=asked["ca"])
connection = http.client.HTTPSConnection(asked["name"], 443, timeout=30, context=context)
connection.request(asked["method"], asked["path"], asked["body"], asked["headers"])
answer = connection.getresponse()
json.dump([answer.status, base64.b64encode(answer.read()).decode()], sys.stdout)
"""


class Site:
    """The directory, and what a host or an administrator does with it."""

    def __init__(self, machine: Booted, package: Path) -> None:
        self.machine = machine
        machine.write(f"/root/{package.name}", package.read_bytes())
        machine.sh('printf "127.0.0.1 %s\\n" "$1" >>/etc/hosts', NAME)
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        self.installed = machine.sh(f"apt-get install -q -y ./root/{package.name} 2>&1", env=env, timeout=300).stdout
        self.said = self.command("init", "--name", NAME, "--admin", "root").stdout

    def command(self, *words: str, check: bool = True) -> Completed:
        """Run pam-totp-directory as root."""
        return self.machine.run(["pam-totp-directory", *words], check=check, timeout=120)

    def enroll(self, name: str) -> bytes:
        """Enrol a person at root's terminal, as root would, and return the secret."""
        with self.machine.terminal(["pam-totp-directory", "user", "enroll", name]) as terminal:
            terminal.expect("Code that the app shows: ")
            found = re.search(r"Key: ([A-Z2-7 ]+)", terminal.screen)
            assert found is not None, terminal.screen
            key = found[1].replace(" ", "")
            terminal.answer(code(key))
            terminal.expect("is enrolled with phone")
            assert terminal.wait() == 0
        return base64.b32decode(key)

    def ask(self, path: str, host: Host | None = None, fields: object = None) -> Answer:
        """A request over TLS, with the directory's own CA."""
        headers = {"Content-Type": "application/json"}
        if host is not None:
            headers["Authorization"] = f"Bearer {host.token}"
        method, body = ("GET", None) if fields is None else ("POST", json.dumps(fields))
        asked = {"ca": CA, "name": NAME, "path": path, "headers": headers, "method": method, "body": body}
        command = ["/usr/bin/python3", "-I", "-c", CLIENT]
        status, content = json.loads(self.machine.run(command, input=json.dumps(asked)).stdout)
        return status, base64.b64decode(content)

    def join(self, name: str, token: tree.JoinToken | None = None) -> Host:
        """Have a host join, with a fresh token or one for many."""
        token = token or tree.parse_token(self.command("token", "new", "--host", name).stdout)
        private, bearer = PrivateKey.generate(), secrets.token_urlsafe(32)
        fields = {
            "token": token.secret,
            "name": name,
            "key": base64.b64encode(bytes(private.public_key)).decode("ascii"),
            "bearer": hashlib.sha256(bearer.encode()).hexdigest(),
        }
        status, content = self.ask("/api/v1/join", fields=fields)
        assert status == 200, content
        said = json.loads(content)
        return Host(self, said["host"], bearer, bytes(private), token)


Answer = tuple[int, bytes]


@dataclass
class Host:
    """A host that has joined, as the directory sees it."""

    site: Site
    ident: str
    token: str
    private: bytes
    pin: tree.JoinToken

    def manifest(self) -> tree.Manifest | None:
        """Its manifest now."""
        status, content = self.site.ask(f"/tree/{self.ident}/manifest", self)
        if status == 404:
            return None
        assert status == 200, content
        found = tree.open_manifest(content, self.pin.key)
        tree.order(found, tree.digest(content), self.pin.directory, self.ident, None)
        return found

    def records(self) -> dict[str, tree.Record]:
        """Its records now."""
        manifest = self.manifest()
        if manifest is None:
            return {}
        objects = {} if manifest.bundle is None else tree.unbundle(self._thing(manifest.bundle), manifest.bundle)
        for name in manifest.records:
            objects[name] = self._thing(name)
            tree.check_object(objects[name], name)
        listed = manifest.in_force(objects.keys() - set(manifest.records))
        found = [tree.open_record(objects[name], self.ident, self.private) for name in listed]
        return {each.name: each for each in found}

    def _thing(self, name: str) -> bytes:
        status, content = self.site.ask(f"/tree/{self.ident}/objects/{name}", self)
        assert status == 200
        return content

    def wait(self, holds: Any, seconds: float = 90) -> dict[str, tree.Record]:
        """Wait until this holds for its records."""
        end = time.monotonic() + seconds
        found: dict[str, tree.Record] = {}
        while True:
            with suppress(MachineError):  # it may be starting
                found = self.records()
                if holds(found):
                    return found
            assert time.monotonic() < end, found
            time.sleep(0.3)
