"""FreeRADIUS on a machine, as Debian's unit starts it, and clients of it: pyrad, radclient and eapol_test."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine
    from tests.login.host import Person

PLACE = "/etc/freeradius/3.0"
PACKAGES = (
    *("eapoltest", "freeradius", "freeradius-ldap", "freeradius-rest", "freeradius-utils", "python3-pyrad", "slapd"),
)
# Each NAS has an address of its own.
NAS = {
    "vpn": "127.0.0.11",
    "door": "127.0.0.12",
    "firewall": "127.0.0.13",
    "printer": "127.0.0.14",
    "wlan": "127.0.0.15",
    "cafe": "127.0.0.16",
    "plain": "127.0.0.17",
    "old": "127.0.0.18",
}
SECRET = "testing123"
READY = """
for _ in $(seq 200); do
    grep -qs "Ready to process requests" "$1" && exit
    sleep 0.1
done
tail -n 20 "$1" >&2
exit 1
"""
# A line of its input is [address, port, user, password, state, times, signed]: so many times the same packet is sent,
# and all answers are waited for; with 0 times it is sent once, and none is. Without a user it is the last packet again.
# The output is a list of [kind, state, message, filter].
PYRAD = """
import hmac, json, socket, sys
from pyrad import packet
from pyrad.dictionary import Dictionary
with open("/root/dictionary", "w") as file:
    file.write("ATTRIBUTE User-Name 1 string\\nATTRIBUTE User-Password 2 string\\n")
    file.write("ATTRIBUTE Reply-Message 18 string\\nATTRIBUTE State 24 octets\\n")
    file.write("ATTRIBUTE Calling-Station-Id 31 string\\nATTRIBUTE Message-Authenticator 80 octets\\n")
    file.write("ATTRIBUTE Filter-Id 11 string\\n")
names = Dictionary("/root/dictionary")
secret = b"testing123"
sockets = {}
kinds = {2: "accept", 3: "reject", 11: "challenge"}
for line in sys.stdin:
    address, port, user, password, its, times, signed = json.loads(line)
    key = address, port
    if key not in sockets:
        sockets[key] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets[key].bind((address, 0))
        sockets[key].connect(("127.0.0.1", port))
    connection = sockets[key]
    connection.settimeout(15 if signed else 2)
    if user:
        request = packet.AuthPacket(code=packet.AccessRequest, secret=secret, dict=names)
        request["User-Name"] = user
        request["User-Password"] = request.PwCrypt(password)
        request["Calling-Station-Id"] = "198.51.100.3"
        if its:
            request["State"] = bytes.fromhex(its)
        if signed:
            request["Message-Authenticator"] = bytes(16)
        raw = bytearray(request.RequestPacket())
        if signed:
            place = raw.index(b"\\x50\\x12") + 2
            raw[place : place + 16] = bytes(16)
            raw[place : place + 16] = hmac.digest(secret, bytes(raw), "md5")
    found = []
    try:
        for _ in range(times or 1):
            connection.send(raw)
            if not times:
                continue
            answer = packet.Packet(packet=connection.recv(4096), secret=secret, dict=names)
            wanted = "Reply-Message", "State", "Filter-Id"
            text, state, staff = ((answer[name] if name in answer else [""])[0] for name in wanted)
            found.append([kinds[answer.code], state.hex() if state else "", text, staff])
    except TimeoutError:
        found.append(["nothing", "", "", ""])
    print(json.dumps(found), flush=True)
"""
EAPOL = """
network={{
    ssid="office"
    key_mgmt=WPA-EAP
    eap={outer}
    identity="{user}"
    anonymous_identity="anonymous"
    password="{password}"
    phase2="{inner}"
    ca_cert="/etc/ssl/certs/ssl-cert-snakeoil.pem"
}}
"""


def clients(machine: Machine) -> None:
    """Put each NAS into clients.conf, which has Debian's own, too."""
    text = "".join(
        f"client {name} {{\n\tipaddr = {address}\n\tsecret = {SECRET}\n\trequire_message_authenticator = no\n}}\n"
        for name, address in NAS.items()
    )
    machine.sh('cat >>"$1/clients.conf"', PLACE, input=text)


