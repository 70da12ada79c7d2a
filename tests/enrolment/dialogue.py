"""Scripted terminal sessions of users who enrol in the SSH prompt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.enrolment import screens
from tests.login.host import Person, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.ssh import Session
    from tests.login.host import Host

CODE = "Code from the app: "
HANDED = "Code, or new: "
INVITATION = "Invitation code: "
ENTER = "type yes: "
COMMAND = "echo the login goes on"
GOES_ON = "the login goes on"


@contextmanager
def started(
    person: Person, *options: str, env: Mapping[str, str] | None = None, source: str = "", command: str | None = COMMAND
) -> Iterator[Session]:
    """A login in which the first factor has passed."""
    by_password = person.host.variant == "password-and-code"
    ssh = person.host.machine.ssh(person.user, *options, command=command, env=env, source=source, key=not by_password)
    with ssh as session:
        if by_password:
            session.expect("Password: ")
            session.answer(person.user.password)
        yield session


def shown(person: Person, session: Session) -> Person:
    """Wait for the question for the first code: the person with the key that is on the screen."""
    session.expect(CODE)
    return keep(person, screens.key(session.screen))


def keep(person: Person, key: str) -> Person:
    """The person with this key, which must not be in any log."""
    person.host.confidential |= spelled(key)
    return Person(person.host, person.user, key)


def finish(person: Person, session: Session, *, steps: int = -1) -> list[str]:
    """Type the code of a step, take the recovery codes, and see the login go on. The step of now is not spent."""
    session.answer(person.code(steps))
    codes = take(person.host, session)
    session.answer("yes")
    session.expect(GOES_ON)
    assert session.wait() == 0
    return codes


def take(host: Host, session: Session) -> list[str]:
    """Wait for recovery codes."""
    session.expect(ENTER)
    codes = screens.recovery_codes(session.screen)
    assert len(set(codes)) == 10
    host.confidential |= {form for code in codes for form in (code, code.replace("-", ""))}
    return codes


def enrolled(host: Host) -> tuple[Person, list[str]]:
    """A new user who has enrolled in the prompt, and the recovery codes. The host's policy must say so."""
    person = host.person(enrolled=False)
    with started(person) as session:
        person = shown(person, session)
        return person, finish(person, session)
