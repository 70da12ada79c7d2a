"""The web process's side of the keeper's socket."""

from __future__ import annotations

import base64
import json
import socket
import threading
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from pam_totp.directory import config
from pam_totp.errors import KeeperError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TIMEOUT = 30.0  # seconds
# Around the moment of connecting, when the keeper is told who asks.
connecting: Callable[[], AbstractContextManager[None]] = nullcontext

_open = threading.local()


def ask(verb: str, **fields: Any) -> dict[str, Any]:
    """The answer to a request. Raises KeeperError where it is refused or the keeper does not answer."""
    request = json.dumps({"verb": verb, **fields}).encode("ascii") + b"\n"
    for fresh in (False, True):
        try:
            answer = _exchange(request, fresh=fresh)
        except OSError as error:
            if fresh:
                reason = error.strerror or "time is over"
                raise KeeperError(
                    f"the keeper does not answer ({reason}): look at systemctl status pam-totp-keeper", "keeper-silent"
                ) from None
        else:
            break
    if "error" in answer:
        raise KeeperError(answer["error"], answer.get("reason"))
    return answer


def _exchange(request: bytes, *, fresh: bool) -> dict[str, Any]:
    """Ask over this thread's connection. Raises OSError; a kept one may be gone because the keeper was restarted."""
    connection: socket.socket | None = getattr(_open, "connection", None)
    if connection is None or fresh:
        close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT)
        _open.connection = connection
        with connecting():
            connection.connect(config.SOCKET)
    try:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            line = stream.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError(0, "it ended meanwhile")
    except BaseException:
        # What comes later on this connection would be the answer to another request.
        close()
        raise
    answer: dict[str, Any] = json.loads(line)
    return answer


def close() -> None:
    """Close this thread's connection."""
    connection: socket.socket | None = getattr(_open, "connection", None)
    _open.connection = None
    if connection is not None:
        with suppress(OSError):
            connection.close()


def text(content: bytes | memoryview) -> str:
    """Bytes as requests have them."""
    return base64.b64encode(bytes(content)).decode("ascii")


def content(found: str) -> bytes:
    """Bytes of an answer."""
    return base64.b64decode(found)
