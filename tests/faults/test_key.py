"""A host key that is not as it has to be: everybody is denied, and the command says how to put it right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = pytest.mark.row("key")


def test_a_key_that_is_not_as_it_has_to_be_denies_and_the_command_helps(rig: Rig, tally: Callable[..., None]) -> None:
    done = rig("key", "faults")
    assert not done["problems"], "\n".join(done["problems"])
    tally(done["cases"], done["pam"])