class Radius:
    """A running server, and who asks it."""

    def __init__(self, machine: Machine, port: int = 1812) -> None:
        self._machine = machine
        self._port = port
        self._asking = machine.popen(["/usr/bin/python3", "-c", PYRAD])

    def close(self) -> None:
        """End the client."""
        self._machine.end(self._asking)

    def ask(
        self, nas: str, user: str, password: str, state: str = "", *, times: int = 1, signed: bool = True
    ) -> list[list[str]]:
        """The answers to one packet that this NAS sends so many times, each as kind, state, message and filter."""
        assert self._asking.stdin is not None
        assert self._asking.stdout is not None
        line = json.dumps([NAS[nas], self._port, user, password, state, times, signed])
        self._asking.stdin.write(line + "\n")
        self._asking.stdin.flush()
        answer = self._asking.stdout.readline()
        if not answer:
            raise AssertionError(self._asking.communicate()[1])
        found: list[list[str]] = json.loads(answer)
        return found

    def one(self, nas: str, user: str, password: str, state: str = "") -> str:
        """Accept, reject or challenge."""
        return self.ask(nas, user, password, state)[0][0]

    def again(self, nas: str, times: int = 1) -> list[list[str]]:
        """The answers to the last packet of all, sent again."""
        return self.ask(nas, "", "", times=times)

    def challenge(self, nas: str, person: Person, password: str = "pw") -> str:
        """The state of a first step with the right password."""
        [[kind, state, *rest]] = self.ask(nas, person.name, password)
        # What the site's file of users has goes with an accept alone.
        assert (kind, *rest) == ("challenge", "Verification code: ", "")
        return state

    def tunnel(self, nas: str, outer: str, inner: str, person: Person, password: str) -> bool:
        """Whether a device gets in with 802.1X."""
        text = EAPOL.format(outer=outer, inner=inner, user=person.name, password=password)
        self._machine.write("/root/eapol.conf", text)
        command = ["eapol_test", "-c", "/root/eapol.conf", "-a127.0.0.1", f"-A{NAS[nas]}", f"-s{SECRET}", "-t8", "-n"]
        done = self._machine.run(command, check=False)
        last = done.stdout.split()[-1:]
        assert last in (["SUCCESS"], ["FAILURE"]), done.stdout + done.stderr
        assert (done.returncode == 0) == (last == ["SUCCESS"])
        # The name that counts, and what the site's file of users has, come with an accept.
        accept = done.stdout.rpartition("code=2 (Access-Accept)")[2] if done.returncode == 0 else ""
        for text in ("Attribute 11 (", f"Value: '{person.name}'"):
            assert (text in accept) == (done.returncode == 0), done.stdout
        return done.returncode == 0


@contextmanager
def running(machine: Machine, *people: Person, port: int = 1812, log: str = "/root/radius.log") -> Iterator[Radius]:
    """FreeRADIUS as its own user, whose people have the password "pw"; with another port, only there."""
    users = "".join(f'{person.name} Cleartext-Password := "pw"\n\tFilter-Id = "staff"\n' for person in people)
    if people:
        machine.write(f"{PLACE}/mods-config/files/authorize", users, mode=0o640, owner="freerad:freerad")
    machine.sh('rm -f "$1"; install -d -o freerad -g freerad /run/freeradius', log)
    start = "exec setpriv --reuid=freerad --regid=freerad --init-groups freeradius -f -l stdout"
    where = f"-i 127.0.0.1 -p {port}" if port != 1812 else ""
    process = machine.popen(["sh", "-c", f'{start} {where} >"$0" 2>&1', log])
    try:
        machine.sh(READY, log)
        server = Radius(machine, port)
        yield server
        server.close()
    finally:
        machine.end(process)
