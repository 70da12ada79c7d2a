"""Who is asked for a code: (account, configuration, source, now) -> Decision. Pure."""

from __future__ import annotations

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.accounts import Account
    from pam_totp.config import Config
    from pam_totp.ledger import Moment


class Action(enum.Enum):
    """What to do with a login."""

    ASK = "ask"
    SKIP = "skip"
    REFUSE = "refuse"


class Decision:
    """An action, the reason's word for the log (docs/log.md), and for a wait its whole seconds."""

    __slots__ = ("action", "reason", "seconds")

    def __init__(self, action: Action, reason: str, seconds: int = 0) -> None:
        self.action = action
        self.reason = reason
        self.seconds = seconds


def decide(account: Account, config: Config, source: str, now: Moment) -> Decision:
    """Decide about one attempt of one account from one source.

    SKIP is only ever reached for an account that is proven to be without an active authenticator.
    """
    if not account.active:
        reason = "pending" if account.pending else "not-enrolled"
        return Decision(Action.REFUSE if config.unenrolled == "deny" else Action.SKIP, reason)
    if account.ledger.locked:
        return Decision(Action.REFUSE, "locked")
    seconds = account.ledger.wait(source, now)
    if seconds:
        return Decision(Action.REFUSE, "throttled", seconds)
    return Decision(Action.ASK, "enrolled")
