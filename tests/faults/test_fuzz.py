"""A hundred thousand answers, arguments and settings, in this process: none opens the door, and none raises."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_totp.errors import ConfigError
from pam_totp.host import config as configuration
from pam_totp.host import settings as allowed
from pam_totp.host.config import Arguments, Config
from tests.unit.conftest import host, journal, passwd, tmp_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.pretend import Host

__all__ = ["host", "journal", "passwd", "tmp_path"]  # fixtures

FULL = 100_000
# Those that are meant, and Arabic, Persian, full-width and superscript ones.
DIGITS = "0123456789" + "".join(map(chr, (0x660, 0x661, 0x6F4, 0xFF10, 0xFF11, 0xB2, 0xB3, 0xB9)))
# Answers near to codes of both kinds, and any text at all, surrogates and NUL among it.
near = st.text(st.sampled_from(DIGITS + " -+_.\t\n\0"), max_size=9)
like_recovery = st.text(st.sampled_from(string.ascii_letters + string.digits + "- "), min_size=9, max_size=12)
anything = st.text(max_size=40) | st.text(
    st.characters(whitelist_categories=["Cs", "Nd", "No", "Zs", "Cf"]), max_size=8
)
answers = st.one_of(st.none(), near, like_recovery, anything)

KEYS = sorted({*allowed.GENERAL, *allowed.ENROLLMENT, *allowed.RULE, "windw"})
scalars = st.one_of(
    st.integers(-3, 1100).map(str),
    st.integers().map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(
        ['"skip"', '"deny"', '"enroll"', '"deadline"', '"7d"', '"12h"', '"require"', '"never"', "1979-05-27"]
    ),
    st.text(string.printable, max_size=12).map(lambda text: f'"{text}"'),
    st.lists(st.sampled_from(['"alice"', '"10.0.0.0/8"', '"any"', "1", '""']), max_size=3).map(
        lambda x: f"[{','.join(x)}]"
    ),
)
lines = st.one_of(
    st.tuples(st.sampled_from(KEYS), scalars).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.sampled_from(["[[rule]]", "[enrollment]", "[rule]", "#", "", "window", "=", '"""', "[[rule]]\nmfa = 1"]),
    st.text(max_size=12),
)
files = st.one_of(
    st.lists(lines, max_size=6).map("\n".join).map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=60)
)
words = st.one_of(
    st.sampled_from(["first_factor=publickey", "combined=split", "combined=verify", "first_factor=", "debug", ""]),
    st.text(max_size=20),
)


def count(config: pytest.Config, most: int) -> settings:
    """Some cases, or all with --full; others each time."""
    return settings(max_examples=most if config.getoption("full") else 400, deadline=None, database=None)


@pytest.mark.row("codes")
def test_no_answer_but_the_code_gets_in(host: Host, pytestconfig: pytest.Config, tally: Callable[..., None]) -> None:
    secret = host.enroll()
    right = {host.code(secret, step) for step in (-1, 0, 1)}
    right |= {f"{code[:3]} {code[3:]}" for code in right}
    kept = host.snapshot()
    seen = 0

    @count(pytestconfig, FULL)
    @given(answers)
    def holds(answer: str | None) -> None:
        nonlocal seen
        seen += 1
        outcome = host.login("alice", answer)
        if outcome.verdict == "refused" and outcome.reason in ("wrong-code", "wrong-recovery-code", "spent-code"):
            host.put_back(kept)
            host.reboot()
        assert (outcome.verdict == "accepted") is (answer in right)
        assert outcome.verdict in ("refused", "no-answer", "accepted")
        if outcome.verdict == "accepted":
            host.put_back(kept)
            host.reboot()

    holds()
    tally(seen)


@pytest.mark.row("settings")
def test_settings_are_understood_or_refused(
    host: Host, pytestconfig: pytest.Config, tally: Callable[..., None]
) -> None:
    secret = host.enroll()
    seen = understood = 0

    @count(pytestconfig, FULL // 2)
    @given(files)
    def holds(content: bytes) -> None:
        nonlocal seen, understood
        seen += 1
        with open(host.paths.config, "wb") as file:
            file.write(content)
        try:
            config = configuration.load(host.paths.config, host.paths.owner)
        except ConfigError:
            # Whoever is not enrolled is refused as well: nothing is read as "skip".
            outcome = host.login("bob")
            assert outcome.verdict == "misconfigured"
            assert host.paths.config in outcome.detail
            return
        understood += 1
        _within_bounds(config)
        if not any(rule.mfa == "skip" for rule in config.rules):
            assert host.login("alice", "x").verdict == "refused"

    holds()
    assert understood
    assert host.code(secret)
    tally(seen)


def _within_bounds(config: Config) -> None:
    assert 0 <= config.window <= 10
    assert 0 <= config.max_drift <= 20
    assert 10 <= config.lock_after <= 1000
    assert config.unenrolled in ("skip", "enroll", "invite", "deny", "deadline")
    assert 1 <= len(config.prompt) <= 100
    assert config.prompt.isprintable()


@pytest.mark.row("settings")
def test_arguments_are_understood_or_refused(pytestconfig: pytest.Config, tally: Callable[..., None]) -> None:
    seen = 0

    @count(pytestconfig, FULL // 2)
    @given(st.lists(words, max_size=4))
    def holds(arguments: list[str]) -> None:
        nonlocal seen
        seen += 1
        try:
            understood = Arguments(arguments)
        except ConfigError:
            return
        assert len(arguments) == len(set(arguments)) == bool(understood.first_factor) + bool(understood.combined)

    holds()
    tally(seen)
