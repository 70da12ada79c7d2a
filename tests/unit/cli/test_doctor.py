"""``pam-totp doctor`` as a command, and what other verbs say where nothing asks; the findings are in tests/doctor."""

from __future__ import annotations

import os
import syslog
from typing import TYPE_CHECKING

import pytest

from pam_totp.doctor import examine, stacks
from pam_totp.doctor.findings import Finding

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

REAL = stacks.not_asked
LOCKED = Finding("locked", "alice, 100 wrong in a row", "pam-totp unlock alice")
MISSING = Finding("line-missing", "/etc/pam.d/sshd has\x1b[31m no line", "pam-totp setup --variant key")
UNTRIED = Finding("engine-not-tried", "no namespace")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What is found; a test adds to it."""
    findings: list[Finding] = []
    monkeypatch.setattr(examine, "findings", lambda *_: findings)
    return findings


def test_where_nothing_is_found_it_is_in_force(command: Command, found: list[Finding]) -> None:
    assert found == []
    ran = command("doctor")
    assert (ran.code, ran.out) == (0, "MFA is in force: sshd\n")


def test_each_finding_is_shown_with_its_command_and_nothing_of_a_file_reaches_the_terminal(
    command: Command, found: list[Finding]
) -> None:
    found += [MISSING, LOCKED]
    ran = command("doctor")
    assert ran.code == 1
    assert "error: line-missing: no auth line of the service names the module\n" in ran.out
    assert "  mend: pam-totp setup --variant key\n" in ran.out
    assert "\x1b" not in ran.out
    assert ran.out.endswith("MFA is NOT in force, or nobody can log in: sshd\n")


@pytest.mark.parametrize(("each", "code", "in_force"), [(LOCKED, 0, True), (MISSING, 1, False), (UNTRIED, 3, None)])
def test_programs_get_one_document(
    command: Command, found: list[Finding], each: Finding, code: int, in_force: bool | None
) -> None:
    found.append(each)
    ran = command("doctor", "--json")
    assert (ran.code, ran.json["in_force"], ran.json["services"]) == (code, in_force, ["sshd"])
    assert ran.json["findings"] == [each.plain()]


def test_a_service_that_is_none_is_refused(command: Command, found: list[Finding]) -> None:
    assert found == []
    for name in ("nothing", "../passwd"):
        ran = command("doctor", "--service", name)
        assert (ran.code, "no such service" in ran.err) == (2, True)


def test_an_error_is_an_alert_where_something_is_set_up_and_silent_where_nothing_is(
    command: Command, host: Host, found: list[Finding], journal: list[tuple[int, str]]
) -> None:
    found += [MISSING, LOCKED]
    ran = command("doctor", "--log")
    assert (ran.code, ran.out, journal) == (0, "", [])
    os.makedirs(host.paths.services)
    with open(f"{host.paths.services}/other", "w", encoding="utf-8") as file:
        file.write("auth optional pam_totp.so\n")
    assert command("doctor", "--log").code == 1
    [(priority, line)] = journal
    assert priority == syslog.LOG_AUTHPRIV | syslog.LOG_ALERT
    assert line.startswith("pam-totp: action=not-in-force reason=line-missing detail=")


@pytest.fixture
def nothing_asks(command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on a host whose sshd asks for no code."""
    monkeypatch.setattr(stacks, "not_asked", REAL)
    return command


def test_no_verb_says_that_codes_are_asked_for_where_nothing_asks(nothing_asks: Command, host: Host) -> None:
    host.enroll()
    said = "no login to sshd is certain to ask"
    for words in (("status",), ("config", "check"), ("enroll", "alice", "--no-confirm", "--qr", "none")):
        ran = nothing_asks(*words)
        assert said in ran.err, ran
    assert said in nothing_asks("check", "alice", piped="123456\n").err
    ran = nothing_asks("explain", "alice")
    assert "but only if sshd asks, and that is not certain" in ran.out
    assert "is missing" in nothing_asks("explain", "alice", "--json").json["not_asked"]
    assert said in nothing_asks("reset", "alice", "--yes").err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "alice is not asked for a code"),
        ('unenrolled = "deny"', "alice is refused"),
        ('unenrolled = "enroll"', "alice enrols at the prompt"),
        ("windw = 2", "what the next login comes to is not known"),
    ],
)
def test_reset_says_what_the_policy_makes_of_the_next_login(
    command: Command, host: Host, config: str, said: str
) -> None:
    host.enroll()
    host.configure(config)
    assert said in command("reset", "alice", "--yes").out


def test_check_says_that_the_policy_refuses_who_is_not_enrolled(command: Command, host: Host) -> None:
    host.configure('unenrolled = "deny"')
    assert "alice has no active authenticator and is refused" in command("check", "alice", piped="123456\n").out


@pytest.mark.parametrize("config", ["windw = 2", None])
def test_with_a_broken_configuration_or_one_that_is_gone_status_does_not_look_healthy(
    command: Command, host: Host, config: str | None
) -> None:
    host.enroll()
    host.configure(config or "window = 2")
    if config is None:
        os.unlink(host.paths.config)
    ran = command("status")
    assert (ran.code, "every login is refused" in ran.err, "alice" in ran.out) == (3, True, True)
