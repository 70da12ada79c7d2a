"""What a host finds in its folder of the tree, and when."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from pam_totp.directory import audit, config, differences, hosts, people, publish
from pam_totp.directory.keeper import client, work
from pam_totp.directory.models import (
    Access,
    Audit,
    Authenticator,
    Edition,
    Event,
    Group,
    Host,
    HostGroup,
    Known,
    Policy,
    Published,
    State,
)
from pam_totp.errors import KeeperError
from pam_totp.factors import otp
from pam_totp.fleet import tree
from tests.directory.inside.conftest import SOURCE, JoinedHost, Keeper, enrolled, joined, key_of, publish_all


def test_a_host_gets_the_people_of_its_groups_with_what_they_are_enrolled_with(keeper: Keeper) -> None:
    _, secret = enrolled(keeper, "alice")
    people.add("root", "bob", deadline=timezone.now() + timedelta(days=3))
    people.add("root", "carol", [])
    host = joined("web1")
    assert publish_all() == 1
    records = host.records(keeper)
    assert records.keys() == {"alice", "bob"}
    assert [each.secret for each in records["alice"].authenticators] == [secret]
    assert records["bob"].authenticators == ()
    assert records["bob"].deadline is not None
    assert host.policy(keeper).unenrolled == "skip"
    assert host.manifest(keeper).sequence == 1


def test_what_has_not_changed_is_not_sealed_anew(keeper: Keeper) -> None:
    for name in ("alice", "bob", "carol"):
        enrolled(keeper, name)
    host, other = joined("web1"), joined("web2")
    publish_all()
    first, before = host.manifest(keeper), other.manifest(keeper)
    assert publish_all() == 0
    people.lock("root", people.find("bob"), locked=True)
    assert publish_all() == 2
    second = host.manifest(keeper)
    assert first.bundle is not None
    assert (second.bundle, len(second.records), len(second.dropped)) == (first.bundle, 1, 1)
    assert first.policy == second.policy
    assert second.sequence > first.sequence
    assert host.records(keeper)["bob"].locked
    assert other.manifest(keeper).sequence > before.sequence
    assert "sequence=2 hosts=2 records=1: done" in [line for line in keeper.log if "publish" in line][-1]
    people.lock("root", people.find("carol"), locked=True)
    publish_all()
    third = host.manifest(keeper)
    assert (third.bundle, len(third.records)) == (first.bundle, 2)
    assert set(second.records) < set(third.records)


def test_one_record_alone_needs_no_bundle(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    manifest = host.manifest(keeper)
    assert (manifest.bundle, len(manifest.records)) == (None, 1)


def test_a_change_of_the_portal_alone_publishes_nothing(keeper: Keeper) -> None:
    alice, secret = enrolled(keeper, "alice")
    joined("web1")
    publish_all()
    people.set_fields("root", alice, email="alice@example.org")
    assert people.check(alice, otp.hotp(secret, keeper.time.step), SOURCE).accepted
    assert publish_all() == 0


def _lock() -> None:
    people.lock("root", people.find("alice"), locked=True)


def _policy() -> None:
    policy = Policy.objects.get(host_group__name="hosts")
    policy.unenrolled = Policy.Unenrolled.DENY
    policy.save()


def _deny() -> None:
    Access.objects.get(group__name="everyone").delete()


def _leave() -> None:
    Group.objects.get(name="everyone").persons.remove(people.find("alice"))


def _clear() -> None:
    Group.objects.get(name="everyone").persons.clear()


def _other_way() -> None:
    people.find("alice").memberships.clear()


def _reset() -> None:
    people.remove("root", people.find("alice"))


def _label() -> None:
    people.remove("root", people.find("alice"), "phone")


def _delete() -> None:
    people.delete("root", people.find("alice"))


def _group() -> None:
    Group.objects.get(name="everyone").delete()


def _inactive() -> None:
    person = people.find("alice")
    person.is_active = False
    person.save()


def _recovery() -> None:
    people.new_recovery_codes("root", people.find("alice"))


def _move() -> None:
    host = hosts.find("web1")
    host.group = HostGroup.objects.create(name="others")
    host.save()


CHANGES = [
    _lock,
    _policy,
    _deny,
    _leave,
    _clear,
    _other_way,
    _reset,
    _label,
    _delete,
    _group,
    _inactive,
    _recovery,
    _move,
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_that_concerns_a_host_reaches_it(keeper: Keeper, change: object) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    before = host.records(keeper), host.policy(keeper)
    assert callable(change)
    change()
    assert publish_all() == 1
    assert (host.records(keeper), host.policy(keeper)) != before


def test_a_manifest_is_renewed_when_half_of_its_time_is_over(keeper: Keeper) -> None:
    host = joined("web1")
    now = timezone.now()
    publish.once(now, root=config.TREE)
    first = host.manifest(keeper)
    keeper.time.ahead += timedelta(days=4).total_seconds()
    assert publish.once(now + timedelta(days=3), root=config.TREE) == 0
    assert publish.once(now + timedelta(days=4), root=config.TREE) == 1
    second = host.manifest(keeper)
    assert (second.records, second.policy) == (first.records, first.policy)
    assert second.expires > first.expires


def test_a_manifest_is_renewed_well_before_its_hosts_would_refuse_everybody(keeper: Keeper) -> None:
    host, other = joined("web1"), joined("web2")
    now = timezone.now()
    publish.once(now, root=config.TREE)
    Policy.objects.update_or_create(host_group=Host.objects.get(name="web1").group, defaults={"max_offline": 3600})
    publish_all()
    before = host.manifest(keeper).issued
    assert publish.once(now + timedelta(minutes=19), root=config.TREE) == 0
    assert publish.once(now + timedelta(minutes=21), root=config.TREE) == 2
    assert host.manifest(keeper).issued - before >= 20 * 60
    Policy.objects.update(max_offline=None)
    publish_all()
    assert publish.once(now + timedelta(minutes=60), root=config.TREE) == 0
    assert other.manifest(keeper).expires > now.timestamp()


def test_a_database_that_was_restored_publishes_nothing_until_an_epoch_was_begun(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    before = State.objects.get().sequence
    people.lock("root", people.find("alice"), locked=True)
    publish_all()
    signed = host.manifest(keeper)
    # What a restored backup says.
    people.lock("root", people.find("alice"), locked=False)
    State.objects.update(sequence=before)
    for _ in range(5):
        with pytest.raises(KeeperError) as refused:
            publish_all()
        assert refused.value.reason == "database-older"
    assert host.manifest(keeper) == signed
    answer = client.ask("epoch")
    State.objects.update(epoch=answer["epoch"], sequence=answer["sequence"])
    publish_all()
    again = host.manifest(keeper)
    assert (again.epoch, again.previous_epoch_closed) == (2, signed.sequence)
    assert again.sequence > signed.sequence


def test_the_keeper_signs_no_number_twice_for_a_host_and_none_that_is_smaller(keeper: Keeper) -> None:
    host = joined("web1")
    publish_all()
    each: dict[str, object] = {"host": host.ident, "fresh": [], "keep": [], "bundle": None, "dropped": []}
    each |= {"keep_policy": None}
    now = int(timezone.now().timestamp())
    empty = {"issued": now, "expires": now + 60, "records": [], "policy": None, "hosts": [each]}
    assert client.ask("publish", sequence=1, **empty)["hosts"][0]["reason"] == "lost"
    with pytest.raises(KeeperError) as refused:
        client.ask("publish", sequence=0, **empty)
    assert refused.value.reason == "database-older"
    # Nor twice in one request.
    answers = client.ask("publish", sequence=2, **empty | {"hosts": [each, each]})["hosts"]
    assert "manifest" in answers[0]
    assert answers[1]["reason"] == "lost"


def test_one_host_that_cannot_be_published_for_holds_up_no_other(
    keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    group = HostGroup.objects.create(name="others")
    Policy.objects.create(host_group=group, break_glass=["a:b"])
    bad, good = joined("bad", "others"), joined("good")
    assert publish_all() == 1
    assert good.records(keeper) == {}
    assert not os.path.exists(os.path.join(config.TREE, bad.ident))
    assert "not published for bad" in capsys.readouterr().err


def test_a_secret_of_another_person_does_not_open(keeper: Keeper) -> None:
    alice, secret = enrolled(keeper, "alice")
    bob = people.add("root", "bob")
    host = joined("web1")
    Authenticator.objects.filter(person=alice).update(person=bob)
    assert publish_all() == 0
    with pytest.raises(KeeperError) as refused:
        people.check(bob, otp.hotp(secret, keeper.time.step), SOURCE)
    assert refused.value.reason == "damaged"
    assert not os.path.exists(os.path.join(config.TREE, host.ident))


def test_files_that_no_manifest_names_go_later(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    (old,) = host.manifest(keeper).records
    path = os.path.join(config.TREE, host.ident, "objects", old)
    people.lock("root", people.find("alice"), locked=True)
    publish_all()
    assert os.path.exists(path)
    later = timezone.now().timestamp() - publish.UNNEEDED_FOR - 1
    os.utime(path, (later, later))
    people.lock("root", people.find("alice"), locked=False)
    publish_all()
    assert not os.path.exists(path)
    assert len(os.listdir(os.path.dirname(path))) == 3


# Bundles


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle is made where more than two, or three, would be apart."""
    monkeypatch.setattr(differences, "APART", 2)


