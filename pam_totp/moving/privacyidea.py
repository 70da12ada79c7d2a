"""What privacyIDEA's ``pi-token-janitor find export`` writes as YAML or CSV; its PSKC is read by pskc.py. Pure.

CSV has no heading: owner, serial number, key, kind, digits, and for TOTP the interval in seconds.
"""

from __future__ import annotations

import csv
import io

from pam_totp.moving.entries import (
    Entry,
    FormatError,
    NotSupportedError,
    Refused,
    base32,
    hexadecimal,
    local_names,
    number,
    require_totp,
    shown,
    text_of,
)

_NOBODY = "n/a"
_SHA1_KEY = 20
_STEP = 30

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def parse(content: bytes, owners: Mapping[str, str]) -> list[Entry | Refused]:
    """All tokens, in order. ``owners`` names the users of serial numbers, for tokens that have none there.

    Raises FormatError.
    """
    text = text_of(content)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return _yaml(text, owners) if first.startswith(("- ", "[")) else _csv(text, owners)


def _csv(text: str, owners: Mapping[str, str]) -> list[Entry | Refused]:
    found: list[Entry | Refused] = []
    try:
        rows = list(csv.reader(io.StringIO(text), skipinitialspace=True, strict=True))
    except csv.Error:
        raise FormatError("the file is neither YAML nor CSV of privacyIDEA") from None
    for place, row in enumerate(rows, 1):
        if not row:
            continue
        where = f"line {place}"
        if len(row) not in (5, 6):
            raise FormatError(f"{where} is not one of privacyIDEA's CSV: owner, serial, key, type, digits, interval")
        owner, serial, key, kind, digits = (field.strip() for field in row[:5])
        token = {"owner": owner, "serial": serial, "otpkey": key, "type": kind, "otplen": digits}
        token["timeStep"] = row[5].strip() if len(row) == 6 else ""
        found.append(_checked(where, token, {"timeStep": token["timeStep"]}, owners, said_hash=False))
    return found


def _yaml(text: str, owners: Mapping[str, str]) -> list[Entry | Refused]:
    try:
        # Late, because it is needed for this alone, and Debian's package need not be there.
        import yaml
    except ImportError:
        raise FormatError("privacyIDEA's YAML needs a package: apt-get install python3-yaml") from None
    try:
        tokens = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that there is not is a ValueError
        raise FormatError("the file is not YAML of privacyIDEA") from None
    if not isinstance(tokens, list) or not all(isinstance(each, dict) and "otpkey" in each for each in tokens):
        raise FormatError("the file is not a list of privacyIDEA's tokens")
    return [
        _checked(f"token {place}", token, _table(token.get("info_list")), owners, said_hash=True)
        for place, token in enumerate(tokens, 1)
    ]


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _checked(
    where: str, token: Mapping[str, Any], info: Mapping[str, Any], owners: Mapping[str, str], said_hash: bool
) -> Entry | Refused:
    serial = _text(token.get("serial"))
    owner = _text(token.get("owner"))
    user = owners.get(serial, "") if owner in ("", _NOBODY) else owner
    try:
        return _entry(where, token, info, serial, user, said_hash)
    except NotSupportedError as error:
        return Refused(where, shown(user or serial), str(error))


def _entry(
    where: str, token: Mapping[str, Any], info: Mapping[str, Any], serial: str, user: str, said_hash: bool
) -> Entry:
    kind = _text(token.get("type")).lower()
    if kind != "totp":
        raise NotSupportedError("codes are counted (HOTP), not timed" if kind == "hotp" else f"it is {shown(kind)}")
    for state in ("revoked", "locked"):
        if token.get(state):
            raise NotSupportedError(f"it is {state} there")
    if not token.get("active", True):
        raise NotSupportedError("it is disabled there")
    require_totp(
        _text(info.get("hashlib")) or "SHA1",
        number(_text(token.get("otplen")) or "6", "otplen"),
        number(_text(info.get("timeStep")) or "30", "timeStep"),
    )
    text = _text(token.get("otpkey"))
    try:
        secret = hexadecimal(text)
    except NotSupportedError:
        secret = base32(text)
    if not said_hash and len(secret) > _SHA1_KEY:
        raise NotSupportedError(
            f"CSV does not say the hash, and a key of {len(secret)} bytes is not made for SHA-1: export YAML"
        )
    if not user:
        raise NotSupportedError("it belongs to nobody: name the owners of serial numbers with --owners")
    # What is kept for TOTP is the step that comes after the latest spent one.
    step = number(_text(token.get("counter")) or "0", "counter") - 1
    shift = _text(info.get("timeShift")) or "0"
    drift = round(_decimal(shift) / _STEP)
    return Entry(where, local_names(user), secret, label=serial, step=step, drift=drift)


def _decimal(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1 << 31:
        raise NotSupportedError("timeShift is not a number that it can be")
    return value


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
