"""Invitations: a one-time code that lets a user enrol at the prompt. Pure but for the hash, which the sealer computes.

A code has the form of a recovery code, 50 bits. Kept is a keyed hash only, in the account's ledger.
"""

from __future__ import annotations

from _operator import _compare_digest as compare_digest

from pam_totp.factors import recovery

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.accounts import Account
    from pam_totp.cache.seal import Sealer


def issue(account: Account, until: int, sealer: Sealer, code: str | None = None) -> str:
    """Put a new invitation into the account, which must be saved; returns its code. ``until`` since the epoch.

    ``code`` is what an earlier call has returned, where that account was not saved.
    """
    plain = None if code is None else recovery.parse(code)
    plain = plain or recovery.random_code()
    account.ledger.invitation = [_token(account, plain, sealer), until]
    return recovery.shown(plain)


def matches(account: Account, answer: str, sealer: Sealer) -> bool:
    """Whether the answer is the code of the account's invitation; for how long that is good, policy decides."""
    code = recovery.parse(answer)
    invitation = account.ledger.invitation
    if code is None or invitation is None:
        return False
    issued = sealer.token(f"invitation {account.name} {code}", "0.1.0")
    return any(compare_digest(token, str(invitation[0])) for token in (_token(account, code, sealer), issued))


def _token(account: Account, code: str, sealer: Sealer) -> str:
    # A keyed hash of 50 random bits: without the host key there is nothing to try codes against.
    return sealer.token(f"{account.name} {code}", "invitation")
