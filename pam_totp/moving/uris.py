"""``otpauth://`` URIs, and the ``otpauth-migration://`` URIs that Google Authenticator exports. Pure.

One a line, with the user's name before it if it is not the account in the URI. The first kind is the Key Uri Format of
Google Authenticator's wiki. The second holds a protobuf message of a few fields, in base64, whose wire format is read
here.
"""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl, unquote, urlsplit

from pam_totp.moving.entries import (
    Entry,
    FormatError,
    NotSupportedError,
    Refused,
    base32,
    local_names,
    number,
    require_totp,
    secret_of,
    shown,
    text_of,
)

_KNOWN = {"secret", "issuer", "algorithm", "digits", "period", "image"}
# Enumerations of the migration message; 0 is "not said".
_ALGORITHMS = {0: "SHA1", 1: "SHA1", 2: "SHA256", 3: "SHA512", 4: "MD5"}
_DIGITS = {0: 6, 1: 6, 2: 8}
_TOTP = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Part:
    """One migration URI: which part of which batch it is."""

    __slots__ = ("batch", "index", "size")

    def __init__(self, batch: int, index: int, size: int) -> None:
        self.batch = batch
        self.index = index
        self.size = size


def parse(content: bytes) -> list[Entry | Refused]:
    """All lines, in order. Raises FormatError where a line is none of the two, or a part of a batch is missing."""
    found: list[Entry | Refused] = []
    parts: list[_Part] = []
    for place, line in enumerate(text_of(content).split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"line {place}"
        user = words[0] if len(words) == 2 else ""
        uri = words[-1]
        scheme = uri.partition(":")[0].lower()
        if len(words) > 2 or scheme not in ("otpauth", "otpauth-migration"):
            raise FormatError(f"{where} is no otpauth:// or otpauth-migration:// URI, with or without a name before it")
        if scheme == "otpauth":
            found.append(_single(where, user, uri))
        else:
            entries, part = _migration(where, user, uri)
            found += entries
            parts.append(part)
    _require_whole_batches(parts)
    return found


def _single(where: str, user: str, uri: str) -> Entry | Refused:
    name = user
    try:
        split = urlsplit(uri)
        label = unquote(split.path.removeprefix("/"), errors="strict")
        account = label.rpartition(":")[2]
        name = user or account.strip()
        pairs = parse_qsl(split.query, keep_blank_values=True, strict_parsing=True, errors="strict")
        fields = dict(pairs)
        if len(fields) < len(pairs):
            raise NotSupportedError("a parameter stands there twice")
        if split.netloc.lower() != "totp":
            raise NotSupportedError("codes are counted (HOTP), not timed")
        if unknown := sorted(set(fields) - _KNOWN):
            raise NotSupportedError(f"the parameter {shown(unknown[0])} is not known")
        require_totp(
            fields.get("algorithm", "SHA1"),
            number(fields.get("digits", "6"), "digits"),
            number(fields.get("period", "30"), "period"),
        )
        return _entry(where, user, account, base32(fields.get("secret", "")))
    except NotSupportedError as error:
        return Refused(where, shown(name), str(error))
    except ValueError:  # UnicodeError is one
        return Refused(where, shown(name), "the URI is malformed")


def _entry(where: str, user: str, account: str, secret: bytes) -> Entry:
    names = [user] if user else local_names(account)
    if not names:
        raise NotSupportedError("it does not say whose it is: write the user's name and a space before it")
    return Entry(where, names, secret)


def _migration(where: str, user: str, uri: str) -> tuple[list[Entry | Refused], _Part]:
    try:
        split = urlsplit(uri)
        # Some programs leave + as it is, which a query would take for a space.
        query = dict(parse_qsl(split.query.replace("+", "%2B"), strict_parsing=True, errors="strict"))
        message = base64.b64decode(query["data"], validate=True)
        if split.netloc != "offline":
            raise ValueError
        entries: list[Entry | Refused] = []
        part = _Part(0, 0, 1)
        for field, value in fields_of(message):
            if field == 1 and isinstance(value, bytes):
                entries.append(_parameters(f"{where}, entry {len(entries) + 1}", user, value))
            elif isinstance(value, int) and field in (2, 3, 4, 5):
                part.size = value if field == 3 else part.size
                part.index = value if field == 4 else part.index
                part.batch = value if field == 5 else part.batch
            else:
                raise ValueError
    except (ValueError, KeyError):
        raise FormatError(f"{where} is not an export of Google Authenticator") from None
    return entries, part


def _parameters(where: str, user: str, message: bytes) -> Entry | Refused:
    """One entry of the message. Raises ValueError where it is none."""
    secret, name, numbers = b"", "", {4: 0, 5: 0, 6: _TOTP}
    for field, value in fields_of(message):
        if field == 1 and isinstance(value, bytes):
            secret = value
        elif field == 2 and isinstance(value, bytes):
            name = value.decode("utf-8")
        elif isinstance(value, int):
            numbers[field] = value
    account = name.rpartition(":")[2].strip()
    try:
        if numbers[6] != _TOTP:
            raise NotSupportedError("codes are counted (HOTP), not timed")
        require_totp(_ALGORITHMS.get(numbers[4], "unknown"), _DIGITS.get(numbers[5], 0))
        return _entry(where, user, account, secret_of(secret))
    except NotSupportedError as error:
        return Refused(where, shown(user or account), str(error))


def _require_whole_batches(parts: list[_Part]) -> None:
    """Make sure that of each batch all parts are there, each once. Raises FormatError."""
    for batch in {part.batch for part in parts if part.size > 1}:
        mine = [part for part in parts if part.batch == batch]
        have = sorted(part.index + 1 for part in mine)
        size = mine[0].size
        if have != list(range(1, size + 1)):
            numbers = ", ".join(map(str, have))
            raise FormatError(
                f"an export of Google Authenticator in {size} parts is there with part {numbers} only: "
                "scan the other QR codes too"
            )


def fields_of(message: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number and value, as bytes or as a number. Raises ValueError."""
    found: list[tuple[int, int | bytes]] = []
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        field, kind = tag >> 3, tag & 7
        if not field:
            raise ValueError("a field has no number")
        value: int | bytes
        if kind == _VARINT:
            value, place = _varint(message, place)
        elif kind in (_FIXED64, _FIXED32, _BYTES):
            size = 8 if kind == _FIXED64 else 4
            if kind == _BYTES:
                size, place = _varint(message, place)
            value = message[place : place + size]
            if len(value) != size:
                raise ValueError("the message is cut off")
            place += size
        else:
            raise ValueError("a field is of no kind that there is")
        found.append((field, value))
    return found


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in each byte, the lowest first; and where it ends. Raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise ValueError("a number has no end")
