"""Joining a fleet, and leaving it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import rotation
from pam_totp.cache.store import Store
from pam_totp.errors import CacheReadOnlyError, DamageError, FleetError, UsageError
from pam_totp.fleet import identity as identities
from pam_totp.fleet import membership, tree
from tests.lab.directory import person
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from tests.lab.directory import Directory
    from tests.unit.member import Member
    from tests.unit.pretend import Host

SECRET, OTHER = bytes(range(20)), bytes(range(20, 40))


def join(host: Host, directory: Directory, token: str) -> identities.Identity:
    return membership.join(host.paths, directory.url, tree.parse_token(token), "host", host.now())


def test_a_token_is_good_once(host: Host, directory: Directory) -> None:
    token = directory.token()
    join(host, directory, token)
    with pytest.raises(UsageError, match="joined a fleet already"):
        join(host, directory, token)
    membership.leave(host.paths)
    with pytest.raises(FleetError, match=r"used already: ask for another one") as caught:
        join(host, directory, token)
    assert caught.value.reason == "fleet-join-refused"
    with host.accounts() as accounts:
        assert not accounts.configured.joined


def test_nobody_is_told_the_token_that_the_host_has_made(host: Host, directory: Directory) -> None:
    """So that an answer to a join is nothing that anybody could want to have."""
    made = join(host, directory, directory.token())
    assert made.token not in json.dumps(directory.state())
    assert member_of(directory)["token"] == hashlib.sha256(made.token.encode()).hexdigest()


def member_of(directory: Directory) -> dict[str, str]:
    """What the directory has kept of the one host."""
    [found] = directory.state()["hosts"].values()
    assert isinstance(found, dict)
    return found


def test_joining_changes_no_login(host: Host, directory: Directory) -> None:
    secret = host.enroll()
    join(host, directory, directory.token())
    assert host.login("alice", host.code(secret)).verdict == "accepted"
    assert host.login("bob").verdict == "skipped"


def test_another_directory_s_token_joins_nothing(host: Host, directory: Directory) -> None:
    good = tree.parse_token(directory.token())
    for wrong in (dataclasses.replace(good, ca="0" * 64), dataclasses.replace(good, directory="0" * 32)):
        with pytest.raises(FleetError):
            membership.join(host.paths, directory.url, wrong, "host", host.now())
        with host.accounts() as accounts:
            assert not accounts.configured.joined


@pytest.mark.parametrize("mode", ["types", "html", "error", "no-http"])
def test_a_server_that_is_no_directory_is_not_joined(host: Host, directory: Directory, mode: str) -> None:
    token = directory.token()
    directory.misbehave(mode)
    with pytest.raises(FleetError):
        join(host, directory, token)
    with host.accounts() as accounts:
        assert not accounts.configured.joined


def test_on_a_full_disk_nothing_is_joined(host: Host, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise CacheReadOnlyError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_fact", full)
        with pytest.raises(CacheReadOnlyError):
            join(host, directory, directory.token())
    assert host.login("bob").verdict == "skipped"


def test_the_identity_is_sealed_and_goes_with_a_rotation(member: Member, host: Host) -> None:
    with host.accounts() as accounts:
        before = identities.require(accounts)
    assert before.token.encode() not in host.snapshot()
    assert before.private not in host.snapshot()
    rotation.rotate(host.paths, lambda _: None)
    with host.accounts() as accounts:
        assert identities.require(accounts) == before
    assert member.take([person("alice", SECRET)]).merged == ["alice"]


@pytest.mark.parametrize("name", ["fleet", "fleet-identity", "fleet-manifest"])
def test_a_fact_of_a_joined_host_that_is_edited_is_damage(member: Member, host: Host, name: str) -> None:
    member.take([person("alice", SECRET)])
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute("UPDATE fact SET value = zeroblob(100) WHERE name = ?", (name,))
    connection.close()
    if name == "fleet":
        # What is in force is taken again.
        assert host.login("alice").verdict == "unavailable"
        member.sync()
    else:
        with pytest.raises(DamageError):
            member.sync()
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def test_a_configuration_that_vanishes_is_still_missed_on_a_joined_host(member: Member, host: Host) -> None:
    import os

    host.configure('unenrolled = "deny"')
    with host.accounts() as accounts:
        assert accounts.configured.joined
    os.unlink(host.paths.config)
    assert host.login("bob").reason == "config-missing"


# Leaving


def test_who_leaves_keeps_what_users_have_and_stands_alone(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)], tree.Policy(unenrolled="deny"))
    assert host.login("bob").verdict == "refused"
    assert membership.leave(host.paths) == ""
    assert member.directory.state()["hosts"].popitem()[1]["left"]
    assert host.login("bob").verdict == "skipped"
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    assert [each.source for each in host.account().active] == ["local"]
    assert host.account().ledger.fleet is None
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_who_was_revoked_or_locked_stays_refused_after_leaving(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET), person("bob", OTHER)])
    member.take([person("bob", OTHER, locked=True)])
    membership.leave(host.paths)
    assert host.login("alice").reason == "fleet-revoked"
    assert host.login("bob").reason == "fleet-locked"


def test_one_can_leave_while_the_directory_is_gone(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET), person("nobody", OTHER)])
    member.directory.misbehave("error")
    assert "500" in membership.leave(host.paths)
    with host.accounts() as accounts:
        assert not accounts.configured.joined
        assert accounts.names() == ["alice"]


def test_a_leave_that_is_killed_can_be_said_again(member: Member, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    member.take([person("alice", SECRET), person("bob", OTHER)])
    count = 0
    original = Store.transaction

    def counted(store: Store) -> object:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return original(store)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", counted)
        with pytest.raises(KeyboardInterrupt):
            membership.leave(host.paths)
    assert host.login("bob", host.code(OTHER)).verdict == "accepted"
    membership.leave(host.paths)
    assert host.account(ALICE).ledger.fleet is None
    assert host.account(BOB).ledger.fleet is None


def test_a_host_that_joins_again_takes_what_it_had_kept(member: Member, host: Host, directory: Directory) -> None:
    member.take([person("alice", SECRET)])
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    membership.leave(host.paths)
    join(host, directory, directory.token())
    assert member.take([person("alice", SECRET)]).merged == ["alice"]
    assert [each.source for each in host.account().active] == ["directory"]
    assert host.login("alice", host.code(SECRET)).reason == "spent-code"
