"""What is read back from a real journal: ``pam-totp log``, ``pam-totp metrics``, and fail2ban with the example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.booted import Booted
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full

EXAMPLES = Path(__file__).resolve().parents[2] / "config"
NAMED = 'sshd: pam_totp(sshd:auth): user=mallory outcome=accepted reason=a"}b'
FORGED = "pam_totp(sshd:auth): user=alice service=sshd rhost=192.0.2.66 outcome=refused reason=wrong-code"


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine on which alice has typed a wrong code, bob is not enrolled, and somebody has forged a line."""
    with Booted(suite, ("fail2ban", "python3-systemd")) as machine:
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        machine.run(
            ["apt-get", "-q", "-y", "install", *(f"/root/{package.name}" for package in debs)],
            env={"DEBIAN_FRONTEND": "noninteractive"},
            timeout=120,
        )
        alice, bob = machine.user("alice"), machine.user("bob")
        enroll(machine, alice)
        machine.run(["pam-totp", "setup", "sshd", "--variant", "password", "--yes"])
        machine.login(alice, password=alice.password, code="000000")
        machine.login(bob, password=bob.password)
        machine.run(["logger", "-t", "sshd", "-p", "authpriv.notice", FORGED], user=bob)
        # Whoever runs su names it, and PAM's other modules write that name before what they log.
        named = 'exec -a "$1" su -c true alice'
        machine.run(["bash", "-c", named, "bash", NAMED], user=bob, input="wrong\n", check=False)
        machine.run(["journalctl", "--sync"])
        assert any(line.startswith(NAMED.removeprefix("sshd: ")) for line in machine.journal())
        yield machine


def log(machine: Booted, *words: str) -> list[dict[str, Any]]:
    done = machine.run(["pam-totp", "log", "--json", *words], check=False)
    assert done.returncode == (0 if done.stdout else 1), done
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_log_has_accepted_and_refused_logins_and_no_line_that_a_user_forged(booted: Booted) -> None:
    found = [(each["user"], each["outcome"], each["reason"]) for each in log(booted)]
    assert found == [("alice", "refused", "wrong-code"), ("bob", "skipped", "not-enrolled")]


def test_decisions_have_fields_in_the_journal(booted: Booted) -> None:
    command = ["journalctl", "--output=json", "--no-pager", "_UID=0", "PAM_TOTP_USER=alice", "PAM_TOTP_OUTCOME=refused"]
    [found] = [json.loads(line) for line in booted.run(command).stdout.splitlines()]
    assert (found["PAM_TOTP_REASON"], found["PAM_TOTP_SERVICE"], found["SYSLOG_FACILITY"]) == (
        "wrong-code",
        "sshd",
        "10",
    )
    assert found["SYSLOG_IDENTIFIER"] in ("sshd", "sshd-session")
    assert found["MESSAGE"].startswith("pam_totp(sshd:auth): user=alice service=sshd rhost=127.0.0.1 outcome=refused ")


def test_the_log_is_of_one_user_of_one_outcome_and_of_a_time(booted: Booted) -> None:
    assert [each["user"] for each in log(booted, "bob")] == ["bob"]
    assert [each["user"] for each in log(booted, "--outcome", "refused", "--since", "1h")] == ["alice"]
    assert log(booted, "mallory") == []


def test_the_log_goes_on_with_what_comes(booted: Booted) -> None:
    booted.sh(
        "(timeout 60 pam-totp log --follow --json carol >/root/followed 2>&1 </dev/null &) && "
        "until pgrep -f 'journalctl.*--follow' >/dev/null; do sleep 0.1; done"
    )
    carol = booted.user("carol")
    assert booted.login(carol, password=carol.password).ok
    line = booted.sh("until grep carol /root/followed; do sleep 0.1; done", timeout=30).stdout
    assert json.loads(line)["reason"] == "not-enrolled"


def test_metrics_count_what_is_in_the_journal(booted: Booted) -> None:
    lines = booted.run(["pam-totp", "metrics"]).stdout.splitlines()
    assert 'pam_totp_recent_decisions{outcome="refused",reason="wrong-code"} 1' in lines
    assert 'pam_totp_recent_decisions{outcome="skipped",reason="not-enrolled"} 2' in lines  # bob and carol
    assert 'pam_totp_users{state="active"} 1' in lines
    assert lines[-1] == "# EOF"


def test_fail2ban_finds_the_wrong_code_in_the_journal_and_takes_the_example_jail(booted: Booted) -> None:
    for path in ("filter.d/pam-totp.conf", "jail.d/pam-totp.conf"):
        booted.write(f"/etc/fail2ban/{path}", (EXAMPLES / "fail2ban" / path).read_text(encoding="utf-8"))
    found = booted.run(["fail2ban-regex", "--print-all-matched", "systemd-journal", "pam-totp"]).stdout
    assert ", 1 matched," in found
    assert "user=alice" in found
    # Debian's own jail wants a file that is only there with rsyslog.
    booted.run(["rm", "/etc/fail2ban/jail.d/defaults-debian.conf"])
    booted.run(["fail2ban-client", "--test"])
    booted.run(["systemctl", "restart", "fail2ban"])
    status = booted.sh("until fail2ban-client status pam-totp 2>/dev/null; do sleep 0.2; done").stdout
    assert "SYSLOG_FACILITY=10 _UID=0" in status
