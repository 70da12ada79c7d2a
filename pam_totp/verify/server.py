"""The verify service: started by systemd with listening sockets, one process that talks and a few that work.

It reads requests, sees who may ask, hands what is asked on, and answers; it decides nothing. A client that is not
known gets no further than that, and nobody who only connects keeps others waiting.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import secrets
import signal
import socket
import struct
import sys
from functools import partial

from pam_totp.errors import PamTotpError
from pam_totp.host import clock, config, nss, settings  # noqa: F401  # nss: to be there when a name is not found
from pam_totp.host.paths import Paths
from pam_totp.login import evaluation, log  # noqa: F401  # evaluation: to be there in each worker
from pam_totp.login.attempt import NOT_ACCEPTED, OUT_OF_ORDER, Outcome, Request
from pam_totp.verify import api, clients, wire
from pam_totp.verify.workers import Worker, WorkerError

SOCKET = "/run/pam-totp-verify.sock"
SERVICE = "verify"  # what the log calls what concerns no client's service
WORKERS = 8
CONNECTIONS = 256
MOST_WAITING = 128  # requests, all together
MOST_OF_A_USER = 8  # of them, about one user
SECONDS_TO_ASK = 5.0  # for a request that has begun, and for an answer to be taken
SECONDS_IDLE = 60.0  # between two requests of one connection
SECONDS_TO_ANSWER = 30.0
STATE_SECONDS = 300.0
MOST_STATES = 10_000
# A refusal that must not tell why comes a whole number of these after the request, in seconds, however long it took.
GRID = 0.25
BETWEEN_LINES = 10.0  # seconds, in the log, about clients that are not known
LONGEST_CODE = 64
LONGEST_SOURCE = 253
_FIRST_DESCRIPTOR = 3
_CREDENTIALS = struct.Struct("iII")
_IN_HEADERS = {"totp-user": "user", "totp-code": "code", "totp-source": "source", "totp-service": "service"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pam_totp.login.attempt import Clock
    from pam_totp.verify.api import Answer, Question
    from pam_totp.verify.clients import Client

    Reply = tuple[int, dict[str, Any]]


class States:
    """What was begun with ``/v1/start``: each is good once, for its own client, and for a few minutes."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, str, Question]] = {}

    def keep(self, client: Client, question: Question, now: float) -> str:
        """A new state, at ``now`` in seconds of a clock that is never set. Of too many the oldest goes."""
        while self._kept and (len(self._kept) >= MOST_STATES or next(iter(self._kept.values()))[0] <= now):
            del self._kept[next(iter(self._kept))]
        state = secrets.token_urlsafe(24)
        self._kept[state] = now + STATE_SECONDS, client.name, question
        return state

    def take(self, client: Client, state: str, now: float) -> Question | None:
        """What a state stands for; None where it is over, used, or another client's, whose it then stays."""
        until, name, question = self._kept.get(state, (now, "", None))
        if name != client.name:
            return None
        del self._kept[state]
        return question if until > now else None


class Turns:
    """The workers, and whose turn it is. There is one request at a time about a user: a stuck lock holds one worker."""

    def __init__(self, paths: Paths, now: Clock) -> None:
        self._make: Callable[[], Worker] = partial(Worker, paths, now)
        # The last one that was busy is taken first: what it needs is in the processor's caches.
        self._free: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()
        self._users: dict[str, tuple[asyncio.Lock, int]] = {}
        self._waiting = 0
        for _ in range(WORKERS):
            self._free.put_nowait(self._make())

    async def ask(self, client: Client, question: Question, code: str | None) -> Answer | None:
        """What the login says; None where there is too much to do, or the worker failed."""
        lock, count = self._users.get(question.user, (asyncio.Lock(), 0))
        if self._waiting >= MOST_WAITING or count >= MOST_OF_A_USER:
            return None
        self._waiting += 1
        self._users[question.user] = lock, count + 1
        try:
            async with asyncio.timeout(SECONDS_TO_ANSWER), lock:
                worker = await self._free.get()
                return await self._ask(worker, client, question, code)
        except (WorkerError, TimeoutError):
            return None
        finally:
            self._waiting -= 1
            lock, count = self._users.pop(question.user)
            if count > 1:
                self._users[question.user] = lock, count - 1

    async def _ask(self, worker: Worker, client: Client, question: Question, code: str | None) -> Answer:
        good = False
        try:
            answer = await worker.ask(client, question, code)
            good = True
            return answer
        finally:
            # One that has not answered may yet do so: it must not be asked again.
            if not good:
                worker.close()
                worker = self._make()
            self._free.put_nowait(worker)


