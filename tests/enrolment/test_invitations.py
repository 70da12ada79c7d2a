"""With `unenrolled = "invite"` a first factor alone, stolen or not, enrols nobody."""

from __future__ import annotations

import json

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import CODE, INVITATION, finish, shown, started
from tests.login.host import Host, Person, kinds, steady

pytestmark = pytest.mark.usefixtures("inviting")

ONCE = ("-o", "NumberOfPasswordPrompts=1")


@pytest.fixture(scope="module")
def inviting(host: Host, password_and_code: None) -> None:
    """Whoever is not enrolled needs an invitation."""
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "invite"\n')


def invite(person: Person, *options: str) -> str:
    """A new invitation."""
    code = person.host.machine.run(["pam-totp", "invite", person.name, *options]).stdout.strip()
    person.host.confidential |= {code, code.replace("-", "")}
    return code


def refused(person: Person, answer: str) -> str:
    """Answer the question for the invitation, see no key and no login; return the reason in the log."""
    mark = person.host.machine.mark()
    with started(person, *ONCE) as session:
        session.expect(INVITATION)
        session.answer(answer)
        assert session.wait() == 255
        assert "That invitation was not accepted." in session.screen
        assert CODE not in session.screen
    (line,) = person.host.decisions(mark)
    return line["reason"]


def test_a_user_enrols_with_an_invitation(host: Host) -> None:
    alice = host.person(enrolled=False)
    code = invite(alice)
    with started(alice) as session:
        session.expect(INVITATION)
        session.answer(code.upper())
        alice = shown(alice, session)
        finish(alice, session)
        assert screens.told(session.screen, alice) == screens.kept("invitation")
    assert alice.log_in(alice.code()).ok


def test_who_has_no_invitation_is_told_and_sees_no_key_even_with_the_right_password(host: Host) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    result = alice.log_in()
    assert not result.ok
    assert kinds(result) == ["Password:"]
    assert screens.told(result.screen, alice) == screens.kept("no-invitation")
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("refused", "not-invited")
    assert line["detail"] == f"pam-totp invite {alice} prints an invitation code"
    assert host.status(alice)["state"] == "none"


def test_an_invitation_is_used_up_by_the_enrolment_and_not_before(host: Host) -> None:
    steady(6)
    alice = host.person(enrolled=False)
    code = invite(alice)
    known = []
    for _ in range(2):
        with started(alice) as session:
            session.expect(INVITATION)
            session.answer(code)
            alice = shown(alice, session)
            known.append(alice.secret)
    assert known[0] == known[1]
    with started(alice) as session:
        session.expect(INVITATION)
        session.answer(code)
        session.expect(CODE)
        finish(alice, session)
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    assert not alice.log_in().ok
    invite(alice)
    assert refused(alice, code) == "wrong-invitation"


def test_a_new_invitation_voids_the_one_before(host: Host) -> None:
    alice = host.person(enrolled=False)
    old, new = invite(alice), invite(alice, "--valid", "1h")
    assert refused(alice, old) == "wrong-invitation"
    with started(alice) as session:
        session.expect(INVITATION)
        session.answer(new)
        shown(alice, session)


def test_guessing_is_throttled_and_what_has_not_the_form_is_no_guess(host: Host) -> None:
    alice, bob = host.person(enrolled=False), host.person(enrolled=False)
    right, other = invite(alice), invite(bob)
    assert refused(alice, "") == "malformed-invitation"
    assert host.status(alice)["failures"] == 0
    for _ in range(3):
        assert refused(alice, other) == "wrong-invitation"
    assert host.status(alice)["failures"] == 3
    waiting = alice.log_in()
    assert not waiting.ok
    assert INVITATION not in waiting.screen
    assert "Too many wrong codes. Try again in " in waiting.screen
    host.unlock(alice)
    with started(alice) as session:
        session.expect(INVITATION)
        session.answer(right)
        shown(alice, session)


def test_an_invitation_is_for_one_user_only(host: Host) -> None:
    alice, bob = host.person(enrolled=False), host.person(enrolled=False)
    code = invite(alice)
    invite(bob)
    assert refused(bob, code) == "wrong-invitation"


def test_only_a_hash_is_kept(host: Host) -> None:
    alice = host.person(enrolled=False)
    code = invite(alice)
    for form in (code, code.replace("-", ""), code.upper()):
        found = host.machine.run(["grep", "-rlaiF", form, "/var/lib/pam-totp", "/run/pam-totp", "/etc"], check=False)
        assert (found.returncode, found.stdout) == (1, "")
    said = json.loads(host.machine.run(["pam-totp", "status", "--json", alice.name]).stdout)
    assert code not in str(said)


def test_who_is_enrolled_gets_none(host: Host) -> None:
    alice = host.person()
    done = host.machine.run(["pam-totp", "invite", alice.name], check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is enrolled already" in done.stderr
