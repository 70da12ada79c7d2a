from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab.code import code, wrong
from tests.lab.rivals import COLD, GOOGLE, OATH, OURS, RIVALS, STOCK, Field, Person, Rival, hidden, sudo
from tests.lab.warm import SOCKET, Warm

if TYPE_CHECKING:
    from tests.lab.machine import Completed, Machine

ENROLLED = 60
REAL = 30  # more than all tests together have log in: google's files are not made anew


@pytest.fixture(scope="module")
def field(machine: Machine) -> Field:
    return Field(machine, ENROLLED, REAL)


def attempt(field: Field, rival: Rival, person: Person, typed: str) -> bool:
    argv = ["pamtester", "-ESSH_AUTH_INFO_0=publickey ssh-ed25519 AAAA\n", rival.name, person.name, "authenticate"]
    done: Completed = field.machine.run(argv, input=f"{typed}\n", check=False)
    print(done.stdout, done.stderr, *field.machine.log()[-3:], sep="\n")  # what pytest shows of a test that fails
    return done.returncode == 0


def test_everybody_is_enrolled_and_the_cache_is_sound(field: Field) -> None:
    accounts = json.loads(field.machine.run(["pam-totp", "status", "--json"]).stdout)
    assert len(accounts) == ENROLLED
    assert {account["state"] for account in accounts} == {"active"}


def test_the_same_code_is_right_for_every_rival(field: Field) -> None:
    people = [(rival, field.person()) for rival in RIVALS]  # ours would know that another of ours has spent it
    assert [rival.name for rival, each in people if not attempt(field, rival, each, code(each.secret))] == []


@pytest.mark.parametrize("rival", [GOOGLE, OATH, STOCK, COLD, OURS], ids=lambda rival: rival.name)
def test_a_rival_that_checks_refuses_a_wrong_code_and_a_spent_one(field: Field, rival: Rival) -> None:
    person = field.person()
    assert not attempt(field, rival, person, wrong(person.secret))
    spent = code(person.secret)
    assert attempt(field, rival, person, spent)
    assert not attempt(field, rival, person, spent)


def test_sudo_asks_each_rival_for_the_code(field: Field) -> None:
    for rival in (each for each in RIVALS if each.checks):
        person = field.person()
        for typed, status in ((wrong(person.secret), 1), (code(person.secret), 0)):
            command = sudo(rival, person, typed)
            done = field.machine.run(command["argv"], input=command["input"], check=False)
            assert (rival.name, done.returncode) == (rival.name, status), done.stderr


def test_the_socket_is_hidden_from_a_cold_rival_alone_and_comes_back(field: Field) -> None:
    def there() -> bool:
        return field.machine.run(["test", "-S", SOCKET], check=False).returncode == 0

    with Warm(field.machine) as warm:
        for rival, seen in ((COLD, False), (OURS, True)):
            person = field.person()
            with hidden(field.machine, rival):
                assert there() == seen
                assert attempt(field, rival, person, code(person.secret))
        assert there()
        assert warm.serving() == 0


def test_when_all_have_logged_in_they_are_enrolled_anew(field: Field) -> None:
    people = field.people(2 * REAL)
    assert len({person.name for person in people}) == REAL
    for rival in (GOOGLE, OURS):
        assert attempt(field, rival, people[-1], code(people[-1].secret))
    assert not attempt(field, OURS, people[0], code(people[0].secret))
