"""Many users: who would be refused, keys and invitations for all of a list, and what users do with their pages."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.login.host import Person, kinds, spelled

if TYPE_CHECKING:
    from tests.login.host import Host

pytestmark = pytest.mark.usefixtures("password_and_code")

CONFIG = "/etc/pam-totp/config.toml"
PAGES = "/root/pages"


@pytest.fixture(autouse=True)
def no_pages(host: Host) -> None:
    host.machine.sh(f"rm -rf {PAGES}")


def on_page(person: Person, pattern: str) -> str:
    """What a page tells its user."""
    [found] = re.findall(pattern, person.host.machine.read(f"{PAGES}/{person}.svg"))
    return str(found)


def test_who_is_said_to_be_refused_is_refused_and_nobody_else(host: Host) -> None:
    alice, bob, carol = host.person(), host.person(enrolled=False), host.person(enrolled=False)
    host.machine.run(["pam-totp", "exempt", carol.name, "--until", "1d", "--reason", "test"])
    with host.config('unenrolled = "deny"'):
        told = host.machine.run(["pam-totp", "config", "check"]).stdout
        found = json.loads(host.machine.run(["pam-totp", "status", "--missing", "--json"]).stdout)
        [refused] = re.findall(r"^would be refused: \d+ \((.*)\)$", told, re.MULTILINE)
        assert bob.name in refused.split(", ")
        assert not {alice.name, carol.name} & set(refused.split(", "))
        logins = {each["user"]: each["login"] for each in found}
        assert {bob.name, carol.name} <= set(logins)
        assert (logins[bob.name], logins[carol.name]) == ("refused (not-enrolled)", "no code (exempt)")
        # An account of the system that has no shell cannot log in, and root has no key here.
        assert not {"daemon", "root", alice.name} & set(logins)
        assert not bob.log_in().ok
        assert carol.log_in().ok
        assert alice.log_in(alice.code()).ok


def test_users_confirm_at_their_login_the_keys_that_a_list_has_made(host: Host) -> None:
    people = [host.person(enrolled=False) for _ in range(3)]
    names = "\n".join(person.name for person in people)
    with host.config('unenrolled = "enroll"'):
        done = host.machine.run(["pam-totp", "enroll", "--from", "-", "--handout", PAGES], input=names)
        assert (done.stdout.splitlines()[0], done.stderr) == (f"3 users pending: {', '.join(names.split())}", "")
        modes = host.machine.sh(f"stat -c '%a %U' {PAGES} {PAGES}/*").stdout.splitlines()
        assert modes == ["700 root", *["600 root"] * 3]
        key = on_page(people[0], r">((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})<").replace(" ", "")
        host.confidential |= spelled(key)
        alice = Person(host, people[0].user, key)
        first = host.machine.ssh(alice.user, command="true", key=False)
        with first as session:
            session.expect("Password: ")
            session.answer(alice.user.password)
            session.expect("Your administrator has made a key for you")
            session.answer(alice.code(-1))
            session.expect("type yes: ")
            session.answer("yes")
            assert session.wait() == 0
    assert alice.log_in(alice.code()).ok
    again = host.machine.run(["pam-totp", "enroll", "--from", "-", "--json"], input=names).stdout
    results = [json.loads(line)["result"] for line in again.splitlines()]
    assert results == ["enrolled already", "pending already", "pending already"]


def test_codes_of_secrets_that_users_bring_along_are_good_at_once(host: Host) -> None:
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXQ"
    alice = host.person(enrolled=False)
    host.confidential |= spelled(secret)
    host.machine.write("/root/list", f"user,secret\n{alice},{secret}\n", mode=0o600)
    host.machine.run(["pam-totp", "enroll", "--from", "/root/list", "--active"])
    alice = Person(host, alice.user, secret)
    code = alice.code()
    assert alice.log_in(code).ok
    assert not alice.log_in(code).ok


def test_the_members_of_a_group_are_invited_and_the_page_has_the_code(host: Host) -> None:
    alice, bob = host.person(enrolled=False), host.person()
    host.machine.sh('groupadd -f crew; gpasswd -M "$1,$2" crew', alice.name, bob.name)
    done = host.machine.run(["pam-totp", "invite", "--group", "crew", "--handout", PAGES])
    assert f"1 user enrolled already: {bob}\n" in done.stdout
    assert host.machine.sh(f"ls {PAGES}").stdout.split() == [f"{alice}.svg"]
    code = on_page(alice, r">([a-z2-9]{5}-[a-z2-9]{5})<")
    host.confidential |= {code, code.replace("-", "")}
    assert alice.name in host.machine.run(["pam-totp", "invite"]).stdout
    with host.config('unenrolled = "invite"'), host.machine.ssh(alice.user, command="true", key=False) as session:
        session.expect("Password: ")
        session.answer(alice.user.password)
        session.expect("Invitation code: ")
        session.answer(code)
        session.expect("Code from the app: ")


def test_a_pending_authenticator_that_is_cancelled_un_enrols_nobody(host: Host) -> None:
    alice = host.person()
    host.machine.run(["pam-totp", "enroll", "--no-confirm", alice.name])
    done = host.machine.run(["pam-totp", "enroll", "--no-confirm", alice.name], check=False)
    assert (done.returncode, "--replace" in done.stderr) == (2, True)
    host.machine.run(["pam-totp", "reset", "--label", "phone", "--yes", alice.name])
    result = alice.log_in(alice.code())
    assert (result.ok, kinds(result)) == (True, ["Password:", "Verification code:"])


def test_five_hundred_users_take_seconds(host: Host) -> None:
    host.machine.sh(
        """
        i=20000
        while [ $i -lt 20500 ]; do
            echo "many$i:x:$i:$i::/nonexistent:/bin/sh"
            i=$((i + 1))
        done >/root/many
        cat /root/many >>/etc/passwd
        cut -d : -f 1 /root/many >/root/list
        """
    )
    done = host.machine.sh(f"timeout 120 pam-totp enroll --from /root/list --handout {PAGES}")
    assert done.stdout.startswith("500 users pending: many20000, many20001, ")
    assert host.machine.sh(f"ls {PAGES} | wc -l").stdout.strip() == "500"
    assert host.machine.run(["pam-totp", "status"]).returncode == 0
    host.machine.sh("sed -i /^many2/d /etc/passwd")
