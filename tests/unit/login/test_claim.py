"""A login on a host of a fleet, beside an agent that answers as a test says."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.cache.accounts import Authenticator
from pam_totp.cache.configured import IDENTITY
from pam_totp.login import central, claim, log, login
from tests.unit.pretend import ALICE, HERE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.pretend import Host

LIMITS = (claim._CONNECT_SECONDS, claim._ANSWER_SECONDS)
SECRET = bytes(range(20))
IDENTIFIER = "1" * 32
SALT = bytes(16)
RECOVERY_CODE = "abcde-fghij"
POLICY: dict[str, Any] = {
    "unenrolled": "skip",
    "max_offline": None,
    "break_glass": [],
    "claims": True,
    "mfa": True,
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to decide alone."""
    monkeypatch.setattr(claim, "_CONNECT_SECONDS", 5)
    monkeypatch.setattr(claim, "_ANSWER_SECONDS", 10)


def test_a_login_waits_for_a_quarter_of_a_second_at_most() -> None:
    assert LIMITS[0] + LIMITS[1] <= 0.25


@pytest.fixture
def joined(host: Host) -> Host:
    """A host that has joined, with alice of the directory."""
    demand(host)
    fleet(host)
    return host


def demand(host: Host, **fields: Any) -> None:
    """Have the directory's policy be this."""
    policy = central.encode(POLICY | fields, int(host.wall), host.now().stamp())
    with host.accounts() as accounts:
        if not accounts.configured.joined:
            accounts.configured.join(identity=b"", manifest=b"null", policy=policy)
        accounts.configured.put(policy=policy)


def fleet(host: Host, *, active: bool = True, **fields: Any) -> None:
    """Have this be what the directory says of alice."""
    digest = host.sealer().slow_hash(RECOVERY_CODE.replace("-", ""), SALT).hex()
    known: dict[str, Any] = {
        "name": "alice",
        "record": "0" * 64,
        "held": [IDENTIFIER],
        "salt": SALT.hex(),
        "codes": [digest],
        "spent": [],
    }
    known |= {"locked": False, "exempt": None, "deadline": None, "must": False, "revoked": False}
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        own = Authenticator(IDENTIFIER, "active", "phone", "directory", int(host.wall), SECRET)
        account.authenticators = [own] if active else []
        account.ledger.fleet = known | fields
        account.ledger.recovery = {"salt": SALT.hex(), "hashes": [digest], "shown": True} if active else None
        accounts.save(account)