class Service:
    """Everything behind the sockets."""

    def __init__(self, paths: Paths, now: Clock) -> None:
        self._paths = paths
        self._turns = Turns(paths, now)
        self._states = States()
        # Who is connected and not being served, the longest first: those never seen to be a client, and the others.
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        self._idle: dict[asyncio.StreamWriter, None] = {}
        self._connected = 0
        self._told = float("-inf")
        self._untold = 0

    async def run(self, listeners: list[socket.socket]) -> None:
        """Serve until this process is ended."""
        asyncio.get_running_loop().set_exception_handler(_log_bug)
        servers = [
            await asyncio.start_server(self._connection, sock=each, limit=wire.LONGEST_HEAD, backlog=256)
            for each in listeners
        ]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._make_room()
        self._connected += 1
        self._strangers[writer] = None
        known = False
        try:
            while True:
                keep, known = await self._exchange(reader, writer, known)
                if not keep:
                    break
        except (OSError, EOFError, TimeoutError):
            pass  # the client is gone, or does not go on
        except Exception as error:  # noqa: BLE001  # a traceback could hold anything
            log.internal_error(f"pam_totp({SERVICE}:auth)", error)
        finally:
            self._connected -= 1
            self._strangers.pop(writer, None)
            self._idle.pop(writer, None)
            writer.close()

    def _make_room(self) -> None:
        """Where there are too many connections, end the one that has waited longest."""
        if self._connected >= CONNECTIONS:
            for waiting in (self._strangers, self._idle):
                if waiting:
                    oldest = next(iter(waiting))
                    del waiting[oldest]
                    oldest.transport.abort()
                    return

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, known: bool
    ) -> tuple[bool, bool]:
        """Serve one request: whether another one may follow, and whether this was a client's."""
        waiting = self._idle if known else self._strangers
        waiting[writer] = None
        async with asyncio.timeout(SECONDS_IDLE if known else SECONDS_TO_ASK):
            first = await reader.readexactly(1)
        began = asyncio.get_running_loop().time()
        keep = False
        client: Client | None = None
        try:
            async with asyncio.timeout(SECONDS_TO_ASK):
                asked = wire.head(first + await _head(reader))
                client = self._client(asked, writer)
                if asked.headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(asked.length)
            waiting.pop(writer, None)
            if client is None:
                self._log_stranger(began)
                status, fields = 401, {"error": "no client with such a token: see pam-totp verify list"}
            else:
                keep = asked.keep
                status, fields = await self._answer(client, asked, body, began)
        except wire.RequestError as error:
            status, fields, keep = error.status, {"error": str(error)}, False
        except PamTotpError as error:
            log.decision(Request("", SERVICE), Outcome("misconfigured", error.reason, str(error)))
            status, fields, keep = 503, {"error": OUT_OF_ORDER}, False
        async with asyncio.timeout(SECONDS_TO_ASK):
            writer.write(wire.response(status, fields, keep))
            await writer.drain()
        return keep, client is not None

    def _client(self, asked: wire.Head, writer: asyncio.StreamWriter) -> Client | None:
        """Who asks, by the token or, on a UNIX socket, by the uid. Raises ConfigError."""
        if asked.token is not None:
            return clients.with_token(asked.token, self._paths)
        connection = writer.get_extra_info("socket")
        if connection.family != socket.AF_UNIX:
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return clients.with_uid(_CREDENTIALS.unpack(credentials)[1], self._paths)

    def _log_stranger(self, now: float) -> None:
        """Say that somebody asked who may not, but not so often that it fills the log."""
        self._untold += 1
        if now - self._told >= BETWEEN_LINES:
            api.refuse(Request("", SERVICE), "unknown-client", f"{self._untold} times")
            self._told, self._untold = now, 0

    async def _answer(self, client: Client, asked: wire.Head, body: bytes, began: float) -> Reply:
        if asked.path == "/v1/auth" and asked.method in ("GET", "POST"):
            fields = {name: asked.headers[header] for header, name in _IN_HEADERS.items() if header in asked.headers}
        elif asked.path not in ("/v1/start", "/v1/verify", "/v1/auth", "/v1/lemonldap"):
            raise wire.RequestError("there is no such thing: see verify.md in /usr/share/doc/pam-totp", 404)
        elif asked.method != "POST":
            raise wire.RequestError("only POST is understood here", 405)
        else:
            fields = wire.fields(asked, body)
        if asked.path == "/v1/start":
            _only(fields, "user", "service", "source")
            return await self._start(client, _question(client, fields), began)
        if asked.path == "/v1/lemonldap":
            # The portal adds what its administrator has chosen.
            fields = {name: fields[name] for name in ("user", "code", "source", "service") if name in fields}
        _only(fields, "user", "state", "service", "source", "code")
        answer = await self._verify(client, fields, began)
        status, found = await _told(client, answer, began)
        if asked.path == "/v1/lemonldap" and status == 403:
            return 200, {"result": False}
        return status, found

    async def _start(self, client: Client, question: Question, began: float) -> Reply:
        if not client.may_know:
            # The same for every name, without a look at any: what holds for it shows when a code comes.
            answer: Answer | None = api.Answer("ask", message=self._prompt())
        else:
            answer = await self._turns.ask(client, question, None)
        if answer is not None and answer.outcome == "ask":
            state = self._states.keep(client, question, began)
            return 200, {"action": "ask", "prompt": answer.message, "state": state}
        status, fields = await _told(client, answer, began)
        del fields["result"]
        fields["message"] = OUT_OF_ORDER if answer is None else answer.message
        return status, {"action": "skip" if answer is not None and answer.lets_in else "refuse", **fields}

    def _prompt(self) -> str:
        try:
            return config.load(self._paths.config, self._paths.owner).prompt
        except PamTotpError:
            return config.Config().prompt  # what is wrong shows when a code comes

    async def _verify(self, client: Client, fields: dict[str, str], began: float) -> Answer | None:
        code, state = fields.get("code", ""), fields.get("state")
        if len(code) > LONGEST_CODE:
            raise wire.RequestError(f"a code has at most {LONGEST_CODE} characters", 400)
        if state is None:
            return await self._turns.ask(client, _question(client, fields), code)
        question = self._states.take(client, state, began)
        if question is None:
            return api.refuse(Request(fields.get("user", ""), client.services[0]), "unknown-state")
        if fields.get("user", question.user) != question.user:
            return api.refuse(question.request(client), "state-of-another")
        return await self._turns.ask(client, question, code)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise wire.RequestError(f"the head is longer than {wire.LONGEST_HEAD} bytes", 431) from None


