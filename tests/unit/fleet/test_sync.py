"""One pass: what a directory publishes is in force, and what somebody hostile puts in its place is not."""

from __future__ import annotations

import base64
import dataclasses
import os
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.cache import configured
from pam_totp.cache.store import Store
from pam_totp.errors import CacheError, CacheReadOnlyError, ChargeError, FleetError, LockTimeoutError, NameServiceError
from pam_totp.factors import recovery as factor
from pam_totp.fleet import identity as identities
from pam_totp.fleet import sources, sync, tree
from pam_totp.host import users
from pam_totp.host.users import User
from tests.lab.directory import person
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.unit.conftest import Passwd
    from tests.unit.member import Member
    from tests.unit.pretend import Host

SECRET, OTHER = bytes(range(20)), bytes(range(20, 40))
CODES = tree.Recovery("5" * 32, ("6" * 32, "7" * 32))
DENY = tree.Policy(unenrolled="deny", claims=False)


def last(host: Host) -> identities.Last:
    with host.accounts() as accounts:
        found = identities.last(accounts)
    assert found is not None
    return found


def identity_of(host: Host) -> identities.Identity:
    with host.accounts() as accounts:
        return identities.require(accounts)


def refused(member: Member, why: str) -> None:
    """The next pass takes nothing, and alice's record stays as it was."""
    before = last(member.host)
    with pytest.raises(FleetError) as caught:
        member.sync()
    assert caught.value.reason == f"fleet-{why}", caught.value
    assert last(member.host) == before
    # Codes of the record go on to be asked for.
    assert member.host.login("alice", member.host.wrong(SECRET)).verdict == "refused"
    member.host.later(3600)


# What is taken


def test_a_pass_gives_way_to_whoever_has_the_cache_open(member: Member, host: Host) -> None:
    member.publish([person("alice", SECRET), person("bob", OTHER)])
    with host.accounts() as login:
        going = threading.Thread(target=member.sync)
        going.start()
        going.join(0.5)
        assert going.is_alive()
        assert login.get("alice") is None
    going.join(60)
    assert [each.source for user in (ALICE, BOB) for each in host.account(user).active] == ["directory"] * 2


def test_one_who_keeps_the_cache_open_does_not_keep_a_revocation_from_being_taken(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("alice", SECRET)])
    monkeypatch.setattr("pam_totp.cache.volatile._WAY_SECONDS", 0.1)
    with host.accounts():
        assert member.take([]).revoked == ["alice"]


def test_a_record_of_the_directory_is_asked_for_and_accepted(member: Member, host: Host) -> None:
    assert host.login("alice").verdict == "skipped"
    result = member.take([person("alice", SECRET)])
    assert (result.merged, result.problems) == (["alice"], [])
    assert host.login("alice", host.wrong(SECRET)).verdict == "refused"
    outcome = host.login("alice", host.code(SECRET))
    assert (outcome.verdict, outcome.reason) == ("accepted", "code")
    assert host.login("alice", host.code(SECRET)).reason == "spent-code"


