"""VPNs on a machine: a client's network of its own, real servers and clients, and what a tunnel carries.

with Network(machine) as network, network.openvpn("config server-pam.conf"):
    with network.openvpn_client(user, password, code, challenge=True) as tunnel:
        tunnel.up, tunnel.asked, tunnel.carries(), tunnel.ping()
"""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.lab.process import end
from tests.lab.ssh import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.machine import Machine
    from tests.lab.ssh import Session

# Packages for a root.
OPENVPN = ("iputils-ping", "openssl", "openvpn", "openvpn-auth-radius")
# radcli, its RADIUS client, finds no port without netbase.
OCSERV = ("iputils-ping", "netbase", "ocserv", "openconnect", "openssl", "vpnc-scripts")
EXAMPLES = "/usr/share/doc/pam-totp/examples"
SERVER = "/etc/openvpn/server"
CLIENT = "/etc/openvpn/client"
# The machine and who is away have one wire between them, and nothing else in common.
HERE, THERE = "192.0.2.1", "192.0.2.2"
AWAY = ("ip", "netns", "exec", "away")
OPENVPN_INSIDE, OCSERV_INSIDE = "10.8.0.1", "10.98.0.1"
NETWORK = """
set -e
mkdir -p /dev/net
test -e /dev/net/tun || mknod -m 666 /dev/net/tun c 10 200
ip netns add away
ip link add here type veth peer name there netns away
ip address add "$1/24" dev here
ip link set here up
ip -n away address add "$2/24" dev there
ip -n away link set there up
ip -n away link set lo up
"""
# An authority, the server's certificate, and one of a client for each further name.
CERTIFICATES = """
set -e
cd "$1"
shift
umask 077
request() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@" 2>/dev/null
}
test -e ca.key || request -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
sign() {
    openssl x509 -req -days 2 -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ext -out "$1.crt" 2>&-
}
if ! test -e server.crt; then
    request -subj /CN=vpn.test -keyout server.key -out server.csr
    printf 'subjectAltName=DNS:vpn.test,IP:192.0.2.1\\nextendedKeyUsage=serverAuth\\nkeyUsage=digitalSignature\\n' >ext
    sign server
fi
printf 'extendedKeyUsage=clientAuth\\nkeyUsage=digitalSignature\\n' >ext
for name; do
    request -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    sign "$name"
done
chmod 644 ca.crt
"""
# What any server has; the door is in the example that it names.
SERVER_LINES = """
local 192.0.2.1
proto udp
dev tun
topology subnet
server 10.8.0.0 255.255.255.0
ca ca.crt
cert server.crt
key server.key
dh none
keepalive 2 30
persist-key
persist-tun
verb 3
"""
CLIENT_LINES = """
client
proto udp
remote 192.0.2.1
dev tun
nobind
ca ca.crt
remote-cert-tls server
auth-user-pass
auth-retry none
connect-retry-max 1
verb 3
"""
READY = "Initialization Sequence Completed"
CONNECTED = f"{READY}|Configured as|Connected as"
OPENVPN_LOG, OCSERV_LOG = "/root/openvpn.log", "/root/ocserv.log"
WAIT = """
for _ in $(seq 200); do
    grep -qs "$2" "$1" && exit
    sleep 0.1
done
tail -n 20 "$1" >&2
exit 1
"""
RENEGOTIATED = "Control Channel: "
REFUSED = "AUTH_FAILED|Login failed|Authentication failed|Failed to (?:obtain|complete)"
# What listens behind the tunnel: it answers what it was sent with its digest.
LISTEN = """
import hashlib, socket
with socket.create_server(("", 7), backlog=16) as listener:
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            digest = hashlib.sha256()
            try:
                while part := connection.recv(65536):
                    digest.update(part)
                connection.sendall(digest.hexdigest().encode())
            except OSError:
                pass
"""
SEND = """
import hashlib, os, socket, sys
sent = os.urandom(1 << 20)
with socket.create_connection((sys.argv[1], 7), 10) as connection:
    connection.settimeout(20)
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    sys.exit(connection.recv(64).decode() != hashlib.sha256(sent).hexdigest())
"""
# The client says that it is connected before it has set the route.
ROUTE = """
for _ in $(seq 100); do
    ip -n away route get "$1" 2>&- | grep -q " dev tun" && exit
    sleep 0.1
done
exit 1
"""
# A client with windows, as far as its management interface goes: it shows what the server asks, and sends the answer.
GUI = """
import base64, getpass, os, socket, subprocess, sys, time
where, *command = sys.argv[1:]
words = ["--management", where, "unix", "--management-query-passwords", "--management-hold", "--push-peer-info"]
client = subprocess.Popen([*command, *words, "--setenv", "IV_SSO", "crtext"], stdout=subprocess.DEVNULL)
management = socket.socket(socket.AF_UNIX)
while management.connect_ex(where):
    time.sleep(0.02)
def say(text):
    management.sendall(text.encode() + b"\\n")
say("log on")
say("hold release")
for line in management.makefile():
    if line.startswith(">HOLD"):
        say("hold release")
    elif line.startswith(">PASSWORD:Need 'Auth'"):
        user = input("Enter Auth Username:")
        say(f'username "Auth" "{user}"')
        say(f'password "Auth" "{getpass.getpass("Enter Auth Password:")}"')
    elif line.startswith(">INFOMSG:CR_TEXT:"):
        code = input("CHALLENGE: " + line.strip().split(":", 3)[3])
        say(f'cr-response "{base64.b64encode(code.encode()).decode()}"')
    elif "CR_TEXT" not in line:
        print(line.strip(), flush=True)
"""
USER, PASSWORD, CODE = (
    r"Enter Auth Username: ?",
    r"Enter Auth Password: ?|Password: ?",
    r"CHALLENGE: [^\r\n]*: ?|Password\d: ?|Response: ?",
)


