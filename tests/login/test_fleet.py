"""A host of a fleet, over real ssh and at another door: a code of the directory's, alone, revoked, and left again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pam_totp.fleet import tree
from tests.lab.code import STEP
from tests.lab.directory import person as record
from tests.lab.fleet import FOLDER, Fleet, raw, wait
from tests.lab.verify import Verify
from tests.login.host import steady

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.login.host import Host, Person

ALONE = "decided by this host alone"
SILENCE = 5.5  # for which a directory that did not answer is not asked
pytestmark = pytest.mark.usefixtures("password_and_code")


@pytest.fixture(scope="module")
def fleet(host: Host) -> Iterator[Fleet]:
    """A directory that the machine has joined, and the agent."""
    with Fleet(host.machine) as running:
        token = running.join()
        host.confidential |= {token, tree.parse_token(token).secret}
        running.directory.publish([])
        running.start()
        yield running


def sync(host: Host) -> str:
    return host.machine.run(["pam-totp", "sync"], check=False).stdout


class Door:
    """A VPN that asks the verify service of the host."""

    def __init__(self, verify: Verify, host: Host) -> None:
        self._verify = verify
        self._token = verify.client("vpn", "--may-know")
        host.confidential.add(self._token.partition(".")[2])

    def lets_in(self, person: Person, code: str) -> bool:
        status, told = self._verify.ask("/v1/verify", self._token, user=person.name, source="192.0.2.7", code=code)
        assert (status == 200) == told["result"]
        print(told)  # seen where a test fails
        return bool(told["result"])


def test_from_the_first_code_to_leaving(host: Host, fleet: Fleet) -> None:
    # Several codes in a row need not be waited for.
    with host.config("window = 10"), Verify(host.machine) as verify:
        live(host, fleet, Door(verify, host))


def live(host: Host, fleet: Fleet, door: Door) -> None:
    alice, bob = host.person_of_the_fleet(), host.person()
    assert alice.log_in(None).ok  # nobody has enrolled alice
    assert door.lets_in(alice, "")
    fleet.directory.publish([record(alice.name, raw(alice.secret))])
    # The agent comes by itself.
    wait(lambda: '"active"' in host.machine.run(["pam-totp", "status", alice.name, "--json"]).stdout)
    steady(20)
    assert not alice.log_in(alice.wrong()).ok
    mark = host.machine.mark()
    first = alice.code()
    assert alice.log_in(first).ok
    assert not alice.log_in(first).ok
    assert not door.lets_in(alice, first)
    lines = [(line["service"], line["outcome"], line["reason"]) for line in host.decisions(mark)]
    refused = ("refused", "spent-code")
    assert lines == [("sshd", "accepted", "code"), ("sshd", *refused), ("vpn", *refused)]
    # Another host of the fleet is quicker, whichever door of this one is tried.
    beaten(host, fleet, alice, lambda code: alice.log_in(code).ok, (1, 2, 3))
    assert door.lets_in(alice, alice.code(4))
    beaten(host, fleet, alice, lambda code: door.lets_in(alice, code), (5, 6))
    wait(lambda: (alice.name, "sshd", "code") in told(fleet))
    # Without the directory, and then without the agent.
    fleet.kill_directory()
    for steps in (7, 9):
        mark = host.machine.mark()
        assert alice.log_in(alice.code(steps)).ok
        assert door.lets_in(alice, alice.code(steps + 1))
        assert [ALONE in line["detail"] for line in host.decisions(mark)] == [True, True]
        fleet.kill_agent()
    # Revoked, by what a stick brings.
    fleet.directory.publish([])
    assert "1 revoked" in host.machine.run(["pam-totp", "sync", f"{FOLDER}/tree"]).stdout
    mark = host.machine.mark()
    assert not alice.log_in(None).ok
    assert not door.lets_in(alice, alice.code())
    assert [line["reason"] for line in host.decisions(mark)] == ["fleet-revoked", "fleet-revoked"]
    assert bob.log_in(bob.code()).ok
    # Alone again.
    fleet.serve()
    host.machine.run(["pam-totp", "leave", "--yes"])
    assert not alice.log_in(None).ok
    host.machine.run(["pam-totp", "reset", alice.name, "--yes"])
    assert alice.log_in(None).ok
    joined_anew(host, fleet)


def joined_anew(host: Host, fleet: Fleet) -> None:
    """Leave and join under an agent that has asked as the host that this one was: it asks as the one that this is."""
    carol = host.person_of_the_fleet()

    def join() -> None:
        fleet.join()
        fleet.directory.publish([record(carol.name, raw(carol.secret))])

    join()
    fleet.start()
    wait(lambda: '"active"' in host.machine.run(["pam-totp", "status", carol.name, "--json"]).stdout)
    steady(20)
    for steps in range(1, 5):  # more than one thread of the agent's may have heard of it
        assert carol.log_in(carol.code(steps)).ok
    while True:
        host.machine.run(["pam-totp", "leave", "--yes"])
        join()
        sync(host)
        if fleet.runs:
            break
        fleet.kill_agent()
        fleet.start()  # it had looked in between, found that there was nothing to do, and ended
    # The old token is good for nothing: to this answer the directory was asked by the new one.
    beaten(host, fleet, carol, lambda code: carol.log_in(code).ok, (5, 6, 7, 8))


def beaten(host: Host, fleet: Fleet, alice: Person, log_in: Callable[[str], bool], steps: tuple[int, ...]) -> None:
    """Try a code that another host has claimed. On a busy machine the directory may be too slow to say so."""
    for each in steps:
        step, code = int(time.time() // STEP) + each, alice.code(each)
        fleet.claim_elsewhere(record(alice.name, raw(alice.secret)).authenticators[0].identifier, step)
        mark = host.machine.mark()
        entered = log_in(code)
        [line] = host.decisions(mark)
        if line["reason"] == "spent-elsewhere":
            assert not entered
            return
        assert ALONE in line["detail"]
        time.sleep(SILENCE)
    raise AssertionError(line)


def told(fleet: Fleet) -> list[tuple[str, str, str]]:
    """What the directory has heard of logins."""
    return [(each["name"], each["service"], each["reason"]) for each in fleet.directory.events("login")]
