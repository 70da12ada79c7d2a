"""Records in the wrong place are denied; an older cache makes nothing spent work again on this boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("swap")


def test_records_in_the_wrong_place_are_denied(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("swap", "swaps")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


def test_an_older_cache_makes_nothing_spent_work_again(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("swap", "older")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])
