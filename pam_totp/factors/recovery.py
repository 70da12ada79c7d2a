"""Recovery codes: for the day the phone is gone. Pure but for the hash, which the sealer computes.

A code is two groups of five letters and digits, ``k7m2p-9xq4t``: 50 bits, told apart from a TOTP code by its form.
Kept are salted slow hashes only, in the account's ledger.

Scratch codes are what google-authenticator has instead: eight digits, imported with the user's authenticator. 27 bits
can be guessed, so they are guarded like TOTP codes: a wrong one is charged as one, waits and the lock hold for them.
"""

from __future__ import annotations

import posix as os

COUNT = 10
# No 0, 1, l or o: each of these 32 characters is read in one way only.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_GROUP = 5
_SALT_BYTES = 16
SCRATCH_DIGITS = 8
SHOWN_LENGTH = 2 * _GROUP + 1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.ledger import Ledger
    from pam_totp.cache.seal import Sealer


def parse(answer: str) -> str | None:
    """The code in what somebody typed, without case, spaces at the ends and the dash; None where it has not the form.

    An all-digit answer never has the form, so no TOTP code is ever taken for a recovery code.
    """
    text = answer.strip().lower()
    if len(text) == 2 * _GROUP + 1 and text[_GROUP] in "- ":
        text = text[:_GROUP] + text[_GROUP + 1 :]
    if len(text) == 2 * _GROUP and all(character in _ALPHABET for character in text) and not text.isdigit():
        return text
    return None


def parse_shown(answer: str) -> str | None:
    """The same for a code exactly as it is shown, in either case: two groups and the dash, and nothing around them."""
    return parse(answer) if len(answer) == SHOWN_LENGTH and answer[_GROUP] == "-" else None


def random_code() -> str:
    """A fresh code of 50 random bits."""
    while True:
        code = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(2 * _GROUP))
        if parse(code) == code:
            return code


def shown(code: str) -> str:
    """A code as people read it: two groups."""
    return f"{code[:_GROUP]}-{code[_GROUP:]}"


def issue(ledger: Ledger, sealer: Sealer) -> list[str]:
    """Put the hashes of ten new codes into the ledger, in the place of all earlier ones; returns the codes.

    They count as not shown until ``acknowledge``.
    """
    codes: list[str] = []
    while len(codes) < COUNT:
        code = random_code()
        if code not in codes:
            codes.append(code)
    salt = os.urandom(_SALT_BYTES)
    hashes = [sealer.slow_hash(code, salt).hex() for code in codes]
    ledger.scratch = []
    ledger.recovery = {"salt": salt.hex(), "hashes": hashes, "shown": False}
    return [shown(code) for code in codes]


def holds(ledger: Ledger, code: str, sealer: Sealer) -> bool:
    """Whether the ledger holds the hash of a code as it is shown. Spends nothing; for codes that were just issued."""
    if ledger.recovery is None:
        return False
    digest = sealer.slow_hash(parse(code) or "", bytes.fromhex(ledger.recovery["salt"])).hex()
    return digest in ledger.recovery["hashes"]


def acknowledge(ledger: Ledger, codes: list[str], sealer: Sealer) -> bool:
    """Note that the user has seen these codes. False where they are not the account's any more."""
    # The last one stands for all: they are issued together.
    if ledger.recovery is None or not holds(ledger, codes[-1], sealer):
        return False
    ledger.recovery["shown"] = True
    return True


def parse_scratch(answer: str) -> str | None:
    """The scratch code in what somebody typed; None where it has not the form: eight digits, not 0 at first."""
    text = answer.strip()
    return text if len(text) == SCRATCH_DIGITS and text.isascii() and text.isdigit() and text[0] != "0" else None


def spend_scratch(ledger: Ledger, code: str) -> bool:
    """Take a scratch code out of the ledger, which the caller must commit durably before anybody gets in.

    False where it is not one of them.
    """
    from _operator import _compare_digest as compare_digest

    kept = [each for each in ledger.scratch if not compare_digest(each, code)]
    found = len(kept) < len(ledger.scratch)
    ledger.scratch = kept
    return found


def left(ledger: Ledger) -> int:
    """How many codes are still good."""
    return 0 if ledger.recovery is None else len(ledger.recovery["hashes"])


def voided(ledger: Ledger) -> str:
    """What new codes make void, in words; empty where that is nothing. For the ledger as it was before ``issue``."""
    count = left(ledger)
    return f"{count} earlier recovery code{' is' if count == 1 else 's are'} void now." if count else ""


def due(ledger: Ledger) -> bool:
    """Whether the user needs new ones: none are left, or they were never acknowledged."""
    return ledger.recovery is None or not ledger.recovery["hashes"] or not ledger.recovery["shown"]


def spend(ledger: Ledger, code: str, sealer: Sealer) -> bool:
    """Take the code's hash out of the ledger, which the caller must commit durably before anybody gets in.

    One slow hash an attempt, whatever the outcome, and every kept hash is compared. False where it is not one of them.
    """
    from _operator import _compare_digest as compare_digest

    if ledger.recovery is None:
        return False
    digest = sealer.slow_hash(code, bytes.fromhex(ledger.recovery["salt"])).hex()
    hashes = ledger.recovery["hashes"]
    matching = [each for each in hashes if compare_digest(each, digest)]
    for each in matching:
        hashes.remove(each)
    return bool(matching)