def test_nothing_is_done_where_nothing_is_new(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    before = host.snapshot()
    result = member.sync()
    assert (result.order, result.merged, host.snapshot()) == (None, [], before)


def test_a_manifest_with_the_same_records_touches_none_of_them(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    record = last(host)
    old = tree.open_manifest(member.directory.manifest(), member.directory.key)
    again = dataclasses.replace(old, sequence=old.sequence + 1, issued=old.issued + 60)
    member.directory.put(tree.sign_manifest(again, member.directory.seed))
    result = member.sync()
    assert (result.order, result.merged, result.revoked) == ("next", [], [])
    assert last(host).sequence == record.sequence + 1


def test_who_is_not_listed_any_more_is_refused_and_not_skipped(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    assert member.take([]).revoked == ["alice"]
    outcome = host.login("alice")
    assert (outcome.verdict, outcome.reason) == ("refused", "fleet-revoked")
    assert member.take([person("alice", SECRET)]).merged == ["alice"]
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def test_a_code_that_was_spent_before_a_revocation_is_spent_after_it(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    member.take([])
    member.take([person("alice", SECRET)])
    assert host.login("alice", host.code(SECRET)).reason == "spent-code"


def test_who_is_listed_without_an_authenticator_is_refused_after_having_had_one_where_the_policy_says_so(
    member: Member, host: Host
) -> None:
    member.take([person("alice", SECRET)], DENY)
    member.take([tree.Record("alice")], DENY)
    assert host.login("alice").reason == "not-enrolled"
    assert host.login("alice").verdict == "refused"


def test_a_host_s_own_authenticators_are_never_touched(member: Member, host: Host) -> None:
    own = host.enroll(ALICE, "own")
    member.take([person("alice", SECRET)])
    assert host.login("alice", host.code(own)).verdict == "accepted"
    member.take([])
    host.later(60)
    assert host.login("alice", host.wrong(SECRET, own)).verdict == "refused"
    assert host.login("alice", host.code(own)).verdict == "accepted"
    assert [each.source for each in host.account().authenticators] == ["local"]


def test_an_enrolment_that_was_handed_up_comes_back_as_the_directory_s_with_what_is_spent(
    member: Member, host: Host
) -> None:
    secret = host.enroll(ALICE, "own")
    assert host.login("alice", host.code(secret)).verdict == "accepted"
    member.take([person("alice", secret)])
    (only,) = host.account().authenticators
    assert only.source == "directory"
    assert host.login("alice", host.code(secret)).reason == "spent-code"
    member.take([])
    assert host.login("alice").reason == "fleet-revoked"


def test_what_was_removed_here_does_not_come_back_until_the_directory_has_taken_it_out(
    member: Member, host: Host
) -> None:
    member.take([person("alice", SECRET, OTHER)])

    def lose(account: Any) -> None:
        account.authenticators = [each for each in account.authenticators if each.secret != SECRET]

    host.change(lose)
    member.take([person("alice", SECRET, OTHER)])
    assert [each.secret for each in host.account().active] == [OTHER]
    member.take([person("alice", OTHER)])
    member.take([person("alice", SECRET, OTHER)])
    assert len(host.account().active) == 2


def test_an_authenticator_may_go_from_one_user_to_another(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    member.take([tree.Record("alice"), person("bob", SECRET)])
    assert host.login("bob", host.code(SECRET)).verdict == "accepted"
    assert host.account().authenticators == []
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_the_cache_is_whole_after_every_kind_of_change(member: Member, host: Host) -> None:
    host.enroll(BOB)
    steps: list[list[tree.Record]] = [
        [person("alice", SECRET), person("nobody", OTHER, recovery=CODES)],
        [person("alice", SECRET, bytes(32), locked=True), tree.Record("bob", must_enroll=True)],
        [person("bob", OTHER, exempt_until=1 << 40)],
        [],
        [person("alice", OTHER)],
    ]
    for records in steps:
        assert member.take(records, DENY).problems == []
        with host.accounts() as accounts:
            assert accounts.damage() == []


# Recovery codes, lock, exemption, deadline


def recovery(host: Host, codes: list[str]) -> tree.Recovery:
    """What the directory publishes of these codes."""
    salt = bytes(16)
    return tree.Recovery(
        salt.hex(), tuple(host.sealer().slow_hash(code.replace("-", ""), salt).hex() for code in codes)
    )


def test_a_recovery_code_works_once_and_stays_spent_whatever_comes_after_it(member: Member, host: Host) -> None:
    codes = ["abcde-fghij", "mnpqr-stuvw"]
    known = recovery(host, codes)
    member.take([person("alice", SECRET, recovery=known)])
    assert host.login("alice", codes[0]).reason == "recovery-code"
    member.take([person("alice", SECRET, recovery=known, must_enroll=True)])
    assert host.login("alice", codes[0]).reason == "wrong-recovery-code"
    # Spent on another host.
    member.take([person("alice", SECRET, recovery=tree.Recovery(known.salt, known.hashes[:1]))])
    assert host.login("alice", codes[1]).reason == "wrong-recovery-code"
    member.take([person("alice", SECRET)])
    assert host.account().ledger.recovery is None


def test_codes_that_were_made_here_after_that_stay_until_the_directory_has_others(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET, recovery=CODES)])
    made: list[str] = []
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        made += factor.issue(account.ledger, accounts.sealer)
        factor.acknowledge(account.ledger, made, accounts.sealer)
        accounts.save(account)
    member.take([person("alice", SECRET, recovery=CODES, must_enroll=True)])
    assert host.login("alice", made[0]).reason == "recovery-code"
    member.take([person("alice", SECRET, recovery=tree.Recovery("8" * 32, ("9" * 32,)))])
    assert host.login("alice", made[1]).reason == "wrong-recovery-code"


def test_who_is_locked_there_is_refused_with_a_right_code_a_recovery_code_and_an_exemption(
    member: Member, host: Host
) -> None:
    codes = ["abcde-fghij"]
    member.take([person("alice", SECRET, recovery=recovery(host, codes))])
    member.take([person("alice", SECRET, recovery=recovery(host, codes), locked=True)])
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "lost phone"]))
    assert host.login("alice").reason == "fleet-locked"
    host.change(lambda account: setattr(account.ledger, "exemption", None))
    assert host.login("alice").verdict == "refused"
    member.take([person("alice", SECRET, recovery=recovery(host, codes))])
    assert host.login("alice", codes[0]).verdict == "accepted"