@dataclass
class Tunnel:
    """A client that has connected, or was refused. `asked` is what it was asked for, in order."""

    network: Network
    session: Session
    inside: str
    up: bool = False
    asked: list[str] = field(default_factory=list)

    def carries(self) -> bool:
        """Whether a megabyte gets through to the other end, by the tunnel, whole."""
        machine = self.network.machine
        if machine.sh(ROUTE, self.inside, check=False).returncode:
            return False
        return machine.run([*AWAY, "/usr/bin/python3", "-I", "-c", SEND, self.inside], check=False).returncode == 0

    def ping(self, count: int = 2) -> str:
        """What `ping` prints, through the tunnel."""
        return self.network.machine.run([*AWAY, "ping", "-c", str(count), "-i", "0.2", "-W", "5", self.inside]).stdout

    def lasts(self, renegotiations: int) -> bool:
        """Whether the keys are negotiated anew so many times, and nothing is asked for, and nobody is refused."""
        return all(
            self.session.expect(RENEGOTIATED, USER, PASSWORD, CODE, REFUSED, "Restart", timeout=90) == 0
            for _ in range(renegotiations)
        )

    @property
    def screen(self) -> str:
        """Everything the client has shown."""
        return self.session.screen


class Network:
    """A context manager: somebody is away, behind a wire, and reaches nothing of the machine but its address there."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __enter__(self) -> Self:
        self.machine.sh(NETWORK, HERE, THERE)
        self._listener = self.machine.popen(["/usr/bin/python3", "-I", "-c", LISTEN])
        assert self._listener.stdout is not None
        assert self._listener.stdout.readline() == "listening\n"
        for place in (SERVER, CLIENT):
            self.machine.run(["mkdir", "-p", place])
        self.certificates()
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.end(self._listener)
        self.machine.sh("ip link delete here; ip netns delete away", check=False)

    def certificates(self, *clients: str) -> None:
        """Make the authority's and the server's certificates, and one for each of these clients."""
        self.machine.sh(CERTIFICATES, SERVER, *clients)
        self.machine.sh('cp "$1"/ca.crt "$2"', SERVER, CLIENT)
        for client in clients:
            self.machine.sh('cp "$1/$3.crt" "$1/$3.key" "$2"', SERVER, CLIENT, client)

    # -- OpenVPN

    @contextmanager
    def openvpn(self, *lines: str) -> Iterator[None]:
        """A running server with these lines in its configuration, whose log is OPENVPN_LOG.

        The examples are beside it, but for those that a test has put there.
        """
        machine = self.machine
        machine.sh(
            'for file in "$1"/*; do test -e "$2/${file##*/}" || cp "$file" "$2"; done', f"{EXAMPLES}/openvpn", SERVER
        )
        machine.write(f"{SERVER}/server.conf", SERVER_LINES + "".join(f"{line}\n" for line in lines))
        machine.run(["rm", "-f", OPENVPN_LOG])
        command = ["openvpn", "--cd", SERVER, "--config", "server.conf", "--log", OPENVPN_LOG]
        process = machine.popen(command)
        try:
            machine.sh(WAIT, OPENVPN_LOG, READY)
            yield
        finally:
            end(process.pid, lambda: process.poll() is not None, signal.SIGTERM)

    @contextmanager
    def openvpn_client(
        self,
        user: str,
        password: str,
        code: str | None = None,
        *lines: str,
        challenge: bool = False,
        gui: bool = False,
    ) -> Iterator[Tunnel]:
        """A client that types these; more lines of its configuration can be given.

        With `challenge` it asks for the code by itself; with `gui` it shows questions of the server.
        """
        more = ["config client-challenge.conf"] if challenge else []
        self.machine.sh('cp "$1"/openvpn/client-* "$2"', EXAMPLES, CLIENT)
        text = CLIENT_LINES + "".join(f"{line}\n" for line in [*more, *lines])
        self.machine.write(f"{CLIENT}/client.conf", text)
        command = ["openvpn", "--cd", CLIENT, "--config", "client.conf"]
        if gui:
            command = ["/usr/bin/python3", "-I", "-c", GUI, "/run/lab/management", *command]
            self.machine.run(["rm", "-f", "/run/lab/management"])
        command = [*AWAY, *command]
        with self._client(command, OPENVPN_INSIDE, (user, password, code), hidden=("password",)) as tunnel:
            yield tunnel

    # -- ocserv

    @contextmanager
    def ocserv(self, configuration: str) -> Iterator[None]:
        """A running ocserv with this configuration file, whose log is OCSERV_LOG."""
        machine = self.machine
        machine.run(["rm", "-f", OCSERV_LOG])
        command = 'exec ocserv -f --pid-file /run/ocserv.pid -c "$0" >"$1" 2>&1'
        process = machine.popen(["sh", "-c", command, configuration, OCSERV_LOG])
        try:
            machine.sh(WAIT, OCSERV_LOG, "listening (UDP)")
            yield
        finally:
            # It leaves its process group.
            machine.sh(
                'pid=$(cat /run/ocserv.pid) && kill "$pid" && while test -e "/proc/$pid"; do sleep 0.05; done',
                timeout=20,
            )
            machine.end(process)

    @contextmanager
    def openconnect(self, user: str, password: str, code: str | None = None) -> Iterator[Tunnel]:
        """The AnyConnect client, and what it types."""
        command = [*AWAY, "openconnect", "--protocol=anyconnect", f"--cafile={CLIENT}/ca.crt", f"--user={user}"]
        command += ["--interface=tun1", "--script=/usr/share/vpnc-scripts/vpnc-script", f"https://{HERE}/"]
        with self._client(command, OCSERV_INSIDE, (user, password, code), hidden=("password", "code")) as tunnel:
            yield tunnel

    @contextmanager
    def _client(
        self, command: Sequence[str], inside: str, types: tuple[str, str, str | None], hidden: tuple[str, ...]
    ) -> Iterator[Tunnel]:
        kinds = ("user", "password", "code")
        answers: dict[str, str | None] = dict(zip(kinds, types, strict=True))
        with self.machine.terminal(command, timeout=40) as session:
            tunnel = Tunnel(self, session, inside)
            while True:
                which = session.expect(USER, PASSWORD, CODE, CONNECTED, REFUSED)
                if which >= len(kinds):
                    break
                kind = kinds[which]
                tunnel.asked.append(kind)
                answer, answers[kind] = answers[kind], None
                if answer is None:
                    break
                if kind in hidden:
                    session.hidden()
                session.answer(answer)
            tunnel.up = which == len(kinds)
            yield tunnel
            session.send("\x03")
            with suppress(SessionError):
                session.wait(timeout=10)
