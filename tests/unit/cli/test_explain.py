"""explain: what would happen at a login now, and why."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.pretend import ALICE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

RULES = """
[[rule]]
keys = ["any"]
mfa = "skip"
[[rule]]
users = ["alice"]
networks = ["192.0.2.0/24"]
unenrolled = "deny"
"""


def explained(command: Command, *words: str) -> tuple[str, str, object]:
    ran = command("explain", "alice", "--json", *words)
    assert (ran.code, ran.err) == (0, "")
    return ran.json["action"], ran.json["reason"], ran.json["rule"]


def test_each_fact_has_its_outcome(command: Command, host: Host) -> None:
    assert explained(command) == ("skip", "not-enrolled", None)
    host.configure(RULES)
    assert explained(command, "--rhost", "198.51.100.9") == ("skip", "not-enrolled", None)
    assert explained(command, "--rhost", "192.0.2.7") == ("refuse", "not-enrolled", 2)
    assert explained(command) == ("refuse", "not-enrolled", 2)
    host.enroll(ALICE)
    assert explained(command, "--rhost", "192.0.2.7") == ("ask", "enrolled", 2)
    host.fail(3, rhost="192.0.2.7")
    assert explained(command, "--rhost", "192.0.2.7") == ("refuse", "throttled", 2)
    assert explained(command, "--rhost", "198.51.100.9") == ("ask", "enrolled", None)
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "lost phone"]))
    assert explained(command) == ("skip", "exempt", None)


def test_a_key_may_be_given(command: Command, host: Host, tmp_path: Path) -> None:
    host.configure(RULES)
    host.enroll(ALICE)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    assert explained(command, "--key", str(tmp_path / "key.pub")) == ("skip", "rule", 1)
    ran = command("explain", "alice", "--key", str(tmp_path / "key"))
    assert ran.code == 2
    assert "holds no public key" in ran.err
    assert command("explain", "alice", "--key", str(tmp_path / "nowhere")).code == 3


def test_people_are_told_in_words(command: Command, host: Host) -> None:
    host.configure(RULES)
    host.enroll(ALICE)
    ran = command("explain", "alice", "--rhost", "192.0.2.7")
    assert ran.out.splitlines() == [
        "alice is asked for a code (enrolled)",
        "  rule: number 2",
        "  fact: state active, authenticators: phone",
        "  rule 1: keys do not match",
        "  rule 2: users match; networks match",
    ]


def test_what_cannot_be_told_is_said_with_the_reason(command: Command, host: Host) -> None:
    host.configure(RULES)
    ran = command("explain", "alice")
    assert ran.out.splitlines() == [
        "alice is refused (not-enrolled)",
        "  rule: number 2, the strictest of those that may apply",
        "  fact: state none",
        "  rule 1: keys do not match",
        "  rule 2: users match; networks cannot be told: no address is known",
    ]
    told = command("explain", "alice", "--json").json
    assert told["doubts"] == ["rule 2: networks cannot be told: no address is known"]
    assert told["rules"][1]["conditions"] == {"users": True, "networks": None}


@pytest.mark.parametrize("address", ["foo", "host.example", "192.0.2", "192.0.2.0/24", "UNKNOWN"])
def test_what_is_no_address_is_refused(address: str, command: Command, host: Host) -> None:
    ran = command("explain", "alice", "--rhost", address)
    assert (ran.code, ran.out) == (2, "")
    assert f"--rhost {address!r} is no address: write one like 192.0.2.7" in ran.err
    assert explained(command, "--rhost", "2001:db8::7") == ("skip", "not-enrolled", None)


@pytest.mark.parametrize(
    ("unenrolled", "words"),
    [
        ("skip", "alice is not asked for a code"),
        ("deny", "alice is refused"),
        ("enroll", "alice enrols at the prompt"),
        ("invite", "alice is refused (not-invited)"),
    ],
)
def test_each_action_has_its_words(unenrolled: str, words: str, command: Command, host: Host) -> None:
    host.configure(f'unenrolled = "{unenrolled}"\n')
    assert command("explain", "alice").out.startswith(words)


def test_explaining_changes_nothing(command: Command, host: Host) -> None:
    host.configure('[enrollment]\nperiod = "2d"\n')
    before = host.snapshot()
    assert explained(command) == ("skip", "grace", None)
    assert host.snapshot() == before
    assert host.account().ledger.grace is None


def test_who_is_not_known_is_refused(command: Command) -> None:
    assert command("explain", "mallory").code == 2
