"""Both portals in Debian's Chromium, with axe-core and without a script of our own."""

from __future__ import annotations

import pytest

from tests.directory import lane

pytestmark = pytest.mark.full


def test_both_portals_in_a_real_browser() -> None:
    from tests.directory import browsers

    with browsers.machine() as machine:
        browsers.give_axe(machine)
        done = lane.pytest(machine, browsers.TESTS, timeout=900)
        assert done.returncode == 0, done.stdout
        assert " passed" in done.stdout
