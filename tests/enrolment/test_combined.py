"""Password and code in one answer, with real pam_unix, by sshd's `password` and `keyboard-interactive`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import CODE, finish, keep
from tests.lab.pam import pamtester, service
from tests.login.host import Host, Person

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.usefixtures("combined"), pytest.mark.engines]

PROMPTS = {"keyboard-interactive": "Password and verification code: ", "password": "'s password: "}
methods = pytest.mark.parametrize("method", PROMPTS)
LINES = (
    "auth required MODULE combined=split",
    "@include common-auth",
    "auth required MODULE combined=verify",
    "account required MODULE combined=verify",
    "@include common-account",
)


@pytest.fixture(scope="module")
def combined(host: Host) -> None:
    """The example files for one answer, in force as they are."""
    host.use("combined")


def tried(person: Person, answer: str, method: str = "password") -> tuple[bool, list[str]]:
    """Log in with one answer by a method: whether it got in, and the reasons that the module logged."""
    host = person.host
    mark = host.machine.mark()
    options = ("-o", f"PreferredAuthentications={method}", "-o", "NumberOfPasswordPrompts=1")
    with host.machine.ssh(person.user, *options) as session:
        session.expect(PROMPTS[method])
        session.answer(answer)
        status = session.wait()
    assert status in (0, 255)
    return status == 0, [line["reason"] for line in host.decisions(mark)]


def failures(person: Person) -> object:
    return person.host.status(person)["failures"]


def written(host: Host, *lines: str, name: str) -> str:
    """A service of these lines, with the machine's module."""
    return service(host.machine, *(line.replace("MODULE", host.machine.module) for line in lines), name=name)


@methods
def test_password_and_code_let_in_once(host: Host, method: str) -> None:
    alice = host.person()
    answer = alice.user.password + alice.code()
    assert tried(alice, answer, method) == (True, ["code"])
    assert tried(alice, answer, method) == (False, ["spent-code"])
    assert failures(alice) == 0  # it is the own code of a login from here, just now


@methods
def test_a_wrong_password_uses_up_no_code_and_counts_for_nothing(host: Host, method: str) -> None:
    alice = host.person()
    for answer in (alice.code(), "wrong horse" + alice.wrong(), "wrong horse" + alice.code()):
        assert tried(alice, answer, method) == (False, [])
    assert failures(alice) == 0
    assert tried(alice, alice.user.password + alice.code(), method)[0]


@methods
def test_a_right_password_alone_is_refused_and_a_wrong_code_counts(host: Host, method: str) -> None:
    alice = host.person()
    assert tried(alice, alice.user.password, method) == (False, ["malformed-code"])
    assert failures(alice) == 0
    assert tried(alice, alice.user.password + alice.wrong(), method) == (False, ["wrong-code"])
    assert failures(alice) == 1