def names(host: JoinedHost, keeper: Keeper) -> set[str]:
    """Whose records the host has; every file of it is there and opens."""
    return set(host.records(keeper))


def many(*more: str) -> JoinedHost:
    """A host with the records of eight people."""
    for name in (*(f"user{number}" for number in range(8)), *more):
        people.add("root", name)
    return joined("web1")


EIGHT = {f"user{number}" for number in range(8)}


@pytest.mark.usefixtures("apart")
def test_many_records_are_in_one_file_and_few_changes_beside_it(keeper: Keeper) -> None:
    host = many()
    publish_all()
    first = host.manifest(keeper)
    assert (first.records, first.dropped, names(host, keeper)) == ((), (), EIGHT)
    assert len(os.listdir(os.path.join(config.TREE, host.ident, "objects"))) == 2
    people.lock("root", people.find("user3"), locked=True)
    publish_all()
    second = host.manifest(keeper)
    assert (second.bundle, len(second.records), len(second.dropped)) == (first.bundle, 1, 1)
    assert second.policy == first.policy
    assert {name for name, each in host.records(keeper).items() if each.locked} == {"user3"}
    # The same person's next change takes the place of this one.
    people.lock("root", people.find("user3"), locked=False)
    publish_all()
    third = host.manifest(keeper)
    assert (third.bundle, len(third.records), third.dropped) == (first.bundle, 1, second.dropped)
    assert "sequence=3 hosts=1 records=1: done" in [line for line in keeper.log if "publish" in line][-1]
    assert not any(each.locked for each in host.records(keeper).values())


