"""What the web process runs: Django; and for what hosts ask, a shorter way to the same views.

Django gives each request of this kind a thread and a connection to the database of its own, and looks for a session.
Hosts ask every few seconds and have none: threads that stay, and their connections, answer them at a fraction of that.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import django
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.db import connections
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import resolve

from pam_totp.directory.keeper import client

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

# What hosts ask. Everything else, the administrators' API too, goes Django's way.
OF_HOSTS = ("/tree/", "/api/v1/claim", "/api/v1/line", "/api/v1/events")
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


def _answer(request: HttpRequest) -> HttpResponse:
    try:
        response: HttpResponse = _chain(request)
        return response
    finally:
        # The keeper has few connections to give. One to the database is kept as long as it serves.
        client.close()
        for each in connections.all(initialized_only=True):
            if each.errors_occurred:
                each.close()


class Application(ASGIHandler):
    """Django's handler, and the shorter way."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http" or not scope["path"].startswith(OF_HOSTS):
            await super().__call__(scope, receive, send)
            return
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            request, refused = self.create_request(scope, body)
            if request is None:
                response: Any = refused
            else:
                response = await asyncio.get_running_loop().run_in_executor(_threads, _answer, request)
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.content})


os.environ["DJANGO_SETTINGS_MODULE"] = "pam_totp.directory.settings"
django.setup(set_prefix=False)
application = Application()
