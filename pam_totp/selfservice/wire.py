"""The lines between ``pam-totp self`` and its service: one JSON object a line, of bounded size.

The user's side sends a request, then one answer for each question; the service tells, asks, and is done:

    {"verb": "enroll", "label": "phone", "qr": null, "columns": 80, "json": false}
    {"tell": "text to show"}
    {"ask": "Verification code: ", "echo": false}      which is answered by
    {"answer": "123456"}
    {"done": 0}                                        the exit code

Anything else ends the connection.
"""

from __future__ import annotations

import json
import time

from pam_totp.errors import WireError

# What a user may send, and what a QR code may take.
LONGEST_ANSWER = 2048
LONGEST_MESSAGE = 1 << 18
_CHUNK = 4096

REQUEST: Shape = {
    "verb": (str,),
    "label": (str, type(None)),
    "qr": (str, type(None)),
    "columns": (int,),
    "json": (bool,),
}
TELL: Shape = {"tell": (str,)}
ASK: Shape = {"ask": (str,), "echo": (bool,)}
ANSWER: Shape = {"answer": (str,)}
DONE: Shape = {"done": (int,)}

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    Shape = dict[str, tuple[type, ...]]


class Channel:
    """One end of a connection. ``limit`` is the longest line taken, in bytes; ``seconds`` when to stop listening.

    ``expired`` tells an end that came because the time was over.
    """

    def __init__(self, connection: socket.socket, limit: int, seconds: float | None = None) -> None:
        self._connection = connection
        self._limit = limit
        self._end = None if seconds is None else time.monotonic() + seconds
        self._buffer = b""
        self.expired = False

    def send(self, **fields: object) -> None:
        """Send one message. Where nobody takes it any more, ``receive`` will say so: what is there is still read."""
        try:
            self._connection.settimeout(self._left())
            self._connection.sendall(json.dumps(fields).encode("ascii") + b"\n")
        except OSError:
            return

    def receive(self, *shapes: Shape) -> dict[str, Any] | None:
        """The next message, which has one of the shapes. None where the connection is closed or the time is over.

        Raises WireError for anything else: too long, not JSON, other fields, other types.
        """
        line = self._line()
        if line is None:
            return None
        try:
            fields = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            raise WireError("a message is not JSON") from None
        for shape in shapes:
            if isinstance(fields, dict) and fields.keys() == shape.keys() and _fits(fields, shape):
                return fields
        raise WireError("a message is not one that is expected here")

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            if len(self._buffer) >= self._limit:
                raise WireError(f"a message is longer than {self._limit} bytes")
            try:
                self._connection.settimeout(self._left())
                chunk = self._connection.recv(min(_CHUNK, self._limit - len(self._buffer)))
            except TimeoutError:
                self.expired = True
                return None
            except OSError:
                return None
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _left(self) -> float | None:
        # Never 0, which would mean not to wait at all: what is there already is still read, and a farewell sent.
        return None if self._end is None else max(0.1, self._end - time.monotonic())


def _fits(fields: dict[str, Any], shape: Shape) -> bool:
    # Not isinstance: to Python a bool is an int.
    return all(type(value) in shape[name] for name, value in fields.items())