def _only(fields: dict[str, str], *names: str) -> None:
    for name in fields:
        if name not in names:
            raise wire.RequestError(f"{name!r:.40} is not understood here; there are {', '.join(names)}", 400)


def _question(client: Client, fields: dict[str, str]) -> Question:
    user, source = fields.get("user", ""), fields.get("source", "")
    service = fields.get("service", client.services[0])
    if not user:
        raise wire.RequestError("no user is named", 400)
    if service not in client.services:
        raise wire.RequestError(f"the client {client.name} has no such service: see pam-totp verify list", 400)
    if len(source) > LONGEST_SOURCE or not source.isprintable() or " " in source:
        raise wire.RequestError("the source is no address", 400)
    return api.Question(user, service, source)


async def _told(client: Client, answer: Answer | None, began: float) -> Reply:
    """What a client is told of an answer. Only the status 200 ever lets anybody in."""
    if answer is None:
        return 503, {"result": False, "message": OUT_OF_ORDER}
    if answer.lets_in:
        more = {"outcome": answer.outcome, "reason": answer.reason} if client.may_know else {}
        return 200, {"result": True, **more, "message": answer.message}
    if not client.may_know:
        # One answer for all who do not get in, and it comes at a time that tells nothing.
        loop = asyncio.get_running_loop()
        await asyncio.sleep(GRID - (loop.time() - began) % GRID)
        return 403, {"result": False, "message": NOT_ACCEPTED}
    status = 503 if answer.outcome in ("unavailable", "misconfigured") else 403
    return status, {
        "result": False,
        "outcome": answer.outcome,
        "reason": answer.reason,
        "message": answer.message or NOT_ACCEPTED,
    }


def _log_bug(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException) and not isinstance(error, OSError):
        log.internal_error(f"pam_totp({SERVICE}:auth)", error)


def is_local(listener: socket.socket) -> bool:
    """Whether only this host can connect: a UNIX socket, or a loopback address."""
    if listener.family == socket.AF_UNIX:
        return True
    return (
        listener.family in (socket.AF_INET, socket.AF_INET6)
        and ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    )


def main() -> int:
    """Serve the sockets that systemd has opened."""
    sys.argv[0] = "pam-totp"  # by this name syslog knows us
    try:
        count = int(os.environ.get("LISTEN_FDS", "0"))
        listeners = [socket.socket(fileno=_FIRST_DESCRIPTOR + number) for number in range(count)]
    except (ValueError, OSError):
        listeners = []
    if not listeners:
        print("pam-totp: this is started by pam-totp-verify.socket: run pam-totp verify enable", file=sys.stderr)
        return 3
    for listener in listeners:
        if not is_local(listener):
            print("pam-totp: the verify service listens on loopback only: see pam-totp verify enable", file=sys.stderr)
            return 3
        listener.setblocking(False)
    os.environ.clear()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries workers that end
    settings.toml_parser()
    gc.collect()
    gc.freeze()
    asyncio.run(_main(listeners))
    return 0


async def _main(listeners: list[socket.socket]) -> None:
    await Service(Paths(), clock.now).run(listeners)


if __name__ == "__main__":
    sys.exit(main())
