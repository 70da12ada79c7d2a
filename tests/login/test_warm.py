"""A warm helper serves a login; one that is dead, stopped, old or false costs nothing but its speed."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import alone, pamtester
from tests.lab.ssh import CODE, PASSWORD
from tests.lab.warm import SOCKET, Warm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.ssh import Session
    from tests.login.host import Host, Person

HELPER = "/usr/lib/python3/dist-packages/pam_totp/engine/helper.py"
RIGHT = "the words of the file that is installed"
# As a uid, accepts connections and says to each what it is given; then that everybody may come in.
FALSE = """
import os, socket, sys
path, uid, made_of = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
def message(kind, text):
    return b"\\1" + kind + len(text).to_bytes(2, "big") + text
listener = socket.socket(socket.AF_UNIX)
os.path.exists(path) and os.unlink(path)
listener.bind(path)
os.setresuid(uid, uid, uid)
listener.listen()
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(message(b"H", made_of) + message(b"R", b"PAM_SUCCESS"))
"""


# Connects until nobody more can wait, and then stands still.
CROWD = """
import socket, sys, time
waiting = []
while True:
    waiting.append(socket.socket(socket.AF_UNIX))
    waiting[-1].setblocking(False)
    try:
        waiting[-1].connect(sys.argv[1])
    except BlockingIOError:
        print(len(waiting), flush=True)
        time.sleep(1000)
"""
# What the process that forks may call. From Python 3.12 on os.fork looks how many threads there are, in one file.
OWN_CALLS = {"accept4", "clone", "close", "getsockname", "rt_sigprocmask", "openat", "fstat", "newfstatat", "read"}
OWN_FILES = {"/proc/self/stat"}
TRIES = 10


@pytest.fixture(autouse=True, scope="module")
def password_and_code(host: Host) -> None:
    """The variant in force."""
    host.use("password-and-code")


@pytest.fixture
def warm(host: Host) -> Iterator[Warm]:
    """A warm process."""
    with Warm(host.machine) as running:
        yield running


def log_in(person: Person, warm: Warm, code: str) -> tuple[int, bool]:
    """How many logins the warm process serves while a right code is asked for, and whether that code lets in."""
    with person.host.machine.ssh(person.user, key=False) as session:
        session.expect(PASSWORD)
        session.answer(person.user.password)
        session.expect(CODE)
        serving = warm.serving()
        session.answer(code)
        return serving, session.wait() == 0


@contextmanager
def asked(person: Person, warm: Warm) -> Iterator[Session]:
    """Somebody whom a warm helper has asked for the code.

    It is waited for for a tenth of a second, which on a busy machine may not be enough: then there is another login.
    """
    for _ in range(TRIES):
        with person.host.machine.ssh(person.user, "-o", "NumberOfPasswordPrompts=1", key=False) as session:
            session.expect(PASSWORD)
            session.answer(person.user.password)
            session.expect(CODE)
            if warm.serving() == 1:
                yield session
                return
    raise AssertionError


def is_served(person: Person, warm: Warm, code: str) -> bool:
    """Whether a code lets in that a warm helper has asked for."""
    with asked(person, warm) as session:
        session.answer(code)
        return session.wait() == 0


def is_safe_and_cold(person: Person, warm: Warm) -> None:
    """A login does without the warm process: a right code lets in, a wrong one and a spent one do not."""
    spent = person.code()
    assert log_in(person, warm, spent) == (0, True)
    assert not person.log_in(person.wrong()).ok
    assert not person.log_in(spent).ok


def test_a_warm_helper_serves_the_login_and_is_gone_with_it(host: Host, warm: Warm) -> None:
    alice = host.person()
    spent = alice.code()
    assert is_served(alice, warm, spent)
    assert not alice.log_in(alice.wrong()).ok
    assert not alice.log_in(spent).ok
    assert warm.serving() == 0


def test_it_answers_as_a_helper_that_is_started(host: Host, warm: Warm) -> None:
    bob = host.person(enrolled=False)
    mark = host.machine.mark()
    assert bob.log_in().ok
    with host.config('unenrolled = "deny"'):
        assert not bob.log_in().ok
    with host.config("windows = 1"):
        assert not bob.log_in().ok
    reasons = [line["reason"] for line in host.decisions(mark)]
    assert reasons == ["not-enrolled", "not-enrolled", "bad-config"]


def test_a_client_that_hangs_up_at_the_prompt_leaves_no_process(host: Host, warm: Warm) -> None:
    with asked(host.person(), warm):
        pass
    host.machine.sh('for _ in $(seq 100); do pgrep -P "$1" || exit 0; sleep 0.05; done; exit 1', str(warm.pid))


def test_one_that_is_stopped_is_passed_over(host: Host, warm: Warm) -> None:
    host.machine.run(["kill", "-STOP", str(warm.pid)])
    is_safe_and_cold(host.person(), warm)


def test_one_that_hangs_is_waited_for_for_a_tenth_of_a_second(host: Host, warm: Warm) -> None:
    host.machine.run(["kill", "-STOP", str(warm.pid)])
    alice = host.person()
    trace = ["strace", "-f", "-qq", "-e", "trace=poll", "-o", "/root/polls"]
    name = alone(host.machine)
    assert pamtester(host.machine, name, alice.name, answers=[alice.code()], prefix=trace).code == "PAM_SUCCESS"
    [waited] = re.findall(r"POLLIN\}\], 1, (\d+)\) += 0 \(Timeout\)", host.machine.read("/root/polls"))
    assert 90 <= int(waited) <= 100


def test_one_that_is_busy_is_passed_over(host: Host, warm: Warm) -> None:
    host.machine.run(["kill", "-STOP", str(warm.pid)])
    crowd = host.machine.popen(["/usr/bin/python3", "-I", "-S", "-c", CROWD, SOCKET])
    try:
        assert crowd.stdout is not None
        assert int(crowd.stdout.readline()) > 60
        is_safe_and_cold(host.person(), warm)
    finally:
        host.machine.end(crowd)


def test_the_process_that_forks_opens_nothing_and_hears_nothing_of_a_login(host: Host, warm: Warm) -> None:
    machine, alice = host.machine, host.person()
    tracer = machine.popen(["strace", "-f", "-qq", "-p", str(warm.pid), "-o", "/root/calls"])
    try:
        machine.sh('until grep -q "TracerPid:.[1-9]" "/proc/$1/status"; do sleep 0.01; done', str(warm.pid))
        assert is_served(alice, warm, alice.code())
        assert not alice.log_in(alice.wrong()).ok
    finally:
        machine.end(tracer)
    own: list[str] = []
    others: list[str] = []
    for line in machine.read("/root/calls").splitlines():
        (own if int(line.split()[0]) == warm.pid else others).append(line)
    assert called(r"(\w+)\(", own) <= OWN_CALLS
    assert called(r'openat\([^"]*"([^"]*)"', own) <= OWN_FILES
    accepted = called(r"accept4(?:\(| resumed>).* = (\d+)$", own)
    assert accepted
    assert accepted & called(r"read\((\d+),", own) == set()
    # What serves a login is seen to do both.
    assert {"/etc/pam-totp/key", "/var/lib/pam-totp/cache.db"} <= called(r'openat\([^"]*"([^"]*)"', others)
    assert "3" in called(r"read\((\d+),", others)


def called(what: str, lines: list[str]) -> set[str]:
    """What a pattern finds behind the pid of lines of strace's."""
    return {found for line in lines for found in re.findall(rf"^\d+ +(?:<\.\.\. )?{what}", line)}


