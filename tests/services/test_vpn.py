"""VPNs with the examples: real servers and clients, and tunnels that carry what is sent through them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab import vpn
from tests.lab.user import User
from tests.lab.verify import ADDRESS, Verify
from tests.lab.vpn import Network
from tests.login.host import Host, Person, spelled, steady
from tests.services.radius import PLACE, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine

# The root takes a minute to build, and renegotiations take their time.
pytestmark = pytest.mark.full

PACKAGES = tuple(sorted({*vpn.OPENVPN, *vpn.OCSERV, "freeradius", "freeradius-rest"}))
RADIUS_LOG = "/root/radius.log"
# Renegotiations that a test can wait for; the token is renewed with each.
QUICK = ("reneg-sec 8", "hand-window 4", "auth-gen-token 43200 100")


@pytest.fixture(scope="module")
def network(machine: Machine) -> Iterator[Network]:
    """The wire between the machine and who is away."""
    with Network(machine) as network:
        yield network


def connect(
    network: Network, person: Person, code: str | None, password: str = "", *lines: str, **options: bool
) -> bool:
    """Whether a client gets a tunnel, which then carries something."""
    with network.openvpn_client(person.name, password or person.user.password, code, *lines, **options) as tunnel:
        print(tunnel.screen)  # seen where a test fails
        if tunnel.up:
            assert tunnel.carries()
        return tunnel.up


def test_openvpn_with_pam_and_a_challenge(host: Host, network: Network) -> None:
    host.machine.sh('cp "$1/pam.d/openvpn" /etc/pam.d/', vpn.EXAMPLES)
    alice, bob = host.person(), host.person(enrolled=False)
    with network.openvpn("config server-pam.conf", *QUICK):
        steady(15)
        spent = alice.code()
        assert not connect(network, alice, spent, "wrong", challenge=True)
        assert not connect(network, alice, alice.wrong(), challenge=True)
        assert not connect(network, alice, "", challenge=True)
        assert not connect(network, alice, None)
        mark = host.machine.mark()
        with network.openvpn_client(alice.name, alice.user.password, spent, challenge=True) as tunnel:
            assert tunnel.up
            assert tunnel.asked == ["user", "password", "code"]
            assert tunnel.carries()
            assert "2 received" in tunnel.ping()
            [line] = host.decisions(mark)
            assert (line["service"], line["rhost"], line["reason"]) == ("openvpn", vpn.THERE, "code")
            assert tunnel.lasts(2)
            assert tunnel.carries()
        assert len(host.decisions(mark)) == 1
        assert not connect(network, alice, spent, challenge=True)
        assert not alice.log_in(spent).ok  # and at another door
        following = alice.code(1)
        assert alice.log_in(following).ok
        assert not connect(network, alice, following, challenge=True)
        assert connect(network, bob, "", challenge=True)


@contextmanager
def freeradius(host: Host, way: str, *people: Person) -> Iterator[None]:
    """FreeRADIUS as `verify setup` has it, for a VPN server on the same host, and the verify service."""
    machine = host.machine
    setup = ["pam-totp", "verify", "setup", "freeradius", "--yes"]
    with Verify(machine):
        wishes = ["--module", "files", "--listen", ADDRESS, "--service", "vpn", "--nas", f"localhost=enrolled,{way}"]
        machine.run([*setup, *wishes])
        users = "".join(f'{person} Cleartext-Password := "{person.user.password}"\n' for person in people)
        machine.write(f"{PLACE}/mods-config/files/authorize", users, mode=0o640, owner="freerad:freerad")
        machine.sh('rm -f "$1"; install -d -o freerad -g freerad /run/freeradius', RADIUS_LOG)
        start = "exec setpriv --reuid=freerad --regid=freerad --init-groups freeradius -f -l stdout"
        process = machine.popen(["sh", "-c", f'{start} >"$0" 2>&1', RADIUS_LOG])
        try:
            machine.sh(vpn.WAIT, RADIUS_LOG, "Ready to process requests")
            yield
        finally:
            machine.end(process)
            machine.run([*setup, "--undo"])


def test_openvpn_with_pam_and_one_field(host: Host, network: Network) -> None:
    host.machine.sh('cp "$1/pam.d/openvpn-one-field" /etc/pam.d/openvpn', vpn.EXAMPLES)
    alice, bob = host.person(), host.person(enrolled=False)
    with network.openvpn("config server-pam.conf"):
        steady(15)
        spent = alice.code()
        assert not connect(network, alice, None)
        assert not connect(network, alice, None, f"wrong{spent}")
        assert not connect(network, alice, None, f"{alice.user.password}{alice.wrong()}")
        assert connect(network, alice, None, f"{alice.user.password}{spent}")
        assert not connect(network, alice, None, f"{alice.user.password}{spent}")
        assert connect(network, bob, None)


def test_openvpn_with_radius(host: Host, network: Network, suite: str) -> None:
    # The plugin of Debian 12 sends no Message-Authenticator.
    way = "one-field,unsigned" if suite == "bookworm" else "one-field"
    alice, bob = host.person(), host.person(enrolled=False)
    conf = host.machine.read(f"{vpn.EXAMPLES}/openvpn/radiusplugin.cnf").replace("SECRET", SECRET)
    host.machine.write(f"{vpn.SERVER}/radiusplugin.cnf", conf, mode=0o600)
    with (
        freeradius(host, way, alice, bob),
        network.openvpn("config server-radius.conf", *QUICK),
    ):
        steady(15)
        spent = alice.code()
        password = alice.user.password
        assert not connect(network, alice, None)
        assert not connect(network, alice, None, f"wrong{spent}")
        assert not connect(network, alice, None, f"{password}{alice.wrong()}")
        mark = host.machine.mark()
        with network.openvpn_client(alice.name, f"{password}{spent}") as tunnel:
            assert tunnel.up
            assert tunnel.carries()
            [line] = host.decisions(mark)
            assert (line["service"], line["rhost"], line["reason"]) == ("vpn", vpn.THERE, "code")
            assert tunnel.lasts(2)
            assert tunnel.carries()
        assert len(host.decisions(mark)) == 1
        assert not connect(network, alice, None, f"{password}{spent}")
        assert not alice.log_in(spent).ok  # and at another door
        following = alice.code(1)
        assert alice.log_in(following).ok
        assert not connect(network, alice, None, f"{password}{following}")
        assert connect(network, bob, None)


@contextmanager
def verify_service(host: Host, *options: str) -> Iterator[Verify]:
    """The verify service, which OpenVPN may ask as its user."""
    host.machine.sh("id openvpn >/dev/null 2>&1 || adduser --quiet --system --group --no-create-home openvpn")
    with Verify(host.machine) as verify:
        verify.client("openvpn", "--runs-as", "openvpn", *options)
        try:
            yield verify
        finally:
            host.machine.run(["pam-totp", "verify", "remove", "openvpn"])


def test_openvpn_with_a_certificate_and_a_code(host: Host, network: Network) -> None:
    carol, dave = without_account(host, "carol"), without_account(host, "dave")
    network.certificates("carol", "dave", "erin")
    mine = ("cert carol.crt", "key carol.key")
    lines = ("config server-certificate.conf", *QUICK)
    with verify_service(host, "--identity", "record", "--may-know") as verify, network.openvpn(*lines):
        steady(20)
        spent = carol.code()
        assert not connect(network, carol, None, carol.wrong(), *mine)
        mark = host.machine.mark()
        assert not connect(network, dave, None, dave.code(), *mine)  # another's name and code
        assert host.decisions(mark) == []
        assert not connect(network, carol, None, "nothing", *mine)
        assert not connect(
            network, Person(host, User("erin", 0, ""), ""), None, "123456", "cert erin.crt", "key erin.key"
        )
        mark = host.machine.mark()
        with network.openvpn_client("carol", spent, None, *mine) as tunnel:
            assert tunnel.up
            assert tunnel.asked == ["user", "password"]
            assert tunnel.carries()
            [line] = host.decisions(mark)
            assert (line["service"], line["rhost"], line["reason"]) == ("openvpn", vpn.THERE, "code")
            assert tunnel.lasts(2)
            assert tunnel.carries()
        assert len(host.decisions(mark)) == 1
        assert not connect(network, carol, None, spent, *mine)
        assert connect(network, carol, carol.code(1), "nothing", *mine, challenge=True)
        verify.stop()
        assert not connect(network, dave, None, dave.code(), "cert dave.crt", "key dave.key")
    assert left_behind(host) == []


def test_openvpn_with_a_password_and_a_question(host: Host, network: Network) -> None:
    machine = host.machine
    alice, bob = host.person(), host.person(enrolled=False)
    program = '#!/bin/sh\nread -r user\nread -r password\ngrep -qxF "$user:$password" /etc/openvpn/passwords\n'
    machine.write("/usr/local/sbin/vpn-password", program, mode=0o755)
    machine.write("/etc/openvpn/passwords", "".join(f"{each}:{each.user.password}\n" for each in (alice, bob)))
    password = alice.user.password
    with verify_service(host, "--may-know"), network.openvpn("config server-password.conf", *QUICK):
        steady(20)
        mark = machine.mark()
        assert not connect(network, alice, alice.code(), "wrong", challenge=True)
        assert not connect(network, alice, alice.code(), "wrong", gui=True)
        assert host.decisions(mark) == []  # without the password nobody is asked about
        assert not connect(network, alice, alice.wrong(), challenge=True)
        assert not connect(network, alice, alice.wrong(), gui=True)
        assert not connect(network, alice, None)
        spent = alice.code()
        assert connect(network, alice, spent, challenge=True)
        assert not connect(network, alice, spent, gui=True)
        following = alice.code(1)
        with network.openvpn_client(alice.name, password, following, gui=True) as tunnel:
            assert tunnel.up
            assert tunnel.asked == ["user", "password", "code"]
            assert tunnel.carries()
            assert tunnel.lasts(2)
            assert tunnel.carries()
        assert not alice.log_in(following).ok  # nor at another door
        # Who is not enrolled is not asked.
        with network.openvpn_client(bob.name, bob.user.password, gui=True) as tunnel:
            assert (tunnel.up, tunnel.asked) == (True, ["user", "password"])
        with host.config('[[rule]]\nservices = ["openvpn"]\nunenrolled = "deny"'):
            assert not connect(network, bob, None, gui=True)
    assert left_behind(host) == []


def test_openvpn_with_a_password_and_a_code_in_one_field_and_a_token(host: Host, network: Network) -> None:
    machine = host.machine
    alice, bob = host.person(), host.person(enrolled=False)
    machine.write("/etc/openvpn/passwords", "".join(f"{each}:{each.user.password}\n" for each in (alice, bob)))
    with Verify(machine) as verify:
        token = verify.client("field", "--service", "vpn", "--may-know")
        machine.write("/etc/openvpn/token", f"{token}\n", mode=0o640, owner="root:openvpn")
        program = "/usr/libexec/pam-totp/openvpn-verify --password /usr/local/sbin/vpn-password"
        line = f'auth-user-pass-verify "{program} --one-field --token /etc/openvpn/token" via-file'
        with network.openvpn("config server-password.conf", line):
            steady(15)
            spent = alice.code()
            assert not connect(network, alice, None, f"wrong{spent}")
            assert connect(network, alice, None, f"{alice.user.password}{spent}")
            assert not connect(network, alice, None, f"{alice.user.password}{spent}")
            assert connect(network, bob, None)
        machine.run(["pam-totp", "verify", "remove", "field"])


def ocserv_is_set_up(host: Host, *, radius: bool = False) -> str:
    """ocserv's files, which are the examples; returns the configuration's name."""
    machine = host.machine
    machine.sh('cp "$1"/ocserv/* /etc/ocserv/; cp "$1/pam.d/ocserv" /etc/pam.d/', vpn.EXAMPLES)
    machine.sh('for kind in crt key; do cp "$1/server.$kind" /etc/ocserv/; done', vpn.SERVER)
    machine.sh("cd /etc/ocserv && mv server.crt server-cert.pem && mv server.key server-key.pem")
    machine.replace("/etc/ocserv/radius-servers", "SECRET", SECRET)
    if radius:
        machine.sh("sed -i 's/^auth = /#&/; s/^#\\(auth = \"radius\\)/\\1/' /etc/ocserv/ocserv.conf")
    return "/etc/ocserv/ocserv.conf"


def anyconnect(network: Network, person: Person, code: str | None, password: str = "") -> bool:
    """Whether openconnect gets a tunnel, which then carries something."""
    with network.openconnect(person.name, password or person.user.password, code) as tunnel:
        print(tunnel.screen)  # seen where a test fails
        if tunnel.up:
            assert tunnel.carries()
        return tunnel.up


def test_ocserv_with_pam(host: Host, network: Network) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with network.ocserv(ocserv_is_set_up(host)):
        steady(20)
        spent = alice.code()
        mark = host.machine.mark()
        assert not anyconnect(network, alice, spent, "wrong")
        assert host.decisions(mark) == []
        assert not anyconnect(network, alice, alice.wrong())
        assert not anyconnect(network, alice, "")
        mark = host.machine.mark()
        with network.openconnect(alice.name, alice.user.password, spent) as tunnel:
            assert (tunnel.up, tunnel.asked) == (True, ["password", "code"])
            assert tunnel.carries()
            assert "2 received" in tunnel.ping()
            [line] = host.decisions(mark)
            assert (line["service"], line["rhost"], line["reason"]) == ("ocserv", vpn.THERE, "code")
            # The line breaks, and the client comes back.
            host.machine.run(["pkill", "-USR2", "-x", "openconnect"])
            tunnel.session.expect("Got CONNECT response: HTTP/1.1 200")
            assert tunnel.carries()
        assert len(host.decisions(mark)) == 1
        assert not anyconnect(network, alice, spent)
        assert not alice.log_in(spent).ok  # and at another door
        following = alice.code(1)
        assert alice.log_in(following).ok
        assert not anyconnect(network, alice, following)
        assert anyconnect(network, bob, None)


def test_ocserv_with_radius_and_a_challenge(host: Host, network: Network) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    # radcli sends no Message-Authenticator.
    with (
        freeradius(host, "challenge,unsigned", alice, bob),
        network.ocserv(ocserv_is_set_up(host, radius=True)),
    ):
        steady(20)
        spent = alice.code()
        assert not anyconnect(network, alice, spent, "wrong")
        assert not anyconnect(network, alice, alice.wrong())
        mark = host.machine.mark()
        assert anyconnect(network, alice, spent)
        [line] = host.decisions(mark)
        assert (line["service"], line["rhost"], line["reason"]) == ("vpn", vpn.THERE, "code")
        assert not anyconnect(network, alice, spent)
        assert not alice.log_in(spent).ok
        assert anyconnect(network, bob, None)


def test_ocserv_with_radius_and_one_field(host: Host, network: Network) -> None:
    alice = host.person()
    with (
        freeradius(host, "one-field,unsigned", alice),
        network.ocserv(ocserv_is_set_up(host, radius=True)),
    ):
        steady(15)
        spent = alice.code()
        assert not anyconnect(network, alice, None)
        assert anyconnect(network, alice, None, f"{alice.user.password}{spent}")
        assert not anyconnect(network, alice, None, f"{alice.user.password}{spent}")


def without_account(host: Host, name: str) -> Person:
    """Somebody with an authenticator and no Unix account."""
    machine = host.machine
    document = machine.run(["pam-totp", "enroll", name, "--no-account", "--no-confirm", "--json"]).stdout
    person = Person(host, User(name, 0, ""), json.loads(document)["secret"])
    host.confidential |= spelled(person.secret)
    machine.run(["pam-totp", "confirm", name], input=f"{person.code(-1)}\n")
    return person


def left_behind(host: Host) -> list[str]:
    """What OpenVPN or the program have left of what clients have typed."""
    return host.machine.sh("find /dev/shm -name 'openvpn*'").stdout.split()
