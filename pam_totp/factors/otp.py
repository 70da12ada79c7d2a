"""HOTP and TOTP (RFC 4226, RFC 6238) with SHA-1, six digits and steps of 30 seconds: what every app can do.

Pure: no clock, no files. Steps are counted from the Unix epoch.
"""

from __future__ import annotations

# The two names that hmac and hashlib themselves build on. Importing hashlib loads OpenSSL, which costs a login 3 ms.
from _operator import _compare_digest as compare_digest

try:
    from _sha1 import sha1
except ImportError:  # an interpreter built without its own SHA-1
    from hashlib import sha1

DIGITS = 6
STEP_SECONDS = 30
SECRET_BYTES = 20
# How far around now a refused code is looked for, to tell a person why: 10 minutes either way.
DIAGNOSIS_STEPS = 20
_BLOCK = 64
# The pads of RFC 2104 as numbers: tables of 256 bytes, to translate keys by, took a login half a million instructions.
_INNER = int.from_bytes(b"\x36" * _BLOCK, "big")
_OUTER = int.from_bytes(b"\x5c" * _BLOCK, "big")


def hotp(secret: bytes, counter: int) -> str:
    """The six-digit HOTP value of a counter in 0 .. 2**64 - 1 (RFC 4226, section 5.3).

    Raises OverflowError for a counter out of range.
    """
    key = (_sha1(secret) if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    digest = _sha1(_padded(key, _OUTER) + _sha1(_padded(key, _INNER) + counter.to_bytes(8, "big")))
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def step_at(seconds: float) -> int:
    """The step that a time in seconds since the epoch falls into (RFC 6238, section 4.2, T0 = 0)."""
    return int(seconds // STEP_SECONDS)


def parse(answer: str) -> str | None:
    """The code in what somebody typed, or None where it has not the form of one.

    Exactly six ASCII digits count; one space in the middle is allowed, as apps show it.
    """
    if len(answer) == DIGITS + 1 and answer[DIGITS // 2] == " ":
        answer = answer[: DIGITS // 2] + answer[DIGITS // 2 + 1 :]
    if len(answer) == DIGITS and answer.isascii() and answer.isdigit():
        return answer
    return None


def matching_step(secret: bytes, code: str, steps: range) -> int | None:
    """The latest of ``steps`` that ``code`` belongs to, or None.

    Every step is computed and compared in constant time, so the answer's timing tells nothing about where it failed.
    The latest match is the safe one: taking it as the high-water mark spends all the others.
    """
    found = None
    for step in range(max(0, steps.start), steps.stop):
        if compare_digest(hotp(secret, step), code):
            found = step
    return found


def _padded(key: bytes, pad: int) -> bytes:
    return (int.from_bytes(key, "big") ^ pad).to_bytes(_BLOCK, "big")


def _sha1(data: bytes) -> bytes:
    digest: bytes = sha1(data).digest()  # noqa: S324  # HMAC-SHA-1 is what the RFCs and every app use
    return digest
