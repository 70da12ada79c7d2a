"""login(1), the console's: it takes any child's end for that of the shell it waits for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.lab.helpers import are_gone
from tests.lab.ssh import CODE, PASSWORD
from tests.lab.user import User
from tests.login.host import Person
from tests.services.hostile import OF_ROOT

if TYPE_CHECKING:
    from tests.lab.ssh import Session
    from tests.login.host import Host
    from tests.services.hostile import Hostile

SHELL = r"[$#] "
# It wants a terminal of the machine's own, as a console is, and hangs that up before it opens it again.
CONSOLE = """
import errno, os, pty, select, sys, time, tty
pid, master = pty.fork()
if pid == 0:
    os.execv("/bin/login", sys.argv[1:])
tty.setraw(0)
while os.waitpid(pid, os.WNOHANG)[0] == 0:
    for readable in select.select([0, master], [], [], 0.1)[0]:
        try:
            data = os.read(readable, 4096)
        except OSError as error:
            if readable == master and error.errno == errno.EIO:
                time.sleep(0.02)
                continue
            raise
        if not data:
            sys.exit(1)
        os.write(1 if readable == master else master, data)
"""


def open_login(person: Person, *options: str, **environment: str) -> Session:
    settings = [f"{name}={value}" for name, value in environment.items()]
    console = ["/usr/bin/python3", "-I", "-c", CONSOLE, "login", *options, person.name]
    return person.host.machine.terminal(["/usr/bin/env", *settings, *console])


def log_in(person: Person, code: str | None, *options: str, **environment: str) -> bool:
    """Whether somebody gets a shell that works."""
    with open_login(person, *options, **environment) as session:
        session.expect(PASSWORD)
        session.answer(person.user.password)
        if code:
            session.expect(CODE)
            session.answer(code)
        if session.expect(r"Login incorrect", SHELL) == 0:
            return False
        session.answer("/usr/bin/sleep 0.1; /usr/bin/id -un | /usr/bin/tr a-z A-Z")
        session.expect(rf"{person.name.upper()}\r")
        session.answer("exit")
        session.wait()
    return True


def is_safe(person: Person) -> None:
    """A right code lets in once, and nothing else does."""
    spent = person.code()
    assert not log_in(person, person.wrong())
    assert log_in(person, spent)
    assert not log_in(person, spent)


def test_only_a_right_code_lets_in_at_the_console(host: Host) -> None:
    is_safe(host.person())
    assert are_gone(host.machine)


def test_root_too_types_a_code_at_the_console(host: Host) -> None:
    user = User("root", 0, "horse battery")
    host.machine.run(["chpasswd"], input=f"{user}:{user.password}\n")
    assert log_in(Person(host, user, ""), None)
    is_safe(host.enroll(Person(host, user, "")))


def test_a_user_who_is_not_enrolled_is_not_asked(host: Host) -> None:
    assert log_in(host.person(enrolled=False), None)


def test_what_its_environment_says_changes_nothing(host: Host, hostile: Hostile) -> None:
    alice = host.person()
    assert not log_in(alice, alice.wrong(), "-p", **OF_ROOT)
    assert hostile.sprung() == set()
    assert log_in(alice, alice.code(), "-p", **OF_ROOT)
    assert 0 not in hostile.sprung()


def test_it_gives_up_in_its_own_time_and_the_helper_with_it(host: Host) -> None:
    alice = host.person()
    times = host.machine.read("/etc/login.defs")
    host.machine.write("/etc/login.defs", re.sub(r"(?m)^LOGIN_TIMEOUT.*", "LOGIN_TIMEOUT 8", times))
    try:
        with open_login(alice) as session:
            session.expect(PASSWORD)
            session.answer(alice.user.password)
            session.expect(CODE)
            session.wait()
        assert are_gone(host.machine)
    finally:
        host.machine.write("/etc/login.defs", times)


def test_a_console_that_hangs_up_at_the_prompt_leaves_no_process(host: Host) -> None:
    alice = host.person()
    with open_login(alice) as session:
        session.expect(PASSWORD)
        session.answer(alice.user.password)
        session.expect(CODE)
    assert are_gone(host.machine)
