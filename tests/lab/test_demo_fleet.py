"""`./run demo fleet`, as people run it."""

from __future__ import annotations

import sys

import pytest

from tests.lab import demo_fleet

# The root with Chromium takes minutes to build.
pytestmark = pytest.mark.full


def test_one_enrolment_holds_on_each_host_without_the_directory_too_and_ends_on_all_of_them(
    suite: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo fleet", "--suite", suite])
    assert demo_fleet.main() == 0
    shown = capsys.readouterr().out
    assert shown.count("asked for a code once, got in") == 3
    assert shown.count("asked for a code once, did not get in") == 2
    assert shown.count("not asked for a code, did not get in") == 3
    reasons = ("spent-elsewhere", "decided by this host alone", "spent-code", "fleet-revoked")
    assert [shown.count(each) for each in reasons] == [1, 1, 1, 3]
    # In her own page of the portal, too.
    assert "the code was used already, on another host" in shown
    assert "8 of 8 logins went as they should" in shown
