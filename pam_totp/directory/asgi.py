"""What the web process runs: Django; and for what hosts ask, a shorter way to the same views.

Django gives each request of this kind a thread and a connection to the database of its own, and looks for a session.
Hosts ask every few seconds and have none: threads that stay, and their connections, answer them at a fraction of that.
Files of the tree and claims, which nearly all requests are for, go without Django's request and answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.db import Error, connection, connections, transaction
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import resolve

os.environ["DJANGO_SETTINGS_MODULE"] = "pam_totp.directory.settings"
django.setup(set_prefix=False)

from pam_totp.directory import api, http  # noqa: E402  # they need what was set up
from pam_totp.directory.keeper import client  # noqa: E402  # the same

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

# What hosts ask. Everything else, the administrators' API too, goes Django's way.
CLAIM = "/api/v1/claim"
OF_HOSTS = ("/tree/", CLAIM, "/api/v1/line", "/api/v1/events")
# A body is read before anybody knows whose it is. So no more of it than any view takes, and not for ever.
LONGEST_BODY = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
BODY_SECONDS = 30.0
MOST_CLAIM = 1024  # bytes of a claim; more is no claim
# Few for what the database alone answers: more would wait for the interpreter's lock each time that they come back from
# it. Somebody waits for a claim, and nobody for a file of the tree: claims are not behind hundreds of those. What may
# wait for the keeper holds none of them up. PostgreSQL commits for several at once by itself.
_most_together, _threads_of_claims = (50, 1) if connection.vendor == "sqlite" else (1, 2)
_claim_threads = ThreadPoolExecutor(_threads_of_claims, "claims")
_file_threads = ThreadPoolExecutor(2, "files")
_threads = ThreadPoolExecutor(8, "hosts")


def _view(request: HttpRequest) -> HttpResponse:
    found = resolve(request.path_info)
    request.resolver_match = found
    response: HttpResponse = found.func(request, *found.args, **found.kwargs)
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return response


# What the settings say for every answer, without what is for sessions and pages.
_chain: Any = convert_exception_to_response(_view)
for _middleware in (XFrameOptionsMiddleware, CommonMiddleware, SecurityMiddleware):
    _chain = convert_exception_to_response(_middleware(_chain))


_errors = itertools.count(1)
_latest_error = 0
_thread = threading.local()


def _answer(request: HttpRequest) -> HttpResponse:
    _renew()
    try:
        response: HttpResponse = _chain(request)
        return response
    finally:
        _free()


def _renew() -> None:
    if getattr(_thread, "errors", 0) != _latest_error:
        # Where a database has been started again, what other threads have kept is of no use either.
        _thread.errors = _latest_error
        connections.close_all()


def _free() -> None:
    # The keeper has few connections to give. One to the database is kept as long as it serves.
    global _latest_error  # noqa: PLW0603  # of this process
    client.close()
    for each in connections.all(initialized_only=True):
        if each.errors_occurred:
            each.close()
            _latest_error = next(_errors)


# What every answer has. A test compares it with what Django's way says.
_ALWAYS = [
    (b"X-Frame-Options", b"DENY"),
    (b"Strict-Transport-Security", b"max-age=31536000"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"same-origin"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
]


def _bearer(scope: Any) -> str:
    scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


# Each of these returns None where it takes another answer: Django's way gives it. Nothing has been done then.


def _unchanged(scope: Any) -> api.File | None:
    """That a manifest is unchanged, for who may have it. Needs no thread: no more than a look at the file."""
    return api.unchanged(scope["path"], _bearer(scope), _etag(scope))


def _etag(scope: Any) -> str:
    found: bytes = dict(scope["headers"]).get(b"if-none-match", b"")
    return found.decode("latin-1")


def _file(scope: Any) -> api.File | None:
    """A file of the tree, for who may have it."""
    etag = _etag(scope)
    _renew()
    try:
        return api.file(scope["path"], _bearer(scope), etag, http.plain((scope["client"] or ("",))[0]))
    except Exception:  # noqa: BLE001  # there it is met again, and logged
        return None
    finally:
        _free()


@dataclass(frozen=True, eq=False)
class _Claim:
    token: str
    content: bytes
    answer: Future[api.File | None] = field(default_factory=Future)


_waiting: queue.SimpleQueue[_Claim] = queue.SimpleQueue()


def _claim(scope: Any, content: bytes) -> Future[api.File | None]:
    """The answer to a claim, once there is one."""
    claim = _Claim(_bearer(scope), content)
    _waiting.put(claim)
    _claim_threads.submit(_claims)
    return claim.answer


def _claims() -> None:
    """Answer a claim that waits; on SQLite all of them, in one transaction.

    It has one writer at a time, who waits until the disk has it. Where that takes long, claims would come in faster
    than they are done one by one.
    """
    claims: list[_Claim] = []
    won: dict[_Claim, bool | None] = {}
    with suppress(queue.Empty):  # others may have taken them
        while len(claims) < _most_together:
            claims.append(_waiting.get_nowait())
    _renew()
    try:
        # Before anything is locked: strangers hold nobody up.
        known = [(each, host) for each in claims if (host := api.claimant(each.token)) is not None]
        if known:
            with transaction.atomic() if _most_together > 1 else nullcontext():
                won = {each: _won(each, host) for each, host in known}
    except Exception:  # noqa: BLE001  # there they are met again, and logged
        won = {}
    finally:
        _free()
    for each in claims:
        if each.answer.set_running_or_notify_cancel():
            each.answer.set_result(_CLAIMED.get(won.get(each)))


def _won(claim: _Claim, host: int) -> bool | None:
    try:
        return api.claimed(claim.content, host)
    except Error:
        raise  # nothing is written, of nobody's
    except Exception:  # noqa: BLE001  # no claim that is one: of no concern to the others
        return None


def _said(claimed: bool) -> api.File:
    content = json.dumps({"claimed": claimed}).encode()
    about = (("Content-Type", "application/json"), ("Content-Length", str(len(content))), ("Cache-Control", "no-store"))
    return api.File(200, about, content)


_CLAIMED: dict[bool | None, api.File] = {claimed: _said(claimed) for claimed in (True, False)}


class _TooLongError(Exception):
    """A body is longer than any view takes."""


class Application(ASGIHandler):
    """Django's handler, and the shorter way."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request whose body is neither too long nor too slow."""
        left, end = LONGEST_BODY, asyncio.get_running_loop().time() + BODY_SECONDS

        async def limited() -> Any:
            nonlocal left
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise _TooLongError from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLongError
            return message

        try:
            await self._answered(scope, limited, send)
        except _TooLongError:
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "the request is too long, or too slow"}'})

    async def _answered(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(OF_HOSTS):
            await super().__call__(scope, receive, send)
            return
        if scope["method"] == "GET" and (found := _unchanged(scope)) is not None:
            await _send(send, found)
            return
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        loop = asyncio.get_running_loop()
        with body:
            if (scope["method"], scope["path"]) == ("POST", CLAIM) or scope["method"] == "GET":
                if scope["method"] == "GET":
                    found = await loop.run_in_executor(_file_threads, _file, scope)
                else:
                    found = await asyncio.wrap_future(_claim(scope, body.read(MOST_CLAIM)))
                    body.seek(0)
                if found is not None:
                    await _send(send, found)
                    return
            request, refused = self.create_request(scope, body)
            if request is None:
                response: Any = refused
            else:
                response = await loop.run_in_executor(_threads, _answer, request)
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})


async def _send(send: Any, found: api.File) -> None:
    about = [(name.encode("ascii"), value.encode("ascii")) for name, value in found.headers]
    about += _ALWAYS
    await send({"type": "http.response.start", "status": found.status, "headers": about})
    await send({"type": "http.response.body", "body": found.content})


application = Application()