@pytest.mark.usefixtures("apart")
def test_when_too_many_are_apart_there_is_a_new_bundle_and_the_old_one_goes_later(keeper: Keeper) -> None:
    host = many()
    publish_all()
    before = host.objects(keeper)
    old = host.manifest(keeper).bundle
    assert old is not None
    for number in range(2):
        people.lock("root", people.find(f"user{number}"), locked=True)
        publish_all()
    manifest = host.manifest(keeper)
    assert (manifest.records, manifest.dropped) == ((), ())
    assert manifest.bundle not in (None, old)
    # What has not changed is the same sealed box as before.
    assert len(before.keys() & host.objects(keeper).keys()) == 6
    assert {name for name, each in host.records(keeper).items() if each.locked} == {"user0", "user1"}
    path = os.path.join(config.TREE, host.ident, "objects", old)
    assert os.path.exists(path)
    later = timezone.now().timestamp() - publish.UNNEEDED_FOR - 1
    os.utime(path, (later, later))
    people.lock("root", people.find("user2"), locked=True)
    publish_all()
    assert not os.path.exists(path)
    assert names(host, keeper) == EIGHT


@pytest.mark.usefixtures("apart")
def test_who_is_removed_is_dropped_whether_the_person_is_still_known_or_not(keeper: Keeper) -> None:
    host = many("zoe")
    publish_all()
    first = host.manifest(keeper).bundle
    people.delete("root", people.find("user0"))
    publish_all()
    assert names(host, keeper) == EIGHT - {"user0"} | {"zoe"}
    assert host.manifest(keeper).bundle == first
    Group.objects.get(name="everyone").persons.remove(people.find("user1"))
    publish_all()
    assert names(host, keeper) == EIGHT - {"user0", "user1"} | {"zoe"}
    assert host.manifest(keeper).bundle == first
    people.add("root", "xaver")
    people.add("root", "yves")
    publish_all()
    assert names(host, keeper) == EIGHT - {"user0", "user1"} | {"xaver", "yves", "zoe"}
    assert host.manifest(keeper).bundle != first
    assert Published.objects.filter(person=None).count() == 0
    assert Published.objects.count() == 9


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("change", [None, "user0"])
def test_who_is_removed_while_it_is_published_is_dropped_by_the_next_pass(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, change: str | None
) -> None:
    host = many("zoe")
    if change is not None:
        publish_all()
        people.lock("root", people.find(change), locked=True)
    bundle = host.manifest(keeper).bundle if change is not None else None
    ask = client.ask

    def slow(verb: str, **words: object) -> object:
        answer = ask(verb, **words)
        if verb == "publish":
            people.delete("root", people.find("user0"))
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(client, "ask", slow)
        assert publish_all() == 1
    assert names(host, keeper) == EIGHT | {"zoe"}
    bundle = bundle or host.manifest(keeper).bundle
    assert publish_all() == 1
    assert names(host, keeper) == EIGHT - {"user0"} | {"zoe"}
    assert host.manifest(keeper).bundle == bundle


