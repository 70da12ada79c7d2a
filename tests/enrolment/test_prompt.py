"""Enrolment in the SSH prompt itself: what the screen shows, what is kept, and that breaking off locks nobody out."""

from __future__ import annotations

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import CODE, ENTER, GOES_ON, enrolled, finish, shown, started, take
from tests.lab.setup import EXAMPLES
from tests.login.host import Host, kinds, steady

pytestmark = pytest.mark.usefixtures("enrolling")

PROMPT = "Verification code:"


@pytest.fixture(scope="module")
def enrolling(host: Host, key_and_code: None) -> None:
    """Whoever is not enrolled enrols at the login."""
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "enroll"\n')


def test_a_user_enrols_and_the_login_goes_on(host: Host) -> None:
    steady(8)
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with started(alice) as session:
        alice = shown(alice, session)
        assert host.status(alice)["state"] == "pending"
        for answer in ("what code?", alice.wrong(), alice.code(-10), alice.code(4)):
            session.answer(answer)
            session.expect(CODE)
        finish(alice, session)
        assert screens.told(session.screen, alice) == screens.kept("enrolment")
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("accepted", "enrolled")]
    assert host.status(alice)["state"] == "active"
    assert host.status(alice)["failures"] == 0


def test_who_has_enrolled_is_asked_from_the_next_login_on_and_the_first_code_is_spent(host: Host) -> None:
    steady(4)
    alice, _ = enrolled(host)
    assert kinds(alice.log_in(alice.code(-1))) == [PROMPT]
    again = alice.log_in(alice.code())
    assert again.ok
    assert kinds(again) == [PROMPT]


def test_after_five_wrong_codes_the_next_login_shows_the_same_key(host: Host) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with started(alice, "-o", "NumberOfPasswordPrompts=1") as session:
        alice = shown(alice, session)
        for _ in range(4):
            session.answer(alice.wrong())
            session.expect(CODE)
        session.answer(alice.wrong())
        assert session.wait() == 255
        assert screens.told(session.screen, alice) == screens.kept("five-wrong-codes")
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("refused", "not-confirmed")]
    assert host.status(alice)["failures"] == 0
    with started(alice) as session:
        assert shown(alice, session).secret == alice.secret
        finish(alice, session)


def test_breaking_off_at_the_first_code_locks_nobody_out_and_the_key_stays_good(host: Host) -> None:
    alice = host.person(enrolled=False)
    for answers in ([], ["123456"], ["123456", "123456"]):
        with started(alice) as session:
            known = alice.secret
            alice = shown(alice, session)
            assert known in ("", alice.secret)
            for answer in answers:
                session.answer(answer)
                session.expect(CODE)
    assert host.status(alice)["state"] == "pending"
    with started(alice) as session:
        session.expect(CODE)
        finish(alice, session)


def test_breaking_off_with_ctrl_c_is_no_different(host: Host) -> None:
    alice = host.person(enrolled=False)
    with started(alice) as session:
        alice = shown(alice, session)
        session.send("\x03")
        assert session.wait() != 0
    with started(alice) as session:
        assert shown(alice, session).secret == alice.secret


def test_when_sshd_runs_out_of_patience_nothing_is_lost(host: Host) -> None:
    alice = host.person(enrolled=False)
    host.machine.sshd.drop_in("00-impatient", "LoginGraceTime 1\n")
    host.machine.sshd.reload()
    try:
        with started(alice) as session:
            alice = shown(alice, session)
            host.machine.sh('while pgrep -f "^sshd(-session)?: $1 "; do sleep 0.1; done', alice.name, timeout=10)
            session.answer(alice.code())
            assert session.wait() == 255
    finally:
        host.machine.sshd.remove("00-impatient")
        host.machine.sshd.reload()
    with started(alice) as session:
        assert shown(alice, session).secret == alice.secret
        finish(alice, session)


def test_recovery_codes_that_were_not_acknowledged_are_issued_anew_at_the_next_login(host: Host) -> None:
    steady(6)
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
    steady(6)
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


def test_of_two_sessions_that_show_the_same_key_one_enrols_and_the_other_is_told(host: Host) -> None:
    steady(6)
    alice = host.person(enrolled=False)
    with started(alice) as here, started(alice, "-o", "NumberOfPasswordPrompts=1") as there:
        alice = shown(alice, here)
        assert shown(alice, there).secret == alice.secret
        finish(alice, here)
        there.answer(alice.code())
        assert there.wait() == 255
        assert "Your enrolment was changed meanwhile, from elsewhere: start again." in there.screen
    assert alice.log_in(alice.code()).ok


def test_a_key_that_an_administrator_left_pending_is_the_one_that_is_shown(host: Host) -> None:
    alice = host.person(pending=True)
    with started(alice) as session:
        assert shown(alice, session).secret == alice.secret


def test_re_enrolment_keeps_the_old_authenticator_until_the_new_one_is_confirmed(host: Host) -> None:
    steady(6)
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
