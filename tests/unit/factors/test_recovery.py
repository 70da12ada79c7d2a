"""Recovery codes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.cache.ledger import Ledger
from pam_totp.cache.seal import Sealer
from pam_totp.factors import otp, recovery

SEALER = Sealer(bytes(32), "host")


@pytest.fixture(scope="module")
def issued() -> tuple[list[str], bytes]:
    """Ten codes as they are shown, and the ledger as it is kept."""
    ledger = Ledger()
    return recovery.issue(ledger, SEALER), ledger.encode()


def test_ten_different_codes_of_two_groups_are_issued(issued: tuple[list[str], bytes]) -> None:
    codes, content = issued
    assert len(set(codes)) == recovery.COUNT == 10
    for code in codes:
        assert re.fullmatch(r"[a-km-np-z2-9]{5}-[a-km-np-z2-9]{5}", code)
        assert code.encode() not in content
        assert code.replace("-", "").encode() not in content


def test_each_code_works_once(issued: tuple[list[str], bytes]) -> None:
    codes, content = issued
    ledger = Ledger.decode(content)
    assert recovery.left(ledger) == 10
    for number, code in enumerate(codes[:3], start=1):
        parsed = recovery.parse(code)
        assert parsed is not None
        assert recovery.spend(ledger, parsed, SEALER)
        assert not recovery.spend(ledger, parsed, SEALER)
        assert recovery.left(ledger) == 10 - number


def test_a_wrong_code_spends_nothing(issued: tuple[list[str], bytes]) -> None:
    ledger = Ledger.decode(issued[1])
    assert not recovery.spend(ledger, "aaaaaaaaaa", SEALER)
    assert recovery.left(ledger) == 10


def test_a_code_that_was_issued_before_is_good_no_more(issued: tuple[list[str], bytes]) -> None:
    codes, content = issued
    ledger = Ledger.decode(content)
    recovery.issue(ledger, SEALER)
    assert not recovery.spend(ledger, codes[0].replace("-", ""), SEALER)


def test_codes_count_as_shown_when_that_is_acknowledged(issued: tuple[list[str], bytes]) -> None:
    ledger = Ledger.decode(issued[1])
    assert ledger.recovery is not None
    assert ledger.recovery["shown"] is False
    assert recovery.acknowledge(ledger, issued[0], SEALER)
    assert ledger.recovery["shown"] is True


def test_new_codes_are_due_where_there_are_none_or_nobody_saw_them(issued: tuple[list[str], bytes]) -> None:
    ledger = Ledger()
    assert recovery.due(ledger)
    ledger = Ledger.decode(issued[1])
    assert recovery.due(ledger)
    recovery.acknowledge(ledger, issued[0], SEALER)
    assert not recovery.due(ledger)
    assert ledger.recovery is not None
    ledger.recovery["hashes"].clear()
    assert recovery.due(ledger)


def test_a_user_without_codes_has_none() -> None:
    ledger = Ledger()
    assert not recovery.acknowledge(ledger, ["aaaaa-aaaaa"], SEALER)
    assert recovery.left(ledger) == 0
    assert not recovery.spend(ledger, "aaaaaaaaaa", SEALER)


@pytest.mark.parametrize(
    "answer", ["k7m2p-9xq4t", "k7m2p9xq4t", "K7M2P-9XQ4T", " k7m2p-9xq4t ", "k7m2p 9xq4t", "k7m2p-9xq4t\n"]
)
def test_a_code_may_be_typed_in_several_ways(answer: str) -> None:
    assert recovery.parse(answer) == "k7m2p9xq4t"


@pytest.mark.parametrize(
    "answer",
    [
        *("", "123456", "123 456", "k7m2p", "k7m2p-9xq4", "k7m2p-9xq4tt", "k7m2p--9xq4t", "-k7m2p9xq4t", "k7m2p_9xq4t"),
        *("k7m2l-9xq4t", "k7m2o-9xq4t", "k7m20-9xq4t", "k7m21-9xq4t", "23456-23456", "2345623456", "k7m2p\u20109xq4t"),
    ],
)
def test_anything_else_has_not_the_form(answer: str) -> None:
    assert recovery.parse(answer) is None


@pytest.mark.parametrize("answer", ["k7m2p-9xq4t", "K7M2P-9XQ4T"])
def test_a_code_as_it_is_shown_has_the_exact_form(answer: str) -> None:
    assert recovery.parse_shown(answer) == "k7m2p9xq4t"


@pytest.mark.parametrize(
    "answer", ["k7m2p 9xq4t", "k7m2p9xq4t", " k7m2p9xq4t", "k7m2p9xq4t ", " 7m2p-9xq4t", "k7m2p-9xq4 ", "k7m2-p9xq4t"]
)
def test_anything_near_the_form_is_not_the_exact_form(answer: str) -> None:
    assert recovery.parse_shown(answer) is None


@given(st.one_of(st.text(), st.text("abk279 -", max_size=13), st.from_regex(r"\A[a-z2-9]{5}[- ]?[a-z2-9]{5}\Z")))
def test_nothing_has_the_form_of_both_kinds_of_code(answer: str) -> None:
    assert otp.parse(answer) is None or recovery.parse(answer) is None


def test_a_code_is_drawn_from_all_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set("".join(recovery.random_code() for _ in range(200)))) == 32
    # An all-digit draw would be read as nothing: it is drawn again.
    draws = [bytes([25] * 10), bytes(range(10))]
    monkeypatch.setattr("posix.urandom", lambda _: draws.pop(0))
    assert recovery.random_code() == "abcdefghij"


def test_a_code_that_is_drawn_twice_is_issued_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [bytes([number] * 10) for number in (0, 0, *range(1, 10))] + [bytes(16)]
    monkeypatch.setattr("posix.urandom", lambda _: draws.pop(0))
    ledger = Ledger()
    assert len(set(recovery.issue(ledger, SEALER))) == 10


def test_codes_are_told_from_those_that_took_their_place(issued: tuple[list[str], bytes]) -> None:
    codes, content = issued
    ledger = Ledger.decode(content)
    assert all(recovery.holds(ledger, code, SEALER) for code in codes[::4])
    assert recovery.left(ledger) == 10
    assert not recovery.holds(ledger, "aaaaa-aaaaa", SEALER)
    assert not recovery.holds(Ledger(), codes[0], SEALER)
