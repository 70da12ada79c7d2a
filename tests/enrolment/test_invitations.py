"""With `unenrolled = "invite"` a first factor alone, stolen or not, enrols nobody."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import CODE, HANDED, INVITATION, finish, shown, started, take
from tests.login.host import Host, Person, kinds
from tests.login.transactions import Transaction, transactions

if TYPE_CHECKING:
    from tests.lab.ssh import Session

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


def invited(person: Person, session: Session, code: str) -> Person:
    """Show the invitation, and see a key."""
    session.expect(INVITATION)
    session.answer(code)
    return shown(person, session)


def test_an_invitation_is_used_up_by_the_enrolment_and_not_before(host: Host) -> None:
    alice = host.person(enrolled=False)
    code = invite(alice)
    with started(alice) as session:
        first = invited(alice, session, code)
    with started(alice) as session:
        second = invited(alice, session, code)
        assert second.secret != first.secret
        finish(second, session)
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    assert not alice.log_in().ok
    invite(alice)
    assert refused(alice, code) == "wrong-invitation"


def test_a_new_invitation_voids_the_one_before_and_what_it_has_shown(host: Host) -> None:
    """Somebody who had the password and the first invitation has seen a key."""
    alice = host.person(enrolled=False)
    old = invite(alice)
    with started(alice) as session:
        thief = invited(alice, session, old)
    new = invite(alice, "--valid", "1h")
    assert refused(alice, old) == "wrong-invitation"
    with started(alice) as session:
        owner = invited(alice, session, new)
        finish(owner, session)
    assert not alice.log_in(thief.code()).ok
    assert alice.log_in(owner.code()).ok


@pytest.mark.parametrize("how", ["another one", "it ends", "the policy is closed"])
def test_an_invitation_must_still_hold_when_the_first_code_comes(host: Host, how: str) -> None:
    alice = host.person(enrolled=False)
    code = invite(alice, "--valid", "1m" if how == "it ends" else "1h")
    mark = host.machine.mark()
    with started(alice, *ONCE) as session:
        thief = invited(alice, session, code)
        if how == "another one":
            invite(alice)
        elif how == "the policy is closed":
            host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "deny"\n')
        else:
            time.sleep(61)
        session.answer(thief.code())
        assert session.wait() == 255
        assert "Your enrolment was changed meanwhile, from elsewhere: start again." in session.screen
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "invite"\n')
    assert [line["reason"] for line in host.decisions(mark)] == ["changed-meanwhile"]
    assert host.status(alice)["state"] == "none"


def test_an_invitation_is_asked_for_before_the_code_of_a_key_that_an_administrator_made(host: Host) -> None:
    alice = host.person(pending=True)
    assert not alice.log_in().ok
    code = invite(alice)
    with started(alice, *ONCE) as session:
        session.expect(INVITATION)
        session.answer(alice.code(-1))
        assert session.wait() == 255
    with started(alice) as session:
        session.expect(INVITATION)
        session.answer(code)
        session.expect(HANDED)
        session.answer(alice.code(-1))
        take(host, session)
        assert screens.KEY.findall(session.screen) == []
        session.answer("yes")
        assert session.wait() == 0
    assert alice.log_in(alice.code()).ok


def test_guessing_is_throttled_and_what_has_not_the_form_is_no_guess(host: Host) -> None:
    alice, bob = host.person(enrolled=False), host.person(enrolled=False)
    right, other = invite(alice), invite(bob)
    for _ in range(6):
        assert refused(alice, "") == "malformed-invitation"
    for _ in range(5):
        assert refused(alice, other) == "wrong-invitation"
    waiting = alice.log_in()
    assert not waiting.ok
    assert INVITATION not in waiting.screen
    assert re.search(r"Too many wrong codes\. Try again in \d+ (s|min)\.", waiting.screen)
    host.unlock(alice)
    with started(alice) as session:
        invited(alice, session, right)


def test_a_thief_with_wrong_invitations_keeps_the_owner_out_of_no_other_source(host: Host) -> None:
    alice, bob = host.person(enrolled=False), host.person(enrolled=False)
    right, wrong = invite(alice), invite(bob)
    for last in range(2, 32):
        for _ in range(5):
            assert guess(alice, wrong, f"127.0.0.{last}") == "wrong-invitation"
        assert guess(alice, None, f"127.0.0.{last}") == "throttled"
    assert host.status(alice)["failures"] == 0
    assert host.status(alice)["state"] == "none"
    with started(alice, source="127.0.0.99") as session:
        alice = invited(alice, session, right)
        finish(alice, session)
    assert alice.log_in(alice.code(), source="127.0.0.99").ok


def guess(person: Person, answer: str | None, source: str) -> str:
    """One transaction without sshd, from an address; the reason in the log."""
    mark = person.host.machine.mark()
    (result,) = transactions(person.host.machine, Transaction(person.name, answer or "", source))
    assert result.code == "PAM_AUTH_ERR"
    assert result.prompts == (0 if answer is None else 1)
    (line,) = person.host.decisions(mark)
    return line["reason"]


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
