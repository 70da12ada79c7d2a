"""~/.google_authenticator: what google-authenticator and pam_google_authenticator write there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.moving import google
from pam_totp.moving.entries import Entry, FormatError, NotSupportedError

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
USUAL = f"""{SECRET}
" RATE_LIMIT 3 30 1439976483 1439976496
" WINDOW_SIZE 17
" DISALLOW_REUSE 47959316 47959318 47959317
" RESETTING_TIME_SKEW 47822956-958
" TIME_SKEW -2
" LAST0 192.0.2.1 1439976483
" TOTP_AUTH
52449723
11133056
52449723
"""


def parse(text: str) -> Entry:
    return google.parse(text.encode(), "alice", "/home/alice/.google_authenticator")


def test_a_usual_file_is_read_with_what_was_spent_and_learned() -> None:
    found = parse(USUAL)
    assert (found.names, found.secret) == (("alice",), b"12345678901234567890")
    assert (found.step, found.drift) == (47959318, -2)
    assert found.scratch == ("52449723", "11133056")
    assert found.notes == ["window 17 there, which is window = 8 here"]


def test_without_scratch_codes_and_with_the_defaults_there_is_nothing_to_note() -> None:
    found = parse(f'{SECRET}\n" TOTP_AUTH\n" WINDOW_SIZE 3\n" RATE_LIMIT 3 30\n" DISALLOW_REUSE\n')
    assert (found.step, found.drift, found.scratch, found.notes) == (-1, 0, (), [])


def test_a_weaker_limit_there_and_a_short_key_are_noted() -> None:
    found = parse('JBSWY3DPEHPK3PXP\n" RATE_LIMIT 10 20\n" TOTP_AUTH\n')
    assert found.notes == [
        "10 attempts in 20 s there; here 3, then growing waits",
        "a short key (80 bits): enrol anew some day",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'{SECRET}\n" HOTP_COUNTER 1\n', "codes are counted (HOTP), not timed"),
        (f"{SECRET}\n", "codes are counted (HOTP), not timed"),
        (f'{SECRET}\n" TOTP_AUTH\n" STEP_SIZE 60\n', "codes change every 60 s, not 30 s"),
        (f'{SECRET}\n" TOTP_AUTH\n" SOMETHING 1\n', "the option SOMETHING is not known"),
        (f'{SECRET}\n" TOTP_AUTH\n" WINDOW_SIZE many\n', "WINDOW_SIZE is not a number that it can be"),
        (
            f'{SECRET}\n" TOTP_AUTH\n' + "".join(f"{12345670 + each}\n" for each in range(11)),
            "11 scratch codes are too",
        ),
        ('GEZDGNBV\n" TOTP_AUTH\n', "the key has 5 bytes"),
        ('GEZDGNBV1\n" TOTP_AUTH\n', "the key is not base32"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(NotSupportedError) as caught:
        parse(text)
    assert str(caught.value).startswith(reason)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["", f"{SECRET}\nalice\n", f'{SECRET}\n" totp\n', f"{SECRET}\n01234567\n"])
def test_another_file_is_refused_without_a_word_of_what_it_holds(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(text)
    assert "alice" not in str(caught.value)
    assert SECRET not in str(caught.value)


@given(
    st.one_of(
        st.binary(), st.lists(st.sampled_from([SECRET, *USUAL.split("\n"), '" ', "x"])).map("\n".join).map(str.encode)
    )
)
def test_whatever_a_file_holds_is_read_or_refused(content: bytes) -> None:
    try:
        google.parse(content, "alice", "there")
    except (FormatError, NotSupportedError):
        pass
