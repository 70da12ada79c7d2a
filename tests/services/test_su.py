"""su: it asks for the code of the user that one becomes, whatever the user who calls it has prepared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import are_gone, helper
from tests.lab.ssh import CODE, PASSWORD
from tests.lab.user import User
from tests.login.host import Person
from tests.services.hostile import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.ssh import Result, Session
    from tests.login.host import Host
    from tests.services.hostile import Hostile

BOTH = ("Password:", "Verification code:")


@pytest.fixture(scope="module")
def mallory(host: Host) -> Person:
    """Who calls su."""
    return host.person(enrolled=False)


@pytest.fixture(scope="module")
def root(host: Host) -> Person:
    """Root with a password and an authenticator."""
    user = User("root", 0, "horse battery")
    host.machine.run(["chpasswd"], input=f"{user}:{user.password}\n")
    return host.enroll(Person(host, user, ""))


def open_su(hostile: Hostile, mallory: Person, target: Person, *conditions: str, command: str = "/bin/true") -> Session:
    argv = ["/bin/su", target.name, "-c", command]
    return mallory.host.machine.terminal(hostile.around(mallory, argv, *conditions))


def su(hostile: Hostile, mallory: Person, target: Person, code: str | None, *conditions: str) -> Result:
    with open_su(hostile, mallory, target, *conditions) as session:
        return session.authenticate(password=target.user.password, code=code)


def at_the_code(session: Session, target: Person) -> None:
    session.expect(PASSWORD)
    session.answer(target.user.password)
    session.expect(CODE)


def is_safe(hostile: Hostile, mallory: Person, target: Person, *conditions: str) -> None:
    """A right code lets in once, nothing else does, and nothing of the caller's runs with root's rights."""
    spent = target.code()
    for code, lets_in in ((target.wrong(), False), (spent, True), (spent, False)):
        result = su(hostile, mallory, target, code, *conditions)
        assert (result.ok, result.asked) == (lets_in, BOTH), result.screen
        assert 0 not in hostile.sprung()


def test_only_a_right_code_makes_one_another_user(host: Host, hostile: Hostile, mallory: Person) -> None:
    is_safe(hostile, mallory, host.person())


def test_only_a_right_code_makes_one_root(hostile: Hostile, mallory: Person, root: Person) -> None:
    is_safe(hostile, mallory, root)


def test_a_user_who_is_not_enrolled_is_not_asked(host: Host, hostile: Hostile, mallory: Person) -> None:
    result = su(hostile, mallory, host.person(enrolled=False), None)
    assert (result.ok, result.asked) == (True, ("Password:",))


def test_nobody_is_asked_for_a_code_after_a_wrong_password(host: Host, hostile: Hostile, mallory: Person) -> None:
    with open_su(hostile, mallory, host.person()) as session:
        result = session.authenticate(password="wrong", code="123456")
    assert (result.ok, result.asked) == (False, ("Password:",))


def test_root_is_asked_for_nothing(host: Host) -> None:
    assert host.machine.run(["su", host.person().name, "-c", "id -un"]).stdout.startswith("user")


@pytest.mark.parametrize("conditions", [ALL, *(pytest.param((each,), marks=pytest.mark.full) for each in ALL)])
def test_what_the_caller_has_prepared_changes_nothing(
    host: Host, hostile: Hostile, mallory: Person, conditions: tuple[str, ...]
) -> None:
    is_safe(hostile, mallory, host.person(), *conditions)


def test_limits_that_root_may_not_raise_let_nobody_in_without_a_code(
    host: Host, hostile: Hostile, mallory: Person
) -> None:
    alice = host.person()
    effective = int(re.findall(r"^CapEff:\s*(\w+)$", host.machine.read("/proc/self/status"), re.MULTILINE)[0], 16)
    assert not su(hostile, mallory, alice, alice.wrong(), "poorer").ok
    mark = host.machine.mark()
    result = su(hostile, mallory, alice, alice.code(), "poorer")
    # In a container root may be without CAP_SYS_RESOURCE. Then a helper that has not the memory it needs says so.
    assert result.ok == bool(effective & 1 << 24), result.screen
    if not result.ok:
        assert [record for record in host.machine.log(mark) if "outcome=" in record.message]


def test_without_a_terminal_or_streams_there_is_no_answer_and_nobody_gets_in(
    host: Host, hostile: Hostile, mallory: Person
) -> None:
    # su reads from its standard input alone.
    with open_su(hostile, mallory, host.person(), "closed") as session:
        assert session.wait() != 0
    with open_su(hostile, mallory, host.person(enrolled=False), "closed") as session:
        assert session.wait() != 0
    assert are_gone(host.machine)


def test_without_the_right_to_become_root_su_lets_nobody_in(host: Host, hostile: Hostile, mallory: Person) -> None:
    alice, argv = host.person(), ["setpriv", "--no-new-privs", "/bin/su"]
    with host.machine.terminal(hostile.around(mallory, [*argv, alice.name, "-c", "/bin/true"])) as session:
        result = session.authenticate(password=alice.user.password, code=alice.code())
    assert not result.ok
    assert su(hostile, mallory, alice, alice.code()).ok


# What the caller can do to the helper


@pytest.fixture
def waiting(host: Host, hostile: Hostile, mallory: Person) -> Iterator[tuple[Person, Session]]:
    """Somebody whose su waits for the code."""
    alice = host.person()
    # A shell between them: nsenter would stop with a child that is stopped, and for good.
    argv = ["/bin/sh", "-c", '/bin/su "$1" -c /bin/true; exit $?', "sh", alice.name]
    with host.machine.terminal(hostile.around(mallory, argv)) as session:
        at_the_code(session, alice)
        yield alice, session
    assert are_gone(host.machine)


# The one that ends it comes last.
ATTACKS = {
    "trace it": 'timeout 1 strace -qq -p "$1"; test $? = 124',
    "read its memory": 'head -c 1 "/proc/$1/mem" 2>&1 >/dev/null | grep -q Input/output',
    "read its environment": 'cat "/proc/$1/environ"',
    "take its descriptors": 'ls -l "/proc/$1/fd/"',
    "see its directory": 'readlink "/proc/$1/cwd"',
    "signal it": 'kill -0 "$1"',
    "stop it": 'kill -STOP "$1"',
    "kill it": 'kill -KILL "$1"',
}


def test_the_caller_can_neither_signal_nor_trace_nor_read_it(
    host: Host, mallory: Person, waiting: tuple[Person, Session]
) -> None:
    machine, (alice, session) = host.machine, waiting
    own = machine.popen(["sh", "-c", "sleep 1000 & echo $!; wait"], user=mallory.user)
    try:
        assert own.stdout is not None
        pid = own.stdout.readline().strip()
        ours = helper(machine)
        for what, how in ATTACKS.items():
            assert machine.sh(how, str(ours), user=mallory.user, check=False).returncode != 0, what
        # Each of them works on a process of the caller's own.
        for what, how in ATTACKS.items():
            assert machine.sh(how, pid, user=mallory.user, check=False).returncode == 0, what
    finally:
        machine.end(own)
    session.answer(alice.code())
    assert session.wait() == 0


def test_while_the_program_is_stopped_at_the_prompt_others_get_in(
    host: Host, hostile: Hostile, mallory: Person, waiting: tuple[Person, Session]
) -> None:
    machine, (alice, session) = host.machine, waiting
    machine.run(["pkill", "-STOP", "-x", "-u", "root", "-U", mallory.name, "su"], user=mallory.user)
    try:
        for each in (host.person(), alice):
            assert su(hostile, mallory, each, each.code()).ok
    finally:
        machine.run(["pkill", "-CONT", "-x", "-u", "root", "-U", mallory.name, "su"], user=mallory.user)
    session.answer(alice.code(1))
    assert session.wait() == 0


@pytest.mark.parametrize("how", ["KILL", "TERM", "HUP", "Ctrl-C"])
def test_the_helper_ends_with_a_program_that_ends_at_the_prompt(
    host: Host, mallory: Person, waiting: tuple[Person, Session], how: str
) -> None:
    machine, (alice, session) = host.machine, waiting
    mark = machine.mark()
    if how == "Ctrl-C":
        session.send("\x03")
    else:
        machine.run(["pkill", f"-{how}", "-x", "-u", "root", "-U", mallory.name, "su"], user=mallory.user)
    assert session.wait() != 0
    assert are_gone(machine)
    lines = [record.message for record in machine.log(mark) if "pam_totp" in record.message]
    assert lines == [f"pam_totp(su:auth): user={alice} service=su rhost=- outcome=no-answer reason=no-answer"]


def test_what_one_gets_has_no_descriptor_of_ours(host: Host, hostile: Hostile, mallory: Person) -> None:
    alice = host.person()
    with open_su(hostile, mallory, alice, command="/bin/ls /proc/self/fd; /bin/echo end") as session:
        at_the_code(session, alice)
        session.answer(alice.code())
        session.expect("end")
        assert session.screen.split()[-5:] == ["0", "1", "2", "3", "end"]
        session.wait()
