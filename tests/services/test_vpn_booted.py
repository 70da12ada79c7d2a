"""OpenVPN as systemd starts it: what Debian's unit leaves a process is enough for PAM and for openvpn-verify."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import vpn
from tests.lab.booted import Booted
from tests.lab.code import STEP, code
from tests.lab.vpn import Network
from tests.login.test_self_booted import apt, on_it

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

UNIT = "openvpn-server@server"


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite with OpenVPN, in which apt has installed the packages while systemd was running."""
    with Booted(suite, ("iputils-ping", "openssl", "openvpn")) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        apt(machine, "install", *on_it(debs))
        yield machine


@pytest.fixture(scope="module")
def network(booted: Booted) -> Iterator[Network]:
    """The wire between the machine and who is away."""
    with Network(booted) as network:
        yield network


def enrolled(machine: Booted, name: str, *options: str) -> str:
    """Enrol somebody; returns the secret."""
    document = machine.run(["pam-totp", "enroll", name, *options, "--no-confirm", "--json"]).stdout
    secret = str(json.loads(document)["secret"])
    now = time.time()
    typed = f"{code(secret, now - STEP)}\n{code(secret, now)}\n"
    machine.run(["pam-totp", "confirm", name], input=typed)
    return secret


def start(machine: Booted, example: str) -> None:
    """Have systemd start the server with an example."""
    machine.sh('cp "$1/openvpn/$2" "$3"', vpn.EXAMPLES, example, vpn.SERVER)
    machine.write(f"{vpn.SERVER}/server.conf", f"{vpn.SERVER_LINES}config {example}\n")
    machine.run(["systemctl", "restart", UNIT])


def test_pam_is_asked(booted: Booted, network: Network) -> None:
    alice = booted.user("alice")
    secret = enrolled(booted, "alice")
    booted.sh('cp "$1/pam.d/openvpn" /etc/pam.d/', vpn.EXAMPLES)
    start(booted, "server-pam.conf")
    right = code(secret)
    for up in (True, False):
        with network.openvpn_client("alice", alice.password, right, challenge=True) as tunnel:
            assert tunnel.up == up
            assert not up or tunnel.carries()


def test_the_verify_service_is_asked(booted: Booted, network: Network) -> None:
    secret = enrolled(booted, "carol", "--no-account")
    booted.run(["adduser", "--quiet", "--system", "--group", "--no-create-home", "openvpn"])
    booted.run(["pam-totp", "verify", "add", "openvpn", "--runs-as", "openvpn", "--identity", "record", "--may-know"])
    booted.run(["pam-totp", "verify", "enable"])
    network.certificates("carol")
    start(booted, "server-certificate.conf")
    right = code(secret)
    for up in (True, False):
        with network.openvpn_client("carol", right, None, "cert carol.crt", "key carol.key") as tunnel:
            assert tunnel.up == up
            assert not up or tunnel.carries()
            assert up or "That code was used already" in tunnel.screen
