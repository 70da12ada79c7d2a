"""System calls that fail during a login: a code works once or not at all, and the log says what was wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("errors")


@pytest.mark.engines
def test_failing_calls_after_the_answer_let_in_once_or_deny(rig: Rig, full: bool, tally: Callable[..., None]) -> None:
    done = rig("errors", "login", held=True, every=1 if full else 2, shift=len(rig.machine.suite), everything=full)
    print(done["seen"])
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])


def test_failing_calls_anywhere_in_a_login_let_in_once_or_deny(
    rig: Rig, full: bool, tally: Callable[..., None]
) -> None:
    shift = len(rig.machine.suite)
    done = rig("errors", "login", held=False, every=2 if full else 40, shift=shift, everything=False, changing=full)
    print(done["seen"])
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["cases"])
