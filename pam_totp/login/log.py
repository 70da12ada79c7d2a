"""The one line that each decision and each administrative change writes to syslog (format: docs/log.md)."""

from __future__ import annotations

import syslog

NOTICE = syslog.LOG_NOTICE
INFO = syslog.LOG_INFO
ERROR = syslog.LOG_ERR
ALERT = syslog.LOG_ALERT
_LONGEST_VALUE = 256

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
    text = line(
        user=request.user or "-",
        service=request.service or "-",
        rhost=request.rhost or "-",
        outcome=outcome.verdict,
        reason=outcome.reason,
        detail=outcome.detail,
    )
    good = outcome.verdict in ("accepted", "skipped")
    broken = outcome.verdict in ("unavailable", "misconfigured")
    priority = INFO if good and not outcome.detail else ERROR if broken else NOTICE
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


def _escaped(value: str) -> str:
    cut = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "..."
    safe = "".join(
        character if " " <= character <= "~" and character not in '"\\' else _escape(character) for character in cut
    )
    return f'"{safe}"' if " " in safe or "=" in safe else safe


def _escape(character: str) -> str:
    raw = character.encode("utf-8", "surrogateescape") if character not in '"\\' else character.encode("ascii")
    return "".join(f"\\x{byte:02x}" for byte in raw)
