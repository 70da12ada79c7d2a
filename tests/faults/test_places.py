"""Links, FIFOs, devices and directories in the place of files, and directories that others may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("paths")


def test_something_else_at_a_path_is_refused_at_once(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("places", "places")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


def test_a_directory_that_others_may_write_is_refused(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("places", "open_parents")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])
