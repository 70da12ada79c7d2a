"""A full disk, a read-only one, and what is left after either: codes still work once, and nothing is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("disk")


@pytest.mark.parametrize("journal", [True, False], ids=["kept journal", "no journal"])
@pytest.mark.parametrize("how", ["full", "ro"])
def test_codes_work_once_and_failures_count_on_such_a_disk(
    how: str, journal: bool, rig: Rig, tally: Callable[..., None]
) -> None:
    done = rig("disk", "fallback", how=how, journal=journal)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


@pytest.mark.parametrize("how", ["full", "ro"])
def test_nothing_gets_in_for_a_while_after_a_reboot_in_that_state(
    how: str, rig: Rig, tally: Callable[..., None]
) -> None:
    done = rig("disk", "after_reboot", how=how)
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


def test_of_two_logins_one_through_each_path_only_one_wins(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("disk", "both_paths", rounds=200 if full else 20)
    assert not done["problems"], "\n".join(done["problems"])
    assert all(done["won"].values()), done["won"]
    tally(done["cases"], 5 * done["cases"])


def test_a_hot_journal_on_a_read_only_disk_is_denied_with_that_reason(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("disk", "hot_journal")
    assert not done["problems"], "\n".join(done["problems"])
    assert done["cases"] >= 3
    tally(done["cases"], 4 * done["cases"])
