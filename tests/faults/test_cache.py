"""A damaged cache: nobody gets in with a wrong or spent code, nobody enrolled goes unasked, and status says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("cache")


def test_a_cut_cache_lets_nobody_in(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("cache", "truncations")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"])


def test_a_flipped_bit_lets_nobody_in(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("cache", "flips", every=1 if full else 193, start=0 if full else len(rig.machine.suite))
    assert not done["problems"], "\n".join(done["problems"])
    if full:
        assert done["cases"] == 8 * done["size"]
    tally(done["cases"])


def test_mutations_let_nobody_in(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("cache", "mutations", count=100_000 if full else 400, seed=len(rig.machine.suite))
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"])


def test_rows_edited_with_sqlite3_are_denied(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("cache", "edits")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


def test_the_real_module_lets_nobody_in_with_a_damaged_cache(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("cache", "through_pam", count=1000 if full else 40, seed=len(rig.machine.suite))
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])
