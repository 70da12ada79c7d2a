"""The processes that do the work: one that hangs or dies lets nobody in and holds up nobody else."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.host import clock
from pam_totp.verify import api, workers
from pam_totp.verify.clients import Client
from pam_totp.verify.workers import Worker, WorkerError
from tests.unit.pretend import code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.pretend import Host

    Journal = list[tuple[int, str]]

VPN = Client("radius", ["vpn"], may_know=True)
ALICE = api.Question("alice", "vpn", "192.0.2.7")


@pytest.fixture(autouse=True)
def buried() -> Iterator[None]:
    """Nobody waits for the children here either; those of other tests are waited for."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


def asked(host: Host, *codes: str | None) -> list[api.Answer]:
    async def ask() -> list[api.Answer]:
        worker = Worker(host.paths, clock.now)
        try:
            return [await worker.ask(VPN, ALICE, each) for each in codes]
        finally:
            worker.close()

    return asyncio.run(ask())


def test_a_worker_answers_one_request_after_the_other(host: Host) -> None:
    host.wall = time.time()
    secret = host.enroll()
    now = int(time.time() // 30)
    first, second, third = asked(host, None, code(secret, now), code(secret, now))
    assert (first.outcome, first.message) == ("ask", "Verification code: ")
    assert (second.outcome, second.reason) == ("accepted", "code")
    assert (third.outcome, third.reason) == ("refused", "spent-code")


def hang(*_: object) -> None:
    time.sleep(60)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("broken", [hang, die])
def test_one_that_hangs_ends_by_its_alarm_and_one_that_dies_is_missed(
    broken: Callable[..., Any], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "verify", broken)
    monkeypatch.setattr(workers, "PATIENCE", 1)
    with pytest.raises(WorkerError):
        asked(host, "123456")


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A descriptor for each process that was forked."""
    found: list[int] = []
    fork = os.fork

    def remember() -> int:
        if pid := fork():
            found.append(os.pidfd_open(pid))
        return pid

    monkeypatch.setattr(os, "fork", remember)
    return found


def test_one_that_is_stopped_is_given_up(host: Host, forked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    monkeypatch.setattr(api, "verify", stop)
    monkeypatch.setattr(workers, "PATIENCE", 0)  # no alarm, and the service waits 2 s longer
    try:
        with pytest.raises(WorkerError):
            asked(host, "123456")
    finally:
        signal.pidfd_send_signal(forked[0], signal.SIGKILL)


def test_a_worker_ends_with_its_service(host: Host, forked: list[int]) -> None:
    Worker(host.paths, clock.now).close()
    assert select.select(forked, [], [], 30)[0] == forked


def test_a_bug_lets_nobody_in_and_its_text_is_not_logged(
    host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a secret")

    monkeypatch.setattr(api, "verify", broken)
    message = {"client": ["radius", ["vpn"], "nss", True], "question": ["alice", "vpn", ""], "code": "123456"}
    answer = workers.answer_to(message, host.paths, host.now)
    assert (answer.outcome, answer.reason, answer.lets_in) == ("unavailable", "internal-error", False)
    assert "reason=internal-error" in journal[-1][1]
    assert "a secret" not in journal[-1][1]
