"""The keeper's process: a UNIX socket that systemd has opened, requests of one line of JSON each, and a log of them.

Only root and the web process's user are answered. The log has who asked for what, about whom, and what came of it.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

from pam_totp.directory import config
from pam_totp.directory.keeper import keys, state, work
from pam_totp.errors import KeeperError, PamTotpError
from pam_totp.host import clock

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 64 << 20  # bytes of a request: ten thousand people of one host at once
MOST_CONNECTIONS = 64
IDLE = 300.0  # seconds
_CREDENTIALS = struct.Struct("3i")
_FIRST_DESCRIPTOR = 3


class Server:
    """Answers connections, each in a thread; the requests themselves one after the other."""

    def __init__(self, keeper: work.Keeper, users: set[int], log: Callable[[str], None]) -> None:
        self._keeper = keeper
        self._users = users
        self._log = log
        self._turn = threading.Lock()
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def run(self, listener: socket.socket) -> None:
        """Serve for ever."""
        while True:
            connection, _ = listener.accept()
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            uid = _CREDENTIALS.unpack(credentials)[1]
            if uid not in self._users:
                connection.close()
                self._log(f"refused a connection of uid {uid}")
                continue
            # Root is answered whatever the others hold: it may have to revoke a host because of them.
            if uid and not self._free.acquire(blocking=False):
                connection.close()
                self._log(f"refused a connection of uid {uid}: there are too many")
                continue
            threading.Thread(target=self._serve, args=(connection, uid), daemon=True).start()

    def _serve(self, connection: socket.socket, uid: int) -> None:
        try:
            with connection, connection.makefile("rwb") as stream:
                connection.settimeout(IDLE)
                while line := stream.readline(LONGEST + 1):
                    if len(line) > LONGEST:
                        self._log("refused a request: it is too long")
                        return
                    stream.write(json.dumps(self._answer(line, uid)).encode("ascii") + b"\n")
                    stream.flush()
        except OSError:
            pass  # the other end has gone
        finally:
            if uid:
                self._free.release()

    def _answer(self, line: bytes, uid: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        try:
            found = json.loads(line)
            fields = found if isinstance(found, dict) else {}
        except (ValueError, RecursionError):
            pass  # it has no verb then, which the keeper says
        with self._turn:
            try:
                answer = self._keeper.answer(fields, root=uid == 0)
                outcome = answer.get("verdict", "done")
            except PamTotpError as error:
                answer, outcome = work.said(error), f"refused: {error}"
            except Exception as error:  # noqa: BLE001  # whatever it is, the next request is answered
                answer, outcome = work.said(KeeperError("internal error")), f"internal error: {type(error).__name__}"
        if fields.get("verb") != "status" or outcome != "done":
            self._log(f"uid {uid}: {_about(fields)}: {outcome}")
        return answer


def _about(fields: dict[str, Any]) -> str:
    """What a request is about, for the log: words and numbers only, nothing secret."""
    verb = fields.get("verb")
    # What is none of the keeper's words could be a line of its own, or a secret.
    words = [verb if isinstance(verb, str) and verb in work.Keeper.VERBS else "?"]
    for name in ("person", "host", "name", "sequence"):
        value = fields.get(name)
        if value is not None and not isinstance(value, (list, dict)):
            words.append(f"{name}={value!r:.80}")
    words += [f"{name}={len(fields[name])}" for name in ("hosts", "records") if isinstance(fields.get(name), list)]
    return " ".join(words)


def main() -> int:
    """Serve the socket that systemd has opened."""
    if os.environ.get("LISTEN_FDS") != "1":
        print("pam-totp-keeper: this is started by pam-totp-keeper.socket", file=sys.stderr)
        return 3
    listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
    os.umask(0o077)
    try:
        users = {0, pwd.getpwnam(config.USER).pw_uid}
        found = keys.load_keys(os.path.join(config.KEYS, keys.FILE))
        keeper = work.Keeper(found, state.State(os.path.join(config.KEYS, state.FILE)), clock.now)
    except PamTotpError as error:
        print(f"pam-totp-keeper: {error}", file=sys.stderr)
        return error.exit_code
    Server(keeper, users, lambda text: print(text, file=sys.stderr, flush=True)).run(listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
