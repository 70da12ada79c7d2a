"""FreeRADIUS set up where systemd runs it, as Debian's unit confines it, with the verify service behind its socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab.booted import Booted
from tests.lab.code import code
from tests.login.test_self_booted import apt, on_it
from tests.services.radius import PLACE, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

SETUP = ("pam-totp", "verify", "setup", "freeradius")
# Does not let it start with our virtual server.
OBSTACLE = f"[Service]\nExecStartPre=/bin/sh -c '! test -e {PLACE}/sites-enabled/pam-totp'\n"
DROP_IN = "/etc/systemd/system/freeradius.service.d/obstacle.conf"


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite that runs FreeRADIUS, where carol has a password in its file of users, and no account."""
    with Booted(suite, ("freeradius", "freeradius-rest", "freeradius-utils")) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        apt(machine, "install", *on_it(debs))
        users = 'carol Cleartext-Password := "pw"\n'
        machine.write(f"{PLACE}/mods-config/files/authorize", users, mode=0o640, owner="freerad:freerad")
        machine.run(["systemctl", "restart", "freeradius"])
        yield machine


def active(machine: Booted) -> str:
    return machine.run(["systemctl", "is-active", "freeradius"], check=False).stdout.strip()


def answer(machine: Booted, password: str) -> str:
    """What FreeRADIUS answers carol."""
    asked = f'User-Name = "carol", User-Password = "{password}", Message-Authenticator = 0x00\n'
    done = machine.run(["radclient", "-x", "-r1", "-t9", "127.0.0.1", "auth", SECRET], input=asked, check=False)
    return done.stdout.rpartition("Received Access-")[2].split()[0]


def test_it_is_restarted_with_its_settings_and_without_them(booted: Booted) -> None:
    document = booted.run(["pam-totp", "enroll", "carol", "--no-account", "--no-confirm", "--json"]).stdout
    secret = json.loads(document)["secret"]
    spent = code(secret)
    booted.run(["pam-totp", "confirm", "carol"], input=f"{spent}\n")
    booted.run(["pam-totp", "recovery", "carol"])
    recovery = booted.run(["pam-totp", "recovery", "carol"]).stdout.split()
    assert answer(booted, "pw") == "Accept"

    wish = [*SETUP, "--module", "files", "--identity", "record", "--nas", "localhost=required", "--yes"]
    refused = booted.run(wish, check=False)
    assert (refused.returncode, "pam-totp verify enable --listen" in refused.stderr) == (3, True)
    booted.run(["pam-totp", "verify", "enable", "--listen", "127.0.0.1:722"])
    assert booted.run(wish).stdout.endswith("set up: freeradius; it was restarted\n")
    assert active(booted) == "active"
    assert answer(booted, "pw") == "Challenge"
    booted.run([*SETUP, "--nas", "localhost=required,one-field", "--yes"])
    assert answer(booted, "pw") == "Reject"
    assert answer(booted, f"pw{spent}") == "Reject"  # which has confirmed the enrolment
    assert [answer(booted, f"pw{recovery[0]}") for _ in range(2)] == ["Accept", "Reject"]

    booted.run([*SETUP, "--undo", "--yes"])
    assert active(booted) == "active"
    assert answer(booted, "pw") == "Accept"


def test_settings_that_it_does_not_start_with_are_taken_back_and_it_runs_on(booted: Booted) -> None:
    booted.run(["pam-totp", "verify", "enable", "--listen", "127.0.0.1:722"])
    booted.write(DROP_IN, OBSTACLE)
    booted.run(["systemctl", "daemon-reload"])
    wish = [*SETUP, "--module", "files", "--identity", "record", "--nas", "localhost=required", "--yes"]
    done = booted.run(wish, check=False)
    assert (done.returncode, "systemctl restart freeradius.service says" in done.stderr) == (3, True)
    assert active(booted) == "active"
    assert booted.sh(f"ls {PLACE}/*-enabled/pam-totp", check=False).stdout == ""
    assert answer(booted, "pw") == "Accept"
    booted.run(["rm", DROP_IN])
    booted.run(["systemctl", "daemon-reload"])
