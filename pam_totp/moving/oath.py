"""The users file of pam_oath (OATH Toolkit), usually ``/etc/users.oath``. Pure, but for the host's time zone.

A line is ``HOTP/T30/6 USER PIN SECRET``, where the secret is hexadecimal; after a login also a number of steps, the
code, and when it was. The number is not how far the code was from that time: it has no sign, and grows with each login.
"""

from __future__ import annotations

import re
from datetime import datetime

from pam_totp.factors import otp
from pam_totp.moving.entries import (
    Entry,
    FormatError,
    NotSupportedError,
    Refused,
    hexadecimal,
    number,
    require_totp,
    shown,
    text_of,
)

_TYPE = re.compile(r"HOTP(?:/T(?P<period>[0-9]{1,6})|/E)?(?:/(?P<digits>[0-9]{1,2}))?")
_NO_PIN = ("-", "+")
# Steps around the time of a login among which its code is looked for.
_REACH = 100


def parse(content: bytes) -> list[Entry | Refused]:
    """All lines, in order. Raises FormatError where a line is not one of such a file."""
    found: list[Entry | Refused] = []
    for place, line in enumerate(text_of(content).split("\n"), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        where = f"line {place}"
        kind = _TYPE.fullmatch(fields[0])
        if kind is None or len(fields) not in (4, 7):
            raise FormatError(f"{where} is not one of a users file of pam_oath")
        try:
            found.append(_entry(where, kind, fields))
        except NotSupportedError as error:
            found.append(Refused(where, shown(fields[1]), str(error)))
    return found


def _entry(where: str, kind: re.Match[str], fields: list[str]) -> Entry:
    _, name, pin, secret, *log = fields
    if kind["period"] is None:
        raise NotSupportedError("codes are counted (HOTP), not timed")
    require_totp(digits=int(kind["digits"] or 6), period=int(kind["period"]))
    if pin not in _NO_PIN:
        raise NotSupportedError(
            "it has a PIN, which is not asked for here: put - in its place if the password is enough"
        )
    step = -1
    if log:
        offset, code, time = log
        try:
            # The local time of the host that wrote it.
            moment = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SL").timestamp()  # noqa: DTZ007 - it has no zone
        except (ValueError, OverflowError):
            raise NotSupportedError("the time of the latest login is not one") from None
        furthest = otp.step_at(moment) + number(offset, "the offset of the latest code", least=-(2**31), most=2**31)
        step = _step_of(code, hexadecimal(secret), otp.step_at(moment), furthest)
    return Entry(where, [name], hexadecimal(secret), step=step)


def _step_of(code: str, secret: bytes, step: int, furthest: int) -> int:
    """The step of a code that was accepted at about this one; where none is found, the furthest it may have been."""
    for distance in range(_REACH + 1):
        for each in (step - distance, step + distance):
            if each >= 0 and otp.hotp(secret, each) == code:
                return each
    return furthest
