"""Invitations: whose they are, and what is no invitation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.factors import invitation
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from tests.unit.pretend import Host


def test_invitations_are_good_for_their_user_only(host: Host) -> None:
    with host.accounts() as accounts:
        alice, bob = accounts.find(ALICE), accounts.find(BOB)
        code = invitation.issue(alice, 1000, accounts.sealer)
        bob.ledger.invitation = alice.ledger.invitation
        assert invitation.matches(alice, f" {code.upper()} ", accounts.sealer)
        assert not invitation.matches(bob, code, accounts.sealer)
        for answer in ("", "123456", code[:-1], code[:-1] + ("a" if code[-1] != "a" else "b")):
            assert not invitation.matches(alice, answer, accounts.sealer)
        # As 0.1.0 kept it: what was handed out before an upgrade is good after it.
        alice.ledger.invitation = [accounts.sealer.token(f"invitation alice {code.replace('-', '')}", "0.1.0"), 1000]
        assert invitation.matches(alice, code, accounts.sealer)
        assert not invitation.matches(bob, code, accounts.sealer)
        alice.ledger.invitation = None
        assert not invitation.matches(alice, code, accounts.sealer)