@pytest.mark.parametrize("answer", ["code", "recovery"])
def test_who_is_locked_while_typing_is_refused(member: Member, host: Host, answer: str) -> None:
    codes = recovery(host, ["abcde-fghij"])
    member.take([person("alice", SECRET, recovery=codes)])

    def typed() -> str:
        member.take([person("alice", SECRET, recovery=codes, locked=True)])
        return host.code(SECRET) if answer == "code" else "abcde-fghij"

    assert host.login("alice", typed).reason == "fleet-locked"


def test_who_is_revoked_while_typing_is_refused(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])

    def typed() -> str:
        member.take([])
        return host.code(SECRET)

    assert host.login("alice", typed).reason == "changed-meanwhile"


def test_an_unlocking_there_ends_the_lock_of_wrong_codes_here(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    host.change(lambda account: setattr(account.ledger, "locked", True))
    assert host.login("alice").reason == "locked"
    member.take([person("alice", SECRET, locked=True)])
    member.take([person("alice", SECRET)])
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def test_an_exemption_of_the_directory_ends_with_its_date(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET, exempt_until=int(host.wall) + 60)])
    outcome = host.login("alice")
    assert (outcome.verdict, outcome.reason, outcome.detail) == ("skipped", "exempt", "by the directory")
    host.later(61)
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def test_a_deadline_of_the_directory_skips_until_it_is_over_and_then_denies(member: Member, host: Host) -> None:
    member.take([tree.Record("alice", deadline=int(host.wall) + 86_400)], tree.Policy(unenrolled="skip"))
    outcome = host.login("alice")
    assert (outcome.verdict, outcome.reason) == ("skipped", "grace")
    assert "1440 min" in outcome.message or "24 h" in outcome.message
    host.later(86_401)
    assert host.login("alice").verdict == "refused"
    member.take([tree.Record("alice", must_enroll=True)], tree.Policy(unenrolled="skip"))
    assert host.login("alice").verdict == "refused"
    member.take([tree.Record("alice")], tree.Policy(unenrolled="skip"))
    assert host.login("alice").verdict == "skipped"


