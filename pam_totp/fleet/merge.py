"""Merging what the directory says of a user into the account on this host. Pure but for the account, which is changed.

The directory's authenticators are the directory's: they come and go with its record. A host's own ones are never
touched, unless they are handed up and come back. What was removed here stays removed, and what was spent stays spent.
"""

from __future__ import annotations

from pam_totp.cache.accounts import ACTIVE, DIRECTORY, Authenticator
from pam_totp.factors import otp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.accounts import Account
    from pam_totp.fleet.tree import Record
    from pam_totp.host.clock import Moment

_NO_RECORD = "0" * 64


def merge(account: Account, record: Record, digest: str, now: Moment, window: int) -> None:
    """Have the account hold what a record says; ``digest`` is the record's hash, ``window`` the host's, in steps."""
    ledger = account.ledger
    before = ledger.fleet
    active = bool(account.active)
    here = {each.identifier for each in account.authenticators}
    removed = set(before["held"]) - here if before is not None else set()
    account.authenticators = _kept(account, record) + [
        Authenticator(each.identifier, ACTIVE, each.label, DIRECTORY, each.created, each.secret)
        for each in record.authenticators
        if each.identifier not in removed
    ]
    if account.active and not active:
        ledger.invitation = ledger.grace = ledger.deadline = None
    if ledger.issued not in {each.identifier for each in account.authenticators}:
        ledger.issued = None
    salt, spent = _merge_recovery(account, record)
    if before is not None and before["locked"] and not record.locked:
        ledger.unlock(otp.step_at(now.wall), window)
    if record.forget_before is not None:
        ledger.remembered = {
            token: entry for token, entry in ledger.remembered.items() if entry[0][0] >= record.forget_before
        }
    ledger.fleet = {
        "name": record.name,
        "record": digest,
        "held": [each.identifier for each in record.authenticators],
        "salt": salt,
        "codes": list(record.recovery.hashes) if record.recovery is not None else [],
        "spent": spent,
        "locked": record.locked,
        "exempt": record.exempt_until,
        "deadline": record.deadline,
        "must": record.must_enroll,
        "revoked": False,
    }


def revoke(account: Account) -> bool:
    """Take away what came from the directory: it does not list the user any more. False where that is done already.

    Who is left with no authenticator is refused from then on, and not taken for somebody who never enrolled.
    """
    ledger = account.ledger
    fleet = ledger.fleet
    if fleet is None or fleet["revoked"]:
        return False
    account.authenticators = [each for each in account.authenticators if each.source != DIRECTORY]
    spent = _spent(account)
    if ledger.recovery is not None and ledger.recovery["salt"] == fleet["salt"]:
        ledger.recovery = None
    # A lock stays: the host's own authenticators, if there are any, are not to become usable by it.
    ledger.fleet = fleet | {
        "record": _NO_RECORD,
        "held": [],
        "codes": [],
        "spent": spent,
        "exempt": None,
        "deadline": None,
        "must": False,
        "revoked": True,
    }
    return True


def leave(account: Account) -> None:
    """Make the directory's authenticators the host's own. Who was revoked or locked stays refused."""
    for each in account.authenticators:
        each.source = "local"
    if not account.held_back:
        account.ledger.fleet = None


def spent_here(account: Account) -> list[str]:
    """The hashes of the directory's recovery codes that were used here, as far as it does not know that."""
    fleet = account.ledger.fleet
    return [] if fleet is None else [each for each in _spent(account) if each in fleet["codes"]]


def removed_here(account: Account) -> list[str]:
    """The ids of the directory's authenticators that were removed on this host."""
    fleet = account.ledger.fleet
    here = {each.identifier for each in account.authenticators}
    return [] if fleet is None else [each for each in fleet["held"] if each not in here]


def _kept(account: Account, record: Record) -> list[Authenticator]:
    """The host's own authenticators, but for those that were handed up and come back with the record."""
    identifiers = {each.identifier for each in record.authenticators}
    secrets = {each.secret: each.identifier for each in record.authenticators}
    kept = []
    for each in account.authenticators:
        if each.source == DIRECTORY:
            continue
        if each.secret in secrets:
            # What is spent of it stays spent, under whichever id it comes back.
            mark = account.ledger.marks.get(each.identifier)
            if mark is not None:
                known = account.ledger.marks.setdefault(secrets[each.secret], mark)
                known.step = max(known.step, mark.step)
        elif each.identifier not in identifiers:
            kept.append(each)
    return kept


def _spent(account: Account) -> list[str]:
    """The hashes of the directory's recovery codes that were used here, also of those that it has withdrawn."""
    fleet, own = account.ledger.fleet, account.ledger.recovery
    if fleet is None:
        return []
    used: list[str] = []
    # Where another set has taken their place here they are void here, and were not used.
    if own is not None and own["salt"] == fleet["salt"]:
        used = [each for each in fleet["codes"] if each not in own["hashes"]]
    return sorted({*fleet["spent"], *used})


def _merge_recovery(account: Account, record: Record) -> tuple[str, list[str]]:
    """Returns the salt of the directory's recovery codes, also of those that it has withdrawn; and which are spent."""
    ledger = account.ledger
    own, fleet = ledger.recovery, ledger.fleet
    salt, spent = ("" if fleet is None else fleet["salt"]), _spent(account)
    if record.recovery is None:
        if own is not None and own["salt"] == salt:
            ledger.recovery = None
        return salt, spent
    if record.recovery.salt != salt:
        ledger.recovery = {"salt": record.recovery.salt, "hashes": list(record.recovery.hashes), "shown": True}
        return record.recovery.salt, []
    good = [each for each in record.recovery.hashes if each not in spent]
    withdrawn = fleet is not None and not fleet["codes"]
    if own is not None and own["salt"] == salt:
        # Used here or anywhere else is used.
        own["hashes"] = [each for each in own["hashes"] if each in good]
    elif own is None and withdrawn:
        ledger.recovery = {"salt": salt, "hashes": good, "shown": True}
    return salt, spent
