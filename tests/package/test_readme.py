"""A new administrator types what the README says, on a Debian that systemd has booted, and gets in."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.booted import Booted
from tests.lab.code import code, left
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Completed
    from tests.lab.user import User

pytestmark = pytest.mark.full

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
# In seconds: an enrolment and the logins after it happen within one step.
ONE_STEP = 12


def section(title: str) -> str:
    return re.split(r"^## ", README.partition(f"## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(title: str) -> list[str]:
    """The command blocks of a section, without what they are indented by."""
    found = re.findall(r"^( *)```\n(.*?)^ *```$", section(title), re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def remedies() -> dict[str, list[str]]:
    """The commands of the table "Getting back in", by the beginning of the problem."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section("Roll it out without locking yourself out"), re.MULTILINE)
    return {problem: re.findall(r"`(sudo .+?)`", cell) for problem, cell in rows}


INSTALL = blocks("Install")[0]
ENROLL, KEY, PASSWORD, CLOSE = blocks("Roll it out without locking yourself out")


@pytest.fixture(scope="module")
def host(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A fresh Debian with the checkout's packages in dist, as ./run deb leaves it, and users alice and bob."""
    with Booted(suite) as machine:
        for package in debs:
            machine.write(f"/root/checkout/dist/{package.name}", package.read_bytes())
        yield machine


@pytest.fixture(scope="module")
def alice(host: Booted) -> User:
    return host.user("alice")


@pytest.fixture(scope="module")
def bob(host: Booted) -> User:
    return host.user("bob")


def typed(host: Booted, commands: str) -> Completed:
    """Run the commands as they stand, in a shell that stops at the first that fails."""
    return host.run(["bash", "-ec", commands], env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=180)


def fresh_step() -> None:

    if left() < ONE_STEP:
        time.sleep(left() + 0.1)


@pytest.fixture(scope="module")
def secret(host: Booted, alice: User) -> str:
    """The package installed and alice enrolled, as the README says."""
    build, install = INSTALL.splitlines()
    assert build == "./run deb"  # what made the package that lies in dist
    typed(host, f"cd /root/checkout\n{install}")
    fresh_step()
    with host.terminal(["bash", "-c", ENROLL]) as session:
        session.expect("Code from the app: ")
        found = re.findall(r"[?&]secret=([A-Z2-7]+)", session.screen)[-1]
        session.answer(code(found, time.time() - 30))
        session.expect(r"recovery codes .* \[y/N\] ")
        session.answer("n")
        assert session.wait() == 0
    return str(found)


def test_everybody_gets_back_in_from_each_variant(host: Booted, alice: User, bob: User, secret: str) -> None:
    undo = remedies()["anything at all, at once"]
    assert len(undo) == 1
    before = host.read("/etc/pam.d/sshd")
    for steps, key in ((PASSWORD, False), (KEY, True)):
        with host.terminal(["bash", "-c", steps]) as session:
            session.expect(r"Put this in force\? \[y/N\] ")
            session.answer("y")
            assert session.wait() == 0
        password = None if key else alice.password
        assert host.login(bob, key=key, password=None if key else bob.password).ok
        fresh_step()
        refused = host.login(alice, key=key, password=password, code="000000")
        assert (refused.ok, refused.asked_code) == (False, True)
        typed(host, undo[0])
        assert host.read("/etc/pam.d/sshd") == before
        assert host.login(alice, key=True).asked_code is False


def test_the_rollout_ends_with_an_enforced_login(host: Booted, alice: User, bob: User, secret: str) -> None:
    typed(host, f"{PASSWORD.strip()} --yes")
    typed(host, "pam-totp unlock alice")
    fresh_step()
    right = host.login(alice, password=alice.password, code=code(secret))
    assert (right.ok, right.asked_code) == (True, True)
    assert "good" in typed(host, CLOSE).stdout
    refused = host.login(bob, password=bob.password)
    assert (refused.ok, refused.asked_code) == (False, False)


def test_each_other_remedy_is_a_command_that_works(host: Booted, alice: User, secret: str) -> None:
    commands = remedies()
    [reset, again] = commands["a phone is lost"]
    [unlock] = commands["locked after wrong codes"]
    [check] = commands['"that code was not accepted", but it is right']
    assert "alice" in typed(host, unlock).stdout
    checked = host.run(["bash", "-c", check], input="000000\n", check=False)
    assert checked.returncode == 1, checked.stderr
    with host.terminal(["bash", "-c", reset]) as session:
        session.expect(r"\[y/N\] ")
        session.answer("y")
        assert session.wait() == 0
    assert again == ENROLL.strip()
    assert enroll(host, alice) != secret