def test_clients_that_were_remembered_before_a_date_are_forgotten(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    host.change(lambda account: account.ledger.remember("a" * 32, 3600, host.now()))
    member.take([person("alice", SECRET, forget_before=int(host.wall) - 5)])
    assert host.account().ledger.remembered
    member.take([person("alice", SECRET, forget_before=int(host.wall) + 5)])
    assert not host.account().ledger.remembered


# Names and uids


def test_a_record_waits_for_nss_to_know_its_name_and_is_asked_for_from_then_on(
    member: Member, host: Host, passwd: Passwd
) -> None:
    member.take([person("carol", SECRET)])
    with host.accounts() as accounts:
        assert accounts.unbound() == ["carol"]
    assert host.login("carol").verdict == "unknown-user"
    passwd.add("carol", 1003)
    # Before any pass has bound it.
    assert host.login("carol", host.wrong(SECRET)).verdict == "refused"
    host.later(60)
    assert host.login("carol", host.code(SECRET)).verdict == "accepted"
    assert host.account(User("carol", 1003)).uid == 1003
    passwd.add("carol", 1004)
    with pytest.raises(CacheError) as caught:
        host.account(User("carol", 1004))
    assert caught.value.reason == "uid-changed"


def test_a_pass_binds_what_nss_knows_by_now(member: Member, host: Host, passwd: Passwd) -> None:
    member.take([person("carol", SECRET)])
    passwd.add("carol", 1003)
    assert member.sync().bound == ["carol"]
    with host.accounts() as accounts:
        assert (accounts.unbound(), accounts.damage()) == ([], [])


def test_a_record_under_another_spelling_is_the_user_s(member: Member, host: Host, passwd: Passwd) -> None:
    passwd.add("carol", 1003, "Carol@EXAMPLE.ORG")
    passwd.add("Carol@EXAMPLE.ORG", 1003, "Carol@EXAMPLE.ORG")
    member.take([person("carol", SECRET)])
    assert host.login("carol", host.code(SECRET)).verdict == "accepted"
    host.later(60)
    assert host.login("Carol@EXAMPLE.ORG", host.code(SECRET)).verdict == "accepted"


def test_a_spelling_that_nss_did_not_know_then_is_no_way_around_the_code(
    member: Member, host: Host, passwd: Passwd
) -> None:
    member.take([person("carol", SECRET)])
    passwd.add("CAROL", 1003, "CAROL")
    passwd.add("carol@example.org", 1003, "carol@example.org")
    for name in ("CAROL", "carol@example.org"):
        outcome = host.login(name)
        assert (outcome.verdict, outcome.reason) == ("unavailable", "fleet-unbound")
    passwd.add("carol", 1003, "CAROL")
    assert host.login("carol", host.code(SECRET)).verdict == "accepted"
    host.later(60)
    assert host.login("CAROL", host.code(SECRET)).verdict == "accepted"


def test_a_name_service_that_fails_binds_nobody_and_loses_nobody(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(name: str) -> User | None:
        raise NameServiceError("down")

    with monkeypatch.context() as patch:
        patch.setattr(users, "find", failing)
        assert member.take([person("alice", SECRET)]).problems == []
        assert host.login("alice").verdict == "unavailable"
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def test_a_first_login_that_cannot_be_bound_durably_is_refused(
    member: Member, host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("carol", SECRET)])
    passwd.add("carol", 1003)

    def full(*_: object) -> None:
        raise CacheReadOnlyError("full")

    monkeypatch.setattr(Store, "put_account", full)
    outcome = host.login("carol", host.code(SECRET))
    assert (outcome.verdict, outcome.reason) == ("unavailable", ChargeError.reason)


def test_another_name_of_a_revoked_user_s_uid_is_refused(member: Member, host: Host, passwd: Passwd) -> None:
    passwd.add("alias", ALICE.uid)
    member.take([person("alice", SECRET)])
    member.take([])
    assert host.login("alias").reason == "fleet-revoked"
    member.take([tree.Record("alice", locked=True)])
    assert host.login("alias").reason == "fleet-locked"


def test_two_records_that_are_one_user_here_are_not_merged_into_one(member: Member, host: Host, passwd: Passwd) -> None:
    passwd.add("ALICE", ALICE.uid, "alice")
    result = member.take([person("alice", SECRET), person("ALICE", OTHER)])
    assert len(result.merged) == 1
    assert "are one user here" in result.problems[0]
    assert not last(host).applied
    assert host.login("alice", host.wrong(SECRET, OTHER)).verdict == "refused"


@pytest.mark.parametrize("kept", ["alice", "ALICE"])
def test_one_of_two_who_are_one_user_here_is_merged_when_the_other_is_taken_out(
    member: Member, host: Host, passwd: Passwd, kept: str
) -> None:
    passwd.add("ALICE", ALICE.uid, "alice")
    member.take([person("alice", SECRET), person("ALICE", OTHER)])
    result = member.take([person(kept, SECRET if kept == "alice" else OTHER)])
    assert result.problems == []
    assert last(host).applied
    assert host.login("alice", host.wrong(SECRET, OTHER)).verdict == "refused"
    host.later(60)
    assert host.login("alice", host.code(SECRET if kept == "alice" else OTHER)).verdict == "accepted"


# What is refused


def test_replayed_manifests_are_refused(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET, OTHER)])
    old = member.directory.manifest()
    member.take([person("alice", SECRET)])
    member.directory.put(old)
    refused(member, "sequence")


def test_a_second_manifest_of_the_same_number_is_refused(member: Member) -> None:
    member.take([person("alice", SECRET)])
    number = last(member.host).sequence
    member.directory.publish([], sequence=number)
    refused(member, "sequence")


