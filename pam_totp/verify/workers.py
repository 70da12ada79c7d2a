"""The processes that do the work of the verify service: forked once, each for one request at a time.

A login's code may wait for a lock, a disk or a name service, and must not hold up others: hence several. One that takes
too long is ended by its own alarm, whatever it hangs in; the kernel then drops its locks, and SQLite rolls back.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

from pam_totp.login import log
from pam_totp.verify import api
from pam_totp.verify.clients import Client

# Seconds for one request. A lock is waited for 10, and then the cache may be waited for 10 more.
PATIENCE = 25
LONGEST = 1 << 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.host.paths import Paths
    from pam_totp.login.attempt import Clock
    from pam_totp.verify.api import Answer, Question


class WorkerError(Exception):
    """The worker is gone, or does not answer: what it was doing let nobody in."""


class Worker:
    """One process, seen from the service. ``close`` it when it failed: it ends, at the latest with its alarm."""

    def __init__(self, paths: Paths, clock: Clock) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            sys.stderr.flush()
            if os.fork() == 0:
                _work(theirs, paths, clock)
        self._connection.setblocking(False)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    async def ask(self, client: Client, question: Question, code: str | None) -> Answer:
        """Have it start (no code) or verify an attempt. Raises WorkerError; it is of no use then."""
        message = {
            "client": [client.name, client.services, client.identity, client.may_know],
            "question": [question.user, question.service, question.source],
            "code": code,
        }
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE + 2):
                await loop.sock_sendall(self._connection, json.dumps(message).encode("ascii"))
                content = await loop.sock_recv(self._connection, LONGEST)
        except (OSError, TimeoutError):
            content = b""
        if not content:
            raise WorkerError
        return api.Answer(*json.loads(content))


def _work(connection: socket.socket, paths: Paths, clock: Clock) -> None:
    """Be the worker. Never returns."""
    try:
        # The service's own signals, descriptors and event loop are not this process's.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(connection.fileno(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        with socket.socket(fileno=3) as kept:
            while content := kept.recv(LONGEST):
                signal.alarm(PATIENCE)
                answer = answer_to(json.loads(content), paths, clock)
                signal.alarm(0)
                kept.sendall(json.dumps([answer.outcome, answer.reason, answer.message]).encode("ascii"))
    except BaseException as error:  # noqa: BLE001  # no answer is a refusal; why, only the log can say
        log.internal_error("pam_totp(verify:auth)", error)
    finally:
        os._exit(0)


def answer_to(message: Any, paths: Paths, clock: Clock) -> Answer:
    """What a worker answers to a message of the service. A bug lets nobody in, and its text is not logged."""
    client, question = Client(*message["client"]), api.Question(*message["question"])
    try:
        if message["code"] is None:
            return api.start(client, question, paths, clock)
        return api.verify(client, question, message["code"], paths, clock)
    except Exception as error:  # noqa: BLE001  # a traceback could hold anything
        log.internal_error(f"pam_totp({question.service}:auth)", error)
        return api.Answer("unavailable", "internal-error")
