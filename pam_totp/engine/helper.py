"""The process that pam_totp.so starts: one hook of one PAM transaction, over one connected stream socket.

The messages are described in pam_totp.c. What is not understood ends the process without a result, which that module
takes for a refusal, as it takes everything but a result that it knows.
"""

from __future__ import annotations

import posix as os
import sys

# The built-in part: `signal` itself makes enumerations of all signals, 1 ms.
from _signal import SIG_DFL, SIG_IGN, SIGCHLD, alarm, signal

from pam_totp.engine import pam_entry

PROTOCOL = 1
LONGEST = 65_535
_LONGEST_IDENT = 32
# Seconds for all that is not waiting for the user. pam_totp.so gives up after 30; nothing must hang about after that.
_PATIENCE = 40
# A name that no token has (cache/volatile.py).
_REHEARSAL = "/run/pam-totp/.rehearsal"

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
        self._alarm(0)
        reply = self.receive()
        self._alarm(_PATIENCE)
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
            kind, answer = self._channel.call(b"E" if echo else b"P", _encoded(prompt))
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
    alarm(_PATIENCE)
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


def stay_warm(listener: int) -> None:
    """Import and rehearse what a login needs, then fork for each connection to a listening UNIX socket. Never returns.

    The forks share imported code and nothing else: this process reads no key, no configuration and no cache of the
    host, and asks NSS nothing. Each one first says which file it is made of; pam_totp.so passes it over where another
    is installed.

    What reads a configuration is imported once there is one: each fork would copy half as much memory again.

    Raises OSError where the descriptor is no such socket.
    """
    import gc

    # The C part of `socket`: what the rest of it adds, enumerations, each fork would pay for.
    from _socket import socket
    from os import environ

    from pam_totp.host import files
    from pam_totp.host.paths import Paths

    waiting = socket(fileno=listener)
    made_of = _made_of()  # before the imports: a file that is replaced during them is another one
    _import_all()
    _rehearse()
    environ.clear()
    signal(SIGCHLD, SIG_IGN)  # the kernel buries what ends
    gc.collect()
    gc.freeze()
    parsers = False
    while True:
        if not parsers and files.exists(Paths().config):
            _import_parsers()
            gc.freeze()
            parsers = True
        connection, _ = waiting._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # socket's accept calls it
        try:
            if os.fork() == 0:
                _serve_fork(connection, made_of)
        except OSError:
            pass  # closed at once, so that the login starts a helper, or says why it cannot
        os.close(connection)


def _serve_fork(connection: int, made_of: bytes) -> None:
    """Be the helper of one login, as ``main`` is, in a process of its own. Never returns."""
    try:
        from _socket import MSG_PEEK, SO_PEERCRED, SOL_SOCKET, socket

        signal(SIGCHLD, SIG_DFL)
        alarm(_PATIENCE)
        os.setsid()
        os.dup2(connection, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        other = socket(fileno=3)
        peer = other.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)  # three numbers: pid, uid, gid
        if int.from_bytes(peer[4:8], sys.byteorder) == os.geteuid():
            Channel(3, alarm).send(b"H", made_of)
            # Nothing comes where the module has passed this helper over: that is no failure.
            if other.recv(1, MSG_PEEK):
                main()
    finally:
        os._exit(0)  # noqa: SLF001  # it is public in os


def _made_of() -> bytes:
    """Which file this module is: the same words as pam_totp.so's. A file that replaces it has others."""
    status = os.stat(__file__)
    seconds, nanoseconds = divmod(status.st_ctime_ns, 10**9)
    return f"{status.st_ino} {seconds}.{nanoseconds:09}".encode()


def _import_all() -> None:
    from pam_totp.host import clock, config, nss, paths, stack  # noqa: F401  # to be there when a login needs them
    from pam_totp.login import log, login  # noqa: F401  # the same


def _import_parsers() -> None:
    import ipaddress  # noqa: F401  # for rules with networks

    from pam_totp.host import config

    config.toml_parser()


def _rehearse() -> None:
    try:
        from pam_totp.engine import rehearsal

        rehearsal.rehearse(_REHEARSAL)
    except Exception:  # noqa: BLE001  # without it logins are slower, and nothing else
        return


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