def test_a_new_epoch_is_taken_once_and_none_before_it_any_more(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    old = member.directory.manifest()
    member.directory.publish([person("alice", SECRET)], epoch=2, sequence=1)
    assert member.sync().order == "epoch"
    member.directory.put(old)
    refused(member, "epoch")


def test_each_flipped_byte_and_each_truncation_of_a_manifest_is_refused(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    member.publish([])
    content = member.directory.manifest()
    source = Given(content)
    before = host.snapshot()
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 + place % 255
        for each in (bytes(broken), content[:place]):
            source.content = each
            with pytest.raises(FleetError):
                sync.run(host.paths, source, host.now(), 1)
    assert host.snapshot() == before


class Given(sources.Source):
    """A tree with a manifest that a test gives, and without any object."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def manifest(self) -> bytes:
        return self.content

    def thing(self, name: str, limit: int = tree.OBJECT_LIMIT) -> bytes:
        raise FleetError(name, "fleet-incomplete")


def objects(member: Member) -> Path:
    return member.directory.folder / "tree" / member.identifier / "objects"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: path.unlink(), "incomplete"),
        (lambda path: path.write_bytes(b""), "hash"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "hash"),
        (lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]), "hash"),
        (lambda path: path.write_bytes(bytes(tree.OBJECT_LIMIT + 1)), "answer"),
    ],
)
def test_an_object_that_is_not_what_the_manifest_says_is_refused(
    member: Member, change: Callable[[Path], object], why: str
) -> None:
    member.take([person("alice", SECRET)])
    known = set(objects(member).iterdir())
    member.publish([])
    member.publish([person("bob", OTHER)])
    for path in set(objects(member).iterdir()) - known:
        change(path)
    refused(member, why)


def sealed(member: Member, *contents: bytes, policy: bytes | None = None) -> None:
    """Publish a manifest that is signed and names any objects."""
    for content in (*contents, *([policy] if policy is not None else [])):
        (objects(member) / tree.digest(content)).write_bytes(content)
    number = last(member.host).sequence + 1
    named = tuple(sorted(map(tree.digest, contents)))
    ruled = None if policy is None else tree.digest(policy)
    manifest = tree.Manifest(member.directory.identifier, member.identifier, 1, number, 0, 1 << 40, ruled, named)
    member.directory.put(tree.sign_manifest(manifest, member.directory.seed))


def test_objects_that_the_directory_itself_has_got_wrong_are_refused_as_a_whole(member: Member) -> None:
    member.take([person("alice", SECRET)])
    host = member.identifier
    with member.host.accounts() as accounts:
        box = tree.public_box_key(identities.require(accounts).private)
    stranger = tree.new_box_key()[1]
    good = tree.seal_record(person("bob", OTHER), host, box)
    for why, contents in {
        "seal": [good, tree.seal_record(tree.Record("carol"), host, stranger)],
        "host": [good, tree.seal_record(tree.Record("carol"), "f" * 32, box)],
        "kind": [good, tree.seal_policy(tree.Policy(), host, box)],
        "records": [good, tree.seal_record(person("carol", OTHER), host, box)],
    }.items():
        sealed(member, *contents)
        refused(member, why)
        with member.host.accounts() as accounts:
            assert accounts.names() == ["alice"]
    sealed(member, good, policy=tree.seal_record(tree.Record("carol"), host, box))
    refused(member, "kind")
    # A name, or an authenticator, that a record has which is merged already.
    kept = next(each.read_bytes() for each in objects(member).iterdir() if each.name in _named(member, "alice"))
    sealed(member, kept, tree.seal_record(tree.Record("alice"), host, box))
    refused(member, "records")
    sealed(member, kept, tree.seal_record(person("bob", SECRET), host, box))
    refused(member, "records")


def _named(member: Member, name: str) -> set[str]:
    with member.host.accounts() as accounts:
        account = accounts.get(name)
    assert account is not None
    assert account.ledger.fleet is not None
    return {account.ledger.fleet["record"]}


def test_no_record_takes_the_place_of_another_user_s_own_authenticator(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    host.enroll(BOB)
    identifier = "a" * 32
    host.change(lambda account: setattr(account.authenticators[0], "identifier", identifier), BOB)
    secret = host.account(BOB).active[0].secret
    for victim in ("alice", "bob"):
        evil = tree.Record(victim, (tree.Authenticator(identifier, "phone", 0, OTHER),))
        member.publish([person("alice", SECRET)] if victim == "bob" else [evil])
        if victim == "bob":
            member.publish([person("alice", SECRET), evil])
        refused(member, "records")
    assert host.login("bob", host.code(secret)).verdict == "accepted"


def test_another_directory_s_manifest_is_refused(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET)])
    old = tree.open_manifest(member.directory.manifest(), member.directory.key)
    foreign = dataclasses.replace(old, sequence=9)
    member.directory.put(tree.sign_manifest(foreign, tree.new_signing_key()[0]))
    refused(member, "signature")
    for other, why in (
        (dataclasses.replace(old, sequence=9, directory="e" * 32), "directory"),
        (dataclasses.replace(old, sequence=9, host="e" * 32), "host"),
    ):
        member.directory.put(tree.sign_manifest(other, member.directory.seed))
        refused(member, why)


@pytest.mark.parametrize("mode", ["huge", "types", "html", "error", "no-http"])
def test_whatever_a_server_answers_the_last_good_state_stays(member: Member, mode: str) -> None:
    member.take([person("alice", SECRET)])
    member.publish([])
    member.directory.misbehave(mode)
    before = last(member.host)
    with pytest.raises(FleetError):
        member.sync()
    assert last(member.host) == before
    assert member.host.login("alice", member.host.code(SECRET)).verdict == "accepted"


# Bundles


def bundled(member: Member, records: list[tree.Record]) -> tree.Manifest:
    """Publish these in a bundle."""
    return member.directory.publish(records, host=member.identifier, issued=int(member.host.wall), bundled=True)


def amended(member: Member, *records: tree.Record, dropped: Iterable[str] = (), **changes: Any) -> tree.Manifest:
    """Publish what was published before, with these records beside it, and without what is dropped."""
    old = tree.open_manifest(member.directory.manifest(), member.directory.key)
    key = base64.b64decode(member.directory.state()["hosts"][member.identifier]["key"])
    contents = [tree.seal_record(record, member.identifier, key) for record in records]
    for content in contents:
        (objects(member) / tree.digest(content)).write_bytes(content)
    names = tuple(sorted({*old.records, *map(tree.digest, contents)}))
    fields: dict[str, Any] = {
        "sequence": old.sequence + 1,
        "records": names,
        "dropped": tuple(sorted({*old.dropped, *dropped})),
    }
    new = dataclasses.replace(old, **fields | changes)
    member.directory.put(tree.sign_manifest(new, member.directory.seed))
    return new


def record_of(member: Member, name: str) -> str:
    """The hash of the record of this name that is in force."""
    with member.host.accounts() as accounts:
        account = accounts.get(name)
    assert account is not None
    assert account.ledger.fleet is not None
    return str(account.ledger.fleet["record"])


def nothing_but(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have nothing fetched but the manifest and these."""
    thing = sources.WebTree.thing

    def asked(source: sources.WebTree, name: str, limit: int = tree.OBJECT_LIMIT) -> bytes:
        assert name in names, f"{name} was fetched"
        return thing(source, name, limit)

    monkeypatch.setattr(sources.WebTree, "thing", asked)


def test_what_is_in_a_bundle_is_in_force(member: Member, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    assert manifest.bundle is not None
    nothing_but(monkeypatch, manifest.bundle)
    assert sorted(member.sync().merged) == ["alice", "bob"]
    assert host.login("alice", host.wrong(SECRET)).verdict == "refused"
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


def test_a_change_beside_a_bundle_costs_no_more_than_itself(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    member.sync()
    new = amended(member, person("alice", SECRET, locked=True), dropped=[record_of(member, "alice")])
    nothing_but(monkeypatch, *new.records)
    result = member.sync()
    assert (result.merged, result.revoked, result.problems) == (["alice"], [], [])
    assert host.login("alice").verdict == "refused"
    assert host.login("bob", host.code(OTHER)).verdict == "accepted"


def test_who_is_dropped_from_a_bundle_is_refused_and_not_skipped(member: Member, host: Host) -> None:
    bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    member.sync()
    amended(member, dropped=[record_of(member, "alice")])
    assert member.sync().revoked == ["alice"]
    outcome = host.login("alice")
    assert (outcome.verdict, outcome.reason) == ("refused", "fleet-revoked")
    assert host.login("bob", host.code(OTHER)).verdict == "accepted"


def test_a_new_host_takes_a_bundle_with_what_has_changed_since(member: Member, host: Host) -> None:
    old = bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    assert old.bundle is not None
    content = tree.unbundle((objects(member) / old.bundle).read_bytes(), old.bundle)
    private = identity_of(host).private
    gone = next(name for name, each in content.items() if tree.open_record(each, old.host, private).name == "bob")
    amended(member, person("carol", bytes(20)), dropped=[gone])
    assert sorted(member.sync().merged) == ["alice", "carol"]


def test_a_bundle_is_fetched_again_where_the_host_has_lost_a_record(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    member.sync()
    host.change(lambda account: setattr(account.ledger, "fleet", None), ALICE)
    new = amended(member, person("carol", bytes(20)))
    nothing_but(monkeypatch, *new.files)
    assert new.bundle == manifest.bundle
    assert sorted(member.sync().merged) == ["alice", "carol"]
    assert host.login("alice", host.wrong(SECRET)).verdict == "refused"


@pytest.mark.parametrize("kept", [None, b"", b"x", bytes(32), bytes(64)])
def test_what_is_kept_of_a_bundle_is_looked_at_before_it_is_used(
    member: Member, host: Host, kept: bytes | None
) -> None:
    bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    member.sync()
    if kept is None:
        with closing(sqlite3.connect(host.paths.cache)) as connection, connection:
            connection.execute("DELETE FROM fact WHERE name = ?", (configured.BUNDLE,))
    else:
        with host.accounts() as accounts:
            accounts.configured.put(bundle=kept)
    amended(member, person("alice", SECRET, locked=True), dropped=[record_of(member, "alice")])
    result = member.sync()
    assert (result.merged, result.revoked) == (["alice"], [])
    assert host.login("bob", host.code(OTHER)).verdict == "accepted"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda _: b"", "hash"),
        (lambda content: content[:-1], "format"),
        (lambda content: content[: int.from_bytes(content[:4], "big") + 4], "hash"),
        (lambda content: bytes(4) + content, "format"),
        (lambda content: content[:4] + bytes([content[4] ^ 1]) + content[5:], "hash"),
        (lambda _: tree.bundle({"a": b"of another host", "b": b"old"}), "hash"),
        (lambda content: content + tree.bundle({"a": b"more"}), "hash"),
        (lambda _: b"\xff" * 1000, "format"),
        (lambda _: bytes(tree.BUNDLE_LIMIT + 1), "answer"),
    ],
)
def test_a_bundle_that_is_not_what_the_manifest_says_is_refused(
    member: Member, change: Callable[[bytes], bytes], why: str
) -> None:
    member.take([person("alice", SECRET)])
    manifest = bundled(member, [person("alice", SECRET, locked=True), person("bob", OTHER)])
    assert manifest.bundle is not None
    path = objects(member) / manifest.bundle
    content = path.read_bytes()
    path.write_bytes(change(content))
    refused(member, why)
    path.write_bytes(content)
    assert sorted(member.sync().merged) == ["alice", "bob"]


def test_a_manifest_that_does_not_go_with_its_bundle_is_refused(member: Member) -> None:
    first = bundled(member, [person("alice", SECRET), person("bob", OTHER)])
    member.sync()
    amended(member, dropped=["0" * 64])
    refused(member, "records")
    member.directory.put(tree.sign_manifest(dataclasses.replace(first, sequence=9), member.directory.seed))
    assert member.sync().problems == []
    amended(member, sequence=10, records=(record_of(member, "bob"),))
    refused(member, "records")


def test_a_bundle_of_another_host_opens_nothing(member: Member) -> None:
    member.take([person("alice", SECRET)])
    _, key = tree.new_box_key()
    content = tree.seal_record(person("bob", OTHER), member.identifier, key)
    name = tree.bundle_name([tree.digest(content)])
    (objects(member) / name).write_bytes(tree.bundle({tree.digest(content): content}))
    amended(member, bundle=name)
    refused(member, "seal")


def test_a_bundle_counts_where_a_tree_is_larger_than_any_host_s(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("alice", SECRET)])
    manifest = bundled(member, [person("alice", SECRET, locked=True), person("bob", OTHER)])
    assert manifest.bundle is not None
    new = amended(member, person("carol", bytes(20)))
    size = sum((objects(member) / name).stat().st_size for name in new.files)
    monkeypatch.setattr(tree, "TREE_LIMIT", size - 10)
    refused(member, "size")


def test_a_server_that_is_slow_each_time_is_given_up(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    member.take([person("alice", SECRET)])
    member.publish([person("bob", OTHER)])
    monkeypatch.setattr(sources, "_IN_ALL", -1.0)
    refused(member, "unreachable")


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SECONDS", 0.5)
    member.take([person("alice", SECRET)])
    member.directory.misbehave("slow")
    with pytest.raises(FleetError):
        member.sync()


def test_an_expired_manifest_is_in_force(member: Member, host: Host) -> None:
    member.directory.publish([person("alice", SECRET)], issued=1, expires=2)
    assert member.sync().merged == ["alice"]
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"


# Killed, full, two at once


class Killed(BaseException):
    """The pass ended here."""


def writes(host: Host, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object], stop: int) -> int:
    """Run, and be killed at the write with this number; returns how many there were."""
    count = 0

    class Counted:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __enter__(self) -> None:
            nonlocal count
            count += 1
            if count == stop:
                raise Killed
            self._inner.__enter__()

        def __exit__(self, *error: object) -> None:
            self._inner.__exit__(*error)

    original = Store.transaction
    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", lambda store: Counted(original(store)))
        try:
            run()
        except Killed:
            pass
    return count


def test_a_pass_that_is_killed_at_any_write_goes_on_and_lets_nobody_in_meanwhile(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("alice", SECRET), person("bob", OTHER)], DENY)
    before = host.snapshot()
    member.publish([person("alice", SECRET, bytes(32), locked=True)], DENY)
    count = writes(host, monkeypatch, member.sync, 0)
    assert count >= 4
    for stop in range(1, count + 1):
        host.put_back(before)
        for path in host.in_run():
            if not path.endswith((".lock", "agent")):
                os.unlink(path)
        writes(host, monkeypatch, member.sync, stop)
        for user in (ALICE, BOB):
            account = host.account(user)
            assert account.active or account.held_back
        with host.accounts() as accounts:
            assert accounts.damage() == []
        result = member.sync()
        assert result.problems == []
        assert last(host).applied
        assert host.login("bob").reason == "fleet-revoked"
        assert host.login("alice").reason == "fleet-locked"