def test_one_that_was_killed_is_passed_over(host: Host, warm: Warm) -> None:
    host.machine.run(["kill", "-KILL", str(warm.pid)])
    is_safe_and_cold(host.person(), warm)


def test_one_that_is_killed_at_the_prompt_refuses_that_login_and_no_other(host: Host, warm: Warm) -> None:
    alice = host.person()
    mark = host.machine.mark()
    with asked(alice, warm) as session:
        host.machine.run(["pkill", "-KILL", "-P", str(warm.pid)])
        session.answer(alice.code())
        assert session.wait() != 0
    assert any("reason=helper-failed" in record.message for record in host.machine.log(mark))
    assert alice.log_in(alice.code()).ok


def test_one_that_is_older_than_what_is_installed_is_passed_over(host: Host, warm: Warm) -> None:
    host.machine.sh('cp -p "$1" "$1.dpkg-new" && mv "$1.dpkg-new" "$1"', HELPER)
    is_safe_and_cold(host.person(), warm)


def test_without_the_directory_of_the_socket_a_login_goes_on(host: Host, warm: Warm) -> None:
    host.machine.run(["rm", "-rf", "/run/pam-totp"])
    is_safe_and_cold(host.person(), warm)


@contextmanager
def false(host: Host, uid: int, made_of: str) -> Iterator[None]:
    """Somebody else listens in the place of the warm process."""
    machine = host.machine
    if made_of == RIGHT:
        program = "from pam_totp.engine import warm; print(warm._made_of().decode())"
        made_of = machine.run(["/usr/bin/python3", "-I", "-c", program]).stdout.strip()
    process = machine.popen(["/usr/bin/python3", "-I", "-S", "-c", FALSE, SOCKET, str(uid), made_of])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield
    finally:
        machine.end(process)


@pytest.mark.parametrize(("uid", "made_of"), [(1234, RIGHT), (0, "another"), (0, ""), (0, "x" * 60_000)])
def test_what_says_something_false_or_is_not_roots_is_passed_over(
    host: Host, warm: Warm, uid: int, made_of: str
) -> None:
    with false(host, uid, made_of):
        is_safe_and_cold(host.person(), warm)


def test_that_test_would_find_out_a_module_that_believes_it(host: Host, warm: Warm) -> None:
    # What root itself puts there is believed: that is what shows that the tests above could fail.
    with false(host, 0, RIGHT):
        alice = host.person()
        assert any(alice.log_in().ok for _ in range(TRIES))
    assert warm.serving() == 0
