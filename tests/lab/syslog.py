"""Syslog records as a machine's programs sent them (RFC 3164 section 4.1, as glibc writes it)."""

from __future__ import annotations

import re
from dataclasses import dataclass

FACILITIES = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
SEVERITIES = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
RECORD = re.compile(
    r"<(?P<priority>\d{1,3})>(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )?"
    r"(?P<program>[^\s:\[]*)(?:\[(?P<pid>\d+)\])?: ?(?P<message>.*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Record:
    """One record; `received` is in seconds since the epoch, `raw` is the datagram as it came."""

    received: float
    facility: str
    severity: str
    program: str
    pid: int
    message: str
    raw: bytes

    def __str__(self) -> str:
        return f"{self.facility}.{self.severity} {self.program}[{self.pid}]: {self.message}"


def parse(received: float, raw: bytes) -> Record:
    """Take a datagram apart. One that has not the usual form is a message of "" at user.notice."""
    text = raw.decode("utf-8", "backslashreplace").rstrip("\n\0")
    match = RECORD.fullmatch(text)
    if match is None:
        return Record(received, "user", "notice", "", 0, text, raw)
    facility, severity = divmod(int(match["priority"]), 8)
    name = FACILITIES[facility] if facility < len(FACILITIES) else f"facility{facility}"
    return Record(received, name, SEVERITIES[severity], match["program"], int(match["pid"] or 0), match["message"], raw)