def test_an_older_manifest_is_not_taken_after_a_pass_that_was_killed(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("alice", SECRET)])
    old = member.directory.manifest()
    member.publish([])
    writes(host, monkeypatch, member.sync, 2)
    member.directory.put(old)
    with pytest.raises(FleetError) as caught:
        member.sync()
    assert caught.value.reason == "fleet-sequence"


def test_a_full_disk_changes_nothing_and_the_next_pass_does_it_all(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("alice", SECRET)])
    member.publish([person("alice", SECRET), person("bob", OTHER)])

    def full(*_: object) -> None:
        raise CacheReadOnlyError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_account", full)
        with pytest.raises(CacheReadOnlyError):
            member.sync()
    assert host.login("alice", host.code(SECRET)).verdict == "accepted"
    assert sorted(member.sync().merged) == ["alice", "bob"]


def test_of_two_passes_at_once_one_waits_and_gives_up(
    member: Member, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.take([person("alice", SECRET)])
    monkeypatch.setattr("pam_totp.cache.volatile.LOCK_SECONDS", 0.05)
    monkeypatch.setattr("pam_totp.cache.volatile.Volatile.lock.__defaults__", (0.05,))
    with host.accounts() as accounts, accounts.lock(sync.LOCK), pytest.raises(LockTimeoutError, match="another pass"):
        member.sync()


def test_a_damaged_record_is_left_alone_and_tried_again(member: Member, host: Host) -> None:
    member.take([person("alice", SECRET), person("bob", OTHER)])
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute("UPDATE account SET ledger = x'00' WHERE name = 'bob'")
    connection.close()
    result = member.take([person("alice", SECRET, locked=True), person("bob", OTHER, locked=True)])
    assert result.merged == ["alice"]
    assert result.problems
    assert not last(host).applied
    assert host.login("bob").verdict == "unavailable"


# Cost


def test_a_host_that_never_joined_has_nothing_of_it(host: Host) -> None:
    with host.accounts() as accounts:
        assert not accounts.configured.joined
        with pytest.raises(FleetError, match="has joined no fleet"):
            identities.require(accounts)


def test_a_fact_that_vanished_is_missed(member: Member, host: Host) -> None:
    member.take([], DENY)
    assert host.login("alice").reason == "not-enrolled"
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute("DELETE FROM fact WHERE name = 'fleet'")
    connection.close()
    assert host.login("alice").verdict == "unavailable"