def test_a_code_of_another_length_is_a_wrong_password(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    for digits in (code[:5], code + "0", f"{code[:3]} {code[3:]}"):
        assert tried(alice, alice.user.password + digits) == (False, [])
    assert failures(alice) == 0
    assert tried(alice, alice.user.password + code)[0]


@methods
def test_whoever_is_not_enrolled_types_a_password_as_ever(host: Host, method: str) -> None:
    bob = host.person(enrolled=False)
    assert tried(bob, bob.user.password, method) == (True, ["not-enrolled"])
    assert tried(bob, bob.user.password + "123456", method) == (False, [])


def test_a_password_that_ends_in_digits(host: Host) -> None:
    for password in ("hunter123456", "123456"):
        name = f"ends-in-{password}"
        bob = Person(host, host.machine.user(name, password=password, key=False), "")
        assert tried(bob, password) == (True, ["not-enrolled"])
        alice = host.enroll(bob)
        assert tried(alice, password) == (False, ["malformed-code"] if password == "123456" else [])
        assert failures(alice) == 0
        assert tried(alice, password + alice.code()) == (True, ["code"])


def test_a_recovery_code_can_follow_the_password(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    assert tried(alice, alice.user.password + codes[0]) == (True, ["recovery-code"])
    assert tried(alice, alice.user.password + codes[0]) == (False, ["wrong-recovery-code"])
    assert tried(alice, "wrong horse" + codes[1]) == (False, [])
    assert tried(alice, alice.user.password + codes[1].upper()) == (True, ["recovery-code"])


@pytest.mark.parametrize("ending", ["abcde fghij", " abcdefghij", "abcdefghij ", "abcd-efghij", "abcdefghijk"])
def test_a_password_that_ends_almost_like_a_recovery_code_is_not_cut(ending: str, host: Host) -> None:
    name = f"almost{len(host.machine.run(['getent', 'passwd']).stdout)}"
    bob = Person(host, host.machine.user(name, password=f"battery {ending}", key=False), "")
    alice = host.enroll(bob)
    assert tried(alice, alice.user.password) == (False, ["malformed-code"])
    assert tried(alice, alice.user.password + alice.code()) == (True, ["code"])


def test_who_has_to_wait_is_refused_with_the_right_answer_but_not_with_a_recovery_code(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    for _ in range(3):
        assert not tried(alice, alice.user.password + alice.wrong())[0]
    assert tried(alice, alice.user.password + alice.code()) == (False, ["throttled"])
    assert tried(alice, alice.user.password + codes[0]) == (True, ["recovery-code"])
    assert tried(alice, alice.user.password + alice.code()) == (True, ["code"])


def test_who_is_exempt_types_the_password_only(host: Host) -> None:
    alice = host.person()
    host.machine.run(["pam-totp", "exempt", alice.name, "--until", "2099-12-31", "--reason", "no phone"])
    assert tried(alice, alice.user.password) == (True, ["exempt"])


def test_a_user_enrols_after_the_password_where_the_client_can_ask_more(host: Host) -> None:
    alice = host.person(enrolled=False)
    with host.config('unenrolled = "enroll"'):
        assert tried(alice, alice.user.password, "password") == (False, ["no-answer"])
        with host.machine.ssh(alice.user, command="echo the login goes on") as session:
            session.expect(PROMPTS["keyboard-interactive"])
            session.answer(alice.user.password)
            session.expect(CODE)
            alice = keep(alice, screens.key(session.screen))
            finish(alice, session)
    assert tried(alice, alice.user.password + alice.code()) == (True, ["code"])


def test_a_program_that_can_answer_one_question_only_copies_files(host: Host) -> None:
    alice = host.person()
    program = "/root/one-answer"
    host.machine.write(program, f'#!/bin/sh\necho "{alice.user.password}$CODE"\n', mode=0o755)
    host.machine.write("/root/batch", "mkdir by-a-program\n")
    for method in PROMPTS:
        argv = ["sftp", "-o", "BatchMode=no", "-b", "/root/batch", "-o", f"PreferredAuthentications={method}"]
        env = {"SSH_ASKPASS": program, "SSH_ASKPASS_REQUIRE": "force", "CODE": alice.code(method == "password")}
        host.machine.run([*argv, f"{alice}@127.0.0.1"], env=env)
        host.machine.run(["rmdir", f"/home/{alice}/by-a-program"])


@pytest.mark.parametrize("answer", ["wrong horse{code}", "{password}{wrong}"], ids=["wrong password", "wrong code"])
def test_a_key_that_is_good_gets_in_after_an_answer_that_was_refused(host: Host, answer: str) -> None:
    alice = host.person()
    typed = answer.format(code=alice.code(), password=alice.user.password, wrong=alice.wrong())
    with (
        either(host),
        host.machine.ssh(
            alice.user,
            *("-o", "PreferredAuthentications=password,publickey", "-o", "NumberOfPasswordPrompts=1"),
            key=True,
            command="echo inside",
        ) as session,
    ):
        session.expect(PROMPTS["password"])
        session.answer(typed)
        assert session.wait() == 0
        assert "inside" in session.screen


def test_a_key_after_a_refused_answer_gets_nobody_in_where_the_stack_could_have_let_in_without_the_code(
    host: Host,
) -> None:
    alice = host.person()
    stack = host.machine.read("/etc/pam.d/sshd")
    host.machine.sh(r"sed -i '/^auth.*combined=verify/i auth [success=1 default=ignore] pam_permit.so' /etc/pam.d/sshd")
    host.machine.sh(r"sed -i '/^auth.*combined=verify/a auth required pam_permit.so' /etc/pam.d/sshd")
    mark = host.machine.mark()
    try:
        with either(host):
            assert tried(alice, alice.user.password + alice.code()) == (False, [])
    finally:
        host.machine.write("/etc/pam.d/sshd", stack)
    assert any("reason=not-verified" in record.message for record in host.machine.log(mark))


@contextmanager
def either(host: Host) -> Iterator[None]:
    """Have sshd accept a password or a key, for a while."""
    host.machine.sh("sed -i 's/^AuthenticationMethods/#&/' /etc/ssh/sshd_config.d/00-pam-totp-combined.conf")
    host.machine.sshd.reload()
    try:
        yield
    finally:
        host.machine.sh(
            "sed -i 's/^#AuthenticationMethods/AuthenticationMethods/' /etc/ssh/sshd_config.d/00-pam-totp-combined.conf"
        )
        host.machine.sshd.reload()


def test_a_key_alone_gets_nobody_in(host: Host) -> None:
    for person in (host.person(), host.person(enrolled=False)):
        assert not host.machine.login(person.user, "-o", "PreferredAuthentications=publickey", key=True).ok


# Without sshd: what the stack itself returns, as a VPN's plugin with PAP sees it.


def test_any_service_can_have_one_answer(host: Host) -> None:
    alice = host.person()
    name = written(host, *LINES, name="vpn")
    phases = ("authenticate", "acct_mgmt")
    right = pamtester(host.machine, name, alice.user, *phases, answers=[alice.user.password + alice.code()])
    assert right.code == "PAM_SUCCESS"
    wrong = pamtester(host.machine, name, alice.user, *phases, answers=[alice.user.password + alice.wrong()])
    assert wrong.code == "PAM_AUTH_ERR"


@pytest.mark.parametrize("missing", [2, 3])
def test_without_one_of_the_lines_nobody_gets_in(host: Host, missing: int) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    name = written(host, *LINES[:missing], *LINES[missing + 1 :], name="incomplete")
    for person, answer in ((alice, alice.user.password + alice.code()), (bob, bob.user.password)):
        mark = host.machine.mark()
        result = pamtester(host.machine, name, person.user, "authenticate", "acct_mgmt", answers=[answer])
        assert result.code == "PAM_SERVICE_ERR"
        assert {line["outcome"] for line in host.decisions(mark)} == {"misconfigured"}


def test_where_the_verifying_line_is_skipped_the_account_phase_refuses(host: Host) -> None:
    alice = host.person()
    skip = "auth [success=1 default=ignore] pam_permit.so"
    permit = "auth required pam_permit.so"
    name = written(host, *LINES[:2], skip, LINES[2], permit, *LINES[3:], name="skipping")
    mark = host.machine.mark()
    answer = alice.user.password + alice.code()
    assert pamtester(host.machine, name, alice.user, "authenticate", answers=[answer]).code == "PAM_SUCCESS"
    both = pamtester(host.machine, name, alice.user, "authenticate", "acct_mgmt", answers=[answer])
    assert both.code == "PAM_AUTH_ERR"
    assert "reason=not-verified" in str(host.machine.log(mark)[-1])
