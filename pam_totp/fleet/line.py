"""By what the directory notices that a host was cloned: each host hands it a line of random numbers, one after another.

With each number goes the one before it, so the line of one host has no forks. Two hosts with one identity, from one
image or one backup, make two ends that both grow. What was lost on the way, or a host that was put back to an older
state, makes none. Nobody can have a host noticed who has not its token.
"""

from __future__ import annotations

import json
import os

from pam_totp.errors import FleetError
from pam_totp.fleet import tree
from pam_totp.host import files

SECONDS = 10.0
_NONE = "0" * 32
_LIMIT = 4096

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.fleet.web import Web


class Line:
    """The end of this host's line, in a file of root's. ``answered``: the directory has it; the next one may follow."""

    def __init__(self, path: str, owner: int) -> None:
        self._path = path
        self._owner = owner
        self.answered = False

    def hand_over(self, server: Web, host: str) -> bool | None:
        """Hand over a number; whether the directory knows one line of this host alone. None: it was not to be asked.

        What was not answered is handed over again, also after a restart, and never another one in its place.
        """
        before, latest = self._end(host)
        if self.answered or latest == _NONE:
            before, latest = latest, tree.new_identifier()
            try:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                content = json.dumps({"host": host, "before": before, "latest": latest}).encode("ascii")
                # On the disk before anybody is told: what is told and forgotten would look like another host's.
                files.replace(self._path, content, 0o600)
            except OSError:
                return None
            self.answered = False
        try:
            answer = server.post("/api/v1/line", {"before": before, "latest": latest}, SECONDS)
            alone = answer.fields().get("alone") if answer.status == 200 else None
        except FleetError:
            return None
        if not isinstance(alone, bool):
            return None  # an older directory, or none
        self.answered = True
        return alone

    def _end(self, host: str) -> tuple[str, str]:
        """The two latest numbers; of another host, or not readable: a new line begins."""
        try:
            found = json.loads(files.read(self._path, self._owner, _LIMIT))
            before, latest = found["before"], found["latest"]
            if found["host"] == host and tree.is_identifier(before) and tree.is_identifier(latest):
                return before, latest
        except (OSError, files.UnsafeFileError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return _NONE, _NONE
