"""What a user sees after wrong codes where sshd has the limits that its distribution gives it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab import setup
from tests.login.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine


@pytest.fixture
def default_host(fresh_machine: Machine) -> Iterator[Host]:
    """A host with nothing relaxed."""
    host = Host(fresh_machine)
    setup.use(fresh_machine, "key-and-code", relaxed=False)
    yield host
    host.close()
    assert host.leaks() == []


def test_after_some_wrong_codes_debian_13_shuts_the_address_out_and_debian_12_has_us_say_how_long_to_wait(
    default_host: Host, suite: str
) -> None:
    machine = default_host.machine
    assert machine.sshd.settings()["maxstartups"] == "10:30:100"
    alice, bob = default_host.person(), default_host.person()
    mark = machine.mark()
    for _ in range(3):
        assert alice.log_in(alice.wrong()).asked_code
    # sshd adds up 5 s for each and acts from 15 s on: how many it takes depends on how fast they come.
    more = [alice.log_in(alice.code()) for _ in range(6)]
    assert not any(result.ok or result.asked for result in more)
    told = ["Too many wrong codes. Try again in " in result.screen for result in more]
    # At once again it is not said again; it holds all the same.
    assert told[0]
    held = [line["reason"] for line in default_host.decisions(mark)].count("throttled")
    neighbour = bob.log_in(bob.code())
    # What we count is counted for this key from this address; what sshd counts, for the address.
    assert alice.log_in(alice.code(), source="127.0.0.2").ok
    dropped = [record for record in machine.log(mark) if "penalty: failed authentication" in record.message]
    if suite == "bookworm":
        assert held == len(more)
        assert neighbour.ok
        assert dropped == []
    else:
        # Without a word, before any question, and whoever it is: sshd has not heard a name yet.
        assert "authfail:5" in machine.sshd.settings()["persourcepenalties"]
        assert held < len(more)
        assert re.search(r"Connection (closed|reset) by 127\.0\.0\.1", more[-1].screen)
        assert not neighbour.ok
        assert dropped
