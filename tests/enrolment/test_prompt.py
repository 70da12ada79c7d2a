"""Enrolment in the SSH prompt itself: what the screen shows, what is kept, and that breaking off locks nobody out."""

from __future__ import annotations

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import CODE, ENTER, GOES_ON, HANDED, enrolled, finish, shown, started, take
from tests.lab.setup import EXAMPLES
from tests.login.host import Host, Person, kinds

pytestmark = pytest.mark.usefixtures("enrolling")

PROMPT = "Verification code:"
ONCE = ("-o", "NumberOfPasswordPrompts=1")


@pytest.fixture(scope="module")
def enrolling(host: Host, key_and_code: None) -> None:
    """Whoever is not enrolled enrols at the login."""
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "enroll"\n')


def test_a_user_enrols_and_the_login_goes_on(host: Host) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with started(alice) as session:
        alice = shown(alice, session)
        assert host.status(alice)["state"] == "none"
        for answer in ("what code?", alice.wrong(), alice.code(-10), alice.code(4)):
            session.answer(answer)
            session.expect(CODE)
        finish(alice, session)
        assert screens.told(session.screen, alice) == screens.kept("enrolment")
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("accepted", "enrolled")]
    assert host.status(alice)["state"] == "active"
    assert host.status(alice)["failures"] == 0


def test_who_has_enrolled_is_asked_from_the_next_login_on_and_the_first_code_is_spent(host: Host) -> None:
    alice, _ = enrolled(host)
    assert kinds(alice.log_in(alice.code(-1))) == [PROMPT]
    again = alice.log_in(alice.code())
    assert again.ok
    assert kinds(again) == [PROMPT]


def unfinished(host: Host, alice: Person) -> None:
    """Nothing is kept of a key that was shown, and the next login shows another one, which enrols."""
    assert host.status(alice)["state"] == "none"
    assert host.status(alice)["failures"] == 0
    with started(alice) as session:
        other = shown(alice, session)
        assert other.secret != alice.secret
        finish(other, session)


def test_after_five_wrong_codes_the_next_login_shows_another_key(host: Host) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with started(alice, *ONCE) as session:
        alice = shown(alice, session)
        for _ in range(4):
            session.answer(alice.wrong())
            session.expect(CODE)
        session.answer(alice.wrong())
        assert session.wait() == 255
        assert screens.told(session.screen, alice) == screens.kept("five-wrong-codes")
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("refused", "not-confirmed")]
    unfinished(host, alice)


@pytest.mark.parametrize("answers", [[], ["123456"], ["123456", "123456"]])
def test_breaking_off_at_the_first_code_locks_nobody_out_and_keeps_nothing(host: Host, answers: list[str]) -> None:
    alice = host.person(enrolled=False)
    with started(alice) as session:
        alice = shown(alice, session)
        for answer in answers:
            session.answer(answer)
            session.expect(CODE)
    unfinished(host, alice)


def test_breaking_off_with_ctrl_c_is_no_different(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice) as session:
        alice = shown(alice, session)
        session.send("\x03")
        assert session.wait() != 0
    unfinished(host, alice)


def test_when_sshd_runs_out_of_patience_nobody_is_locked_out(host: Host) -> None:
    alice = host.person(enrolled=False)
    host.machine.sshd.drop_in("00-impatient", "LoginGraceTime 6\n")
    host.machine.sshd.reload()
    try:
        with started(alice) as session:
            alice = shown(alice, session)
            host.machine.sh('while pgrep -f "^sshd(-session)?: $1 "; do sleep 0.1; done', alice.name)
            session.answer(alice.code())
            assert session.wait() == 255
    finally:
        host.machine.sshd.remove("00-impatient")
        host.machine.sshd.reload()
    unfinished(host, alice)


# Somebody who has the user's first factor, and what he gets with it


def test_a_thief_who_looks_and_hangs_up_does_not_have_the_owners_codes(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice) as session:
        thief = shown(alice, session)
    with started(alice) as session:
        owner = shown(alice, session)
        finish(owner, session)
    assert not alice.log_in(thief.code()).ok
    assert alice.log_in(owner.code()).ok


