"""The one line that each decision and each administrative change writes to syslog (format: docs/log.md).

Where journald is, a decision goes to it directly, with a field for each part of the line.
"""

from __future__ import annotations

import posix as os
import sys
import syslog

from pam_totp.host import files

NOTICE = syslog.LOG_NOTICE
INFO = syslog.LOG_INFO
ERROR = syslog.LOG_ERR
ALERT = syslog.LOG_ALERT
_LONGEST_VALUE = 256
# Where journald listens for messages with fields (systemd: "Native Journal Protocol").
JOURNAL = "/run/systemd/journal/socket"
_AUTHPRIV = syslog.LOG_AUTHPRIV >> 3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.login.attempt import Outcome, Request


def line(**fields: str) -> str:
    """``key=value`` pairs in the given order, without the empty ones.

    A value is quoted where it has a space, and everything but printable ASCII is escaped, so no user name or host
    name can forge a second field or line.
    """
    return " ".join(f"{key}={_escaped(value)}" for key, value in fields.items() if value)


def decision(request: Request, outcome: Outcome) -> str:
    """Write the line of one attempt; returns it without its prefix."""
    fields = {
        "user": request.user or "-",
        "service": request.service or "-",
        "rhost": request.rhost or "-",
        "outcome": outcome.verdict,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }
    text = line(**fields)
    good = outcome.verdict in ("accepted", "skipped")
    broken = outcome.verdict in ("unavailable", "misconfigured")
    priority = INFO if good and not outcome.detail else ERROR if broken else NOTICE
    if not _to_journald(priority, f"{prefix(request.service, 'auth')}: {text}", fields):
        send(priority, prefix(request.service, "auth"), text)
    return text


def prefix(service: str, phase: str) -> str:
    """What a line about a service begins with. The program names the service, in some cases as its client wants it."""
    return f"pam_totp({_escaped(service) or '-'}:{phase})"


def internal_error(prefix: str, error: BaseException) -> None:
    """Write which kind of error it was and where: its text could hold anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    detail = f"{type(error).__name__} at {where}"
    send(ERROR, prefix, line(outcome="error", reason="internal-error", detail=detail))


def send(priority: int, prefix: str, text: str) -> None:
    """Write one line to authpriv.

    The ident stays the host program's (sshd): glibc keeps a pointer to an ident, which would dangle after the
    interpreter is gone. The log is closed again for the same reason.
    """
    syslog.openlog(logoption=syslog.LOG_PID, facility=syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_AUTHPRIV | priority, f"{prefix}: {text}")
    syslog.closelog()


def _to_journald(priority: int, message: str, fields: dict[str, str]) -> bool:
    """Send a message with fields; False where that is not possible, and syslog has to do.

    Nothing in it is longer than a datagram takes, and no value can end its line: each is escaped as in the message.
    """
    ident = sys.argv[0].rpartition("/")[2] if getattr(sys, "argv", None) else ""
    if not ident or not files.exists(JOURNAL):
        return False
    from _socket import AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM, socket

    lines = {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_FACILITY": str(_AUTHPRIV),
        "SYSLOG_IDENTIFIER": _safe(ident),
        "SYSLOG_PID": str(os.getpid()),
        **{f"PAM_TOTP_{name.upper()}": _safe(value) for name, value in fields.items() if value},
    }
    try:
        end = socket(AF_UNIX, SOCK_DGRAM)
        try:
            # A journal that is stopped or busy is no reason to wait: syslog(3) waits for it, as it always has.
            end.sendto("".join(f"{name}={value}\n" for name, value in lines.items()).encode(), MSG_DONTWAIT, JOURNAL)
        finally:
            end.close()
    except OSError:
        return False
    return True


def _escaped(value: str) -> str:
    safe = _safe(value)
    return f'"{safe}"' if " " in safe or "=" in safe else safe


def _safe(value: str) -> str:
    cut = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "..."
    return "".join(
        character if " " <= character <= "~" and character not in '"\\' else _escape(character) for character in cut
    )


def _escape(character: str) -> str:
    raw = character.encode("utf-8", "surrogateescape") if character not in '"\\' else character.encode("ascii")
    return "".join(f"\\x{byte:02x}" for byte in raw)
