"""users.oath: what pam_oath and its users write there."""

from __future__ import annotations

import base64
from datetime import datetime

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.moving import oath
from pam_totp.moving.entries import Entry, FormatError, Refused

SECRET = "3132333435363738393031323334353637383930"


def only(line: str) -> Entry | Refused:
    [found] = oath.parse(f"{line}\n".encode())
    return found


def refusal(line: str) -> str:
    found = only(line)
    assert isinstance(found, Refused)
    assert found.name == "alice"
    return found.reason


@pytest.mark.parametrize("kind", ["HOTP/T30", "HOTP/T30/6"])
@pytest.mark.parametrize("pin", ["-", "+"])
def test_a_line_for_timed_codes_of_six_digits_is_read(kind: str, pin: str) -> None:
    found = only(f"{kind}\talice {pin}  {SECRET}")
    assert isinstance(found, Entry)
    assert (found.names, found.secret, found.step, found.where) == (("alice",), b"12345678901234567890", -1, "line 1")


def test_comments_and_blank_lines_are_left_out_and_lines_are_counted() -> None:
    found = oath.parse(f"# alice\n\nHOTP/T30 alice - {SECRET}\r\nHOTP/T30 bob - {SECRET}".encode())
    assert [each.where for each in found] == ["line 3", "line 4"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"HOTP alice - {SECRET}", "codes are counted (HOTP), not timed"),
        (f"HOTP/E/6 alice - {SECRET} 7 123456 2026-01-01T00:00:00L", "codes are counted (HOTP), not timed"),
        (f"HOTP/T60 alice - {SECRET}", "codes change every 60 s, not 30 s"),
        (f"HOTP/T60/8 alice - {SECRET}", "codes have 8 digits, not 6, codes change every 60 s, not 30 s"),
        (f"HOTP/T30/7 alice - {SECRET}", "codes have 7 digits, not 6"),
        (f"HOTP/T30 alice 1234 {SECRET}", "it has a PIN"),
        ("HOTP/T30 alice - 00", "the key has 1 bytes"),
        ("HOTP/T30 alice - xyz", "the key is not hexadecimal"),
        (f"HOTP/T30 alice - {SECRET} 0 123456 yesterday", "the time of the latest login is not one"),
        (f"HOTP/T30 alice - {SECRET} far 123456 2026-01-01T00:00:00L", "the offset of the latest code is not"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(line: str, reason: str) -> None:
    assert refusal(line).startswith(reason)
    assert SECRET not in refusal(line)


@pytest.mark.parametrize(("offset", "steps"), [(0, 0), (1, -1), (6, -1), (7, 1), (20, -20)])
def test_the_step_of_the_latest_code_is_that_of_the_code_whatever_number_there_is(offset: int, steps: int) -> None:
    step = int(datetime(2026, 11, 29, 14, 0, 10).timestamp()) // 30 + steps  # noqa: DTZ001 - as it is there
    code = pyotp.HOTP(base64.b32encode(bytes.fromhex(SECRET)).decode()).at(step)
    found = only(f"HOTP/T30 alice - {SECRET}\t{offset}\t{code}\t2026-11-29T14:00:10L")
    assert isinstance(found, Entry)
    assert found.step == step


def test_where_the_code_is_of_another_time_the_latest_that_it_may_have_been_is_spent() -> None:
    found = only(f"HOTP/T30 alice - {SECRET}\t-1\t755224\t2026-11-29T14:00:10L")
    assert isinstance(found, Entry)
    assert found.step == int(datetime(2026, 11, 29, 14, 0, 10).timestamp()) // 30 - 1  # noqa: DTZ001 - as it is there


@pytest.mark.parametrize(
    "text", ["otpauth://totp/alice?secret=A", "HOTP/T30 alice", f"HOTP/T30 alice - {SECRET} 0", "\xff"]
)
def test_a_file_of_another_kind_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(FormatError):
        oath.parse(text.encode("latin-1"))


@given(
    st.one_of(
        st.binary(),
        st.lists(st.sampled_from(["HOTP/T30", "alice", "-", SECRET, "0", "1", "\n", "x"])).map(
            lambda words: " ".join(words).encode()
        ),
    )
)
def test_whatever_a_file_holds_is_read_or_refused(content: bytes) -> None:
    try:
        found = oath.parse(content)
    except FormatError:
        return
    assert all(isinstance(each, (Entry, Refused)) for each in found)
