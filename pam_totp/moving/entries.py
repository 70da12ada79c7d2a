"""What every foreign format is read into: entries to import, and refusals that say why. Pure."""

from __future__ import annotations

import base64
import binascii

from pam_totp.errors import PamTotpError

SHORTEST_SECRET = 10
LONGEST_SECRET = 128
# RFC 4226, section 4, R6; many apps and older programs make 80 bits all the same.
RECOMMENDED_SECRET = 16
LARGEST_FILE = 64 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class FormatError(PamTotpError):
    """A file as a whole is not of the format that it should be."""

    reason = "bad-import"
    exit_code = 1


class NotSupportedError(Exception):
    """One entry is not a TOTP authenticator as this program has them; the message says why, without any secret."""


class Entry:
    """One authenticator of somebody, as another program kept it.

    ``names`` are the names that its user may have here, the likeliest first; ``where`` is its place in the file.
    ``step`` is the latest step known to be spent there (-1: none is known), ``drift`` the app's clock in steps,
    ``scratch`` its one-time codes of eight digits, None where the format has none. ``notes`` are what an administrator
    should know.
    """

    __slots__ = ("drift", "label", "names", "notes", "scratch", "secret", "step", "where")

    def __init__(
        self,
        where: str,
        names: Sequence[str],
        secret: bytes,
        label: str = "",
        step: int = -1,
        drift: int = 0,
        scratch: Sequence[str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.where = where
        self.names = tuple(names)
        self.secret = secret
        self.label = label
        self.step = step
        self.drift = drift
        self.scratch = None if scratch is None else tuple(scratch)
        self.notes = list(notes)
        if len(secret) < RECOMMENDED_SECRET:
            self.notes.append(f"a short key ({len(secret) * 8} bits): enrol anew some day")

    def __repr__(self) -> str:
        return f"Entry({self.where!r}, {self.names!r})"


class Refused:
    """One authenticator that cannot be imported: whose, where it stands, and why."""

    __slots__ = ("name", "reason", "where")

    def __init__(self, where: str, name: str, reason: str) -> None:
        self.where = where
        self.name = name
        self.reason = reason

    def __repr__(self) -> str:
        return f"Refused({self.where!r}, {self.name!r}, {self.reason!r})"


def require_totp(algorithm: str = "SHA1", digits: int = 6, period: int = 30) -> None:
    """Make sure that it is TOTP with SHA-1, six digits and steps of 30 seconds. Raises NotSupportedError."""
    wrong = []
    if algorithm.upper().replace("-", "").removeprefix("HMAC") != "SHA1":
        wrong.append(f"the hash is {shown(algorithm)}, not SHA-1")
    if digits != 6:
        wrong.append(f"codes have {digits} digits, not 6")
    if period != 30:
        wrong.append(f"codes change every {period} s, not 30 s")
    if wrong:
        raise NotSupportedError(", ".join(wrong))


def secret_of(secret: bytes) -> bytes:
    """The secret, of a size that can be one. Raises NotSupportedError."""
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        raise NotSupportedError(
            f"the key has {len(secret)} bytes: {SHORTEST_SECRET} to {LONGEST_SECRET} are taken, enrol anew"
        )
    return secret


def base32(text: str) -> bytes:
    """A secret in base32, in either case, with or without padding, spaces and dashes. Raises NotSupportedError."""
    plain = "".join(text.split()).replace("-", "").rstrip("=").upper()
    try:
        return secret_of(base64.b32decode(plain + "=" * (-len(plain) % 8)))
    except ValueError:  # binascii.Error is one
        raise NotSupportedError("the key is not base32") from None


def hexadecimal(text: str) -> bytes:
    """A secret in hexadecimal digits. Raises NotSupportedError."""
    try:
        return secret_of(binascii.unhexlify(text))
    except ValueError:
        raise NotSupportedError("the key is not hexadecimal") from None


def number(text: str, what: str, least: int = 0, most: int = 2**63 - 1) -> int:
    """A decimal number in a range. Raises NotSupportedError, which names ``what``."""
    digits = text.removeprefix("-") if least < 0 else text
    # More than 19 digits are out of any range; and Python refuses to read very many.
    if digits.isascii() and digits.isdigit() and len(digits) < 20 and least <= int(text) <= most:
        return int(text)
    raise NotSupportedError(f"{what} is not a number that it can be")


def text_of(content: bytes) -> str:
    """The file as text. Raises FormatError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError("the file is not text in UTF-8: is it of the format that was named?") from None


def shown(text: str, longest: int = 64) -> str:
    """Foreign text as it may be printed: one line, not long, and nothing that a terminal would obey."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def local_names(account: str) -> list[str]:
    """The names that the user may have here, for an account such as ``alice`` or ``alice@example.org``."""
    account = account.strip()
    local = account.rpartition("@")[0]
    return [name for name in dict.fromkeys((account, local)) if name]
