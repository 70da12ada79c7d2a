"""`./run demo doors`, as people run it."""

from __future__ import annotations

import sys

import pytest

from tests.lab import demo_doors

# The root with Chromium takes minutes to build.
pytestmark = pytest.mark.full


def test_each_door_lets_in_once_and_refuses_the_code_of_the_door_before(
    suite: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo doors", "--suite", suite])
    assert demo_doors.main() == 0
    shown = capsys.readouterr().out
    assert shown.count("asked for a code once, got in") == 4
    assert shown.count("asked for a code once, did not get in") == 4
    assert "8 of 8 attempts went as they should" in shown
