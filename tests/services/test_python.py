"""A program in Python that runs PAM transactions in eight threads at once, through the package python3-pampy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import are_gone
from tests.lab.pam import service

if TYPE_CHECKING:
    from tests.login.host import Host
    from tests.services.hostile import Hostile

THREADS = 8
# Standard input: for each thread its transactions, each a user and the one answer that this package can give.
# Output: for each of them whether it let in, and how many descriptors were left open, and threads.
PROGRAM = """
import json, os, sys, threading
from pam import PamAuthenticator
wanted = json.load(sys.stdin)
came = [[] for _ in wanted]
gate = threading.Barrier(len(wanted))
def descriptors():
    return len(os.listdir("/proc/self/fd"))
def authenticate(user, answer):
    return PamAuthenticator().authenticate(user, answer, service="lab")
def work(number):
    gate.wait()
    for user, answer in wanted[number]:
        came[number].append(authenticate(user, answer))
authenticate("nobody-here", "")
before = descriptors()
threads = [threading.Thread(target=work, args=(number,)) for number in range(len(wanted))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([came, descriptors() - before]))
"""


@pytest.fixture(autouse=True, scope="module")
def code_alone(host: Host) -> None:
    """A service that asks for nothing but the code."""
    service(host.machine, "auth required pam_totp.so", "auth required pam_permit.so", "account required pam_permit.so")


def authenticate(host: Host, hostile: Hostile, *threads: list[tuple[str, str]]) -> list[list[bool]]:
    """What comes of these transactions, each list in a thread of its own, in one process."""
    command = hostile.around_root(["/usr/bin/python3", "-I", "-c", PROGRAM])
    done = host.machine.run(command, input=json.dumps(threads), timeout=240)
    assert hostile.sprung() == set()
    came, left_open = json.loads(done.stdout)
    assert left_open == 0
    assert are_gone(host.machine)
    return list(came)


def test_eight_threads_each_get_what_is_right_for_their_user(host: Host, hostile: Hostile) -> None:
    people = [host.person() for _ in range(THREADS)]
    bob = host.person(enrolled=False)
    wanted = []
    for each in people:
        spent = each.code()
        wanted.append([(each.name, each.wrong()), (each.name, spent), (bob.name, ""), (each.name, spent)])
    assert authenticate(host, hostile, *wanted) == [[False, True, True, False]] * THREADS


def test_of_eight_threads_with_the_same_code_one_gets_in(host: Host, hostile: Hostile) -> None:
    alice = host.person()
    came = authenticate(host, hostile, *[[(alice.name, alice.code())]] * THREADS)
    assert sorted(came) == [[False]] * (THREADS - 1) + [[True]]
