"""Passwords of the directory's machine, by PAM: a process of root's that answers yes or no, and its client.

PAM reads what root alone may read, and pam_unix's own helper tells a user of nobody else's password: the web process,
which is nobody, cannot ask it. So this process does, without any capability and without a network. Only the web
process's user may ask, and in vain after too many wrong passwords: who has taken over the web process guesses slowly.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

from pam_totp.directory import config
from pam_totp.directory.throttle import Throttle
from pam_totp.errors import PamTotpError

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "pam-totp-directory"
# Wrong passwords for one name, and for all together, in an hour. The portal's own ledger lets nobody come near that.
FOR_A_NAME, FOR_ALL, HOUR = 60, 3600, 3600.0
MOST_AT_ONCE = 16
LONGEST = 16 << 10  # bytes of a request
TIMEOUT = 20.0  # seconds
_CREDENTIALS = struct.Struct("3i")
_FIRST_DESCRIPTOR = 3


class PamError(PamTotpError):
    """PAM cannot be asked."""

    reason = "pam-unusable"


# The web process's side


def right(name: str | None, password: str) -> bool:
    """Whether this is the password of an account of this machine; without a name, nobody's. Raises PamError."""
    if not password or "\0" in password:
        return False
    asked = json.dumps({"name": name or "", "password": password}).encode("ascii") + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(config.PASSWORDS_SOCKET)
            connection.sendall(asked)
            with connection.makefile("rb") as stream:
                answer = dict(json.loads(stream.readline(LONGEST)))
    except (OSError, ValueError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "no answer"
        raise PamError(f"PAM cannot be asked ({reason}): systemctl enable --now pam-totp-passwords.socket") from None
    if answer.get("error"):
        raise PamError(str(answer["error"])[:200])
    return name is not None and answer.get("right") is True


# Root's side


class Server:
    """Answers each connection once, in a thread."""

    def __init__(self, users: set[int], log: Callable[[str], None], ask: Callable[[str, str], bool]) -> None:
        self._users, self._log, self._ask = users, log, ask
        self._names, self._all = Throttle(FOR_A_NAME, HOUR), Throttle(FOR_ALL, HOUR)
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)

    def run(self, listener: socket.socket) -> None:
        """Serve for ever."""
        while True:
            connection, _ = listener.accept()
            if self._free.acquire(timeout=TIMEOUT):
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            else:
                connection.close()
                self._log("refused a connection: PAM does not answer the ones before it")

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rwb") as stream:
                connection.settimeout(TIMEOUT)
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                uid = _CREDENTIALS.unpack(credentials)[1]
                if uid not in self._users:
                    self._log(f"refused a connection of uid {uid}")
                    return
                stream.write(json.dumps(self.answer(stream.readline(LONGEST))).encode("ascii") + b"\n")
                stream.flush()
        except OSError:
            pass  # the other end has gone
        finally:
            self._free.release()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Yes, no, or why that cannot be said. What is logged has no password; nor a name, which may be one."""
        try:
            asked = json.loads(line)
            name, password = asked["name"], asked["password"]
            if not (isinstance(name, str) and isinstance(password, str)):
                raise TypeError
        except (ValueError, RecursionError, KeyError, TypeError):
            return {"error": "that is no request"}
        if not name or not password or "\0" in name + password:
            return {"right": False}
        if self._names.wait(name) or self._all.wait(""):
            self._log("refused: too many wrong passwords in an hour")
            return {"error": "too many wrong passwords in an hour: look at journalctl -u pam-totp-passwords"}
        try:
            yes = self._ask(name, password)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is no yes, and the next one is answered
            self._log(f"PAM failed: {type(error).__name__}")
            return {"error": "PAM failed: look at journalctl -u pam-totp-passwords"}
        if not yes:
            self._names.count(name)
            self._all.count("")
        return {"right": yes}


def ask_pam(name: str, password: str) -> bool:
    """What PAM says: to the password, and to the account. Raises PamError where python3-pampy is not there."""
    try:
        import pam
    except ImportError:
        raise PamError("python3-pampy is not there: apt install python3-pampy") from None
    asking = pam.PamAuthenticator()
    authenticate = asking.pam_authenticate
    # An account with an empty password would take any other one, where the machine's PAM files allow empty ones.
    asking.pam_authenticate = lambda handle, flags: authenticate(handle, flags | pam.PAM_DISALLOW_NULL_AUTHTOK)
    return asking.authenticate(name, password, service=SERVICE, resetcreds=False) is True


def main(web: int) -> int:
    """Serve the socket that systemd has opened, for the user of the web process."""

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if os.environ.get("LISTEN_FDS") != "1":
        raise PamError("systemd starts this: systemctl enable --now pam-totp-passwords.socket")
    if not os.path.exists(f"/etc/pam.d/{SERVICE}"):
        # PAM would take the file "other".
        raise PamError(f"/etc/pam.d/{SERVICE} is missing: install the package pam-totp-directory again")
    server = Server({0, web}, log, ask_pam)
    with socket.socket(fileno=_FIRST_DESCRIPTOR) as listener:
        server.run(listener)
    return 0
