"""A program in C that runs PAM transactions in eight threads at once, as a daemon that is up for long does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab.helpers import are_gone
from tests.lab.pam import alone
from tests.login.host import steady
from tests.login.transactions import CODES

if TYPE_CHECKING:
    from tests.login.host import Host
    from tests.services.hostile import Hostile

SOURCE = Path(__file__).with_name("threads.c")
PROGRAM = "/usr/local/sbin/threads"
THREADS = 8
# Kilobytes: the stacks of eight threads, and libpam's own.
FEW = 4096
# The first step, counted from now, whose code is used in these tests. The window is as wide as it can be.
FIRST, WINDOW = -7, 10


class Transaction(NamedTuple):
    """What a thread does, and what must come of it."""

    thread: int
    user: str
    answer: str
    code: str


def run(host: Host, hostile: Hostile, transactions: list[Transaction]) -> list[str]:
    """What these transactions return. Whatever the process keeps of them fails the test."""
    machine = host.machine
    machine.write("/root/threads.c", SOURCE.read_bytes())
    machine.run(["tcc", "-Wall", "-Werror", "-o", PROGRAM, "/root/threads.c", "-lpam", "-lpthread"])
    first = Transaction(0, "nobody-here", "-", "PAM_USER_UNKNOWN")
    lines = [
        "\t".join([str(each.thread), each.user, f"192.0.2.{each.thread + 1}", each.answer])
        for each in (first, *transactions)
    ]
    command = hostile.around_root([PROGRAM, alone(machine), str(THREADS)])
    done = machine.run(command, input="\n".join(lines) + "\n", timeout=600)
    assert hostile.sprung() == set()
    *came, last = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    kilobytes, descriptors, children = last
    assert kilobytes < FEW
    assert (descriptors, children) == (0, 0)
    assert are_gone(machine)
    return [CODES[code] for code, _ in came]


@pytest.mark.parametrize("codes", [2, pytest.param(17, marks=pytest.mark.full)])
def test_eight_threads_each_get_what_is_right_for_their_user(host: Host, hostile: Hostile, codes: int) -> None:
    """With 17 codes for each these are 416 transactions. So wide a window allows four wrong ones a day."""
    bob = host.person(enrolled=False)
    people = [host.person(spent=FIRST - 1) for _ in range(THREADS)]
    steady(5)
    wanted = [
        Transaction(thread, *what)
        for thread, each in enumerate(people)
        for what in (
            (each.name, each.wrong(), "PAM_AUTH_ERR"),
            *((each.name, each.code(step), "PAM_SUCCESS") for step in range(FIRST, FIRST + codes)),
            *[(bob.name, "-", "PAM_IGNORE")] * (2 * codes - 1),
            (each.name, each.code(FIRST), "PAM_AUTH_ERR"),
        )
    ]
    with host.config(f"window = {WINDOW}"):
        assert run(host, hostile, wanted) == [each.code for each in wanted]


def test_of_eight_threads_with_the_same_code_one_gets_in(host: Host, hostile: Hostile) -> None:
    alice = host.person()
    code = alice.code()
    came = run(host, hostile, [Transaction(thread, alice.name, code, "") for thread in range(THREADS)])
    assert sorted(came) == ["PAM_AUTH_ERR"] * (THREADS - 1) + ["PAM_SUCCESS"]
