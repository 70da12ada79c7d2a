"""The agent: passes, events that are kept until they are taken, and claims."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.cache.accounts import Accounts
from pam_totp.cache.configured import IDENTITY
from pam_totp.doctor import fleet as doctor
from pam_totp.errors import FleetError, HostKeyError
from pam_totp.fleet import agent, membership, sources, standing, tree, web
from pam_totp.fleet import identity as identities
from pam_totp.fleet.agent import Agent
from pam_totp.login import claim
from tests.lab.directory import Directory, person, served
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pam_totp.fleet.identity import Identity
    from pam_totp.host.paths import Paths
    from tests.unit.conftest import Passwd
    from tests.unit.member import Member
    from tests.unit.pretend import Host

SECRET, OTHER = bytes(range(20)), bytes(range(20, 40))


@pytest.fixture
def running(member: Member, host: Host) -> Iterator[Agent]:
    """An agent that answers logins; passes are made by the test."""
    with answering(Agent(host.paths, host.now)) as one:
        yield one


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to decide alone."""
    monkeypatch.setattr(claim, "_CONNECT_SECONDS", 5)
    monkeypatch.setattr(claim, "_ANSWER_SECONDS", 10)
    monkeypatch.setattr(agent, "CLAIM_SECONDS", 5)
    monkeypatch.setattr(agent, "TOLD_SECONDS", 0.1)


class answering:  # noqa: N801  # reads as what it is
    """Answer logins meanwhile."""

    def __init__(self, one: Agent) -> None:
        self.one = one

    def __enter__(self) -> Agent:
        self.end = self.one.listen()
        self.end.settimeout(0.2)
        self.stop = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self.one

    def serve(self) -> None:
        while not self.stop:
            try:
                self.one.answer(self.end)
            except (TimeoutError, OSError):
                continue

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.thread.join(10)
        self.end.close()
        os.unlink(f"{self.one._paths.run}/{claim.SOCKET}")


def settle(what: Callable[[], bool]) -> None:
    for _ in range(500):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to that")


def end_login(host: Host, name: str, *answers: str) -> str:
    """A login, and what is told of it afterwards, as the engine does; returns the verdict."""
    from pam_totp.login import log, login

    outcome = host.login(name, *answers)
    login.keep(outcome, log.decision(login.Request(name, "sshd", "192.0.2.7"), outcome), host.paths, host.now)
    return outcome.verdict


# Passes


def test_a_step_takes_what_is_published_and_says_when_to_come_again(member: Member, host: Host) -> None:
    one = Agent(host.paths, host.now)
    member.publish([person("alice", SECRET)])
    pause = one.step()
    assert pause is not None
    assert 10 < pause < 17
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    assert agent.recall(host.paths)["error"] == ""


def test_on_a_host_that_has_not_joined_there_is_nothing_to_do(host: Host) -> None:
    assert Agent(host.paths, host.now).step() is None
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert agent.main(host.paths) == 0
    finally:
        # The process of the tests, and those that it forks, are not to end as the agent does: with 0, and not at once.
        signal.signal(signal.SIGTERM, before)


def test_it_comes_more_seldom_while_the_directory_is_gone_and_says_so_once(
    member: Member, host: Host, journal: list[tuple[int, str]]
) -> None:
    one = Agent(host.paths, host.now)
    member.publish([person("alice", SECRET)])
    one.step()
    journal.clear()
    member.directory.misbehave("error")
    pauses = [one.step() or 0 for _ in range(8)]
    assert pauses[0] > 20
    assert 200 < pauses[-1] <= agent.LONGEST_PAUSE * 1.1
    assert len([line for _, line in journal if "action=fleet-sync" in line]) == 1
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    member.directory.misbehave()
    assert (one.step() or 0) < 17
    assert "the directory is there again" in journal[-1][1]


