"""upload: handing up who was enrolled on a host before it joined."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import ACTIVE, Authenticator
from pam_totp.cli import join
from pam_totp.fleet import tree
from pam_totp.fleet.agent import Agent
from pam_totp.host import clock, systemd
from tests.lab.directory import person
from tests.unit.member import Member
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from pam_totp.host.users import User
    from tests.lab.directory import Directory
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

SECRET, OTHER = bytes(range(20)), bytes(range(20, 40))


def enrolled(host: Host, user: User, secret: bytes, label: str = "phone") -> str:
    """Somebody is enrolled on the host; returns the id."""
    identifier = tree.new_identifier()
    with host.accounts() as accounts:
        account = accounts.find(user)
        account.authenticators.append(Authenticator(identifier, ACTIVE, label, "local", int(host.wall) - 100, secret))
        accounts.save(account)
    return identifier


@pytest.fixture
def member(command: Command, host: Host, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> Member:
    """A host on which alice is enrolled, and which joins then."""
    monkeypatch.setattr(join, "pause", lambda _: None)
    monkeypatch.setattr(systemd, "running", lambda: False)
    monkeypatch.setattr(clock, "now", host.now)
    enrolled(host, ALICE, SECRET)
    command("join", directory.url, "--name", "host", piped=f"{directory.token()}\n")
    return Member(host, directory)


def nobody(name: str) -> tree.Record:
    """Somebody whom the directory knows, and who is not enrolled there."""
    return tree.Record(name)


def uploaded(member: Member) -> list[tree.Enrolment]:
    """What the directory was handed up, opened by its keeper."""
    return [
        tree.open_enrolment(base64.b64decode(event["sealed"]), event["host"], member.directory.private)
        for event in member.directory.events("uploaded")
    ]


def test_who_was_enrolled_before_is_listed_asked_about_and_handed_up_sealed_to_the_keeper(
    command: Command, member: Member, host: Host, journal: list[tuple[int, str]]
) -> None:
    member.take([nobody("alice"), nobody("bob")])
    ran = command("upload", typed=("n",))
    assert (ran.code, "alice (phone)" in ran.out, uploaded(member)) == (1, True, [])
    assert command("upload", piped="").code == 2
    ran = command("upload", typed=("y",))
    assert (ran.code, "alice is handed up" in ran.out) == (0, True)
    [found] = uploaded(member)
    assert (found.name, found.label, found.secret) == ("alice", "phone", SECRET)
    [event] = member.directory.events("uploaded")
    assert found.identifier == event["authenticator"]
    assert any("action=upload" in line and "user=alice" in line for _, line in journal)
    kept = (member.directory.folder / "events.jsonl").read_text()
    for text in (SECRET.hex(), str(SECRET)):
        assert text not in kept + ran.out


def test_what_was_taken_comes_back_and_is_the_directory_s(command: Command, member: Member, host: Host) -> None:
    member.take([nobody("alice")])
    command("upload", "--yes")
    [found] = uploaded(member)
    record = person("alice", SECRET)
    record = replace(record, authenticators=(replace(record.authenticators[0], identifier=found.identifier),))
    member.take([record])
    assert [(each.identifier, each.source) for each in host.account().active] == [(found.identifier, "directory")]
    ran = command("upload", "--yes")
    assert (ran.code, "nobody to hand up" in ran.out) == (0, True)
    # From now on the directory decides.
    member.take([])
    assert host.login("alice").reason == "fleet-revoked"


@pytest.mark.parametrize("reason", ["enrolled-already", "has-a-role", "too-many", "unknown-person", "something else"])
def test_what_the_directory_does_not_take_is_said_and_stays_as_it_was(
    command: Command, member: Member, host: Host, reason: str
) -> None:
    member.take([nobody("alice")])
    (member.directory.folder / "refuse").write_text(reason)
    ran = command("upload", "--yes")
    assert ran.code == 1
    assert "alice (phone) stays this host's own: " in ran.out
    assert "handed up\n" not in ran.out.replace("to be handed up", "")
    assert [(each.secret, each.source) for each in host.account().active] == [(SECRET, "local")]
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    # It may be tried again, and again it is asked.
    (member.directory.folder / "refuse").write_text("known-already")
    assert command("upload", "--yes").code == 0


def test_whom_the_directory_does_not_know_or_has_enrolled_is_named_and_not_handed_up(
    command: Command, member: Member, host: Host
) -> None:
    enrolled(host, BOB, OTHER)
    member.take([person("bob", bytes(range(40, 60)))])
    ran = command("upload", "--yes")
    assert ran.code == 1
    assert "alice stays this host's own: the directory has nobody of this name" in ran.out
    assert "bob stays this host's own: enrolled in the directory already" in ran.out
    assert uploaded(member) == []
    assert {each.source for each in host.account(BOB).active} == {"local", "directory"}


def test_a_key_that_the_fleet_does_not_take_stays_and_the_others_go(
    command: Command, member: Member, host: Host
) -> None:
    enrolled(host, ALICE, bytes(10), "old")
    member.take([nobody("alice")])
    ran = command("upload", "--yes")
    assert ran.code == 1
    assert "alice (old) stays this host's own" in ran.out
    assert [each.label for each in uploaded(member)] == ["phone"]


@pytest.mark.parametrize("mode", ["error", "html", "types", "silent"])
def test_a_directory_that_is_not_there_loses_nothing_and_it_can_be_done_again(
    command: Command, member: Member, host: Host, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pam_totp.fleet.upload.SECONDS", 1.0 if mode == "silent" else 20.0)
    member.take([nobody("alice")])
    member.directory.misbehave(mode)
    assert command("upload", "--yes").code == 3
    assert [(each.secret, each.source) for each in host.account().active] == [(SECRET, "local")]
    member.directory.misbehave()
    monkeypatch.setattr("pam_totp.fleet.upload.SECONDS", 20.0)
    assert command("upload", "--yes").code == 0


def test_before_joining_and_before_the_first_manifest_nobody_is_handed_up(
    command: Command, host: Host, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "pause", lambda _: None)
    monkeypatch.setattr(systemd, "running", lambda: False)
    enrolled(host, ALICE, SECRET)
    assert "joined no fleet" in command("upload", "--yes").err
    command("join", directory.url, "--name", "host", piped=f"{directory.token()}\n")
    ran = command("upload", "--yes")
    assert (ran.code, "nothing has come of the directory yet" in ran.err) == (3, True)


def test_the_agent_hands_up_nobody_by_itself_who_was_enrolled_before(member: Member, host: Host) -> None:
    member.publish([nobody("alice")])
    one = Agent(host.paths, host.now)
    one.step()
    one.step()
    assert member.directory.events("enrolled") + member.directory.events("uploaded") == []
