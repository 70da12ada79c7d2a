"""Enrolment with clients that show less, ask through a window, are not OpenSSH, or have nobody in front of them."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import COMMAND, GOES_ON, finish, keep, shown, started, take
from tests.login.host import Host, Person, kinds

if TYPE_CHECKING:
    from tests.lab.ssh import Session

pytestmark = pytest.mark.usefixtures("enrolling")

ENROLL = 'unenrolled = "enroll"\n'
PLAIN = {"LANG": "C", "LC_ALL": "C"}
ASKPASS = "/root/askpass"


@pytest.fixture(scope="module")
def enrolling(host: Host, key_and_code: None) -> None:
    """Whoever is not enrolled enrols at the login."""
    host.machine.write("/etc/pam-totp/config.toml", ENROLL)


def test_a_client_without_utf8_shows_escapes_and_the_key(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice, env=PLAIN) as session:
        alice = shown(alice, session)
        finish(alice, session)
        assert screens.told(session.screen, alice) == screens.kept("no-utf8")


def test_plain_characters_scan_from_such_a_client(host: Host) -> None:
    alice = host.person(enrolled=False)
    host.machine.write("/etc/pam-totp/config.toml", ENROLL + 'qr = "ascii"\nissuer = "Example Ltd"\n')
    with started(alice, env=PLAIN) as session:
        alice = shown(alice, session)
        assert screens.told(session.screen, alice) == screens.kept("qr-code")
        assert max(map(len, session.screen.splitlines())) <= 80
    host.machine.write("/etc/pam-totp/config.toml", ENROLL)


def test_long_names_fit_as_blocks_and_are_told_where_they_do_not_fit_as_plain_characters(host: Host) -> None:
    long = Person(host, host.machine.user("u" * 32), "")
    issuer = f'issuer = "{"Issuer of 16 chr" * 4}"\n'
    for style, name in (("utf8", "long-names"), ("ascii", "too-wide")):
        host.machine.write("/etc/pam-totp/config.toml", f'{ENROLL}{issuer}qr = "{style}"\n')
        with started(long) as session:
            shown(long, session)
            assert screens.told(session.screen, long) == screens.kept(name)
            assert all(len(line) <= 78 for picture in screens.pictures(session.screen) for line in picture)
    host.machine.write("/etc/pam-totp/config.toml", ENROLL)


# A program that asks in a window of its own: it is given the prompt as an argument. This one is a quick reader.
WINDOW = """#!/bin/sh
printf '%s\\n' "$1" >>/root/asked
key=$(printf '%s\\n' "$1" | sed -n 's/^  key  //p' | tr -d ' ')
case $1 in
    *'Code from the app: ') echo "$key" | oathtool --totp --base32 - ;;
    *'type yes: ') echo yes ;;
    *) echo "no answer to: $1" >&2; exit 1 ;;
esac
"""


def test_ssh_that_asks_through_askpass_enrols(host: Host) -> None:
    alice = host.person(enrolled=False)
    host.machine.write(ASKPASS, WINDOW, mode=0o755)
    host.machine.run(["rm", "-f", "/root/asked"])
    argv = ["setsid", "-w", "ssh", "-i", f"/root/.ssh/{alice}", f"{alice}@127.0.0.1", COMMAND]
    done = host.machine.run(argv, env={"SSH_ASKPASS": ASKPASS, "SSH_ASKPASS_REQUIRE": "force"})
    assert done.stdout == f"{GOES_ON}\n"
    asked = host.machine.read("/root/asked")
    alice = keep(alice, screens.key(asked))
    assert screens.told(asked, alice) == screens.kept("askpass")
    assert alice.log_in(alice.code(1)).ok


def plink(host: Host, person: Person, *options: str, env: dict[str, str] | None = None) -> Session:
    """PuTTY's client on a terminal, up to the end of the first factor, a password."""
    argv = ["plink", "-ssh", "-no-antispoof", "-hostkey", fingerprint(host), *options, f"{person}@127.0.0.1", COMMAND]
    session = host.machine.terminal(argv, env=env)
    session.expect("Password: ")
    session.answer(person.user.password)
    return session


def fingerprint(host: Host) -> str:
    return host.machine.run(["ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()[1]


@pytest.fixture
def passwords(host: Host) -> None:
    """The variant with the password; PuTTY has keys of its own kind."""
    host.use("password-and-code")


@pytest.mark.usefixtures("passwords")
def test_putty_shows_the_same_and_its_margin_does_not_disturb_the_qr_code(host: Host) -> None:
    alice = host.person(enrolled=False)
    with plink(host, alice) as session:
        alice = shown(alice, session)
        finish(alice, session)
        assert screens.told(session.screen, alice) == screens.kept("putty")
    with plink(host, alice) as session:
        session.expect("Verification code: ")
        session.answer(alice.code())
        session.expect(GOES_ON)
        assert session.wait() == 0


@pytest.mark.usefixtures("passwords")
def test_putty_without_utf8_shows_the_key(host: Host) -> None:
    alice = host.person(enrolled=False)
    with plink(host, alice, env=PLAIN) as session:
        alice = shown(alice, session)
        session.answer(alice.code(-1))
        take(host, session)


CLIENTS = [
    "ssh -o BatchMode=yes -i {key} {user}@127.0.0.1 true",
    "setsid -w ssh -i {key} {user}@127.0.0.1 true",
    "sftp -b /dev/null -i {key} {user}@127.0.0.1",
]
PASSWORD_CLIENTS = [
    "setsid -w ssh {user}@127.0.0.1 true",
    "plink -batch -ssh -hostkey {fingerprint} {user}@127.0.0.1 true",
]


def nobody_there(person: Person, client: str) -> None:
    """Run a client that has nobody to ask: it fails, and soon."""
    line = client.format(user=person, key=f"/root/.ssh/{person}", fingerprint=fingerprint(person.host))
    start = time.monotonic()
    assert person.host.machine.run(shlex.split(line), check=False).returncode != 0
    assert time.monotonic() - start < 20


def test_a_client_with_nobody_in_front_of_it_fails_at_once_and_counts_for_nothing(host: Host) -> None:
    host.use("key-and-code")
    new, invited, active = host.person(enrolled=False), host.person(enrolled=False), host.person()
    for client in CLIENTS:
        nobody_there(new, client)
    nobody_there(active, CLIENTS[1])
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "invite"\n')
    host.confidential.add(host.machine.run(["pam-totp", "invite", invited.name]).stdout.strip())
    nobody_there(invited, CLIENTS[1])
    host.machine.write("/etc/pam-totp/config.toml", ENROLL)
    assert [host.status(person)["failures"] for person in (new, invited, active)] == [0, 0, 0]
    assert kinds(active.log_in(active.code())) == ["Verification code:"]


@pytest.mark.usefixtures("passwords")
def test_nor_does_it_where_a_password_is_asked_for_first(host: Host) -> None:
    new = host.person(enrolled=False)
    for client in PASSWORD_CLIENTS:
        nobody_there(new, client)
    assert host.status(new)["state"] == "none"
