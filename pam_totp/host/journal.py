"""What the module has logged, read back from systemd's journal; and the lines of the log taken apart (docs/log.md)."""

from __future__ import annotations

import json
import os
import re

from pam_totp.host import programs

DIRECTORIES = ("/run/log/journal", "/var/log/journal")
# Only what root sent to authpriv: everybody may write lines that look like ours, and the journal notes who did.
# And only whole lines of ours: a program of root's may log something that begins with what a user said.
_COMMAND = ("journalctl", "--no-pager", "--quiet", "--output=json", "SYSLOG_FACILITY=10", "_UID=0")
_LINE = re.compile(
    r'pam_totp\([^\s:]+:(?:auth|account)\): (?P<fields>(?:[a-z]+=(?:"[ !#-~]*"|[!#-<>-~]+)(?: (?!$)|$))+)', re.ASCII
)
_FIELD = re.compile(r'([a-z]+)=(?:"([^"]*)"|(\S*))(?: |$)')

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def present() -> bool:
    """Whether journald keeps a journal here."""
    return any(os.path.isdir(directory) for directory in DIRECTORIES)


def decisions(since: int, follow: bool = False) -> Iterator[tuple[int, str]]:
    """Every decision since then: seconds since the epoch, and the line without its prefix; oldest first.

    With ``follow`` the iteration goes on with what comes, and ends only with the program. Raises ProgramError.
    """
    command = [*_COMMAND, f"--since=@{since}", *(["--follow", "--no-tail"] if follow else [])]
    for record in programs.lines(*command):
        found = _decision(record)
        if found is not None:
            yield found


def fields(line: str) -> dict[str, str]:
    """The fields of a line, unquoted; what is escaped in it stays escaped."""
    return {match[1]: match[2] if match[2] is not None else match[3] for match in _FIELD.finditer(line)}


def _decision(record: str) -> tuple[int, str] | None:
    try:
        entry = json.loads(record)
        match = _LINE.fullmatch(entry["MESSAGE"])
        return (int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000, match["fields"]) if match else None
    except (ValueError, KeyError, TypeError):
        return None  # a message that is not text is none of ours
