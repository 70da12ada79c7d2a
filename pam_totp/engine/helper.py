"""The process that pam_totp.so starts: one hook of one PAM transaction, over one connected stream socket.

The messages are described in pam_totp.c. What is not understood ends the process without a result, which that module
takes for a refusal, as it takes everything but a result that it knows.
"""

from __future__ import annotations

import posix as os
import sys

# The built-in part: `signal` itself makes enumerations of all signals, 1 ms.
from _signal import alarm

from pam_totp.engine import pam_entry

PROTOCOL = 1
LONGEST = 65_535
_LONGEST_IDENT = 32
# Seconds for all that is not waiting for the user. pam_totp.so gives up after 30; nothing must hang about after that.
PATIENCE = 40

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.login.attempt import Request

    Alarm = Callable[[int], object]


class Channel:
    """Messages over a stream socket. ``alarm`` is told the seconds until this process has to be done; 0: no limit."""

    def __init__(self, descriptor: int, alarm: Alarm) -> None:
        self._descriptor = descriptor
        self._alarm = alarm

    def call(self, kind: bytes, text: bytes) -> tuple[bytes, bytes]:
        """Send a message and wait for the reply, however long the user takes.

        Raises OSError where the other end is gone, ValueError where the message is too long or the reply is none.
        """
        self.send(kind, text)
        return self.reply()

    def reply(self) -> tuple[bytes, bytes]:
        """Wait for the reply, however long the user takes. Raises as ``call``."""
        self._alarm(0)
        reply = self.receive()
        self._alarm(PATIENCE)
        return reply

    def send(self, kind: bytes, text: bytes) -> None:
        """Send a message. Raises OSError, ValueError as above."""
        if len(text) > LONGEST:
            raise ValueError("message too long")
        left = bytes((PROTOCOL,)) + kind + len(text).to_bytes(2, "big") + text
        while left:
            left = left[os.write(self._descriptor, left) :]

    def receive(self) -> tuple[bytes, bytes]:
        """The kind and the text of the next message. Raises OSError, ValueError as above."""
        head = self._read(4)
        if head[0] != PROTOCOL:
            raise ValueError("another protocol")
        return head[1:2], self._read(int.from_bytes(head[2:], "big"))

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = os.read(self._descriptor, size - len(found))
            if not part:
                raise ConnectionResetError
            found += part
        return found


class Caller(pam_entry.Transaction):
    """The transaction of the program at the other end; ``items`` are user, service, rhost and SSH_AUTH_INFO_0."""

    def __init__(self, channel: Channel, items: list[bytes | None], kept: bytes | None) -> None:
        self._channel = channel
        self._items = items
        self.kept = kept.decode() if kept is not None else None

    def request(self) -> Request:
        """Who wants to log in."""
        from pam_totp.login.attempt import Request

        user, service, rhost, auth_info = self._items
        if user is None:
            raise pam_entry.PamError
        # Whether no key has passed, or nothing is known of keys, is told apart.
        passed = None if auth_info is None else auth_info.decode()
        return Request(user.decode(), (service or b"").decode(), (rhost or b"").decode(), passed)

    def ask(self, prompt: str, echo: bool) -> str | None:
        """Ask the user."""
        try:
            self._channel.send(b"E" if echo else b"P", _encoded(prompt))
        except OSError:
            return None  # the program is gone
        pam_entry.get_ready()
        try:
            kind, answer = self._channel.reply()
            return answer.decode() if kind == b"A" else None
        except (OSError, UnicodeError):
            # The program is gone; or bytes that are not text, which no code can be.
            return None

    def tell(self, text: str) -> None:
        """Show a line to the user."""
        try:
            self._channel.call(b"I", _encoded(text))
        except (OSError, ValueError):
            pass  # nobody listens any more; what was decided stays decided

    def hand_on(self, password: str) -> None:
        """Make this the password that the next lines of the stack find."""
        if self._channel.call(b"T", _encoded(password))[0] != b"D":
            raise pam_entry.PamError


def serve(descriptor: int, alarm: Alarm) -> None:
    """Do what one request asks for, and send the result.

    Raises OSError where the other end is gone before the request, ValueError where it sent something else than one.
    """
    channel = Channel(descriptor, alarm)
    alarm(PATIENCE)
    kind, text = channel.receive()
    hook, program, user, service, rhost, info, kept, *words = _fields(text)
    if kind != b"Q" or program is None:
        raise ValueError("no request")
    # What syslog calls the line, as it would be called if the program itself had written it.
    sys.argv = [_ident(program)]
    caller = Caller(channel, [user, service, rhost, info], kept)
    arguments = [(word or b"").decode("utf-8", "replace") for word in words]
    if hook == b"auth":
        name = pam_entry.authenticate(caller, arguments)
    elif hook == b"account":
        name = pam_entry.account(caller, arguments, "pam_totp.so")
    else:
        raise ValueError("no hook")
    if name not in pam_entry.CODES:
        return  # pam_totp.so denies, and logs that there was no result: here nothing could be logged
    try:
        channel.send(b"R", _encoded(name if caller.kept is None else f"{name}\0{caller.kept}"))
    except OSError:
        pass  # the program ended, as it does when its user hangs up at the prompt; what was decided is in the log


def main() -> None:
    """Serve the connection that pam_totp.so has left as descriptor 3, and end."""
    try:
        serve(3, alarm)
    except BaseException as error:  # noqa: BLE001  # no result is a refusal; why, only the log can say
        pam_entry.failed(error)
    # At once: all is written, and there is nobody to hand memory back to.
    os._exit(0)  # noqa: SLF001  # it is public in os


def _ident(program: bytes) -> str:
    """What syslog is to call a program. A user names su at will: a plain name forges no line of root's."""
    plain = program.translate(None, b"-_.").isalnum() and len(program) <= _LONGEST_IDENT
    return program.decode("ascii") if plain else "pam_totp"


def _fields(text: bytes) -> list[bytes | None]:
    """The fields of a request: each is "-" or "=" and its content, and ends with a NUL."""
    fields = text.split(b"\0")
    if fields.pop() or any(field[:1] != b"=" and field != b"-" for field in fields):
        raise ValueError("no request")
    return [field[1:] if field[:1] == b"=" else None for field in fields]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")