def test_of_two_sessions_one_enrols_and_the_other_is_told(host: Host) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with started(alice, *ONCE) as there:
        thief = shown(alice, there)
        with started(alice) as here:
            owner = shown(alice, here)
            finish(owner, here)
        there.answer(thief.code())
        assert there.wait() == 255
        assert "Your enrolment was changed meanwhile, from elsewhere: start again." in there.screen
    assert [line["reason"] for line in host.decisions(mark)] == ["enrolled", "changed-meanwhile"]
    assert not alice.log_in(thief.code()).ok
    assert alice.log_in(owner.code()).ok


def test_a_key_that_an_administrator_made_is_not_shown_but_asked_for(host: Host) -> None:
    alice = host.person(pending=True)
    mark = host.machine.mark()
    with started(alice) as session:
        session.expect(HANDED)
        session.answer(alice.code(-1))
        take(host, session)
        session.answer("yes")
        session.expect(GOES_ON)
        assert screens.told(session.screen, alice) == screens.kept("handed")
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("accepted", "enrolled")]
    assert kinds(alice.log_in(alice.code())) == [PROMPT]


def test_asking_for_another_key_and_hanging_up_voids_nothing(host: Host) -> None:
    owner = host.person(pending=True)
    with started(owner) as session:
        session.expect(HANDED)
        session.answer("new")
        thief = shown(owner, session)
    assert host.status(owner)["state"] == "pending"
    with started(owner, *ONCE) as session:
        session.expect(HANDED)
        session.answer(thief.code())
        assert session.wait() == 255
    with started(owner) as session:
        session.expect(HANDED)
        session.answer(owner.code(-1))
        take(host, session)
        session.answer("yes")
        session.expect(GOES_ON)
    assert not owner.log_in(thief.code()).ok
    assert owner.log_in(owner.code()).ok


def test_another_key_voids_the_administrators_when_it_is_confirmed_and_that_is_told_and_logged(host: Host) -> None:
    alice = host.person(pending=True)
    mark = host.machine.mark()
    with started(alice, command=None) as session:
        session.expect(HANDED)
        session.answer("new")
        own = shown(alice, session)
        session.answer(own.code(-1))
        take(host, session)
        session.answer("yes")
        session.expect(r"\$ ")
        assert "The key that your administrator had made for you is void." in session.screen
    (line,) = host.decisions(mark)
    assert (line["reason"], line["detail"]) == ("enrolled", "the key that an administrator made is void")
    assert not alice.log_in(alice.code()).ok
    assert alice.log_in(own.code()).ok


def test_a_guesser_of_the_administrators_code_has_to_wait_and_keeps_nobody_out(host: Host) -> None:
    alice = host.person(pending=True)
    mark = host.machine.mark()
    for _ in range(3):
        with started(alice, *ONCE) as session:
            session.expect(HANDED)
            session.answer(alice.wrong())
            assert session.wait() == 255
            assert "That code was not accepted." in session.screen
    assert [line["reason"] for line in host.decisions(mark)] == ["wrong-code"] * 3
    with started(alice) as session:
        # From here not even the right code is looked at, but nobody is in the way of another key.
        session.expect("Or type new, and set up an app with another key: ")
        session.answer(alice.code())
        session.expect("Or type new, and set up an app with another key: ")
        session.answer("new")
        shown(alice, session)
    elsewhere = host.machine.ssh(alice.user, command="true", key=str(alice.elsewhere()["key"]))
    with elsewhere as session:
        session.expect(HANDED)
        session.answer(alice.code(-1))
        take(host, session)
        session.answer("yes")
        assert session.wait() == 0
        assert "There were 3 wrong codes since your last login, the last from 127.0.0.1." in session.screen
    assert host.status(alice)["state"] == "active"


def test_a_key_made_while_another_is_being_scanned_stays(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice, *ONCE) as session:
        thief = shown(alice, session)
        alice = host.enroll(alice, pending=True)
        session.answer(thief.code())
        assert session.wait() == 255
        assert "Your enrolment was changed meanwhile, from elsewhere: start again." in session.screen
    assert host.status(alice)["state"] == "pending"
    host.confirm(alice)
    assert alice.log_in(alice.code()).ok


def test_a_session_that_began_before_the_policy_was_closed_enrols_nobody(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice, *ONCE) as session:
        thief = shown(alice, session)
        host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "deny"\n')
        session.answer(thief.code())
        assert session.wait() == 255
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "enroll"\n')
    assert host.status(alice)["state"] == "none"


