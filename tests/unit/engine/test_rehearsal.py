"""The logins of nobody that the warm process begins with."""

from __future__ import annotations

import os
import posix
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.cache.volatile import Volatile
from pam_totp.engine import rehearsal, warm
from pam_totp.host import users
from tests.unit.places import ME

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / os.path.basename(warm._REHEARSAL))


def test_each_login_is_a_whole_one_and_nothing_stays(place: str, tmp_path: Path) -> None:
    outcomes = rehearsal.rehearse(place)
    assert [(outcome.verdict, outcome.reason) for outcome in outcomes] == [("accepted", "code")] * len(outcomes)
    assert len(outcomes) > 8
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_the_host_is_opened_asked_or_logged(
    place: str, monkeypatch: pytest.MonkeyPatch, journal: list[tuple[int, str]]
) -> None:
    opened: set[str] = set()
    real = posix.open

    def note(path: str, *rest: Any, **named: Any) -> int:
        opened.add(path)
        return real(path, *rest, **named)

    monkeypatch.setattr("posix.open", note)
    monkeypatch.setattr(users, "find", lambda _: pytest.fail("NSS was asked"))
    rehearsal.rehearse(place)
    assert {path for path in opened if not path.startswith(place)} == {"/proc/sys/kernel/random/boot_id"}
    assert f"{place}/key" in opened
    assert journal == []


def test_what_a_killed_process_left_is_removed(place: str, tmp_path: Path) -> None:
    os.mkdir(place)
    for name in ("key", "cache.db"):
        (tmp_path / place / name).write_text("half")
    assert len(rehearsal.rehearse(place)) > 8
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_is_taken_for_no_users_copy(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(0o700)
    (run / os.path.basename(warm._REHEARSAL)).mkdir()
    assert Volatile(str(run), ME).tokens() == set()


def test_one_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_REHEARSAL", "/proc/nowhere")
    with pytest.raises(OSError, match="nowhere"):
        rehearsal.rehearse("/proc/nowhere")
    warm._rehearse()
