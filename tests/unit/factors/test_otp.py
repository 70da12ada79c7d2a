"""HOTP and TOTP against the RFCs' own numbers and three other implementations."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import random
import re
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyotp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pam_totp.factors import otp

DATA = Path(__file__).parent / "data"
RFC_SECRET = b"12345678901234567890"
DIGITS_AND_ALIKE = st.text("0123456789 \t\n\x00\u00a0\u0663\u00b2\uff11\u096a+-._e", max_size=9)


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", rows("rfc4226.csv"), ids=lambda row: row["counter"])
def test_hotp_gives_the_values_of_rfc_4226_appendix_d(row: dict[str, str]) -> None:
    assert otp.hotp(RFC_SECRET, int(row["counter"])) == row["code"]


# The RFC prints eight digits. Ours are the last six of them: both are the same number, modulo another power of ten.
@pytest.mark.parametrize("row", rows("rfc6238.csv"), ids=lambda row: row["seconds"])
def test_totp_gives_the_sha_1_values_of_rfc_6238_appendix_b(row: dict[str, str]) -> None:
    step = otp.step_at(int(row["seconds"]))
    assert step == int(row["step"], 16)
    assert otp.hotp(RFC_SECRET, step) == row["code"][-otp.DIGITS :]


def test_ten_thousand_random_codes_are_those_of_pyotp() -> None:
    chance = random.Random(20_261_124)
    for _ in range(10_000):
        secret = chance.randbytes(otp.SECRET_BYTES)
        seconds = chance.randrange(2**33)
        theirs = pyotp.TOTP(base64.b32encode(secret).decode("ascii")).at(datetime.fromtimestamp(seconds, UTC))
        assert otp.hotp(secret, otp.step_at(seconds)) == theirs, (secret.hex(), seconds)


def test_a_thousand_codes_are_those_of_oathtool() -> None:
    chance = random.Random(6238)
    for size in (*[otp.SECRET_BYTES] * 8, 16, 64):
        secret = chance.randbytes(size)
        seconds = chance.randrange(2**32)
        theirs = subprocess.run(
            ["oathtool", "--totp", "--window=99", f"--now=@{seconds}", secret.hex()],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        step = otp.step_at(seconds)
        assert [otp.hotp(secret, each) for each in range(step, step + 100)] == theirs, (secret.hex(), seconds)


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
@example(b"", 0)
@example(bytes(64), 1)
@example(bytes(65), 2**64 - 1)
def test_hotp_truncates_the_hmac_of_the_standard_library(secret: bytes, counter: int) -> None:
    digest = hmac.new(secret, counter.to_bytes(8, "big"), "sha1").digest()
    offset = digest[19] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    assert otp.hotp(secret, counter) == f"{number % 1_000_000:06d}"


@pytest.mark.parametrize("counter", [-1, 2**64])
def test_a_counter_that_has_not_eight_bytes_is_refused(counter: int) -> None:
    with pytest.raises(OverflowError):
        otp.hotp(RFC_SECRET, counter)


@pytest.mark.parametrize(
    ("seconds", "step"), [(0, 0), (29.999, 0), (30, 1), (59, 1), (-0.001, -1), (-30, -1), (1_700_000_009.9, 56_666_666)]
)
def test_a_step_lasts_thirty_seconds_from_the_epoch_on(seconds: float, step: int) -> None:
    assert otp.step_at(seconds) == step


@given(st.one_of(st.text(), DIGITS_AND_ALIKE, st.from_regex(r"\d{3}\s?\d{3}", fullmatch=True)))
@example("123456\n")
@example("\u0661\u0662\u0663456")
@example("123\u00a0456")
def test_only_six_ascii_digits_with_at_most_a_space_in_the_middle_have_the_form_of_a_code(answer: str) -> None:
    expected = re.sub(" ", "", answer) if re.fullmatch(r"[0-9]{3} ?[0-9]{3}", answer) else None
    assert otp.parse(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        *("", " ", "12345", "1234567", "12 3456", "1234 56", "123  456", " 123456", "123456 ", "123\t456", "123-456"),
        *("+12345", "-12345", "1_2345", "0x1234", "12345.", "\u0661\u0662\u0663\u0664\u0665\u0666", "12345\u00b2"),
        *("123 45 ", " 23 456", "123   ", "\x00123456", "123456\r", "\ud800\udc00", "\udcff" * 6),
    ],
)
def test_anything_else_has_not_the_form_of_a_code(answer: str) -> None:
    assert otp.parse(answer) is None


@given(st.integers(0, 999_999))
def test_every_code_is_read_with_and_without_its_space(number: int) -> None:
    code = f"{number:06}"
    assert otp.parse(code) == otp.parse(f"{code[:3]} {code[3:]}") == code


def test_a_code_belongs_to_its_step_only() -> None:
    code = otp.hotp(RFC_SECRET, 1000)
    assert otp.matching_step(RFC_SECRET, code, range(999, 1002)) == 1000
    assert otp.matching_step(RFC_SECRET, code, range(1001, 1100)) is None
    assert otp.matching_step(RFC_SECRET, code, range(900, 1000)) is None
    assert otp.matching_step(RFC_SECRET, code, range(1000, 1000)) is None


def test_of_two_steps_with_the_same_code_the_later_one_is_taken() -> None:
    first: dict[str, int] = {}
    step = 0
    while (code := otp.hotp(RFC_SECRET, step)) not in first:
        first[code] = step
        step += 1
    assert otp.matching_step(RFC_SECRET, code, range(first[code], step + 1)) == step
    assert otp.matching_step(RFC_SECRET, code, range(first[code], step)) == first[code]


def test_there_are_no_steps_before_the_epoch() -> None:
    assert otp.matching_step(RFC_SECRET, otp.hotp(RFC_SECRET, 0), range(-2, 2)) == 0
    assert otp.matching_step(RFC_SECRET, "755224", range(-5, 0)) is None


def test_an_interpreter_without_a_sha_1_of_its_own_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_sha1", None)  # type: ignore[misc]  # None is how Python marks a module as absent
    again = runpy.run_path(otp.__file__)
    assert again["sha1"] is hashlib.sha1
    assert again["hotp"](RFC_SECRET, 0) == "755224"
