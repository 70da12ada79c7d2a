"""What systemd is asked to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.host import programs, systemd

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that are run where systemd is; each says "active"."""
    found: list[str] = []

    def run(*command: str, fail: bool = True) -> str:
        found.append(" ".join(command))
        return "active\n"

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(systemd, "_RUNNING", str(tmp_path))
    return found


def test_a_timer_replaces_the_one_before(asked: list[str]) -> None:
    systemd.start_timer(600)
    assert asked == [
        "systemctl stop pam-totp-pinned.timer",
        "systemd-run --quiet --on-active=600s --timer-property=AccuracySec=1s --unit=pam-totp-pinned.service",
    ]


def test_a_unit_is_asked_for_and_reloaded(asked: list[str]) -> None:
    assert systemd.running()
    assert systemd.active("ssh.service")
    systemd.reload("ssh.service")
    assert not systemd.enabled(systemd.UNSEAL)  # it says "active"
    assert asked == [
        "systemctl is-active ssh.service",
        "systemctl reload ssh.service",
        "systemctl is-enabled pam-totp-unseal.service",
    ]


def test_where_it_does_not_run_there_is_no_timer_to_stop(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_RUNNING", "/nonexistent")
    systemd.stop_timer()
    assert asked == []


def test_a_unit_is_enabled_as_its_files_are_now_and_disabled(asked: list[str]) -> None:
    systemd.enable("x.socket")
    systemd.disable("x.socket")
    assert asked == [
        "systemctl daemon-reload",
        "systemctl enable --quiet x.socket",
        "systemctl restart x.socket",
        "systemctl disable --quiet --now x.socket",
    ]