@pytest.mark.usefixtures("apart")
def test_nobody_at_all_is_left_where_all_are_removed(keeper: Keeper) -> None:
    host = many()
    publish_all()
    Group.objects.get(name="everyone").delete()
    publish_all()
    manifest = host.manifest(keeper)
    assert (manifest.bundle, manifest.records, names(host, keeper)) == (None, (), set())
    assert Known.objects.count() == 8


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("lost", ["row", "rows", "bundle", "manifest", "rot", "number", "edition"])
def test_what_the_database_and_the_tree_do_not_agree_about_is_made_anew(keeper: Keeper, lost: str) -> None:
    host = many()
    publish_all()
    old = host.manifest(keeper).bundle
    folder = os.path.join(config.TREE, host.ident)
    path = os.path.join(folder, "objects", str(old))
    match lost:
        case "row":
            Published.objects.filter(person__name="user0").delete()
        case "rows":
            Published.objects.all().delete()
        case "bundle":
            os.unlink(path)
        case "manifest":
            os.unlink(os.path.join(folder, "manifest"))
        case "rot":
            with open(path, "r+b") as file:
                file.write(b"\xff")
        case "number":
            Host.objects.update(sequence=F("sequence") + 1)
        case "edition":
            Host.objects.update(edition=None)
    for name in ("user0", "user1"):
        people.lock("root", people.find(name), locked=True)
    people.delete("root", people.find("user2"))
    publish_all()
    assert host.manifest(keeper).bundle not in (None, old)
    assert names(host, keeper) == EIGHT - {"user2"}
    assert {name for name, each in host.records(keeper).items() if each.locked} == {"user0", "user1"}
    assert set(Published.objects.values_list("person__name", flat=True)) == EIGHT - {"user2"}


