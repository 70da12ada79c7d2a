"""join, leave, sync, fleet: the command on a host of a real directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.cli import join
from pam_totp.fleet import tree
from pam_totp.host import clock, systemd
from tests.lab.directory import person
from tests.unit.member import Member

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.directory import Directory
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

SECRET = bytes(range(20))


@pytest.fixture(autouse=True)
def units(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done with the agent's unit; systemd runs. Nothing is waited for."""
    monkeypatch.setattr(join, "pause", lambda _: None)
    done: list[str] = []
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(systemd, "enable", lambda unit: done.append(f"enable {unit}"))
    monkeypatch.setattr(systemd, "disable", lambda unit: done.append(f"disable {unit}"))
    return done


@pytest.fixture
def member(command: Command, host: Host, directory: Directory) -> Member:
    ran = command("join", directory.url, "--name", "host.example.org", piped=f"{directory.token()}\n")
    assert "joined as host.example.org" in ran.out
    return Member(host, directory)


def test_a_host_joins_and_says_what_has_not_come_yet(
    member: Member, units: list[str], journal: list[tuple[int, str]]
) -> None:
    assert units == ["enable pam-totp-agent.service"]
    assert any("action=join" in line for _, line in journal)
    assert member.directory.state()["hosts"][member.identifier]["name"] == "host.example.org"


def test_a_token_is_in_no_argument_and_what_is_none_joins_nothing(
    command: Command, directory: Directory, units: list[str]
) -> None:
    ran = command("join", directory.url, piped="nonsense\n")
    assert (ran.code, units) == (3, [])
    assert "not a join token" in ran.err
    assert command("join", directory.url, "ptj1.x", piped="").code == 2
    assert command("fleet").code == 1
    for verb in ("leave", "sync"):
        assert "joined no fleet" in command(verb).err


def test_what_of_the_configuration_counts_no_more_is_said(command: Command, host: Host, directory: Directory) -> None:
    host.configure('remember = "1h"\n[[rule]]\nusers = ["x"]\nmfa = "skip"\n')
    ran = command("join", directory.url, piped=directory.token())
    assert "number 1" in ran.out
    assert "remembered only while" in ran.out


def test_sync_says_what_has_changed(command: Command, member: Member) -> None:
    member.publish([person("alice", SECRET)])
    ran = command("sync")
    assert (ran.code, ran.out) == (0, "manifest 1 is in force (epoch 1 begins): 1 users merged, 0 revoked\n")
    assert command("sync").out == "nothing new\n"
    member.publish([])
    ran = command("sync", str(member.directory.folder / "tree"))
    assert ran.out == "manifest 2 is in force: 0 users merged, 1 revoked\n"


def test_what_is_refused_is_said_and_changes_nothing(command: Command, member: Member, tmp_path: Path) -> None:
    member.publish([person("alice", SECRET)])
    command("sync")
    member.directory.put(b"nonsense")
    ran = command("sync")
    assert ran.code == 3
    assert "not a manifest" in ran.err
    assert "refused" in command("fleet").out
    ran = command("sync", str(tmp_path / "nowhere.tar"))
    assert ran.code == 3


def test_fleet_shows_state_age_number_and_what_is_pending(
    command: Command, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("fleet", "--json").json["state"] == "new"
    member.publish([person("alice", SECRET), person("nobody", bytes(32))], tree.Policy("deny", max_offline=3600))
    command("sync")
    ran = command("fleet", "--json")
    found = ran.json
    assert ran.code == 0
    assert (found["joined"], found["state"], found["sequence"], found["epoch"]) == (True, "fresh", 1, 1)
    assert (found["users"], found["unbound"], found["age"], found["max_offline"]) == (2, 1, 0, 3600)
    assert "unenrolled = deny" in found["policy"]
    assert "epoch 1, number 1" in command("fleet").out
    host.later(3601)
    monkeypatch.setattr(clock, "now", host.now)
    ran = command("fleet", "--json")
    assert (ran.code, ran.json["state"]) == (1, "silent")
    host.wall += 10**9
    assert command("fleet").code == 1


def test_explain_names_which_of_the_two_decided(command: Command, member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)], tree.Policy("deny"))
    assert command("explain", "bob", "--json").json["decided_by"] == "directory"
    assert "decided by: the directory" in command("explain", "bob").out
    host.configure('unenrolled = "deny"')
    assert command("explain", "bob", "--json").json["decided_by"] == "host"
    host.configure('unenrolled = "skip"')
    assert command("explain", "bob", "--json").json["decided_by"] == "directory"


def test_a_reset_ends_that_somebody_is_refused_for_having_been_revoked(
    command: Command, member: Member, host: Host
) -> None:
    member.take([person("alice", SECRET)])
    member.take([])
    assert host.login("alice").reason == "fleet-revoked"
    assert command("reset", "alice", "--yes").code == 0
    assert host.login("alice").verdict == "skipped"


def test_leave_asks_and_says_who_decides_then(command: Command, member: Member, host: Host, units: list[str]) -> None:
    member.take([person("alice", SECRET)])
    assert command("leave", typed=("n\n",)).out.endswith("nothing changed\n")
    ran = command("leave", typed=("y\n",))
    assert ran.code == 0
    assert "unenrolled = 'skip'" in ran.out
    assert units[-1] == "disable pam-totp-agent.service"
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    assert command("fleet", "--json").json == {"joined": False}
