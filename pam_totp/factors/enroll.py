"""New authenticators: the otpauth URI, the QR code, and the first code that proves the secret arrived.

Not on the login path.
"""

from __future__ import annotations

import base64
import os
import socket

import pyotp
import segno

from pam_totp.cache.accounts import ACTIVE, MOST_AUTHENTICATORS, PENDING, Account, Authenticator
from pam_totp.errors import UsageError
from pam_totp.factors import otp

DEFAULT_LABEL = "phone"
LONGEST_LABEL = 32
STYLES = ("utf8", "utf8-light", "ascii", "ascii-light", "none")
QUIET_ZONE = 2
# Plain characters take twice the width, and this is what lets a usual URI fit 80 columns.
NARROW_QUIET_ZONE = 1
_PAPER_QUIET_ZONE = 4
_MASK = 2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.config import Config


def check_label(label: str) -> str:
    """The label, 1 to 32 printable characters without a colon. Raises UsageError."""
    if not 0 < len(label) <= LONGEST_LABEL or not label.isprintable() or ":" in label:
        raise UsageError(f"a label has 1 to {LONGEST_LABEL} printable characters and no colon: choose another one")
    return label


def fresh(label: str, now: int, secret: bytes | None = None) -> Authenticator:
    """A pending authenticator with a fresh secret of 160 bits, or with one that the user brings along."""
    return Authenticator(os.urandom(16).hex(), PENDING, label, "local", now, secret or os.urandom(otp.SECRET_BYTES))


def begin(account: Account, label: str, now: int, secret: bytes | None = None) -> Authenticator:
    """Put an administrator's new pending authenticator into the account, in the place of an earlier pending one.

    The caller has asked whether that one is to go.

    Active ones stay and keep working until the new one is confirmed. Raises UsageError when there are too many.
    """
    others = [each for each in account.active if each.label != label]
    if len(others) >= MOST_AUTHENTICATORS:
        raise UsageError(
            f"{account.name} has {len(account.active)} authenticators, which is the most: "
            f"remove one with pam-totp reset {account.name} --label LABEL"
        )
    authenticator = fresh(label, now, secret)
    account.authenticators = [*account.active, authenticator]
    account.ledger.issued = authenticator.identifier
    return authenticator


def confirm(account: Account, code: str, now_step: int, window: int) -> bool:
    """Activate the pending authenticator if the code is right for it, and spend that code.

    An active one with the same label is replaced. Invitation and deadline have served; after a reset they begin anew.
    False where the code is wrong, or nothing is pending.
    """
    pending = account.pending
    if pending is None:
        return False
    steps = range(now_step - window, now_step + window + 1)
    step = otp.matching_step(pending.secret, code, steps)
    if step is None:
        return False
    account.ledger.mark(pending.identifier).step = step
    activate(account, pending)
    return True


def activate(account: Account, pending: Authenticator) -> None:
    """Activate a pending authenticator without a code: the user is known to have the secret.

    An active one with the same label is replaced.
    """
    account.ledger.enrolled = pending.created if account.enrolled is None else account.enrolled
    account.ledger.invitation = account.ledger.grace = account.ledger.deadline = account.ledger.issued = None
    pending.state = ACTIVE
    account.authenticators = [each for each in account.authenticators if each is pending or each.label != pending.label]


def cancel(account: Account, label: str | None) -> bool:
    """Take out the pending authenticator, if it has this label (or any: None), and nothing else.

    False where there is no such one.
    """
    pending = account.pending
    if pending is None or label not in (None, pending.label):
        return False
    account.authenticators.remove(pending)
    account.ledger.issued = None
    return True


def seconds_off(account: Account, code: str, now_step: int) -> int | None:
    """How many seconds ahead the pending authenticator's clock is, if the code is right for another time at all."""
    pending = account.pending
    if pending is None:
        return None
    around = range(now_step - otp.DIAGNOSIS_STEPS, now_step + otp.DIAGNOSIS_STEPS + 1)
    step = otp.matching_step(pending.secret, code, around)
    return None if step is None else (step - now_step) * otp.STEP_SECONDS


def remove(account: Account, label: str | None) -> bool:
    """Take out the authenticators with ``label``, or all. False where there were none.

    What is spent stays known. When the first one was enrolled stays known until the last active one is removed.
    """
    kept = [each for each in account.authenticators if label is not None and each.label != label]
    if len(kept) == len(account.authenticators):
        return False
    account.ledger.enrolled = account.enrolled
    account.authenticators = kept
    if not any(each.state != PENDING for each in kept):
        account.ledger = account.ledger.cleared()
    return True


def base32(secret: bytes) -> str:
    """The secret as apps take it."""
    return base64.b32encode(secret).decode("ascii").rstrip("=")


def grouped(text: str) -> str:
    """In groups of four, for reading and typing."""
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def uri(account: Account, authenticator: Authenticator, config: Config) -> str:
    """The otpauth URI of the Key Uri Format that every app's scanner reads."""
    host = socket.gethostname()
    issuer = config.issuer or host
    name = account.name if config.issuer == "" else f"{account.name}@{host}"
    return str(pyotp.TOTP(base32(authenticator.secret)).provisioning_uri(name=name, issuer_name=issuer))


def qr(text: str, style: str) -> str:
    """A QR code as lines of text: "utf8" or "auto" (two modules a character), "ascii", or "none" (empty).

    What is light is drawn, so that it scans from a dark terminal, where text is light. "utf8-light" and "ascii-light"
    are for a light terminal, where text is dark: what is dark is drawn. Most scanners take either.
    """
    if style == "none":
        return ""
    plain, light = style.startswith("ascii"), style.endswith("-light")
    border = NARROW_QUIET_ZONE if plain else QUIET_ZONE
    matrix = segno.make(text, error="l", micro=False).matrix_iter(border=border)
    drawn = [[bool(dark) == light for dark in row] for row in matrix]
    if plain:
        return "\n".join("".join("##" if each else "  " for each in row) for row in drawn)
    if len(drawn) % 2:
        drawn.append([not light] * len(drawn[0]))
    blocks = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    pairs = zip(drawn[::2], drawn[1::2], strict=True)
    return "\n".join("".join(blocks[halves] for halves in zip(*pair, strict=True)) for pair in pairs)


def modules(text: str) -> list[list[bool]]:
    """A QR code for paper: rows of modules, True where one is dark, with the quiet zone of 4 (ISO/IEC 18004)."""
    # A fixed mask is as valid as the best of the eight, and spares most of the time for hundreds of pages.
    rows = segno.make(text, error="m", micro=False, mask=_MASK).matrix_iter(border=_PAPER_QUIET_ZONE)
    return [[bool(dark) for dark in row] for row in rows]
