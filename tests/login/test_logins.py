"""What a user meets at the login, with both variants and with ssh, sftp and scp."""

from __future__ import annotations

import pytest

from tests.login.host import Host, kinds

pytestmark = [pytest.mark.usefixtures("either_variant"), pytest.mark.engines]

CODE = "Verification code:"


def test_every_login_here_is_an_offline_login(host: Host) -> None:
    links = host.machine.run(["ip", "-o", "link"]).stdout.splitlines()
    assert [link.split()[1] for link in links] == ["lo:"]
    routes = host.machine.run(["ip", "route"]).stdout
    assert routes == ""


def test_a_right_code_lets_in(host: Host) -> None:
    alice = host.person()
    result = alice.log_in(alice.code())
    assert result.ok
    assert kinds(result) == [*host.first_prompts, CODE]


def test_a_user_who_is_not_enrolled_is_not_asked(host: Host) -> None:
    bob = host.person(enrolled=False)
    result = bob.log_in()
    assert result.ok
    assert kinds(result) == host.first_prompts


def test_a_user_whose_enrolment_is_pending_is_not_asked(host: Host) -> None:
    bob = host.person(pending=True)
    result = bob.log_in()
    assert result.ok
    assert kinds(result) == host.first_prompts
    assert host.status(bob)["state"] == "pending"


def test_a_wrong_code_is_refused(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    result = alice.log_in(alice.wrong())
    assert not result.ok
    assert kinds(result) == [*host.first_prompts, CODE]
    assert "That code was not accepted." in result.screen
    assert [line["reason"] for line in host.decisions(mark)] == ["wrong-code"]
    assert host.status(alice)["failures"] == 1


def test_a_code_is_refused_the_second_time(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    assert alice.log_in(code).ok
    mark = host.machine.mark()
    again = alice.log_in(code)
    assert not again.ok
    assert "That code was used already: wait for the next one." in again.screen
    assert [line["reason"] for line in host.decisions(mark)] == ["spent-code"]
    assert host.status(alice)["failures"] == 0
    replayed = alice.log_in(code, **alice.elsewhere())
    assert not replayed.ok
    assert "That code was not accepted." in replayed.screen
    assert host.status(alice)["failures"] == 1


def test_hanging_up_at_the_prompt_costs_nothing_and_locks_nothing(host: Host) -> None:
    alice = host.person()
    hung_up = alice.log_in(None)
    assert kinds(hung_up)[-1] == CODE
    assert alice.log_in(alice.code()).ok


def test_sftp_works_with_a_code(host: Host) -> None:
    alice = host.person()
    by_key = host.variant == "key-and-code"
    with host.machine.sftp(alice.user, key=by_key) as sftp:
        result = sftp.authenticate(password=alice.user.password, code=alice.code(), until="sftp> ")
        assert result.ok
        assert kinds(result) == [*host.first_prompts, CODE]
        sftp.answer("mkdir made-by-sftp")
        sftp.expect("sftp> ")
        sftp.answer("bye")
        assert sftp.wait() == 0
    host.machine.run(["test", "-d", f"/home/{alice}/made-by-sftp"])


def test_sftp_is_refused_without_a_right_code(host: Host) -> None:
    alice = host.person()
    by_key = host.variant == "key-and-code"
    with host.machine.sftp(alice.user, "-o", "NumberOfPasswordPrompts=1", key=by_key) as sftp:
        assert not sftp.authenticate(password=alice.user.password, code=alice.wrong(), until="sftp> ").ok
        assert "sftp> " not in sftp.screen


def test_scp_works_with_a_code(host: Host) -> None:
    alice = host.person()
    by_key = host.variant == "key-and-code"
    host.machine.write("/root/letter", "dear Alice\n")
    with host.machine.scp(alice.user, "/root/letter", "copied", key=by_key) as scp:
        result = scp.authenticate(password=alice.user.password, code=alice.code())
    assert result.ok
    assert kinds(result) == [*host.first_prompts, CODE]
    assert host.machine.read(f"/home/{alice}/copied") == "dear Alice\n"


def test_where_policy_says_deny_a_user_who_is_not_enrolled_is_told_what_to_do(host: Host) -> None:
    bob = host.person(enrolled=False)
    with host.config('unenrolled = "deny"'):
        result = bob.log_in()
    assert not result.ok
    assert kinds(result) == host.first_prompts
    assert "Ask your administrator to enrol you." in result.screen
    assert bob.log_in().ok


def shown_by(host: Host, command: str | None) -> str:
    """The screen of a login of somebody new who is not enrolled: with a command, or with a shell."""
    user = host.person(enrolled=False).user
    by_key = host.variant == "key-and-code"
    with host.machine.ssh(user, command=command, key=by_key) as ssh:
        if not by_key:
            ssh.expect("Password: ")
            ssh.answer(user.password)
        if command is None:
            ssh.expect(r"\$ ")
            ssh.answer("exit")
        assert ssh.wait() == 0
        return ssh.screen


def test_sshd_repeats_what_is_told_after_the_last_question_as_it_does_for_every_module(host: Host) -> None:
    stack = host.machine.read("/etc/pam.d/sshd")
    host.machine.write("/etc/echoed", "pam_echo was here")
    host.machine.sh("sed -i '/^auth.*pam_totp/a auth optional pam_echo.so file=/etc/echoed' /etc/pam.d/sshd")
    mark = host.machine.mark()
    try:
        with host.config('unenrolled = "deadline"'):
            by_command, by_shell = shown_by(host, "true"), shown_by(host, None)
    finally:
        host.machine.write("/etc/pam.d/sshd", stack)
    assert [line["reason"] for line in host.decisions(mark)] == ["grace", "grace"]
    told = "A verification code will be required here: set it up within 7 days"
    assert by_command.count(told) == by_command.count("pam_echo was here") == 1
    # Twice, before the login and after it (OpenSSH's bug 3481): when sshd shows the first, nobody knows yet whether the
    # second will come, and whoever runs commands only sees no other.
    assert by_shell.count(told) == by_shell.count("pam_echo was here") > 0
