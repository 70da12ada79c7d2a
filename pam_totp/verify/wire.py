"""The part of HTTP that the verify service speaks (RFC 9112), read strictly and within bounds. Pure.

A request has a head of at most 8 KiB and a body of at most 16 KiB, whose length it says; the body is one JSON object of
strings. What two programs could read in two ways (a second length, a name that is given twice, a folded line, a bare
newline, a transfer coding) is refused, so nobody between can be led to see another request than this end.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

from pam_totp.errors import WireError

LONGEST_HEAD = 8192
LONGEST_BODY = 16_384
_MOST_HEADERS = 64
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,255}) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RequestError(WireError):
    """A request that is not understood. ``status`` is the one to answer with; the connection is closed then."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Head:
    """The first part of a request; names of headers in lower case."""

    __slots__ = ("headers", "keep", "length", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str], keep: bool, length: int) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.keep = keep
        self.length = length

    @property
    def token(self) -> str | None:
        """What the client shows: a bearer token (RFC 6750), or the password of HTTP's basic scheme (RFC 7617).

        None where it shows nothing, empty where it is not understood.
        """
        shown = self.headers.get("authorization")
        if shown is None:
            return None
        scheme, _, value = shown.partition(" ")
        if scheme.lower() == "bearer":
            return value
        if scheme.lower() == "basic":
            try:
                return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
            except (binascii.Error, ValueError):
                return ""
        return ""


def head(content: bytes) -> Head:
    """Read the first part, up to and with the empty line. Raises RequestError."""
    first, *lines = content.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise RequestError("the request line is not understood", 400)
    if len(lines) > _MOST_HEADERS:
        raise RequestError(f"more than {_MOST_HEADERS} headers", 431)
    headers: dict[str, str] = {}
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise RequestError("a header is not understood", 400)
        name = found[1].decode("ascii").lower()
        if name in headers:
            raise RequestError(f"the header {name} is given twice", 400)
        try:
            headers[name] = found[2].decode("utf-8")
        except UnicodeDecodeError:
            raise RequestError(f"the header {name} is not UTF-8", 400) from None
    if "transfer-encoding" in headers:
        raise RequestError("transfer codings are not understood: send a Content-Length", 411)
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,9}", length):
        raise RequestError("the length is not understood", 400)
    if int(length) > LONGEST_BODY:
        raise RequestError(f"the body is longer than {LONGEST_BODY} bytes", 413)
    method, path, minor = (part.decode("ascii") for part in match.groups())
    options = [word.strip().lower() for word in headers.get("connection", "").split(",")]
    keep = "close" not in options and (minor == "1" or "keep-alive" in options)
    return Head(method, path, headers, keep, int(length))


def fields(asked: Head, body: bytes) -> dict[str, str]:
    """The strings in the JSON object that is the body. Raises RequestError."""
    kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A browser sends no such body to another site without asking first, and this service never says yes.
    if kind != "application/json":
        raise RequestError("the body must be application/json", 415)
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        raise RequestError("the body is not JSON, or gives a name twice", 400) from None
    if not isinstance(found, dict):
        raise RequestError("the body is not a JSON object", 400)
    return {name: _text(value, name) for name, value in found.items()}


def response(status: int, fields: dict[str, Any], keep: bool) -> bytes:
    """An answer as it is sent."""
    body = json.dumps(fields).encode("ascii") + b"\n"
    lines = [
        f"HTTP/1.1 {status} {_PHRASES[status]}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Connection: {'keep-alive' if keep else 'close'}",
    ]
    if status == 401:
        lines.append('WWW-Authenticate: Bearer realm="pam-totp"')
    if status == 405:
        lines.append("Allow: POST")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name!r:.40} is not a string", 400)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError(f"{name!r:.40} is not text", 400) from None
    return value
