"""What sshd is told, and what it is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_totp.host import programs, sshd, systemd
from pam_totp.host.programs import ProgramError

EXAMPLES = Path(__file__).resolve().parents[3] / "config/sshd_config.d"
NAMES = {"key": "key-and-code", "password": "password-and-code", "combined": "combined"}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("variant", NAMES)
def test_a_drop_in_says_what_the_example_says(variant: str) -> None:
    example = (EXAMPLES / f"00-pam-totp-{NAMES[variant]}.conf").read_text(encoding="utf-8")
    assert lines(sshd.drop_in(variant, [])) == lines(example)


def test_robots_come_last_each_in_a_block_of_its_own() -> None:
    assert lines(sshd.drop_in("key", ["backup", "root@2001:db8::1", "sync@10.0.0.0/8"]))[4:] == [
        "Match User backup",
        "    AuthenticationMethods publickey",
        "Match User root Address 2001:db8::1",
        "    AuthenticationMethods publickey",
        "Match User sync Address 10.0.0.0/8",
        "    AuthenticationMethods publickey",
    ]


def settings(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sshd, "PROGRAM", "/bin/true")
    monkeypatch.setattr(sshd, "_RUN", "/tmp")
    monkeypatch.setattr(programs, "run", lambda *_, **__: text)


GOOD = (
    "port 22\nusepam yes\nkbdinteractiveauthentication yes\npasswordauthentication no\n"
    "authenticationmethods publickey,keyboard-interactive:pam\n"
)


def test_what_differs_is_said_setting_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, GOOD)
    assert sshd.differences("key") == []
    assert sshd.differences("password") == [
        "sshd has AuthenticationMethods publickey,keyboard-interactive:pam in force, not keyboard-interactive:pam"
    ]
    settings(monkeypatch, GOOD.replace("usepam yes", "usepam no").replace("passwordauthentication no\n", ""))
    assert sshd.differences("key") == [
        "sshd has UsePAM no in force, not yes",
        "sshd has PasswordAuthentication - in force, not no",
    ]


def test_another_pam_service_is_another_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, GOOD + "pamservicename sshd\n")
    assert sshd.differences("key") == []
    settings(monkeypatch, GOOD + "pamservicename login\n")
    assert sshd.differences("key") == ["sshd asks PAM for the service login, not sshd"]


def test_a_keyword_that_comes_twice_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    settings(monkeypatch, GOOD + "authenticationmethods any\n")
    assert len(sshd.differences("key")) == 1


def test_without_sshd_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "PROGRAM", "/nonexistent")
    with pytest.raises(ProgramError, match="install openssh-server"):
        sshd.check()


def test_where_no_sshd_runs_none_is_reloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(systemd, "running", lambda: False)
    monkeypatch.setattr(sshd, "_PID", str(tmp_path / "pid"))
    assert sshd.reload() == ""
    # The number of a process that is no sshd: nothing is sent to it.
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it was sent a signal"))
    assert sshd.reload() == ""


def test_a_login_began_when_the_innermost_sshd_above_us_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {100: (90, 9.0), 90: (80, 8.0), 80: (70, 7.5), 70: (1, 1.0)}
    programs_of = {100: "python3.11", 90: "bash", 80: "sshd-session (deleted)", 70: "sshd"}
    monkeypatch.setattr(os, "getpid", lambda: 100)
    monkeypatch.setattr(sshd, "_stat", tree.__getitem__)
    monkeypatch.setattr(os, "readlink", lambda path: "/usr/sbin/" + programs_of[int(path.split("/")[2])])
    assert sshd.login_began() == 7.5
    programs_of[80] = programs_of[70] = "tmux"
    assert sshd.login_began() is None


def test_when_a_process_was_started_is_read_from_the_kernel() -> None:
    parent, started = sshd._stat(os.getpid())
    assert parent == os.getppid()
    with open("/proc/uptime", encoding="ascii") as file:
        assert 0 < started <= float(file.read().split()[0])
