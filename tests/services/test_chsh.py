"""chsh: a program with root's rights that every user may start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import are_gone
from tests.services.hostile import ALL

if TYPE_CHECKING:
    from tests.login.host import Host, Person
    from tests.services.hostile import Hostile


def chsh(hostile: Hostile, person: Person, code: str | None, *conditions: str) -> bool:
    """Whether somebody gets another shell."""
    machine = person.host.machine
    machine.run(["usermod", "--shell", "/bin/bash", person.name])
    with machine.terminal(hostile.around(person, ["/usr/bin/chsh", "-s", "/bin/sh"], *conditions)) as session:
        result = session.authenticate(password=person.user.password, code=code)
    assert result.asked_code == (code is not None)
    assert 0 not in hostile.sprung()
    shell = machine.run(["getent", "passwd", person.name]).stdout.rstrip().rpartition(":")[2]
    assert (shell == "/bin/sh") == result.ok
    return result.ok


@pytest.mark.parametrize("conditions", [(), tuple(each for each in ALL if each != "poor")], ids=["", "hostile"])
def test_only_a_right_code_changes_the_shell(host: Host, hostile: Hostile, conditions: tuple[str, ...]) -> None:
    alice = host.person()
    spent = alice.code()
    assert not chsh(hostile, alice, alice.wrong(), *conditions)
    assert chsh(hostile, alice, spent, *conditions)
    assert not chsh(hostile, alice, spent, *conditions)
    assert are_gone(host.machine)


def test_where_chsh_itself_cannot_write_the_code_is_asked_for_all_the_same(host: Host, hostile: Hostile) -> None:
    # It gives up at the limit for the size of a file that its user sets; the helper does not.
    alice = host.person()
    mark = host.machine.mark()
    assert not chsh(hostile, alice, alice.wrong(), "poor")
    chsh(hostile, alice, alice.code(), "poor")
    assert [line["outcome"] for line in host.decisions(mark)] == ["refused", "accepted"]


def test_a_user_who_is_not_enrolled_is_not_asked(host: Host, hostile: Hostile) -> None:
    assert chsh(hostile, host.person(enrolled=False), None)
