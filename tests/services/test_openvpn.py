"""OpenVPN: its plugin runs PAM in a process of its own, and answers the question for the code with the client's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import are_gone
from tests.lab.pam import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine
    from tests.login.host import Host, Person
    from tests.services.hostile import Hostile

PLACE = "/etc/openvpn/lab"
CERTIFICATES = """
set -e
mkdir -p "$1"
cd "$1"
umask 077
for name in ca server; do
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$name.key" 2>/dev/null ||
        openssl ecparam -genkey -name prime256v1 -noout -out "$name.key"
done
openssl req -x509 -new -key ca.key -subj /CN=ca -days 2 -out ca.crt
openssl req -new -key server.key -subj /CN=server -out server.csr
printf 'extendedKeyUsage=serverAuth\\nkeyUsage=digitalSignature\\n' >server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt
"""
# The plugin compares the beginning of each question with every first word, and gives the answer that the second names.
SERVER = """
local 127.0.0.1
proto tcp-server
dev tun
ifconfig-noexec
topology subnet
server 10.8.0.0 255.255.255.0
ca ca.crt
cert server.crt
key server.key
dh none
verify-client-cert none
username-as-common-name
user nobody
group nogroup
tmp-dir /tmp
plugin {plugin} "lab login: USERNAME password: PASSWORD verification OTP"
verb 3
"""
CLIENT = """
client
proto tcp-client
remote 127.0.0.1
dev tun
ifconfig-noexec
route-noexec
nobind
ca ca.crt
remote-cert-tls server
auth-user-pass answers
auth-retry none
connect-retry-max 1
static-challenge "Verification code" 0
verb 3
"""
READY = r"Initialization Sequence Completed"


@pytest.fixture(autouse=True, scope="module")
def server(machine: Machine, hostile: Hostile) -> Iterator[None]:
    """A running OpenVPN, in surroundings that nothing of ours may heed."""
    machine.sh(CERTIFICATES, PLACE)
    machine.sh("mkdir -p /dev/net; mknod /dev/net/tun c 10 200")
    plugin = machine.sh("ls /usr/lib/*/openvpn/plugins/openvpn-plugin-auth-pam.so").stdout.strip()
    machine.write(f"{PLACE}/server.conf", SERVER.format(plugin=plugin))
    machine.write(f"{PLACE}/client.conf", CLIENT)
    service(
        machine,
        "auth requisite pam_unix.so nodelay",
        "auth required pam_totp.so",
        "account required pam_unix.so",
    )
    command = hostile.around_root(["/usr/sbin/openvpn", "--cd", PLACE, "--config", "server.conf"])
    with machine.terminal(command) as session:
        session.expect(READY)
        yield
    assert hostile.sprung() == set()


def connect(person: Person, code: str, password: str = "") -> bool:
    """Whether a client gets in: it reads name and password from a file, and the code from the terminal."""
    machine = person.host.machine
    machine.write(f"{PLACE}/answers", f"{person}\n{password or person.user.password}\n", mode=0o600)
    with machine.terminal(["openvpn", "--cd", PLACE, "--config", "client.conf"], timeout=60) as session:
        session.expect("CHALLENGE: Verification code")
        session.hidden()
        session.answer(code)
        ok = session.expect(READY, "AUTH_FAILED") == 0
    assert are_gone(machine)
    return ok


def test_only_a_right_code_lets_in(host: Host) -> None:
    alice = host.person()
    spent = alice.code()
    assert not connect(alice, "")
    assert not connect(alice, alice.wrong())
    assert not connect(alice, spent, password="wrong")
    assert connect(alice, spent)
    assert not connect(alice, spent)


def test_a_user_who_is_not_enrolled_is_not_asked(host: Host) -> None:
    bob = host.person(enrolled=False)
    assert connect(bob, "")
    assert not connect(bob, "", password="wrong")
