"""Several PAM transactions in one process: each starts a helper, or with pam_python an interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.login.transactions import Daemon, Transaction, transactions

if TYPE_CHECKING:
    from tests.login.host import Host

pytestmark = pytest.mark.engines

CACHE = "/var/lib/pam-totp/cache.db"


def test_every_transaction_of_a_process_works_whatever_came_before_it(host: Host) -> None:
    alice, bob, carol = (host.person() for _ in range(3))
    dave, erin = host.person(enrolled=False), host.person(pending=True)
    spent = alice.code()
    steps = [
        (Transaction(alice.name, spent), "PAM_SUCCESS"),
        (Transaction(bob.name, bob.wrong()), "PAM_AUTH_ERR"),
        (Transaction(bob.name, bob.code()), "PAM_SUCCESS"),
        (Transaction(dave.name), "PAM_IGNORE"),
        (Transaction(alice.name, spent), "PAM_AUTH_ERR"),
        (Transaction("nobody-here", "123456"), "PAM_USER_UNKNOWN"),
        (Transaction(carol.name, manner="refuse"), "PAM_CONV_ERR"),
        (Transaction(erin.name), "PAM_IGNORE"),
        (Transaction(carol.name, carol.code()), "PAM_SUCCESS"),
    ]
    returned = transactions(host.machine, *(transaction for transaction, _ in steps))
    assert [each.code for each in returned] == [code for _, code in steps]


def test_a_process_survives_a_broken_cache_between_two_logins(host: Host) -> None:
    alice = host.person()
    with Daemon(host.machine) as daemon:
        host.machine.run(["mv", CACHE, "/root/"])
        assert daemon.log_in(Transaction(alice.name, alice.code())).code == "PAM_AUTHINFO_UNAVAIL"
        host.machine.run(["mv", "/root/cache.db", CACHE])
        assert daemon.log_in(Transaction(alice.name, alice.code())).code == "PAM_SUCCESS"