def test_recovery_codes_that_were_not_acknowledged_are_issued_anew_at_the_next_login(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice) as session:
        alice = shown(alice, session)
        session.answer(alice.code(-1))
        first = take(host, session)
        # Before they are on the screen, their hashes and the activation are on the disk.
        assert host.status(alice)["state"] == "active"
    with started(alice) as session:
        session.expect(PROMPT)
        session.answer(alice.code())
        second = take(host, session)
        assert screens.told(session.screen, alice) == screens.kept("recovery-codes-anew")
        session.answer("what?")
        session.expect(ENTER)
        session.answer("yes")
        session.expect(GOES_ON)
        assert session.wait() == 0
    assert not set(first) & set(second)
    assert not alice.log_in(first[0]).ok
    third = alice.log_in(second[0])
    assert third.ok
    assert ENTER not in third.screen


def test_what_answers_every_question_alike_has_acknowledged_nothing(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice) as session:
        alice = shown(alice, session)
        session.answer(alice.code(-1))
        take(host, session)
        for _ in range(4):
            session.answer(alice.user.password)
            session.expect(ENTER)
        session.answer(alice.user.password)
        session.expect(GOES_ON)
        assert session.wait() == 0
    with started(alice) as session:
        session.expect(PROMPT)
        session.answer(alice.code())
        take(host, session)


def test_re_enrolment_keeps_the_old_authenticator_until_the_new_one_is_confirmed(host: Host) -> None:
    old, _ = enrolled(host)
    new = host.enroll(old, pending=True)
    assert kinds(old.log_in(new.code())) == [PROMPT]
    assert old.log_in(old.code()).ok
    host.confirm(new)
    assert not old.log_in(old.code(1)).ok
    assert old.log_in(new.code()).ok


@pytest.mark.parametrize("style", ["auto", "utf8", "ascii", "none"])
def test_a_qr_code_is_drawn_as_configured_and_the_key_is_always_there(host: Host, style: str) -> None:
    alice = host.person(enrolled=False)
    with host.config(f'unenrolled = "enroll"\nissuer = "Example Ltd"\nqr = "{style}"'), started(alice) as session:
        alice = shown(alice, session)
        text = screens.told(session.screen, alice)
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "enroll"\n')
    assert text == screens.kept("no-qr-code" if style == "none" else "qr-code")
    for picture in screens.pictures(session.screen):
        assert set("".join(picture)) == (set("# ") if style == "ascii" else set("█▀▄ "))
        assert max(map(len, picture)) <= 80


def test_enrolment_needs_a_cache_that_takes_writes(host: Host) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with host.machine.tmpfs("/var/lib/pam-totp", size="4m"):
        host.machine.run(["mount", "-o", "remount,ro", "/var/lib/pam-totp"])
        result = alice.log_in()
        assert not result.ok
        assert CODE not in result.screen
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("unavailable", "cache-not-writable")


def test_it_works_in_sftp(host: Host) -> None:
    alice = host.person(enrolled=False)
    with host.machine.sftp(alice.user, key=True) as session:
        alice = shown(alice, session)
        session.answer(alice.code(-1))
        take(host, session)
        session.answer("yes")
        session.expect("sftp> ")
        session.answer("bye")
        assert session.wait() == 0


def test_a_password_comes_first_and_a_wrong_one_shows_no_key(host: Host) -> None:
    host.use("password-and-code")
    try:
        alice = host.person(enrolled=False)
        wrong = alice.log_in(password="wrong horse")
        assert not wrong.ok
        assert kinds(wrong) == ["Password:"]
        assert host.status(alice)["state"] == "none"
        with started(alice) as session:
            alice = shown(alice, session)
            finish(alice, session)
            assert screens.told(session.screen, alice) == screens.kept("password-first")
    finally:
        host.use("key-and-code")


@pytest.mark.parametrize("variant", ["password-and-code", "key-and-code"])
def test_the_example_suggests_more_time_to_log_in_and_sshd_takes_it(host: Host, variant: str) -> None:
    name = f"00-pam-totp-{variant}.conf"
    text = host.machine.read(f"{EXAMPLES}/sshd_config.d/{name}")
    assert "Where users enrol at the login they need time" in text
    file = "/run/lab/with-more-time"
    host.machine.write(file, text.replace("#LoginGraceTime", "LoginGraceTime"))
    settings = host.machine.run(["/usr/sbin/sshd", "-T", "-f", file]).stdout
    assert "logingracetime 300\n" in settings
