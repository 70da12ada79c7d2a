"""What doctor and metrics say of a host of a fleet."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.doctor import fleet
from pam_totp.fleet import agent, membership, standing, tree
from pam_totp.host import systemd
from tests.lab.directory import person
from tests.unit.member import Member

if TYPE_CHECKING:
    from tests.lab.directory import Directory
    from tests.unit.pretend import Host

SECRET = bytes(range(20))


@pytest.fixture
def member(host: Host, directory: Directory) -> Member:
    membership.join(host.paths, directory.url, tree.parse_token(directory.token()), "host", host.now())
    return Member(host, directory)


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "running", lambda: False)


def found(host: Host) -> list[tuple[str, str]]:
    return [(each.identifier, each.mend) for each in fleet.findings(host.paths, host.now())]


def test_a_host_that_has_not_joined_has_none(host: Host) -> None:
    assert found(host) == []


def test_each_state_has_its_finding_and_the_printed_command_mends_it(member: Member, host: Host) -> None:
    one = agent.Agent(host.paths, host.now)
    assert found(host) == [("fleet-behind", "pam-totp sync")]
    member.publish([person("alice", SECRET)], tree.Policy(max_offline=3600))
    one.step()
    assert found(host) == []
    member.directory.put(b"rubbish")
    one.step()
    assert found(host) == [("fleet-refused", "pam-totp sync")]
    member.directory.misbehave("error")
    one.step()
    assert found(host) == [("fleet-behind", "pam-totp sync")]
    host.later(3601)
    assert found(host) == [("fleet-silent", "pam-totp sync")]
    member.directory.misbehave()
    member.publish([person("alice", SECRET)], tree.Policy(mfa=False))
    one.step()
    assert found(host) == [("fleet-policy-off", "")]
    member.directory.publish([], issued=int(host.wall) - 10, expires=int(host.wall) - 5)
    one.step()
    assert found(host) == [("fleet-expired", "pam-totp sync")]


def test_an_agent_that_does_not_run_is_found(member: Member, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    member.publish([])
    agent.Agent(host.paths, host.now).step()
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(systemd, "active", lambda unit: False)
    assert found(host) == [("fleet-agent-off", "systemctl enable --now pam-totp-agent.service")]
    monkeypatch.setattr(systemd, "active", lambda unit: True)
    assert found(host) == []


def test_metrics_have_the_state(
    member: Member, host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pam_totp.cli import metrics

    monkeypatch.setattr(metrics, "now", host.now)
    member.publish([person("alice", SECRET)])
    agent.Agent(host.paths, host.now).step()
    metrics._fleet(host.paths)
    lines = capsys.readouterr().out.splitlines()
    for line in (
        'pam_totp_fleet_state{state="fresh"} 1',
        'pam_totp_fleet_state{state="silent"} 0',
        'pam_totp_fleet_sequence{epoch="1"} 1',
        "pam_totp_fleet_age_seconds 0",
        'pam_totp_fleet_users{state="known"} 1',
        "pam_totp_fleet_pending_events 0",
    ):
        assert line in lines
    assert {each.state for each in states(host)} <= set(standing.STATES)


def states(host: Host) -> list[Any]:
    first = standing.of(host.paths, host.now())
    assert first is not None
    return [first, dataclasses.replace(first)]
