"""The service behind ``pam-totp self``: one process for one connection, started by systemd as root.

Who asks is what the kernel says of the other end (SO_PEERCRED) when it connected, and nothing else. Nothing that the
other end sends names a user, a file or a command.
"""

from __future__ import annotations

import socket
import struct
import sys

from pam_totp.cache.volatile import Volatile
from pam_totp.errors import LockTimeoutError, PamTotpError, UsageError, WireError
from pam_totp.factors import enroll as enrolment
from pam_totp.host import clock, users
from pam_totp.host import config as configuration
from pam_totp.host.paths import Paths
from pam_totp.login import log, login
from pam_totp.login.attempt import Conversation, Outcome, Request
from pam_totp.selfservice import verbs, wire

CONNECTIONS = 3  # of one uid at a time
SHELLS = "/etc/shells"
_NO_LOGIN = ("nologin", "false")
_CREDENTIALS = struct.Struct("iII")
_VERBS = ("status", "enroll", "recovery", "remove")
_QR = (None, *enrolment.STYLES)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.cache.volatile import Lock
    from pam_totp.host.users import User
    from pam_totp.login.attempt import Clock


def main() -> int:
    """Serve the connection that is standard input."""
    sys.argv[0] = "pam-totp"  # by this name syslog knows us
    try:
        connection = socket.socket(fileno=0)
    except OSError:
        print("pam-totp: this is started by pam-totp-self.socket, with a connection as its input", file=sys.stderr)
        return 3
    with connection:
        serve(connection, Paths(), clock.now)
    return 0


def serve(connection: socket.socket, paths: Paths, now: Clock) -> None:
    """Do what the user at the other end asks for. Whatever goes wrong is logged, and ends the connection."""
    channel = wire.Channel(connection, wire.LONGEST_ANSWER, verbs.SECONDS)
    request = Request("", verbs.SERVICE)
    try:
        try:
            code = _serve(connection, channel, request, paths, now)
        except WireError as error:
            log.decision(request, Outcome("refused", error.reason, str(error)))
            return
        except UsageError as error:
            channel.send(tell=str(error))
            code = error.exit_code
        except PamTotpError as error:
            log.decision(request, login.outcome_of(error))
            channel.send(tell="This does not work at the moment. Tell your administrator: the log says why.")
            code = error.exit_code
        if channel.expired:
            channel.send(tell="That took too long, and what was not finished is dropped. Start again.")
        channel.send(done=code)
    except Exception as error:  # noqa: BLE001  # a traceback could hold anything
        log.internal_error("pam_totp(self:auth)", error)


def _serve(connection: socket.socket, channel: wire.Channel, request: Request, paths: Paths, now: Clock) -> int:
    uid = peer(connection)
    user = _user(uid)
    if user is None:
        log.decision(request, Outcome("refused", "no-login", f"uid {uid}"))
        channel.send(tell="This is for users with a login shell.")
        return 1
    request.user = user.name
    slot = _slot(paths, uid)
    if slot is None:
        log.decision(request, Outcome("refused", "too-many-connections"))
        channel.send(tell=f"You have {CONNECTIONS} of these open already: finish one first.")
        return 1
    with slot:
        asked = channel.receive(wire.REQUEST)
        if asked is None:
            return 1
        config = configuration.load(paths.config, paths.owner)
        conversation = WireConversation(channel, asked["columns"])
        return _do(asked, verbs.Visit(user, request, config, paths, now, conversation))


def _do(asked: dict[str, Any], visit: verbs.Visit) -> int:
    verb, label, qr = asked["verb"], asked["label"], asked["qr"]
    if verb not in _VERBS or qr not in _QR:
        raise WireError("a request is not one of those that there are")
    if label is not None:
        enrolment.check_label(label)
    if qr is not None:
        visit.config.qr = qr
    if verb == "status":
        return verbs.status(visit, asked["json"])
    if verb == "enroll":
        return verbs.enroll(visit, label or enrolment.DEFAULT_LABEL)
    if verb == "recovery":
        return verbs.issue_recovery_codes(visit)
    return verbs.remove(visit, label)


class WireConversation(Conversation):
    """The conversation with the user at the other end of a channel. Raises WireError for what is no answer."""

    def __init__(self, channel: wire.Channel, columns: int) -> None:
        self._channel = channel
        self.columns = columns

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        """Ask; None where the connection is closed or its time is over."""
        self._channel.send(ask=prompt, echo=echo)
        answer = self._channel.receive(wire.ANSWER)
        return None if answer is None else str(answer["answer"])

    def tell(self, text: str) -> None:
        """Show some lines."""
        self._channel.send(tell=text)


def peer(connection: socket.socket) -> int:
    """The effective uid of whoever connected. Raises OSError where this is no UNIX socket."""
    if connection.family != socket.AF_UNIX:
        raise OSError("not a UNIX socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return int(uid)


def _user(uid: int) -> User | None:
    """The user with this uid, if the host lets such users log in at all: the shell is one of /etc/shells."""
    found = users.with_uid(uid)
    if found is None:
        return None
    user, shell = found
    try:
        with open(SHELLS, encoding="utf-8", errors="surrogateescape") as file:
            shells = {line.strip() for line in file if line.startswith("/")}
    except FileNotFoundError:
        return None
    return user if shell in shells and shell.rpartition("/")[2] not in _NO_LOGIN else None


def _slot(paths: Paths, uid: int) -> Lock | None:
    """One of the few places that a uid has; None where all are taken. The kernel frees it when this process ends."""
    volatile = Volatile(paths.run, paths.owner)
    for number in range(CONNECTIONS):
        try:
            return volatile.lock(f"self-{uid}-{number}", 0)
        except LockTimeoutError:
            continue
    return None


if __name__ == "__main__":
    sys.exit(main())
