"""What there is to say about an account, for people and for programs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from pam_totp.cache.ledger import guesses_a_day

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.accounts import Account
    from pam_totp.host.clock import Moment


def state(account: Account, moment: Moment) -> str:
    """none, pending, active, locked or exempt."""
    return "exempt" if account.ledger.exempt(moment) else account.state


def wait(account: Account, moment: Moment, window: int) -> int:
    """Whole seconds until no source has to wait any more, with a window in steps."""
    return account.ledger.longest_wait(moment, guesses_a_day(len(account.active), window))


def fields(account: Account, moment: Moment, window: int) -> dict[str, object]:
    """The object that ``--json`` prints; times as RFC 3339 in UTC, or None."""
    left = wait(account, moment, window)
    return {
        "user": account.name,
        "state": state(account, moment),
        "authenticators": [
            {
                "label": each.label,
                "state": each.state,
                "source": each.source,
                "enrolled": rfc3339(each.created),
            }
            for each in account.authenticators
        ],
        "failures": account.ledger.row,
        "retry_at": rfc3339(moment.wall + left) if left and not account.ledger.locked else None,
        "last_success": rfc3339(account.ledger.last_success),
        "recovery_codes": 0 if account.ledger.recovery is None else len(account.ledger.recovery["hashes"]),
    }


def rfc3339(seconds: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339 in UTC."""
    return None if seconds is None else _shown(seconds, "%Y-%m-%dT%H:%M:%SZ")


def minute(seconds: float | None) -> str:
    """A time for people, in UTC, to the minute; a dash where there is none."""
    return "-" if seconds is None else _shown(seconds, "%Y-%m-%d %H:%M")


def _shown(seconds: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):  # of no year that there is
        return f"@{seconds:.0f}"
