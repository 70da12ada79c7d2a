from __future__ import annotations

import pytest


@pytest.mark.usefixtures("visible")
def test_every_step_in_the_box_goes_as_it_should(box_of: str) -> None:
    from tests.lab.vagrant.run import run

    assert run(box_of)
