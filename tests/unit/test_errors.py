"""The errors: one base, each with a word for the log and an exit code."""

from __future__ import annotations

import inspect
import re

import pytest

from pam_totp import errors

CHILDREN: list[type[errors.PamTotpError]] = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, errors.PamTotpError) and each is not errors.PamTotpError
]


def test_every_error_has_the_base() -> None:
    others = [
        each for _, each in inspect.getmembers(errors, inspect.isclass) if not issubclass(each, errors.PamTotpError)
    ]
    assert others == []


@pytest.mark.parametrize("kind", CHILDREN)
def test_every_error_has_a_reason_of_its_own_and_an_exit_code(kind: type[errors.PamTotpError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.reason)
    assert [each for each in CHILDREN if each.reason == kind.reason] == [kind]
    assert kind.exit_code == (2 if kind is errors.UsageError else 3)


def test_an_error_carries_its_message_and_may_have_a_closer_reason() -> None:
    error = errors.CacheError("the cache is missing: restore it", "cache-missing")
    assert (str(error), error.reason, errors.CacheError.reason) == (
        "the cache is missing: restore it",
        "cache-missing",
        "cache-unusable",
    )


def test_a_cache_that_takes_no_writes_is_told_from_a_damaged_one() -> None:
    assert not issubclass(errors.CacheReadOnlyError, errors.DamageError)
    assert not issubclass(errors.DamageError, errors.CacheReadOnlyError)
    assert issubclass(errors.CacheReadOnlyError, errors.CacheError)
    assert issubclass(errors.DamageError, errors.CacheError)