@pytest.mark.usefixtures("apart")
def test_however_much_is_made_anew_no_request_is_for_more_than_the_keeper_takes(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [many(), *(joined(f"db{number}") for number in range(5))]
    publish_all()
    Published.objects.all().delete()
    people.lock("root", people.find("user0"), locked=True)
    for module in (work, publish):
        monkeypatch.setattr(module, "MOST_RECORDS", 20)
    monkeypatch.setattr(publish, "_RECORDS", 30)
    assert publish_all() == 6
    for host in found:
        assert {name for name, each in host.records(keeper).items() if each.locked} == {"user0"}
        assert names(host, keeper) == EIGHT


@pytest.mark.usefixtures("apart")
def test_a_host_with_more_than_any_host_takes_keeps_what_it_has_and_holds_up_no_other(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = many()
    HostGroup.objects.create(name="others")
    publish_all()
    before = host.manifest(keeper)
    other = joined("db1", "others")
    for name in ("user0", "user1"):
        people.lock("root", people.find(name), locked=True)
    with monkeypatch.context() as patch:
        patch.setattr(tree, "BUNDLE_LIMIT", 1000)
        assert publish_all() == 1
    assert "not published for web1: its people's records are more" in capsys.readouterr().err
    assert host.manifest(keeper) == before
    assert other.records(keeper) == {}
    assert publish_all() == 1
    assert host.records(keeper)["user0"].locked


@pytest.mark.usefixtures("apart")
def test_a_host_that_moves_keeps_what_both_groups_have(keeper: Keeper) -> None:
    host = many()
    publish_all()
    before = host.objects(keeper)
    others, few = HostGroup.objects.create(name="others"), Group.objects.create(name="few")
    few.persons.add(people.find("user0"), people.add("root", "yves", []))
    Access.objects.create(group=few, host_group=others)
    found = hosts.find("web1")
    found.group = others
    found.save()
    publish_all()
    assert names(host, keeper) == {"user0", "yves"}
    assert len(before.keys() & host.objects(keeper).keys()) == 1
    assert set(Known.objects.values_list("person__name", flat=True)) == EIGHT - {"user0"}


@pytest.mark.usefixtures("apart")
def test_hosts_get_their_new_bundles_with_different_changes(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "APART", 16)
    for number in range(40):
        people.add("root", f"user{number}")
    found = [joined(f"web{number}") for number in range(12)]
    publish_all()
    before = [host.manifest(keeper).bundle for host in found]
    assert None not in before
    renewed = []
    for number in range(16):
        people.lock("root", people.find(f"user{number}"), locked=True)
        publish_all()
        now = [host.manifest(keeper).bundle for host in found]
        renewed.append(sum(a != b for a, b in zip(before, now, strict=True)))
    assert renewed[0] == 0
    assert renewed[-1] == 12
    assert len(set(renewed)) > 2
    assert all(sum(each.locked for each in host.records(keeper).values()) == 16 for host in found)


def test_an_edition_that_no_host_has_any_more_goes(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    joined("web1")
    joined("web2")
    for locked in (True, False, True):
        people.lock("root", people.find("alice"), locked=locked)
        publish_all()
    assert Edition.objects.count() == 1
    assert Host.objects.filter(edition=Edition.objects.get()).count() == 2


def test_hosts_of_several_requests_and_groups_get_each_their_own(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_HOSTS", 2)
    monkeypatch.setattr(publish, "_RECORDS", 3)
    _, secret = enrolled(keeper, "alice")
    enrolled(keeper, "bob")
    HostGroup.objects.create(name="others")
    found, other = [joined(f"web{number}") for number in range(7)], joined("db1", "others")
    assert publish_all() == 8
    for host in found:
        assert [each.secret for each in host.records(keeper)["alice"].authenticators] == [secret]
    assert other.records(keeper) == {}
    monkeypatch.setattr(publish, "_RECORDS", 50_000)
    people.lock("root", people.find("alice"), locked=True)
    assert publish_all() == 7
    assert all(host.records(keeper)["alice"].locked for host in found)
    assert not any(host.records(keeper)["bob"].locked for host in found)
    asked = [line for line in keeper.log if "publish" in line]
    assert [line.count("hosts=2 records=1") for line in asked[-4:]] == [1, 1, 1, 0]


@pytest.mark.parametrize("lost", ["", "objects"])
def test_a_tree_that_was_lost_is_made_anew_with_the_next_change(keeper: Keeper, lost: str) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    before = host.records(keeper), host.policy(keeper)
    shutil.rmtree(os.path.join(config.TREE, host.ident, lost))
    people.add("root", "bob")
    publish_all()
    assert host.records(keeper)["alice"] == before[0]["alice"]
    assert host.policy(keeper) == before[1]


def test_a_publisher_that_begins_with_another_tree_publishes_all_of_it_anew(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled(keeper, "alice")
    host, other = joined("web1"), joined("web2")
    publish_all()
    before = host.manifest(keeper)
    monkeypatch.setattr(publish, "_publishing", [])
    assert publish_all() == 0
    assert host.manifest(keeper) == before
    shutil.rmtree(os.path.join(config.TREE, host.ident))
    monkeypatch.setattr(publish, "_publishing", [])
    assert publish_all() == 1
    assert host.records(keeper).keys() == {"alice"}
    assert host.manifest(keeper).sequence > before.sequence
    assert other.manifest(keeper).sequence == before.sequence
    # Where a power cut has taken one name of many.
    (record,) = other.manifest(keeper).records
    os.unlink(os.path.join(config.TREE, other.ident, "objects", record))
    assert publish_all() == 0
    monkeypatch.setattr(publish, "_publishing", [])
    assert publish_all() == 1
    assert other.records(keeper).keys() == {"alice"}


@pytest.mark.parametrize(("few", "after"), [*((0, after) for after in range(7)), *((8, after) for after in range(10))])
def test_a_publisher_that_is_killed_anywhere_leaves_a_whole_tree_and_the_next_one_ends_it(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, few: int, after: int
) -> None:
    monkeypatch.setattr(publish, "_FEW", few)
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    before = host.records(keeper)
    people.lock("root", people.find("alice"), locked=True)
    left = after
    steps = [
        (os, "rename"),
        (os, "fsync"),
        (os, "sync"),
        (client, "ask"),
        (Published.objects, "bulk_create"),
        (publish, "_sweep"),
    ]

    class KilledError(BaseException):
        pass

    def counted(function: object) -> object:
        def step(*words: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            assert callable(function)
            return function(*words, **named)

        return step

    with monkeypatch.context() as patch:
        for where, name in steps:
            patch.setattr(where, name, counted(getattr(where, name)))
        try:
            publish_all()
        except KilledError:
            pass
        else:
            pytest.fail("it was not killed")
    # A host that looks now takes what was good, or what is new.
    assert host.records(keeper)["alice"].locked in (False, True)
    assert host.records(keeper).keys() == before.keys()
    publish_all()
    assert host.records(keeper)["alice"].locked
    assert Host.objects.get().done == Host.objects.get().changes


def test_what_was_signed_while_the_clock_was_ahead_is_signed_anew_when_it_is_right(keeper: Keeper) -> None:
    """Else it would not be renewed for a year, and hosts with max_offline would refuse everybody."""
    host = joined("web1")
    now, ahead = timezone.now(), timedelta(days=400)
    keeper.time.ahead += ahead.total_seconds()
    assert publish.once(now + ahead, root=config.TREE) == 1
    keeper.time.ahead -= ahead.total_seconds()
    assert publish.once(now, root=config.TREE) == 1
    found = host.manifest(keeper)
    assert abs(found.issued - now.timestamp()) < 60
    assert publish.once(now, root=config.TREE) == 0


def test_a_clock_that_is_years_ahead_for_a_while_costs_no_login_that_is_known(keeper: Keeper) -> None:
    now = timezone.now()
    host = Host.objects.get(ident=joined("web1").ident)
    for number, age in enumerate((399, 30, 0)):
        time = now - timedelta(days=age)
        Event.objects.create(ident=f"{number:032x}", host=host, name="alice", time=time, kind="login")
    # Of the portal, which has the same clock.
    ahead = now + timedelta(days=1000)
    Event.objects.create(ident=f"{3:032x}", name="alice", time=ahead, kind="login")
    publish.tidy(ahead, 400)
    assert Event.objects.count() == 4
    publish.tidy(now, 300)
    assert [each.ident[-1] for each in Event.objects.order_by("pk")] == ["1", "2", "3"]


def test_what_was_published_for_hosts_that_are_gone_goes_and_nothing_else(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    stays, revoked, deleted = joined("web1"), joined("web2"), joined("web3")
    publish_all()
    for each in (revoked, deleted):
        hosts.revoke("root", Host.objects.get(ident=each.ident))
    hosts.forget("root", Host.objects.get(ident=deleted.ident))
    before = set(os.listdir(config.TREE))
    publish.tidy(timezone.now(), 400)
    assert before - set(os.listdir(config.TREE)) == {revoked.ident, deleted.ident}
    assert set(stays.records(keeper)) == {"alice"}


def test_logins_of_long_ago_go_and_what_has_changed_something_and_the_trail_stay(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_MOST_NAMED", 2)
    now = timezone.now()
    host = Host.objects.get(ident=joined("web1").ident)
    for age in (0, 399, 401, 900):
        for kind in ("login", "refused", "enrolled", "recovery-spent"):
            for place in (host, None):
                time = now - timedelta(days=age)
                Event.objects.create(ident=os.urandom(16).hex(), host=place, name="alice", kind=kind, time=time)
    entries = Audit.objects.count()
    publish.tidy(now, 400)
    old = Event.objects.filter(time__lt=now - timedelta(days=400))
    assert {(each.kind, each.host) for each in old} == {("enrolled", host), ("recovery-spent", host)}
    assert Event.objects.count() == 16 + 4
    assert Audit.objects.count() == entries
    assert audit.broken() is None


def test_a_host_that_is_revoked_has_known_who_was_on_it_before_and_has_not_enrolled_anew(keeper: Keeper) -> None:
    host = joined("web1")
    for name in ("alice", "bob", "carol", "dora"):
        enrolled(keeper, name)
    publish_all()
    for name in ("bob", "carol", "dora"):
        people.find(name).memberships.clear()
    publish_all()
    assert host.records(keeper).keys() == {"alice"}
    people.remove("root", people.find("carol"))
    people.remove("root", people.find("dora"))
    dora = people.find("dora")
    _, key = people.begin("root", dora, "phone")
    assert people.confirm("root", dora, otp.hotp(key_of(key), keeper.time.step), SOURCE).accepted
    found = Host.objects.get()
    assert sorted(map(str, hosts.revoke("root", found))) == ["alice", "bob"]


def test_who_has_left_a_host_twice_is_known_to_it_once(keeper: Keeper) -> None:
    joined("web1")
    person, _ = enrolled(keeper, "alice")
    groups = list(person.memberships.all())
    for _ in range(2):
        person.memberships.set(groups)
        publish_all()
        person.memberships.clear()
        publish_all()
    assert [str(each) for each in hosts.known_to(Host.objects.get())] == ["alice"]
    assert Known.objects.count() == 1


def test_a_manifest_is_of_a_later_second_than_the_one_before_it_however_soon_it_comes(keeper: Keeper) -> None:
    """By second and size alone nginx's ETag, and rsync, know that a file has changed."""
    enrolled(keeper, "alice")
    host, times, sizes = joined("web1"), [], []
    path = os.path.join(config.TREE, host.ident, "manifest")
    for locked in (True, False, True, False):
        people.lock("root", people.find("alice"), locked=locked)
        assert publish_all() == 1
        times.append(int(os.stat(path).st_mtime))
        sizes.append(os.stat(path).st_size)
        assert host.records(keeper)["alice"].locked == locked
    assert len(set(sizes)) == 1
    assert times == sorted(set(times))
