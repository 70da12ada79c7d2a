"""The policy of the directory on a host that has joined a fleet, as far as a login needs it.

Imported only on such a host. A sync writes it (fleet/sync.py), sealed, in the cache.
"""

from __future__ import annotations

from pam_totp.cache.ledger import parsed
from pam_totp.errors import DamageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.cache.accounts import Accounts
    from pam_totp.host.clock import Moment, Stamp

DAY = 86_400


class Central:
    """What the directory demands of logins here.

    ``policy`` says whether there is one: without it only ``max_offline`` and what is said of single users count, and
    the host's own configuration decides. ``unenrolled`` is "skip", "deny", "enroll" or "invite". ``issued``, in seconds
    since the epoch, is when the directory signed the manifest; ``taken``, a stamp, when this host had it first.
    """

    __slots__ = ("break_glass", "claims", "issued", "max_offline", "mfa", "policy", "taken", "unenrolled")

    def __init__(self) -> None:
        self.policy = False
        self.unenrolled = "skip"
        self.max_offline: int | None = None
        self.break_glass: frozenset[str] = frozenset()
        self.claims = True
        self.mfa = True
        self.issued = 0
        self.taken: Stamp | None = None

    def age(self, now: Moment) -> int:
        """Whole seconds for which nothing newer of the directory has come; the clock that says more counts.

        The date in the manifest is signed: who withholds newer ones cannot make this one young.
        """
        taken = 0.0 if self.taken is None else now.since(self.taken)
        return int(max(0.0, now.wall - self.issued, taken))

    def silent(self, now: Moment) -> bool:
        """Whether the directory has been silent for longer than it allows."""
        return self.max_offline is not None and self.taken is not None and self.age(now) > self.max_offline


def load(accounts: Accounts) -> Central | None:
    """What is demanded here now; None on a host that has not joined. Raises DamageError."""
    if not accounts.configured.joined:
        return None
    from pam_totp.cache.configured import POLICY

    return decode(accounts.configured.fact(POLICY))


def encode(policy: dict[str, Any] | None, issued: int, taken: Stamp | None) -> bytes:
    """As it is kept: the fields of fleet.tree.Policy, or None; when the manifest was issued, and when it was taken."""
    import json  # not for a login

    return json.dumps({"policy": policy, "issued": issued, "taken": taken}).encode("ascii")


def decode(content: bytes) -> Central:
    """Read what ``encode`` wrote. Raises DamageError."""
    central = Central()
    try:
        fields = parsed(content)
        central.issued, central.taken = fields["issued"], fields["taken"]
        policy = fields["policy"]
        if policy is not None:
            central.policy = True
            central.unenrolled = policy["unenrolled"]
            central.max_offline = policy["max_offline"]
            central.break_glass = frozenset(policy["break_glass"])
            central.claims = policy["claims"]
            central.mfa = policy["mfa"]
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        raise DamageError("the policy of the directory is not readable: run pam-totp sync") from None
    return central
