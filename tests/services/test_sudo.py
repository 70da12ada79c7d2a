"""sudo: it asks for the code of the user who calls it, on a terminal or through its standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import are_gone
from tests.lab.ssh import CODE, PASSWORD
from tests.services.hostile import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Completed
    from tests.lab.ssh import Session
    from tests.login.host import Host, Person
    from tests.services.hostile import Hostile

SUDOERS = "Defaults timestamp_timeout={minutes}{more}\nALL ALL=(ALL) ALL\n"


def sudoers(host: Host, more: str = "", minutes: int = 0) -> None:
    host.machine.write("/etc/sudoers.d/lab", SUDOERS.format(minutes=minutes, more=more), mode=0o440)


@pytest.fixture(autouse=True)
def everybody_may(host: Host) -> None:
    """Everybody may do everything, and has to authenticate each time."""
    sudoers(host)


def open_sudo(hostile: Hostile, person: Person, *conditions: str) -> Session:
    return person.host.machine.terminal(hostile.around(person, ["/usr/bin/sudo", "/bin/true"], *conditions))


def sudo(hostile: Hostile, person: Person, code: str | None, *conditions: str) -> tuple[bool, bool]:
    """Whether a user with this code may do something as root, and whether there was a question for a code."""
    with open_sudo(hostile, person, *conditions) as session:
        # After a refusal sudo begins again; that is where this hangs up.
        result = session.authenticate(password=person.user.password, code=code)
    return result.ok, result.asked_code


def piped(person: Person, *words: str, typed: str = "") -> Completed:
    return person.host.machine.run(["sudo", *words, "id", "-un"], user=person.user, input=typed, check=False)


def is_safe(hostile: Hostile, person: Person, *conditions: str) -> None:
    """A right code lets in once, nothing else does, and nothing of the user's runs with root's rights."""
    spent = person.code()
    for code, lets_in in ((person.wrong(), False), (spent, True), (spent, False)):
        assert sudo(hostile, person, code, *conditions) == (lets_in, True)
        assert 0 not in hostile.sprung()


def test_only_a_right_code_makes_one_root(host: Host, hostile: Hostile) -> None:
    is_safe(hostile, host.person())
    assert are_gone(host.machine)


def test_a_user_who_is_not_enrolled_is_not_asked(host: Host, hostile: Hostile) -> None:
    assert sudo(hostile, host.person(enrolled=False), None) == (True, False)


MORE = (*ALL, "closed")


@pytest.mark.parametrize("conditions", [MORE, *(pytest.param((each,), marks=pytest.mark.full) for each in MORE)])
def test_what_the_user_has_prepared_changes_nothing(host: Host, hostile: Hostile, conditions: tuple[str, ...]) -> None:
    is_safe(hostile, host.person(), *conditions)


def test_through_its_standard_input_only_a_right_code_makes_one_root(host: Host) -> None:
    alice = host.person()
    password, spent = alice.user.password, alice.code()
    for code, said in ((alice.wrong(), ""), (None, ""), (spent, "root"), (spent, "")):
        done = piped(alice, "-S", typed="\n".join([password, *([code] if code else [])]) + "\n")
        assert (done.returncode == 0) == bool(said), done.stderr
        assert "Verification code: " in done.stderr
        # There too it shows what a module tells, before the program's own output or behind it.
        assert ("root" in done.stdout.splitlines()) == bool(said)
    assert piped(host.person(enrolled=False), "-S", typed=f"{password}\n").stdout == "root\n"


def test_where_nothing_may_be_asked_only_those_get_in_who_need_not_answer(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    for more in ("", ",noninteractive_auth"):
        sudoers(host, more)
        for each in (alice, bob):
            done = piped(each, "-n")
            assert (done.returncode, done.stdout) == (1, "")
            assert "a password is required" in done.stderr
    # Where the code is all that is asked for, bob has nothing to answer.
    stack = host.machine.read("/etc/pam.d/sudo")
    alone = "auth required pam_totp.so\nauth required pam_permit.so\n"
    host.machine.replace("/etc/pam.d/sudo", "@include common-auth\n", alone)
    try:
        assert piped(bob, "-n").stdout == "root\n"
        assert piped(alice, "-n").returncode == 1
    finally:
        host.machine.write("/etc/pam.d/sudo", stack)


def test_within_its_time_sudo_does_not_ask_again(host: Host) -> None:
    sudoers(host, ",timestamp_type=global", minutes=5)
    alice = host.person()
    assert piped(alice, "-n").returncode == 1
    assert piped(alice, "-S", typed=f"{alice.user.password}\n{alice.code()}\n").returncode == 0
    assert piped(alice, "-n").stdout == "root\n"
    host.machine.run(["sudo", "-K"], user=alice.user)
    assert piped(alice, "-n").returncode == 1


def test_without_the_right_to_become_root_sudo_lets_nobody_in(host: Host) -> None:
    alice = host.person()
    argv = ["setpriv", "--no-new-privs", "sudo", "-S", "id", "-un"]
    typed = f"{alice.user.password}\n{alice.code()}\n"
    done = host.machine.run(argv, user=alice.user, input=typed, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no new privileges" in done.stderr
    assert piped(alice, "-S", typed=typed).stdout == "root\n"


def test_a_rule_for_one_service_is_not_one_for_another(host: Host, hostile: Hostile) -> None:
    alice = host.person()
    with host.config('[[rule]]\nservices = ["sudo"]\nmfa = "skip"'):
        assert sudo(hostile, alice, None) == (True, False)
        argv = hostile.around(host.person(enrolled=False), ["/bin/su", alice.name, "-c", "/bin/true"])
        with host.machine.terminal(argv) as session:
            assert not session.authenticate(password=alice.user.password, code=alice.wrong()).ok
        with host.machine.terminal(argv) as session:
            result = session.authenticate(password=alice.user.password, code=alice.code())
            assert (result.ok, result.asked_code) == (True, True)
    assert sudo(hostile, alice, None) == (False, True)


@pytest.fixture
def waiting(host: Host, hostile: Hostile) -> Iterator[tuple[Person, Session]]:
    """Somebody whose sudo waits for the code."""
    alice = host.person()
    with open_sudo(hostile, alice) as session:
        session.expect(PASSWORD)
        session.answer(alice.user.password)
        session.expect(CODE)
        yield alice, session
    assert are_gone(host.machine)


@pytest.mark.parametrize("how", ["Ctrl-C", "hang up", "KILL"])
def test_the_helper_ends_with_a_program_that_ends_at_the_prompt(
    host: Host, waiting: tuple[Person, Session], how: str
) -> None:
    alice, session = waiting
    mark = host.machine.mark()
    if how == "Ctrl-C":
        session.send("\x03")
        assert session.wait() != 0
    elif how == "hang up":
        session.close()
    else:
        host.machine.run(["pkill", "-KILL", "-x", "sudo"])
    assert are_gone(host.machine)
    lines = [record.message for record in host.machine.log(mark) if "pam_totp" in record.message]
    assert lines == [f"pam_totp(sudo:auth): user={alice} service=sudo rhost=- outcome=no-answer reason=no-answer"]
