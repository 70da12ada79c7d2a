"""What pam_totp.so does, over a real socket, for a scripted transaction: the other end of engine/helper.py."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from pam_totp.engine import helper
from tests.unit.pamh import PamError, Pamh

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = "sshd"
RESULTS = ("SUCCESS", "IGNORE", "AUTH_ERR", "USER_UNKNOWN", "CONV_ERR", "AUTHINFO_UNAVAIL", "SERVICE_ERR")


class Wire:
    """One end of a connection, spoken to in messages."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, kind: bytes, text: bytes = b"") -> None:
        """Send a message."""
        self._end.sendall(bytes((helper.PROTOCOL,)) + kind + len(text).to_bytes(2, "big") + text)

    def receive(self) -> tuple[bytes, bytes]:
        """The next message; nothing where the connection has ended."""
        head = self._end.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return b"", b""
        return head[1:2], self._end.recv(int.from_bytes(head[2:], "big"), socket.MSG_WAITALL)


def request(hook: str, *fields: bytes | None) -> bytes:
    """The text of a request: program, user, service, rhost, SSH_AUTH_INFO_0, what was kept, arguments."""
    return b"".join(b"-\0" if field is None else b"=" + field + b"\0" for field in (hook.encode(), *fields))


def call(pamh: Pamh, hook: str, words: list[str]) -> int:
    """Run a hook of a transaction; the PAM code. Raises whatever the helper would have ended with."""
    kept = vars(pamh.module).get("kept")
    fields = [_bytes(lambda: pamh.get_user(None)), _bytes(lambda: pamh.service), _bytes(lambda: pamh.rhost)]
    text = request(
        hook, PROGRAM.encode(), *fields, _bytes(lambda: pamh.env.get("SSH_AUTH_INFO_0")), kept, *map(str.encode, words)
    )
    ours, theirs = socket.socketpair()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            helper.serve(theirs.fileno(), lambda _: None)
        except BaseException as error:  # noqa: BLE001  # raised again below
            ended.append(error)
        finally:
            theirs.close()

    thread = threading.Thread(target=run)
    thread.start()
    with ours:
        try:
            code = _serve(pamh, Wire(ours), text)
        except BrokenPipeError:
            code = int(pamh.PAM_SERVICE_ERR)  # "the helper takes no answer": it has ended while the user typed
    thread.join()
    if ended:
        raise ended[0]
    return code


def _serve(pamh: Pamh, wire: Wire, text: bytes) -> int:
    wire.send(b"Q", text)
    while True:
        kind, said = wire.receive()
        if kind == b"R":
            word, mark, kept = said.partition(b"\0")
            if mark:
                vars(pamh.module)["kept"] = kept
            assert word.decode().removeprefix("PAM_") in RESULTS
            return int(getattr(pamh, word.decode()))
        if kind == b"T":
            pamh.authtok = said.decode()
            wire.send(b"D")
        elif kind == b"I":
            _bytes(lambda: pamh.conversation(pamh.Message(pamh.PAM_TEXT_INFO, said.decode())))  # noqa: B023  # at once
            wire.send(b"D")
        elif kind in (b"P", b"E"):
            style = pamh.PAM_PROMPT_ECHO_OFF if kind == b"P" else pamh.PAM_PROMPT_ECHO_ON
            answer = _bytes(lambda: pamh.conversation(pamh.Message(style, said.decode())).resp)  # noqa: B023  # at once
            wire.send(b"N" if answer is None else b"A", answer or b"")
        else:
            return int(pamh.PAM_SERVICE_ERR)


def _bytes(read: Callable[[], object]) -> bytes | None:
    """What C finds in the place of a value: bytes that need not be text, or nothing."""
    try:
        value = read()
    except PamError:
        return None
    except UnicodeError:
        return b"\xff"
    return value.encode() if isinstance(value, str) else None
