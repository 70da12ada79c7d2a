"""What both APIs have in common: JSON in and out, answers other than 200, and who asks too often."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from pam_totp.directory.throttle import Throttle
from pam_totp.errors import PamTotpError

_HEX = re.compile(r"[0-9a-f]+")
# Control characters, with which a terminal or a log could be deceived, and what UTF-8 cannot write.
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Of one address that has shown no valid token.
strangers = Throttle(60, 60.0)

View = Callable[..., HttpResponse]


class Refused(Exception):  # noqa: N818  # it is an answer
    """An answer other than 200: the status, what is wrong, and what to do next."""

    def __init__(self, status: int, error: str, advice: str = "", wait: int = 0) -> None:
        super().__init__(error)
        self.status, self.error, self.advice, self.wait = status, error, advice, wait


def answering(*methods: str) -> Callable[[View], View]:
    """Take these methods, and turn what goes wrong into JSON."""

    def decorate(view: View) -> View:
        @csrf_exempt  # there is no cookie here that somebody else's page could send along
        @transaction.non_atomic_requests
        @wraps(view)
        def answered(request: HttpRequest, **parts: str) -> HttpResponse:
            try:
                if request.method not in methods:
                    raise Refused(405, f"only {' and '.join(methods)} here")
                response = view(request, **parts)
            except Refused as refused:
                fields = {"error": refused.error, **({"next": refused.advice} if refused.advice else {})}
                response = JsonResponse(fields, status=refused.status)
                if refused.wait:
                    response["Retry-After"] = str(refused.wait)
            except RequestDataTooBig:
                response = JsonResponse({"error": "the request is too long"}, status=413)
            except PamTotpError as error:
                # What it is stands in the log of this machine; a host asks again later.
                print(f"{request.path!a}: {error}", flush=True)
                fields = {"error": "the directory cannot answer now", "next": "ask again later"}
                response = JsonResponse(fields, status=503)
            # Tokens and links are in some of them, names and states in most.
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return answered

    return decorate


def stranger(address: str, refused: Refused) -> Refused:
    """What somebody without a valid token is answered; after too many of them from one address, to wait.

    Who has a valid one is answered all the same: strangers may be at the address of many hosts.
    """
    if wait := strangers.wait(address):
        return Refused(429, "too many requests without a valid token", "wait", wait)
    strangers.count(address)
    return refused


def bearer(request: HttpRequest) -> str:
    """The bearer token of a request; empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def address(request: HttpRequest) -> str:
    """Where a request comes from."""
    return plain(request.META.get("REMOTE_ADDR") or "127.0.0.1")


def plain(address: str) -> str:
    """An address as text. An IPv4 address is one, also on a socket for both kinds."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "127.0.0.1"
    mapped = found.ipv4_mapped if found.version == 6 else None
    return str(mapped or found)


def fields(request: HttpRequest) -> dict[str, Any]:
    """The object of JSON in the body. Raises Refused."""
    try:
        found = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body must be JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body must be an object of JSON")
    return found


def digits(found: dict[str, Any], name: str, count: int) -> str:
    """So many hexadecimal digits. Raises Refused."""
    value = found.get(name)
    if not isinstance(value, str) or len(value) != count or not _HEX.fullmatch(value):
        raise Refused(400, f"{name} must be {count} hexadecimal digits")
    return value


def text(found: dict[str, Any], name: str, most: int, default: str | None = None) -> str:
    """Text of at most so many characters, none of them a control character. Raises Refused."""
    value = found.get(name, default)
    if not isinstance(value, str) or len(value) > most or _UNSHOWN.search(value):
        raise Refused(400, f"{name} must be text of at most {most} characters")
    return value


def number(found: dict[str, Any], name: str) -> int:
    """A number that is not negative. Raises Refused."""
    value = found.get(name)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise Refused(400, f"{name} must be a number")
    return value