def test_what_has_to_wait_is_said_all_the_time_and_fetched_again_ever_later(
    member: Member, host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwd.add("ALICE", ALICE.uid, "alice")
    fetched: list[float] = []
    thing = sources.WebTree.thing

    def counted(source: sources.WebTree, *words: Any) -> bytes:
        fetched.append(host.uptime)
        return thing(source, *words)

    monkeypatch.setattr(sources.WebTree, "thing", counted)
    one, began = Agent(host.paths, host.now), host.uptime
    both = [person("alice", SECRET), person("ALICE", OTHER)]
    member.directory.publish(both, host=member.identifier, issued=int(host.wall), bundled=True)
    for _ in range(120):
        one.step()
        assert "are one user here" in str(agent.recall(host.paths)["problems"])
        host.later(15)
    assert [time - began for time in fetched[:4]] == [0, 15, 45, 135]
    assert len(fetched) < 11
    # What is new is taken at once.
    member.publish([person("alice", SECRET, locked=True)])
    one.step()
    assert host.login("alice").verdict == "refused"
    assert agent.recall(host.paths)["problems"] == []


def test_an_unchanged_manifest_is_not_sent_again(member: Member, host: Host) -> None:
    one = Agent(host.paths, host.now)
    member.publish([person("alice", SECRET)])
    one.step()
    assert one._source is not None
    assert one._source.etag
    assert one._source.manifest() is None


def lines(member: Member) -> list[dict[str, str]]:
    """What was handed over of the line."""
    path = member.directory.folder / "lines.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_line_goes_on_also_over_a_restart_and_what_was_not_answered_is_handed_over_again(
    member: Member, host: Host
) -> None:
    member.publish([])
    one = Agent(host.paths, host.now)
    for _ in range(3):
        one.step()
        one.step()  # not yet again
        host.later(agent.LINE_SECONDS + 1)
    found = lines(member)
    assert [each["before"] for each in found] == ["0" * 32, *(each["latest"] for each in found[:-1])]
    assert len({each["latest"] for each in found}) == 3
    # Whether the last one was answered, a new process does not know.
    again = Agent(host.paths, host.now)
    again.step()
    host.later(agent.LINE_SECONDS + 1)
    again.step()
    assert lines(member)[3] == found[2]
    assert lines(member)[4]["before"] == found[2]["latest"]
    member.directory.misbehave("error")
    host.later(agent.LINE_SECONDS + 1)
    again.step()
    member.directory.misbehave()
    host.later(agent.LINE_AGAIN_SECONDS + 1)
    again.step()
    assert lines(member)[5]["before"] == lines(member)[4]["latest"]


