"""The file of google-authenticator-libpam, ``~/.google_authenticator`` (its FILEFORMAT). Pure.

The secret in base32, then options, each ``" NAME VALUE``, then scratch codes of eight digits.
"""

from __future__ import annotations

import re

from pam_totp.moving.entries import Entry, FormatError, NotSupportedError, base32, number, require_totp, shown, text_of

_OPTION = re.compile(r'" ([A-Z][A-Z0-9_]*)(?: (.*))?')
_SCRATCH = re.compile(r"[1-9][0-9]{7}")
# What is remembered about latest logins and wrong codes there means nothing here.
_FORGOTTEN = re.compile(r"RESETTING_TIME_SKEW|LAST[0-9]+")
_DEFAULT_WINDOW = 3
_MOST_SCRATCH = 10


def parse(content: bytes, name: str, where: str) -> Entry:
    """The one authenticator of the user ``name``. Raises NotSupportedError, or FormatError for something else."""
    lines = [line.rstrip() for line in text_of(content).split("\n")]
    if not lines[0]:
        raise FormatError("the first line has no key")
    options: dict[str, str] = {}
    scratch = []
    for place, line in enumerate(lines[1:], 2):
        if not line:
            continue
        option = _OPTION.fullmatch(line)
        if option:
            options[option[1]] = (option[2] or "").strip()
        elif _SCRATCH.fullmatch(line):
            scratch.append(line)
        else:
            raise FormatError(f"line {place} is neither an option nor a scratch code")
    if "HOTP_COUNTER" in options or "TOTP_AUTH" not in options:
        raise NotSupportedError("codes are counted (HOTP), not timed")
    require_totp(period=number(options.pop("STEP_SIZE", "30"), "STEP_SIZE"))
    used = [number(each, "DISALLOW_REUSE") for each in options.pop("DISALLOW_REUSE", "").split()]
    drift = number(options.pop("TIME_SKEW", "0"), "TIME_SKEW", least=-(2**31))
    notes = _notes(options)
    if len(scratch) > _MOST_SCRATCH:
        raise NotSupportedError(f"{len(scratch)} scratch codes are too many: {_MOST_SCRATCH} are the most")
    unknown = [each for each in options if each != "TOTP_AUTH" and not _FORGOTTEN.fullmatch(each)]
    if unknown:
        raise NotSupportedError(f"the option {shown(unknown[0])} is not known: take it out if it means nothing to you")
    return Entry(
        where,
        [name],
        base32(lines[0]),
        step=max(used, default=-1),
        drift=drift,
        scratch=list(dict.fromkeys(scratch)),
        notes=notes,
    )


def _notes(options: dict[str, str]) -> list[str]:
    """What holds there and not here; takes these options out."""
    notes = []
    window = number(options.pop("WINDOW_SIZE", str(_DEFAULT_WINDOW)), "WINDOW_SIZE", least=1, most=100)
    if window > _DEFAULT_WINDOW:
        notes.append(f"window {window} there, which is window = {window // 2} here")
    limit = options.pop("RATE_LIMIT", "").split()
    if limit:
        attempts, seconds = (number(each, "RATE_LIMIT", least=1) for each in (limit + limit)[:2])
        if attempts > _DEFAULT_WINDOW or seconds < 30:
            notes.append(f"{attempts} attempts in {seconds} s there; here 3, then growing waits")
    return notes