@contextmanager
def agent(host: Host, *answers: bytes) -> Iterator[list[list[str]]]:
    """An agent that gives these answers, one a login; what it was told is in the list."""
    told: list[list[str]] = []
    path = f"{host.paths.run}/{claim.SOCKET}"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.bind(path)
        end.listen()
        end.settimeout(5)

        def serve() -> None:
            for answer in answers:
                connection, _ = end.accept()
                with connection:
                    told.append(connection.recv(4096).decode().split("\0"))
                    if answer:
                        connection.send(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield told
        finally:
            thread.join()
    os.unlink(path)


def test_a_right_code_is_claimed_and_accepted(joined: Host) -> None:
    with agent(joined, b"yes") as told:
        outcome = joined.login("alice", joined.code(SECRET))
    assert (outcome.verdict, outcome.detail) == ("accepted", "")
    [[word, host, login_id, *claimed]] = told
    assert (word, len(login_id), claimed) == ("claim", 32, ["code", IDENTIFIER, str(int(joined.wall // 30))])
    with joined.accounts() as accounts:
        assert host == accounts.configured.stamp(IDENTITY)


def test_a_code_that_was_used_elsewhere_is_refused_charged_and_spent(joined: Host) -> None:
    with agent(joined, b"no"):
        outcome = joined.login("alice", joined.code(SECRET))
    assert (outcome.verdict, outcome.reason) == ("refused", "spent-elsewhere")
    assert joined.account().ledger.row == 1
    assert joined.login("alice", joined.code(SECRET)).reason == "spent-code"


@pytest.mark.parametrize("answer", [b"unknown", b"x", b"YES", b"\0", b"y" * 16])
def test_every_other_answer_leaves_it_to_the_host(joined: Host, answer: bytes) -> None:
    with agent(joined, answer):
        outcome = joined.login("alice", joined.code(SECRET))
    assert outcome.verdict == "accepted"
    assert outcome.detail == "decided by this host alone: the directory could not be asked"


def test_without_an_agent_the_host_decides(joined: Host) -> None:
    assert "decided by this host alone" in joined.login("alice", joined.code(SECRET)).detail


def test_an_agent_that_hangs_up_leaves_it_to_the_host(joined: Host) -> None:
    with agent(joined, b""):
        assert claim.claim(joined.paths, "", "code", IDENTIFIER, "7") == "unknown"


def test_an_agent_may_say_that_no_claims_are_wanted(joined: Host) -> None:
    with agent(joined, b"off"):
        assert joined.login("alice", joined.code(SECRET)).detail == ""


def test_where_the_policy_wants_none_nothing_is_claimed(joined: Host) -> None:
    demand(joined, claims=False)
    assert joined.login("alice", joined.code(SECRET)).detail == ""
    joined.later(60)
    assert joined.login("alice", RECOVERY_CODE).detail == "0 left"


def test_a_recovery_code_is_claimed_and_accepted(joined: Host) -> None:
    digest = joined.account().ledger.fleet
    assert digest is not None
    with agent(joined, b"yes") as told:
        assert joined.login("alice", RECOVERY_CODE).reason == "recovery-code"
    assert told[0][3:] == ["recovery", "alice", digest["codes"][0]]


def test_a_recovery_code_that_was_used_elsewhere_is_refused_and_spent(joined: Host) -> None:
    with agent(joined, b"no"):
        assert joined.login("alice", RECOVERY_CODE).reason == "spent-elsewhere"
    assert joined.login("alice", RECOVERY_CODE).reason == "wrong-recovery-code"


def test_recovery_codes_of_the_host_s_own_are_not_claimed(joined: Host) -> None:
    fleet(joined, salt="8" * 32)
    assert joined.login("alice", RECOVERY_CODE).detail == "0 left"


def test_the_agent_is_told_how_a_login_ended(joined: Host) -> None:
    demand(joined, claims=False)
    with agent(joined, b"") as told:
        outcome = joined.login("alice", joined.code(SECRET))
        line = log.decision(login.Request("alice", "sshd", HERE), outcome)
        login.keep(outcome, line, joined.paths, joined.now)
    assert told == [["event", "alice", line]]


def test_on_a_host_that_has_not_joined_nobody_is_told(host: Host) -> None:
    outcome = host.login("alice")
    login.keep(outcome, "line", host.paths, host.now)
    assert not os.path.exists(f"{host.paths.run}/agent")


# What the directory says of a user


def test_locked_revoked_exempt_and_not_in_time_are_decided_and_said(joined: Host) -> None:
    fleet(joined, locked=True)
    assert joined.login("alice").reason == "fleet-locked"
    fleet(joined, exempt=int(joined.wall) + 60)
    outcome = joined.login("alice")
    assert (outcome.reason, outcome.detail) == ("exempt", "by the directory")
    fleet(joined, active=False, revoked=True, held=[])
    assert joined.login("alice").reason == "fleet-revoked"
    fleet(joined, active=False, deadline=int(joined.wall) + 86_400, held=[])
    outcome = joined.login("alice")
    assert (outcome.verdict, outcome.reason) == ("skipped", "grace")
    assert joined.account().ledger.grace is None
    demand(joined, max_offline=60)
    joined.later(61)
    assert joined.login("alice").reason == "fleet-offline"


def test_who_is_locked_while_typing_is_refused(joined: Host) -> None:
    def typed() -> str:
        fleet(joined, locked=True)
        return joined.code(SECRET)

    assert joined.login("alice", typed).reason == "fleet-locked"