def test_a_line_that_the_disk_does_not_take_is_not_handed_over(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    member.publish([])
    one = Agent(host.paths, host.now)
    monkeypatch.setattr("pam_totp.fleet.line.files.replace", full)
    assert one.step() is not None
    assert lines(member) == []


def test_that_the_host_was_cloned_is_said_until_it_has_joined_anew(member: Member, host: Host) -> None:
    member.publish([])
    one = Agent(host.paths, host.now)
    one.step()
    assert not cloned(host)
    (member.directory.folder / "cloned").touch()
    host.later(agent.LINE_SECONDS + 1)
    one.step()
    assert cloned(host)
    # A restart, and a directory that is gone, change nothing of it.
    member.directory.misbehave("error")
    Agent(host.paths, host.now).step()
    assert cloned(host)
    member.directory.misbehave()
    membership.leave(host.paths)
    (member.directory.folder / "cloned").unlink()
    membership.join(host.paths, member.directory.url, tree.parse_token(member.directory.token()), "host", host.now())
    assert not cloned(host)


def cloned(host: Host) -> bool:
    found = standing.of(host.paths, host.now())
    assert found is not None
    assert [each.identifier for each in doctor.findings(host.paths, host.now())].count("fleet-cloned") == found.cloned
    return found.cloned


def test_the_token_is_shown_to_nobody_else_who_carries_the_tree(member: Member, host: Host) -> None:
    from dataclasses import replace

    from pam_totp.fleet import sources

    with host.accounts() as accounts:
        identity = identities.require(accounts)
    elsewhere = agent.source_of(replace(identity, tree="https://cdn.example.org/x"))
    assert isinstance(elsewhere, sources.WebTree)
    assert "Authorization" not in elsewhere._web._headers
    own = agent.source_of(identity)
    assert isinstance(own, sources.WebTree)
    assert "Authorization" in own._web._headers
    assert identity.token not in repr(identity)


# Events


def test_an_enrolment_of_a_known_user_is_handed_up_once_sealed_to_the_keeper(member: Member, host: Host) -> None:
    one = Agent(host.paths, host.now)
    member.publish([tree.Record("alice")])
    one.step()
    secret = enroll_here(host)
    host.enroll(BOB)  # of whom the directory knows nothing
    one.step()
    one.step()
    [event] = member.directory.events("enrolled")
    sealed = base64.b64decode(event["sealed"])
    found = tree.open_enrolment(sealed, member.identifier, member.directory.private)
    assert (found.name, found.secret, found.label) == ("alice", secret, "phone")
    assert secret.hex() not in str(event)
    Agent(host.paths, host.now).step()
    assert len(member.directory.events("enrolled")) == 1
    # It comes back, and is the directory's.
    authenticator = tree.Authenticator(found.identifier, "phone", int(host.wall), secret)
    member.take([tree.Record("alice", (authenticator,))])
    assert [each.source for each in host.account().active] == ["directory"]


def enroll_here(host: Host) -> bytes:
    from pam_totp.factors import enroll

    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        fresh = enroll.fresh("phone", int(host.wall))
        fresh.state = "active"
        account.authenticators = [fresh]
        accounts.save(account)
    return fresh.secret


def test_an_enrolment_while_the_directory_is_gone_holds_here_and_goes_up_later(member: Member, host: Host) -> None:
    one = Agent(host.paths, host.now)
    member.publish([tree.Record("alice")])
    one.step()
    member.directory.misbehave("error")
    secret = enroll_here(host)
    one.step()
    assert host.login("alice", host.code(secret)).verdict == "accepted"
    member.directory.misbehave()
    one.step()
    assert len(member.directory.events("enrolled")) == 1


def test_what_was_enrolled_before_the_host_joined_stays_its_own(member: Member, host: Host) -> None:
    host.wall -= 1000
    enroll_here(host)
    host.wall += 1000
    member.publish([tree.Record("alice")])
    one = Agent(host.paths, host.now)
    one.step()
    one.step()
    assert member.directory.events() == []


def test_what_is_spent_or_removed_here_is_told(member: Member, host: Host) -> None:
    salt = bytes(16)
    digest = host.sealer().slow_hash("abcdefghij", salt).hex()
    recovery = tree.Recovery(salt.hex(), (digest, "7" * 32))
    member.take([person("alice", SECRET, OTHER, recovery=recovery)])
    assert host.login("alice", "abcde-fghij").reason == "recovery-code"
    host.change(lambda account: account.authenticators.pop())
    one = Agent(host.paths, host.now)
    one.step()
    [spent] = member.directory.events("recovery-spent")
    [removed] = member.directory.events("removed")
    assert (spent["name"], spent["recovery"]) == ("alice", digest)
    assert removed["authenticator"] == person("alice", OTHER).authenticators[0].identifier
    Agent(host.paths, host.now).step()
    assert len(member.directory.events()) == 2


def test_how_logins_end_is_kept_until_it_is_taken(running: Agent, member: Member, host: Host) -> None:
    member.publish([person("alice", SECRET)], tree.Policy(claims=False))
    running.step()
    member.directory.misbehave("error")
    assert end_login(host, "alice", host.wrong(SECRET)) == "refused"
    assert end_login(host, "alice", host.code(SECRET)) == "accepted"
    settle(lambda: len(running.queue.waiting()) == 2)
    running.step()
    # The agent is killed, and another one begins.
    again = Agent(host.paths, host.now)
    member.directory.misbehave()
    again.step()
    told = [(each["kind"], each["name"], each["service"], each["reason"]) for each in member.directory.events()]
    assert told == [("refused", "alice", "sshd", "wrong-code"), ("login", "alice", "sshd", "code")]
    assert again.queue.waiting() == []


def test_logins_of_a_second_are_looked_up_at_once(
    running: Agent, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Paths] = []
    later: list[Callable[[], None]] = []

    class Counted(Accounts):
        def __init__(self, paths: Paths) -> None:
            opened.append(paths)
            super().__init__(paths)

    class Timer:
        def __init__(self, _: float, does: Callable[[], None]) -> None:
            self.start = lambda: later.append(does)

    member.publish([person("alice", SECRET)], tree.Policy(claims=False))
    running.step()
    monkeypatch.setattr(agent, "Accounts", Counted)
    monkeypatch.setattr(threading, "Timer", Timer)
    for _ in range(2):
        end_login(host, "alice", host.wrong(SECRET))
    settle(lambda: len(running._told) == 2)
    assert running.queue.waiting() == []
    (keep,) = later
    keep()
    assert len(running.queue.waiting()) == 2
    assert len(opened) == 1
    end_login(host, "alice", host.wrong(SECRET))
    settle(lambda: len(later) == 2)


def test_where_no_thread_can_be_had_that_login_is_missed_and_no_later_one(
    running: Agent, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def full(seconds: float, _: object) -> None:
        tried.append(seconds)
        raise RuntimeError("can't start new thread")

    member.publish([person("alice", SECRET)], tree.Policy(claims=False))
    running.step()
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Timer", full)
        end_login(host, "alice", host.wrong(SECRET))
        settle(lambda: len(tried) == 1)
    end_login(host, "alice", host.code(SECRET))
    settle(lambda: len(running.queue.waiting()) == 1)
    assert running.queue.waiting()[0]["reason"] == "code"


@pytest.mark.parametrize("mode", ["types", "html", "error", "no-http", "huge"])
def test_whatever_a_server_answers_no_event_is_lost_and_nobody_is_skipped(
    running: Agent, member: Member, host: Host, mode: str
) -> None:
    member.publish([person("alice", SECRET)])
    running.step()
    running.queue.add({"id": "a" * 32, "kind": "login"})
    member.directory.misbehave(mode)
    assert running.step() is not None
    assert [each["id"] for each in running.queue.waiting()] == ["a" * 32]
    assert host.login("alice", host.wrong(SECRET)).verdict == "refused"


def test_an_event_that_is_not_understood_holds_up_no_other(member: Member, host: Host) -> None:
    one = Agent(host.paths, host.now)
    member.publish([])
    for number in range(9):
        one.queue.add({"id": f"{number:032}", "kind": "nonsense" if number == 4 else "login"})
    one.step()
    assert len(member.directory.events("login")) == 8
    assert one.queue.waiting() == []


def test_logins_of_whom_the_directory_does_not_know_are_not_told(running: Agent, member: Member, host: Host) -> None:
    secret = host.enroll(BOB)
    member.publish([person("alice", SECRET)], tree.Policy(claims=False))
    running.step()
    end_login(host, "bob", host.code(secret))
    end_login(host, "alice", host.code(SECRET))
    settle(lambda: len(running.queue.waiting()) == 1)
    assert running.queue.waiting()[0]["name"] == "alice"


def test_events_are_bounded_and_the_oldest_go(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from pam_totp.fleet import events

    monkeypatch.setattr(events, "QUEUE_LIMIT", 2000)
    queue = agent.queue_of(host.paths)
    for number in range(200):
        assert queue.add({"id": f"{number:032}", "kind": "login"})
    waiting = queue.waiting()
    assert 10 < len(waiting) < 100
    assert waiting[-1]["id"] == f"{199:032}"
    assert queue.dropped == 200 - len(waiting)


def test_a_half_written_event_spoils_no_other(host: Host) -> None:
    queue = agent.queue_of(host.paths)
    queue.add({"id": "1", "kind": "login"})
    with open(queue._path, "ab") as file:
        file.write(b'{"id": "2", "ki')
    queue.add({"id": "3", "kind": "login"})
    assert [each["id"] for each in queue.waiting()] == ["1", "3"]


# Claims


def test_a_code_that_another_host_has_used_is_refused_and_spent_here(
    running: Agent, member: Member, host: Host
) -> None:
    member.publish([person("alice", SECRET)])
    running.step()
    assert host.login("alice", host.code(SECRET)).detail == ""
    identifier = person("alice", SECRET).authenticators[0].identifier
    host.later(30)
    step = int(host.wall // 30)
    elsewhere(member, {"authenticator": identifier, "step": step, "login": "e" * 32})
    outcome = host.login("alice", host.code(SECRET))
    assert (outcome.verdict, outcome.reason) == ("refused", "spent-elsewhere")
    assert host.login("alice", host.code(SECRET)).reason == "spent-code"
    host.later(30)
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def elsewhere(member: Member, claimed: dict[str, object]) -> None:
    """Another host claims something."""
    from pam_totp.fleet import membership, web

    other = type(member.host)(f"{member.host.root}/other")
    token = tree.parse_token(member.directory.token())
    identity = membership.join(other.paths, member.directory.url, token, "other", other.now())
    server = web.Web(identity.url, identity.ca, identity.token)
    assert server.post("/api/v1/claim", claimed, 5).fields() == {"claimed": True}
    server.close()


def test_a_recovery_code_that_another_host_has_used_is_refused_and_spent_here(
    running: Agent, member: Member, host: Host
) -> None:
    salt = bytes(16)
    digest = host.sealer().slow_hash("abcdefghij", salt).hex()
    member.publish([person("alice", SECRET, recovery=tree.Recovery(salt.hex(), (digest,)))])
    running.step()
    elsewhere(member, {"recovery": digest, "name": "alice", "login": "e" * 32})
    assert host.login("alice", "abcde-fghij").reason == "spent-elsewhere"
    assert host.login("alice", "abcde-fghij").reason == "wrong-recovery-code"


@pytest.mark.parametrize("mode", ["error", "types", "html", "no-http", "silent", "slow"])
def test_while_the_directory_cannot_be_asked_the_host_decides_alone_and_says_so(
    running: Agent, member: Member, host: Host, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "CLAIM_SECONDS", 0.2)
    member.publish([person("alice", SECRET)])
    running.step()
    member.directory.misbehave(mode)
    outcome = host.login("alice", host.code(SECRET))
    assert outcome.verdict == "accepted"
    assert "decided by this host alone" in outcome.detail


def test_without_an_agent_the_host_decides_alone_and_says_so(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    outcome = host.login("alice", host.code(SECRET))
    assert outcome.verdict == "accepted"
    assert "decided by this host alone" in outcome.detail


def test_where_the_policy_wants_no_claims_and_for_own_authenticators_none_is_made(member: Member, host: Host) -> None:
    own = host.enroll(BOB)
    member.take([person("alice", SECRET)], tree.Policy(claims=False))
    assert host.login("alice", host.code(SECRET)).detail == ""
    member.take([person("alice", SECRET)], tree.Policy())
    assert host.login("bob", host.code(own)).detail == ""


def test_a_wrong_code_is_never_claimed(running: Agent, member: Member, host: Host) -> None:
    member.publish([person("alice", SECRET)])
    running.step()
    asked: list[object] = []
    original = agent.Claimer.ask

    def noted(self: agent.Claimer, *arguments: object) -> str:
        asked.append(arguments)
        return original(self, *arguments)  # type: ignore[arg-type]  # handed on as they came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent.Claimer, "ask", noted)
        host.login("alice", host.wrong(SECRET))
        assert asked == []
        host.login("alice", host.code(SECRET))
        assert len(asked) == 1


class Logins:
    """Claims as logins make them: each says who the host is, as it has read it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.claimer = agent.Claimer(agent.Reach(host.paths))

    def stamp(self) -> str:
        with self.host.accounts() as accounts:
            return accounts.configured.stamp(IDENTITY)

    def claim(self, step: int, login: str = "a", stamp: str | None = None) -> str:
        fields = [self.stamp() if stamp is None else stamp, login * 32, "code", "b" * 32, str(step)]
        return self.claimer.ask(fields, self.host.now())


@pytest.fixture
def logins(member: Member, host: Host) -> Logins:
    return Logins(host)


def test_after_a_silence_no_login_waits_for_some_seconds(logins: Logins, member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    member.directory.misbehave("error")
    assert logins.claim(7) == "unknown"
    member.directory.misbehave()
    assert logins.claim(7) == "unknown"
    host.later(6)
    assert logins.claim(7) == "yes"
    assert logins.claim(7, "c") == "no"
    assert logins.claim(7) == "yes"


def test_who_this_host_is_is_read_where_a_login_has_found_another_than_the_last_one(
    logins: Logins, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    load, request = identities.load, http.client.HTTPSConnection.request

    def reading(accounts: Accounts) -> Identity | None:
        done.append("read")
        return load(accounts)

    def asking(*arguments: object) -> None:
        done.append("asked")
        request(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(identities, "load", reading)
    monkeypatch.setattr(http.client.HTTPSConnection, "request", asking)
    for step in (7, 8):
        assert logins.claim(step) == "yes"
    assert done == ["read", "asked", "asked"]
    with host.accounts() as accounts:
        accounts.configured.put(identity=accounts.configured.fact(IDENTITY))
    for step in (9, 10):
        assert logins.claim(step) == "yes"
    assert done[3:] == ["read", "asked", "asked"]


def test_a_claim_finds_the_connection_that_the_polls_keep(
    running: Agent, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    connect = web._Connection.connect

    def noted(self: web._Connection) -> None:
        opened.append(self)
        connect(self)

    monkeypatch.setattr(web._Connection, "connect", noted)
    member.publish([person("alice", SECRET)])
    running.step()
    assert len(opened) == 1
    for _ in range(5):  # more than threads that answer
        assert host.login("alice", host.code(SECRET)).detail == ""
        host.later(30)
    running.step()
    assert len(opened) == 1


def leave_untold(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a directory that goes on to take this host for one of its own."""
    monkeypatch.setattr(membership, "_tell", lambda _: "")
    membership.leave(host.paths)


def join(directory: Directory, host: Host) -> None:
    membership.join(host.paths, directory.url, tree.parse_token(directory.token()), "host", host.now())


def test_a_login_of_a_host_that_has_left_meanwhile_is_answered_as_it_began_and_the_next_one_is_not(
    logins: Logins, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logins.stamp()
    assert logins.claim(7) == "yes"
    elsewhere(member, {"authenticator": "b" * 32, "step": 8, "login": "e" * 32})
    leave_untold(host, monkeypatch)
    assert logins.claim(8, stamp=before) == "no"
    assert [logins.claim(8) for _ in range(2)] == ["unknown", "unknown"]
    # Nor does anybody ask as what it was, from then on.
    assert logins.claim(8, stamp=before) == "unknown"
    join(member.directory, host)
    assert logins.claim(9) == "yes"


def test_a_host_that_has_joined_another_directory_asks_that_one(
    logins: Logins, member: Member, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = logins.stamp()
    assert logins.claim(7) == "yes"
    elsewhere(member, {"authenticator": "b" * 32, "step": 8, "login": "e" * 32})
    leave_untold(host, monkeypatch)
    for other in served(Directory(tmp_path / "other")):
        join(other, host)
        assert logins.claim(8) == "yes"
        assert logins.claim(8, "c") == "no"
        assert logins.claim(8, "c", before) == "no"  # which it is not any more
        # And back: the first one's answer is no longer one of another host.
        leave_untold(host, monkeypatch)
        join(member.directory, host)
        assert logins.claim(8) == "no"


def test_where_it_cannot_be_read_who_this_host_is_nobody_is_asked(logins: Logins, member: Member, host: Host) -> None:
    assert logins.claim(7) == "yes"
    os.rename(host.paths.key, f"{host.paths.key}.away")
    for _ in range(2):
        with pytest.raises(HostKeyError):
            logins.claim(8, stamp="another one")
    os.rename(f"{host.paths.key}.away", host.paths.key)
    assert logins.claim(8, "c") == "yes"


@pytest.mark.parametrize(
    "fields",
    [[], ["x"], ["a" * 32, "code", "b" * 32], ["a" * 32, "code", "b" * 32, "x"], ["a" * 32, "code", "x", "7"]],
)
def test_a_claim_that_is_none_is_not_passed_on(fields: list[str]) -> None:
    assert agent._claim(["stamp", *fields]) is None


def test_two_agents_do_not_take_each_other_s_place(running: Agent, host: Host) -> None:
    with pytest.raises(FleetError, match="another agent"):
        Agent(host.paths, host.now).listen()


def test_rubbish_on_the_socket_ends_nothing(running: Agent, member: Member, host: Host) -> None:
    member.publish([person("alice", SECRET)])
    running.step()
    for rubbish in (b"", b"\0" * 100, b"claim\0", b"event", os.urandom(4000), b"event\0alice\0outcome="):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
            end.connect(f"{host.paths.run}/{claim.SOCKET}")
            end.send(rubbish)
    assert host.login("alice", host.code(SECRET)).detail == ""


def test_a_socket_of_somebody_else_is_not_believed(member: Member, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    member.take([person("alice", SECRET)])
    os.makedirs(f"{host.paths.run}/agent", mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.bind(f"{host.paths.run}/{claim.SOCKET}")
        end.listen()
        host.paths.owner += 1
        assert claim.claim(host.paths, "", "code", "a" * 32, "7") == "unknown"
        host.paths.owner -= 1
        # And one that does not answer is not waited for long.
        monkeypatch.setattr(claim, "_ANSWER_SECONDS", 0.1)
        assert claim.claim(host.paths, "", "code", "a" * 32, "7") == "unknown"
