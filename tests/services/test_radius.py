"""FreeRADIUS with the examples: the site's password, then a code that is asked for, or one field with both."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import Machine
from tests.lab.verify import Verify
from tests.login.host import Host, steady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.roots import Root
    from tests.login.host import Person

# The root with FreeRADIUS takes a minute to build.
pytestmark = pytest.mark.full

EXAMPLES = Path(__file__).resolve().parents[2] / "config/freeradius"
PLACE = "/etc/freeradius/3.0"
PACKAGES = ("freeradius", "freeradius-rest")
LOG = "/root/radius.log"
READY = """
for _ in $(seq 200); do
    grep -qs "Ready to process requests" "$1" && exit
    sleep 0.1
done
tail -n 20 "$1" >&2
exit 1
"""
# A client (RFC 2865), from one socket. A line of its input is [user, password, state, times]: so many times the same
# packet is sent, and all answers are waited for. The output is a list of [kind, state, message] for each line.
CLIENT = """
import hashlib, hmac, json, os, socket, struct, sys
secret = b"testing123"
connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
connection.connect(("127.0.0.1", 1812))
connection.settimeout(15)
def attribute(kind, value):
    return bytes((kind, len(value) + 2)) + value
for number, line in enumerate(sys.stdin):
    user, password, state, times = json.loads(line)
    nonce = os.urandom(16)
    clear = password.encode()
    clear += bytes(-len(clear) % 16)
    hidden, last = b"", nonce
    for start in range(0, len(clear), 16):
        pad = hashlib.md5(secret + last).digest()
        last = bytes(a ^ b for a, b in zip(clear[start : start + 16], pad))
        hidden += last
    parts = attribute(80, bytes(16)) + attribute(1, user.encode()) + attribute(2, hidden)
    parts += attribute(31, b"198.51.100.3") + (attribute(24, bytes.fromhex(state)) if state else b"")
    head = struct.pack(">BBH", 1, number % 256, 20 + len(parts)) + nonce
    parts = attribute(80, hmac.digest(secret, head + parts, "md5")) + parts[18:]
    found = []
    for _ in range(times):
        connection.send(head + parts)
        answer = connection.recv(4096)
        fields, rest = {}, answer[20:]
        while rest:
            fields[rest[0]], rest = rest[2 : rest[1]], rest[rest[1] :]
        kind = {2: "accept", 3: "reject", 11: "challenge"}[answer[0]]
        found.append([kind, fields.get(24, b"").hex(), fields.get(18, b"").decode()])
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def machine(suite: str, debs: tuple[Path, ...], pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A machine with FreeRADIUS and the package."""
    from tests.lab.package import installed

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        root: Root = installed(suite, debs, PACKAGES)
    with Machine(root) as running:
        yield running


@pytest.fixture(scope="module")
def host(machine: Machine) -> Iterator[Host]:
    """Who logs in; at the end its log is searched for secrets."""
    host = Host(machine)
    host.use("password-and-code")
    yield host
    host.close()
    assert host.leaks() == []


class Radius:
    """A running server."""

    def __init__(self, machine: Machine) -> None:
        self._process = machine.popen(["/usr/bin/python3", "-I", "-c", CLIENT])

    def ask(self, user: str, password: str, state: str = "", times: int = 1) -> list[list[str]]:
        """The answers to one packet, sent so many times."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([user, password, state, times]) + "\n")
        self._process.stdin.flush()
        found: list[list[str]] = json.loads(self._process.stdout.readline())
        return found

    def one(self, user: str, password: str, state: str = "") -> str:
        """Accept, reject or challenge."""
        return self.ask(user, password, state)[0][0]

    def challenge(self, person: Person) -> str:
        """The state of a first step with the right password."""
        [[kind, state, message]] = self.ask(person.name, "pw")
        assert (kind, message) == ("challenge", "Verification code: ")
        return state


@contextmanager
def radius(host: Host, site: str, *people: Person) -> Iterator[tuple[Radius, Verify]]:
    """FreeRADIUS with an example, and the verify service, whose client it is."""
    machine = host.machine
    with Verify(machine) as verify:
        name = site.replace("site-", "radius-")
        token = verify.client(name, "--service", "vpn", "--may-know")
        machine.sh('cd "$1" && rm -f sites-enabled/* mods-enabled/eap', PLACE)
        mod = (EXAMPLES / "mod").read_text("utf-8").replace("TOKEN", token)
        machine.write(f"{PLACE}/mods-enabled/pam_totp", mod, mode=0o640, owner="root:freerad")
        machine.write(f"{PLACE}/sites-enabled/pam_totp", (EXAMPLES / site).read_text("utf-8"))
        users = "".join(f'{person.name} Cleartext-Password := "pw"\n' for person in people)
        machine.write(f"{PLACE}/mods-config/files/authorize", users)
        machine.run(["rm", "-f", LOG])
        process = machine.popen(["sh", "-c", 'exec freeradius -X >"$0" 2>&1', LOG])
        try:
            machine.sh(READY, LOG)
            asking = Radius(machine)
            yield asking, verify
            machine.end(asking._process)
        finally:
            machine.end(process)
            machine.run(["pam-totp", "verify", "remove", name])


def test_password_then_code_by_challenge(host: Host) -> None:
    alice, bob, eve = host.person(), host.person(enrolled=False), host.person()
    with radius(host, "site-challenge", alice, bob, eve) as (server, _):
        steady(15)
        mark = host.machine.mark()
        assert server.one(alice.name, "wrong") == "reject"
        assert host.decisions(mark) == []  # without the password nobody is asked about
        assert server.one(bob.name, "pw") == "accept"  # who is not enrolled is not asked

        state = server.challenge(alice)
        spent = alice.code()
        # Packets are lost and sent again (RFC 5080): the same answer, and one verification.
        mark = host.machine.mark()
        assert [kind for kind, *_ in server.ask(alice.name, spent, state, times=3)] == ["accept"] * 3
        [line] = host.decisions(mark)
        assert (line["service"], line["rhost"], line["reason"]) == ("vpn", "198.51.100.3", "code")

        assert server.one(alice.name, spent, state) == "reject"  # the state again
        assert server.one(alice.name, spent, server.challenge(alice)) == "reject"  # the code again
        assert not alice.log_in(spent).ok  # and at another door
        state = server.challenge(alice)
        assert server.one(eve.name, eve.code(), state) == "reject"  # the state of another
        assert server.one(alice.name, alice.code(1), "00" * 16) == "reject"  # an invented one
        following = alice.code(1)
        assert alice.log_in(following).ok
        assert server.one(alice.name, following, server.challenge(alice)) == "reject"

        with host.config('[[rule]]\nservices = ["vpn"]\nunenrolled = "deny"\n'):
            assert server.one(bob.name, "pw") == "reject"
        with host.config("nonsense = 1"):
            assert server.one(bob.name, "pw") == "reject"


def test_without_the_service_nobody_gets_in(host: Host) -> None:
    bob = host.person(enrolled=False)
    with radius(host, "site-challenge", bob) as (server, verify):
        verify.stop()
        assert server.one(bob.name, "pw") == "reject"


def test_password_and_code_in_one_field(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with radius(host, "site-one-field", alice, bob) as (server, _):
        spent = alice.code()
        assert server.one(alice.name, "pw") == "reject"
        assert server.one(alice.name, f"wrong{spent}") == "reject"
        assert server.one(alice.name, f"pw{alice.wrong()}") == "reject"
        assert server.one(alice.name, f"pw{spent}") == "accept"
        assert server.one(alice.name, f"pw{spent}") == "reject"
        assert server.one(bob.name, "pw") == "accept"
