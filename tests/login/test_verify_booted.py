"""The verify service where systemd runs: its units as the package installs them, and what its confinement allows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.booted import Booted
from tests.lab.code import code
from tests.lab.verify import ASK, SOCKET
from tests.login.test_self_booted import apt, on_it

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

UNIT = "pam-totp-verify.socket"
SERVICE = "pam-totp-verify.service"
ADDRESS = "127.0.0.1:722"


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite in which apt has installed the packages while systemd was running."""
    with Booted(suite) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        apt(machine, "install", *on_it(debs))
        yield machine


@pytest.fixture(scope="module")
def token(booted: Booted) -> str:
    """The token of a client, of a service that is enabled."""
    added = booted.run(["pam-totp", "verify", "add", "vpn", "--identity", "record", "--may-know", "--json"])
    booted.run(["pam-totp", "verify", "enable", "--listen", ADDRESS])
    return str(json.loads(added.stdout)["token"])


def ask(machine: Booted, path: str, token: str, *, place: str = SOCKET, **fields: str) -> tuple[int, Any]:
    asked = json.dumps([place, path, token, fields, {}]) + "\n"
    status, text = json.loads(machine.run(["/usr/bin/python3", "-I", "-c", ASK], input=asked).stdout)
    return status, json.loads(text) if status else text


def state(machine: Booted, verb: str, unit: str = UNIT) -> str:
    return machine.run(["systemctl", verb, unit], check=False).stdout.strip()


def test_it_is_off_until_it_is_enabled(booted: Booted) -> None:
    assert (state(booted, "is-enabled"), state(booted, "is-active")) == ("disabled", "inactive")
    assert booted.run(["test", "-e", SOCKET], check=False).returncode == 1
    assert "the service is off" in booted.run(["pam-totp", "verify", "list"], check=False).stdout


def test_enabled_it_verifies_a_code_in_its_confinement(booted: Booted, token: str) -> None:
    assert (state(booted, "is-enabled"), state(booted, "is-active")) == ("enabled", "active")
    assert state(booted, "is-active", SERVICE) == "inactive"  # nobody has asked yet
    document = booted.run(["pam-totp", "enroll", "carol", "--no-account", "--no-confirm", "--json"]).stdout
    secret = json.loads(document)["secret"]
    booted.run(["pam-totp", "confirm", "carol"], input=code(secret) + "\n")
    status, told = ask(booted, "/v1/verify", token, user="carol", code=code(secret))
    assert (status, told["reason"]) == (403, "spent-code")
    booted.run(["pam-totp", "recovery", "carol"])
    codes = booted.run(["pam-totp", "recovery", "carol"]).stdout.split()
    status, told = ask(booted, "/v1/verify", token, place=ADDRESS, user="carol", code=codes[0])
    assert (status, told["reason"]) == (200, "recovery-code")
    # A name that NSS does not know is looked up in another way.
    other = booted.run(["pam-totp", "verify", "add", "other", "--may-know", "--json"])
    status, told = ask(booted, "/v1/verify", json.loads(other.stdout)["token"], user="mallory", code="123456")
    assert (status, told["reason"]) == (403, "unknown-user")
    assert any("user=carol service=vpn rhost=- outcome=accepted" in line for line in booted.journal())


def test_its_exposure_is_low(booted: Booted) -> None:
    said = booted.run(["systemd-analyze", "security", "--no-pager", "--threshold=30", SERVICE]).stdout
    [exposure] = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert float(exposure) <= 3.0


def test_killed_again_and_again_it_is_back_with_the_next_request(booted: Booted, token: str) -> None:
    for _ in range(8):
        assert ask(booted, "/v1/start", token, user="carol")[0] == 200
        booted.run(["systemctl", "kill", "--signal=KILL", SERVICE])
        booted.sh('until test "$(systemctl is-active "$1")" != active; do sleep 0.05; done', SERVICE)
    assert ask(booted, "/v1/start", token, user="carol")[0] == 200
    assert state(booted, "is-active") == "active"


def test_an_upgrade_goes_on_with_the_new_version(booted: Booted, token: str, debs: tuple[Path, ...]) -> None:
    assert ask(booted, "/v1/start", token, user="carol")[0] == 200
    main = ["systemctl", "show", "--property=MainPID", SERVICE]
    before = booted.run(main).stdout
    apt(booted, "install", "--reinstall", *on_it(debs))
    assert ask(booted, "/v1/start", token, user="carol")[0] == 200
    assert booted.run(main).stdout != before
    assert (state(booted, "is-enabled"), state(booted, "is-active")) == ("enabled", "active")


def test_disabled_nobody_listens(booted: Booted, token: str) -> None:
    booted.run(["pam-totp", "verify", "disable"])
    assert (state(booted, "is-enabled"), state(booted, "is-active")) == ("disabled", "inactive")
    assert state(booted, "is-active", SERVICE) in ("inactive", "failed")
    for place in (SOCKET, ADDRESS):
        assert ask(booted, "/v1/start", token, place=place, user="carol")[0] == 0


def test_a_purge_leaves_nothing_of_it(booted: Booted, debs: tuple[Path, ...]) -> None:
    booted.run(["pam-totp", "verify", "enable", "--listen", ADDRESS])
    apt(booted, "purge", "pam-totp")
    assert booted.sh("find /etc /lib/systemd /var/lib /run -name '*pam-totp-verify*'").stdout == ""
    assert booted.run(["test", "-e", "/etc/pam-totp"], check=False).returncode == 1
    apt(booted, "install", *on_it(debs))
