"""login(1), the console's: it takes any child's end for that of the shell it waits for."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from tests.lab.ssh import CODE, PASSWORD
from tests.lab.user import User
from tests.login.host import Person
from tests.services.helpers import are_gone
from tests.services.hostile import ENVIRONMENT

if TYPE_CHECKING:
    from tests.lab.ssh import Session
    from tests.login.host import Host
    from tests.services.hostile import Hostile

# It wants a terminal of the machine's own, as a console is.
SHELL = r"[$#] "


def open_login(person: Person, *options: str, **environment: str) -> Session:
    words = ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())]
    line = shlex.join([*words, "/bin/login", *options, person.name])
    return person.host.machine.terminal(["/usr/bin/script", "-q", "-e", "-c", line, "/dev/null"])


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
        session.answer("exit 7")
        assert session.wait() == 0
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
    # Root starts it, so what the linker is told is root's own business; of what is told to Python nothing is heard.
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("LD_", "LC_"))}
    assert not log_in(alice, alice.wrong(), "-p", **environment)
    assert hostile.sprung() == set()
    assert log_in(alice, alice.code(), "-p", **environment)
    assert 0 not in hostile.sprung()


def test_it_gives_up_in_its_own_time_and_the_helper_with_it(host: Host) -> None:
    alice = host.person()
    times = host.machine.read("/etc/login.defs")
    host.machine.write("/etc/login.defs", re.sub(r"(?m)^LOGIN_TIMEOUT.*", "LOGIN_TIMEOUT 3", times))
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
