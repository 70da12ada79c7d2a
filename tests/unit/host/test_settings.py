"""What a value of the configuration file has to look like; test_config.py has what becomes of it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pam_totp.host import settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("1m", 60), ("90m", 5400), ("12h", 43_200), ("365d", 31_536_000), ("0m", None), ("366d", None), ("1", None)),
        *(("m", None), ("-1m", None), ("1.5h", None), ("1 h", None), (" 1h", None), ("1h\n", None), ("1H", None)),
        *(("\u0661h", None), ("9999999m", None), ("1d12h", None), (5, None), (None, None), ("", None)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: object, seconds: int | None) -> None:
    assert settings.duration(text) == seconds


# As patterns, which the module does without: importing `re` would cost each login 3 ms.


@given(st.from_regex(r"[0-9]{0,7}[mhd]?|\d{1,2}[a-z\n]?"))
def test_a_duration_has_the_form_that_its_pattern_says(text: str) -> None:
    wanted = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    seconds = int(wanted[1]) * {"m": 60, "h": 3600, "d": 86_400}[wanted[2]] if wanted else 0
    assert settings.duration(text) == (seconds if 0 < seconds <= 365 * 86_400 else None)


DIGESTS = st.text("Aa0+/", min_size=42, max_size=44) | st.text("A-_=: \n\u0661\xe9+", min_size=43, max_size=43)


@given(st.sampled_from(["", "ca:", "SHA256:", "ca:SHA256:", "SHA256:ca:", "SHA256:SHA256:", "ca:ca:SHA256:"]), DIGESTS)
@example("SHA256:", "A" * 43)
@example("ca:SHA256:", "+/" * 21 + "9")
@example("SHA256:", "A" * 42 + "\n")
def test_a_key_in_a_rule_has_the_form_that_its_pattern_says(prefix: str, digest: str) -> None:
    wanted = re.fullmatch(r"(ca:)?SHA256:[A-Za-z0-9+/]{43}", prefix + digest)
    allowed, is_one = settings.RULE["keys"]
    assert allowed
    assert is_one([prefix + digest]) == (wanted is not None)
