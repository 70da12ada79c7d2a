"""otpauth:// and otpauth-migration:// URIs; the latter are made here by a writer of protobuf's wire format."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.moving import uris
from pam_totp.moving.entries import Entry, FormatError, Refused

RAW = b"12345678901234567890"
SECRET = base64.b32encode(RAW).decode()


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(name: str = "alice", secret: bytes = RAW, algorithm: int = 1, digits: int = 1, kind: int = 2) -> bytes:
    """An entry as Google Authenticator writes it: secret, name, issuer, algorithm, digits, type, and counter 0."""
    parts = [(1, secret), (2, name.encode()), (3, b"host"), (4, algorithm), (5, digits), (6, kind), (7, 0)]
    return b"".join(field(number, value) for number, value in parts)  # type: ignore[arg-type]  # bytes or numbers


def migration(*entries: bytes, size: int = 1, index: int = 0, batch: int = -77) -> str:
    message = b"".join(field(1, each) for each in entries)
    message += b"".join(field(number, value) for number, value in ((2, 1), (3, size), (4, index), (5, batch)))
    return "otpauth-migration://offline?data=" + quote(base64.b64encode(message).decode(), safe="")


def parse(*lines: str) -> list[Entry | Refused]:
    return uris.parse("\n".join(lines).encode())


def entries(*lines: str) -> list[Entry]:
    found = parse(*lines)
    assert all(isinstance(each, Entry) for each in found), found
    return [each for each in found if isinstance(each, Entry)]


def reasons(*lines: str) -> list[str]:
    return [each.reason for each in parse(*lines) if isinstance(each, Refused)]


def test_a_uri_of_pyotp_is_read() -> None:
    [found] = entries(pyotp.TOTP(SECRET).provisioning_uri(name="alice@lab", issuer_name="My Host"))
    assert (found.secret, found.names) == (RAW, ("alice@lab", "alice"))


@pytest.mark.parametrize("label", ["alice", "Host:alice", "Host%3Aalice", "Host:%20alice", "Host%20One:alice"])
def test_the_account_is_what_stands_after_the_issuer(label: str) -> None:
    [found] = entries(f"otpauth://totp/{label}?secret={SECRET.lower()}&issuer=x&algorithm=SHA1&digits=6&period=30")
    assert found.names == ("alice",)


def test_a_name_before_the_uri_says_whose_it_is() -> None:
    [found] = entries(f"bob otpauth://totp/alice@example.org?secret={SECRET}", "# a comment", "")
    assert found.names == ("bob",)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (f"secret={SECRET}&algorithm=SHA256", "the hash is SHA256, not SHA-1"),
        (f"secret={SECRET}&digits=8", "codes have 8 digits, not 6"),
        (f"secret={SECRET}&period=60", "codes change every 60 s, not 30 s"),
        (f"secret={SECRET}&period=x", "period is not a number that it can be"),
        (f"secret={SECRET}&pin=1", "the parameter pin is not known"),
        (f"secret={SECRET}&secret={SECRET}", "a parameter stands there twice"),
        ("issuer=x", "the key has 0 bytes"),
        ("secret=01", "the key is not base32"),
        (f"secret={SECRET}&issuer=%ff", "the URI is malformed"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(query: str, reason: str) -> None:
    [found] = reasons(f"otpauth://totp/alice?{query}")
    assert found.startswith(reason)
    assert SECRET not in found


def test_counted_codes_are_refused() -> None:
    assert reasons(f"otpauth://hotp/alice?secret={SECRET}&counter=1") == ["codes are counted (HOTP), not timed"]


def test_a_uri_without_an_account_is_refused() -> None:
    assert reasons(f"otpauth://totp/?secret={SECRET}")[0].startswith("it does not say whose it is")


def test_an_export_of_google_authenticator_is_read() -> None:
    found = entries(migration(entry(), entry("Host:bob@lab", b"x" * 20, algorithm=0, digits=0)))
    assert [each.secret for each in found] == [RAW, b"x" * 20]
    assert [each.names for each in found] == [("alice",), ("bob@lab", "bob")]
    assert found[1].where == "line 1, entry 2"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"algorithm": 2}, "the hash is SHA256, not SHA-1"),
        ({"algorithm": 4}, "the hash is MD5, not SHA-1"),
        ({"digits": 2}, "codes have 8 digits, not 6"),
        ({"kind": 1}, "codes are counted (HOTP), not timed"),
        ({"secret": b"short"}, "the key has 5 bytes"),
        ({"secret": b""}, "the key has 0 bytes"),
    ],
)
def test_an_entry_of_an_export_that_is_not_supported_is_refused(odd: dict[str, int], reason: str) -> None:
    [found] = reasons(migration(entry(**odd), entry("bob")))  # type: ignore[arg-type]  # one of them is bytes
    assert found.startswith(reason)


def test_an_export_in_parts_is_read_when_all_parts_are_there() -> None:
    parts = [migration(entry(f"user{place}"), size=2, index=place) for place in range(2)]
    assert len(entries(*reversed(parts))) == 2
    for some in (parts[:1], parts[1:], [parts[0], parts[0]]):
        with pytest.raises(FormatError, match="in 2 parts is there with part"):
            parse(*some)


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "http://example.org/",
        f"a b otpauth://totp/alice?secret={SECRET}",
        "otpauth-migration://offline",
        "otpauth-migration://offline?data=%%%",
        "otpauth-migration://online?data=EAE=",
        "otpauth-migration://offline?data=" + base64.b64encode(b"\x0a\x7fcut").decode(),
        "otpauth-migration://offline?data=" + base64.b64encode(b"\x80").decode(),
    ],
)
def test_what_is_no_such_uri_is_refused_as_a_whole(line: str) -> None:
    with pytest.raises(FormatError):
        parse(line)


@given(st.lists(st.tuples(st.integers(1, 2**28), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=200)))))
def test_every_message_reads_as_it_was_written(fields: list[tuple[int, int | bytes]]) -> None:
    assert uris.fields_of(b"".join(field(number, value) for number, value in fields)) == fields


@given(st.binary())
def test_every_message_is_read_or_refused(message: bytes) -> None:
    try:
        parse("otpauth-migration://offline?data=" + quote(base64.b64encode(message).decode(), safe=""))
    except FormatError:
        pass


@given(st.text(max_size=60))
def test_every_uri_is_read_or_refused(text: str) -> None:
    for line in (f"otpauth://totp/{text}", f"otpauth://{text}", f"otpauth://totp/alice?secret={SECRET}&{text}", text):
        try:
            parse(line)
        except FormatError:
            pass
