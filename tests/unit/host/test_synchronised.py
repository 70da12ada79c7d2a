"""Whether the clock is synchronised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.host import programs, synchronised

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program keeps the clock, and the kernel says that it is not synchronised."""
    monkeypatch.setattr(synchronised, "_kernel", lambda: 5)
    monkeypatch.setattr(synchronised, "_TIMESYNCD", str(tmp_path / "synchronized"))
    monkeypatch.setattr(synchronised, "_CHRONY", str(tmp_path / "chronyc"))


@pytest.mark.parametrize(("state", "synchronous"), [(0, True), (1, True), (5, False), (-1, False)])
def test_the_kernel_says_it_where_it_may_be_asked(
    state: int, synchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synchronised, "_kernel", lambda: state)
    assert synchronised.synchronised() is synchronous


def test_the_kernel_of_this_machine_has_an_answer_and_is_not_changed() -> None:
    assert synchronised._kernel() == synchronised._kernel()
    assert -1 <= synchronised._kernel() <= 5


def test_timesyncd_says_it_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "synchronized").touch()
    assert synchronised.synchronised()


@pytest.mark.parametrize(("leap", "synchronous"), [("Normal", True), ("Not synchronised", False)])
def test_chrony_says_it(leap: str, synchronous: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "chronyc").touch()
    monkeypatch.setattr(programs, "run", lambda *_, **__: f"Reference ID    : 7F7F0101 ()\nLeap status     : {leap}\n")
    assert synchronised.synchronised() is synchronous


def test_the_command_is_that_of_the_program_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synchronised, "KEEPERS", ((str(tmp_path / "a"), "start a"), (str(tmp_path / "b"), "start b")))
    assert "systemd-timesyncd" in synchronised.mend()
    (tmp_path / "b").touch()
    assert synchronised.mend() == "start b"
