"""People and groups from a real slapd: what is taken, what is left alone, and when nothing is changed at all."""

from __future__ import annotations

import argparse
import base64
import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import Client

from pam_totp.directory import audit, config, ldap, people, programs, sync
from pam_totp.directory.cli import common, user
from pam_totp.directory.models import Audit, Group, Letter, Person
from pam_totp.errors import UsageError
from tests.directory.inside.conftest import enrolled, joined, publish_all
from tests.directory.inside.portal import somebody
from tests.directory.ldap.ranges import Relay
from tests.directory.ldap.server import (
    DISABLED,
    GROUPS,
    LIMITED,
    NAME,
    PEOPLE,
    SUFFIX,
    Slapd,
    Someone,
    dn,
    group,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.directory.inside.conftest import Keeper

    Spoil = Callable[[int, bytes, list[bytes]], tuple[bytes, list[bytes]]]

ALICE, BOB, CAROL = Someone("alice", 1001), Someone("bob", 1002), Someone("carol")
LEAVER = Someone("bob", 1002, more="userAccountControl: 514\n")
MANY = [Someone(f"person{number:02}") for number in range(20)]


def synchronise(slapd: Slapd, *, dry_run: bool = False, anyway: bool = False, **more: Any) -> sync.Report:
    renumbered = more.pop("renumbered", False)
    found = ldap.found(slapd.settings(**more))
    return sync.put(found, dry_run=dry_run, anyway=anyway, renumbered=renumbered)


def everything() -> object:
    """All that a synchronisation could change."""
    return (
        list(Person.objects.values_list()),
        [(each.name, sorted(each.persons.values_list("name", flat=True))) for each in Group.objects.all()],
        Audit.objects.count(),
    )


def members(name: str) -> list[str]:
    return sorted(Group.objects.get(name=name).persons.values_list("name", flat=True))


# What is taken


@pytest.mark.parametrize("tls", [True, False], ids=["ldaps", "starttls"])
def test_people_come_with_what_ldap_knows_of_them_and_without_a_password_or_a_role(slapd: Slapd, tls: bool) -> None:
    slapd.have([ALICE, CAROL])
    report = synchronise(slapd, tls=tls)
    assert report.done == ["alice: added", "carol: added"]
    alice, carol = Person.objects.all()
    assert (alice.name, alice.display, alice.email) == ("alice", "Alice of Example", "alice@example.org")
    assert (alice.uid_number, carol.uid_number) == (1001, None)
    assert (alice.source, alice.role, alice.locked, alice.has_usable_password()) == ("ldap", "user", False, False)
    assert members("everyone") == ["alice", "carol"]
    assert [(each.actor, each.action, each.target) for each in Audit.objects.all()] == [
        ("ldap", "person-added", "alice"),
        ("ldap", "person-added", "carol"),
    ]
    assert audit.broken() is None


def test_a_second_one_changes_nothing(slapd: Slapd) -> None:
    slapd.have([ALICE, BOB], group("staff", uids=["alice"]))
    synchronise(slapd, groups=GROUPS)
    before = everything()
    assert synchronise(slapd, groups=GROUPS).done == []
    assert everything() == before


def test_a_dry_run_says_what_would_be_done_and_does_nothing(slapd: Slapd) -> None:
    slapd.have([ALICE], group("staff", uids=["alice"]))
    before = everything()
    assert synchronise(slapd, groups=GROUPS, dry_run=True).done == [
        "alice: added",
        "group staff: made",
        "group staff: with alice",
    ]
    assert everything() == before


def test_what_has_changed_in_ldap_changes_here(slapd: Slapd) -> None:
    slapd.have([ALICE])
    synchronise(slapd)
    slapd.have([Someone("alice", 1001, more="displayName: Alice\n")])
    assert synchronise(slapd).done == ["alice: changed: display"]
    assert Person.objects.get().display == "Alice"


def test_more_than_a_page_of_people_are_all_there(slapd: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "PAGE", 7)
    slapd.have(MANY)
    assert len(synchronise(slapd).done) == len(MANY) == Person.objects.count()


def test_groups_of_both_kinds_come_with_those_that_are_in_them_also_in_a_circle(slapd: Slapd) -> None:
    inner, outer = f"cn=inner,{GROUPS}", f"CN=Outer, {GROUPS}"
    groups = group("posix", uids=["alice", "nobody"]) + group("inner", members=[dn("bob"), outer])
    groups += group("outer", members=[inner, f"UID=Carol, {PEOPLE}", f"uid=unknown,{PEOPLE}"])
    slapd.have([ALICE, BOB, CAROL], groups)
    synchronise(slapd, groups=GROUPS)
    assert (members("posix"), members("inner"), members("outer")) == (["alice"], ["bob", "carol"], ["bob", "carol"])
    slapd.have([ALICE, BOB, CAROL], group("posix", uids=["bob"]))
    synchronise(slapd, groups=GROUPS)
    # One that is gone stays, empty: who may use which hosts hangs on it.
    assert (members("posix"), members("inner"), members("outer")) == (["bob"], [], [])


@pytest.fixture
def relay(slapd: Slapd) -> Iterator[Relay]:
    """slapd with five values at once."""
    made = Relay(slapd, 5)
    yield made
    made.close()


@pytest.mark.parametrize(("count", "asked"), [(5, []), (6, [5]), (10, [5]), (11, [5, 10]), (20, [5, 10, 15])])
def test_a_group_that_active_directory_gives_in_parts_is_read_whole(
    slapd: Slapd, relay: Relay, count: int, asked: list[int]
) -> None:
    slapd.have(MANY, group("staff", members=[dn(each.uid) for each in MANY[:count]]) + group("few", uids=["person01"]))
    synchronise(slapd, url=f"ldaps://{NAME}:{relay.port}", groups=GROUPS)
    assert members("staff") == [each.uid for each in MANY[:count]]
    assert members("few") == ["person01"]
    assert relay.asked == [f"member;range={first}-*" for first in asked]


def test_a_group_of_thousands_is_read_whole_at_active_directory_s_own_size(slapd: Slapd, relay: Relay) -> None:
    relay.most = 1500
    others = [dn(f"other{number}") for number in range(3100)]
    slapd.have(MANY, group("staff", members=[*others[:1600], *(dn(each.uid) for each in MANY), *others[1600:]]))
    synchronise(slapd, url=f"ldaps://{NAME}:{relay.port}", groups=GROUPS)
    assert members("staff") == [each.uid for each in MANY]
    assert relay.asked == ["member;range=1500-*", "member;range=3000-*"]


def later(change: Callable[[bytes, list[bytes]], tuple[bytes, list[bytes]]]) -> Spoil:
    """Change what is not the first part."""
    return lambda begin, name, part: change(name, part) if begin else (name, part)


@pytest.mark.parametrize(
    "spoil",
    [
        later(lambda name, part: (name, part[:-1])),  # fewer than it says, also of the last
        later(lambda name, _: (name, [])),
        later(lambda name, part: (name.replace(b"=5-", b"=6-"), part)),
        later(lambda name, part: (name.replace(b"=5-", b"=0-"), part)),
        later(lambda _, part: (b"member", part)),
        later(lambda _, part: (b"member;range=all", part)),
        later(lambda _, part: (b"cn", part)),
        lambda _, name, part: (name.replace(b"=0-4", b"=1-5"), part),
        lambda _, name, part: (name.replace(b"range=", b"lang-"), part),
        lambda begin, name, part: (b"member;range=%d-%d" % (begin, begin + len(part) - 1), part),  # no end
    ],
)
def test_parts_that_do_not_fit_together_change_nothing(slapd: Slapd, relay: Relay, spoil: Spoil) -> None:
    slapd.have(MANY, group("staff", members=[dn(each.uid) for each in MANY[:17]]))
    where: dict[str, Any] = {"url": f"ldaps://{NAME}:{relay.port}", "groups": GROUPS}
    synchronise(slapd, **where)
    relay.spoil = spoil
    unchanged(slapd, "in parts", **where)


def test_a_group_that_goes_while_its_parts_are_read_or_has_no_end_changes_nothing(
    slapd: Slapd, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    slapd.have(MANY, group("staff", members=[dn(each.uid) for each in MANY]))
    where: dict[str, Any] = {"url": f"ldaps://{NAME}:{relay.port}", "groups": GROUPS}
    monkeypatch.setattr(ldap, "MOST_MEMBERS", 12)
    unchanged(slapd, "more than 12 members", **where)
    monkeypatch.undo()
    monkeypatch.setattr(ldap._Server, "_one", gone(ldap._Server._one))
    unchanged(slapd, "No such object", **where)


def gone(one: Any) -> Any:
    """Ask for an entry that there was."""
    return lambda server, _, wanted: one(server, f"cn=gone,{GROUPS}", wanted)


def test_a_group_of_ldap_gives_its_people_the_hosts_that_it_may_use(slapd: Slapd, keeper: Keeper) -> None:
    from pam_totp.directory.models import Access, HostGroup

    slapd.have([ALICE, BOB], group("staff", uids=["alice"]))
    synchronise(slapd, groups=GROUPS)
    Group.objects.get(name="everyone").accesses.all().delete()
    Access.objects.create(group=Group.objects.get(name="staff"), host_group=HostGroup.objects.get())
    host = joined("web1")
    publish_all()
    assert set(host.records(keeper)) == {"alice"}
    slapd.have([ALICE, BOB], group("staff", uids=["bob"]))
    synchronise(slapd, groups=GROUPS)
    publish_all()
    assert set(host.records(keeper)) == {"bob"}


# Who is locked


def test_who_is_gone_is_locked_everywhere_and_comes_back_when_ldap_has_them_again(slapd: Slapd, keeper: Keeper) -> None:
    slapd.have([ALICE, BOB])
    synchronise(slapd)
    host = joined("web1")
    slapd.have([ALICE])
    assert synchronise(slapd).done == ["bob: locked: gone"]
    publish_all()
    assert {name: each.locked for name, each in host.records(keeper).items()} == {"alice": False, "bob": True}
    assert Audit.objects.filter(actor="ldap", action="locked", target="bob").exists()
    slapd.have([ALICE, BOB])
    assert synchronise(slapd).done == ["bob: unlocked"]


def test_who_is_disabled_in_active_directory_is_locked_until_that_ends(slapd: Slapd) -> None:
    slapd.have([ALICE, LEAVER])
    assert synchronise(slapd, disabled=DISABLED).done == ["alice: added", "bob: added, locked: disabled"]
    slapd.have([Someone("alice", 1001, more="userAccountControl: 514\n"), BOB])
    assert synchronise(slapd, disabled=DISABLED).done == ["alice: locked: disabled", "bob: unlocked"]


def test_what_somebody_here_has_locked_is_not_unlocked_by_ldap(slapd: Slapd) -> None:
    slapd.have([ALICE, LEAVER])
    synchronise(slapd, disabled=DISABLED)
    for name in ("alice", "bob"):
        people.lock("root", Person.objects.get(name=name), locked=True)
    slapd.have([ALICE, BOB])
    assert synchronise(slapd, disabled=DISABLED).done == []
    assert Person.objects.filter(locked=True).count() == 2


def test_the_end_of_a_lock_ends_no_wait_for_wrong_codes(slapd: Slapd, keeper: Keeper) -> None:
    slapd.have([ALICE])
    enrolled(keeper, "alice")
    synchronise(slapd, disabled=DISABLED)
    for _ in range(4):
        people.check(Person.objects.get(), "000000", "192.0.2.1")
    before = bytes(Person.objects.get().ledger)
    slapd.have([Someone("alice", 1001, more="userAccountControl: 514\n")])
    synchronise(slapd, disabled=DISABLED)
    slapd.have([ALICE])
    synchronise(slapd, disabled=DISABLED)
    assert not Person.objects.get().locked
    assert bytes(Person.objects.get().ledger) == before


def test_another_entry_with_the_name_of_an_earlier_one_does_not_get_what_that_had(slapd: Slapd, keeper: Keeper) -> None:
    slapd.have([ALICE, BOB])
    enrolled(keeper, "bob")
    synchronise(slapd)
    slapd.forget()
    slapd.have([replace(ALICE, number=1), BOB])
    report = synchronise(slapd)
    # Of alice there is nothing that another one could use.
    assert report.done == ["alice: changed: entry, uid_number", "bob: locked: another entry"]
    assert "bob is another entry than before" in report.left[0]
    assert Person.objects.get(name="bob").locked
    people.remove("root", Person.objects.get(name="bob"))
    assert synchronise(slapd).done == ["bob: changed: entry", "bob: unlocked"]


def test_a_server_that_was_set_up_anew_has_the_same_people_where_root_says_so(slapd: Slapd, keeper: Keeper) -> None:
    slapd.have([ALICE])
    enrolled(keeper, "alice")
    synchronise(slapd)
    slapd.forget()
    slapd.have([ALICE])
    assert "another entry" in synchronise(slapd, dry_run=True).left[0]
    assert synchronise(slapd, renumbered=True).done == ["alice: changed: entry"]
    assert not Person.objects.get().locked


# Who and what is left alone


def test_who_has_a_role_and_was_made_here_is_left_alone(slapd: Slapd) -> None:
    for role in ("administrator", "helpdesk", "auditor"):
        people.add("root", role, role=role)
    slapd.have([ALICE, *(Someone(role, more="userAccountControl: 514\n") for role in ("administrator", "helpdesk"))])
    report = synchronise(slapd, disabled=DISABLED)
    assert report.left == ["administrator has a role and is not of LDAP", "helpdesk has a role and is not of LDAP"]
    assert not Person.objects.filter(locked=True).exists()
    assert set(Person.objects.filter(source="local").values_list("name", flat=True)) == {
        "administrator",
        "helpdesk",
        "auditor",
    }


def test_a_role_is_neither_given_nor_taken_and_who_leaves_is_locked_with_it(slapd: Slapd) -> None:
    slapd.have([ALICE, BOB])
    synchronise(slapd)
    people.set_fields("root", Person.objects.get(name="bob"), role="helpdesk")
    slapd.have([ALICE, Someone("bob", 1002, more="displayName: Bob\ntitle: administrator\n")])
    synchronise(slapd)
    assert [each.role for each in Person.objects.all()] == ["user", "helpdesk"]
    slapd.have([ALICE])
    assert synchronise(slapd).done == ["bob: locked: gone"]
    assert Person.objects.get(name="bob").role == "helpdesk"


def test_who_was_made_here_without_a_role_is_ldaps_from_then_on_with_what_is_enrolled(
    slapd: Slapd, keeper: Keeper
) -> None:
    enrolled(keeper, "alice")
    people.add("root", "dave")
    slapd.have([ALICE])
    assert synchronise(slapd).done == ["alice: is LDAP's from now on"]
    assert Person.objects.get(name="alice").enrolled
    # Nobody whom LDAP never had is gone.
    assert not Person.objects.get(name="dave").locked


@pytest.mark.parametrize("mailing", [True, False])
def test_the_former_address_is_told_where_ldap_has_another_one(
    slapd: Slapd, monkeypatch: pytest.MonkeyPatch, mailing: bool
) -> None:
    server = "localhost" if mailing else ""
    monkeypatch.setattr(settings, "CONFIG", replace(settings.CONFIG, mail=config.Mail(server=server)))
    slapd.have([ALICE, BOB])
    synchronise(slapd)
    slapd.have([replace(ALICE, mail="eve@example.org"), BOB])
    synchronise(slapd, dry_run=True)
    assert not Letter.objects.exists()
    synchronise(slapd)
    synchronise(slapd)
    told = [(each.address, each.detail["by"], each.person.name) for each in Letter.objects.all()]
    assert told == ([("alice@example.org", "ldap", "alice")] if mailing else [])


@pytest.mark.parametrize("way", ["command", "api", "portal"])
def test_a_name_that_comes_from_ldap_is_not_changed_here_in_any_way(
    slapd: Slapd, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The next synchronisation would add it again, as somebody else."""
    configured = replace(settings.CONFIG, ldap=slapd.settings())
    monkeypatch.setattr(settings, "CONFIG", configured)
    monkeypatch.setattr(common, "django", lambda: None)
    slapd.have([ALICE])
    synchronise(slapd)
    rename = partial(WAYS[way], keeper)
    said = rename("alicia")
    assert "this comes from ldap: change it there" in said
    assert not Person.objects.filter(name="alicia").exists()
    synchronise(slapd)
    assert [each for each in Person.objects.values_list("name", flat=True) if each.startswith("ali")] == ["alice"]
    # Who was made here has another name; and so has everybody where LDAP is asked no more.
    people.add("root", "bob")
    assert rename("bobby", of="bob") == ""
    monkeypatch.setattr(settings, "CONFIG", replace(configured, ldap=config.Ldap()))
    assert rename("alicia") == ""
    assert Person.objects.filter(name__in=["alicia", "bobby"]).count() == 2


def _by_command(_: Keeper, name: str, of: str = "alice") -> str:
    parser = argparse.ArgumentParser()
    user.arguments(parser)
    try:
        assert user.run(parser.parse_args(["change", of, "--name", name])) == 0
    except UsageError as error:
        return str(error)
    return ""


def _by_api(_: Keeper, name: str, of: str = "alice") -> str:
    token = programs.new_token("root", f"program{Audit.objects.count()}", ["people"], 1)
    fields, headers = json.dumps({"name": name}), {"Authorization": f"Bearer {token}"}
    answer = Client(SERVER_NAME="dir.example.org").patch(
        f"/api/v1/people/{of}", fields, "application/json", headers=headers
    )
    return "" if answer.status_code == 200 else answer.content.decode()


def _by_portal(keeper: Keeper, name: str, of: str = "alice") -> str:
    boss = somebody(keeper, f"boss{Person.objects.count()}", role="administrator")
    boss.sign_in()
    found = Person.objects.get(name=of)
    data = {"name": name, "display": found.display, "email": found.email, "role": "user", "is_active": "on"}
    answer = boss.post(f"/admin/directory/person/{found.pk}/change/", data)
    return "" if answer.status_code == 302 else answer.content.decode()


WAYS = {"command": _by_command, "api": _by_api, "portal": _by_portal}


def test_a_group_that_was_made_here_is_left_alone_whatever_ldap_puts_into_one_of_that_name(slapd: Slapd) -> None:
    Group.objects.create(name="admins")
    slapd.have([ALICE], group("admins", uids=["alice"]) + group("everyone", uids=[]))
    report = synchronise(slapd, groups=GROUPS)
    assert report.left == ["the group admins is not of LDAP", "the group everyone is not of LDAP"]
    assert members("admins") == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "two words", "a:b", "-rf", "al*ice", "b'ob", "x" * 65, "na\u00efve", "$(id)", "root"]
)
def test_a_name_that_is_no_login_name_here_is_left_out_and_said(slapd: Slapd, name: str) -> None:
    text = base64.b64encode(name.encode()).decode()
    alice = replace(ALICE, more="sAMAccountName: alice\n")
    slapd.have([alice, Someone("eve", more=f"sAMAccountName:: {text}\n")])
    report = synchronise(slapd, name="sAMAccountName")
    assert report.done == ["alice: added"]
    assert report.left[0].startswith(repr(name)[:70])
    assert Person.objects.get().name == "alice"


def test_names_groups_and_addresses_with_something_in_them_are_text_and_left_out(slapd: Slapd) -> None:
    shown = base64.b64encode(b"<script>\nbold\x1b[").decode()
    odd = Someone("mallory", mail="not an address", more=f"displayName:: {shown}\n")
    slapd.have([ALICE, odd], group("Domain Users", uids=["alice"]) + group("staff", uids=["*", "alice", "eve)"]))
    report = synchronise(slapd, groups=GROUPS)
    assert "the group 'Domain Users' is not taken" in report.left[-1]
    assert members("staff") == ["alice"]
    mallory = Person.objects.get(name="mallory")
    assert (mallory.display, mallory.email) == ("<script>bold[", "")


def test_names_of_active_directory_are_taken_in_lower_case(slapd: Slapd) -> None:
    slapd.have([Someone("x1", more="sAMAccountName: Alice.Smith\n"), Someone("x2")])
    assert synchronise(slapd, name="sAMAccountName").done == ["alice.smith: added"]


# When nothing is changed


def unchanged(slapd: Slapd, said: str, error: type[Exception] = ldap.LdapError, **more: Any) -> None:
    """Synchronising fails with these words, and changes nothing: also with --yes, where LDAP has not answered."""
    before = everything()
    for anyway in (False, True) if error is ldap.LdapError else (False,):
        with pytest.raises(error, match=said):
            synchronise(slapd, anyway=anyway, **more)
    assert everything() == before


@pytest.fixture
def before(slapd: Slapd) -> Slapd:
    """Twenty people, who were synchronised."""
    slapd.have(MANY, group("staff", uids=[each.uid for each in MANY]))
    synchronise(slapd, groups=GROUPS)
    return slapd


def test_a_server_that_is_down_changes_nothing(before: Slapd) -> None:
    before.stop()
    unchanged(before, "Can't contact LDAP server")
    before.start()


@pytest.mark.parametrize("tls", [True, False], ids=["ldaps", "starttls"])
def test_a_server_that_hangs_changes_nothing(before: Slapd, tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "TIMEOUT", 1)
    before.hang()
    unchanged(before, NAME, tls=tls)
    before.stop()


def test_a_server_that_hangs_between_two_pages_changes_nothing(before: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "PAGE", 7)
    real, count = ldap._first, []

    def first(*words: Any) -> str:
        count.append(1)
        if len(count) == 10:
            monkeypatch.setattr(ldap, "TIMEOUT", 1)
            before.hang()
        return real(*words)

    monkeypatch.setattr(ldap, "_first", first)
    kept = everything()
    with pytest.raises(ldap.LdapError, match="no answer"):
        synchronise(before)
    assert everything() == kept
    before.stop()


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_with_a_wrong_certificate_changes_nothing(before: Slapd, tmp_path: Path, wrong: str) -> None:
    other = Slapd(tmp_path, certified=NAME if wrong == "authority" else "ldap.example.net")
    other.have([Someone("mallory")])
    ca = f"{before.place}/ca.crt" if wrong == "authority" else f"{tmp_path}/ca.crt"
    try:
        unchanged(other, "certificate|hostname|Can't contact|Connect error", ca=ca)
    finally:
        other.stop()


@pytest.mark.parametrize("page", [2, 500])
def test_an_answer_that_is_cut_off_changes_nothing(before: Slapd, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "PAGE", page)
    unchanged(before, "limit exceeded", bind_dn=LIMITED)


def test_a_referral_changes_nothing_neither_as_the_answer_nor_in_it(before: Slapd) -> None:
    away = f"""
dn: ou=away,{SUFFIX}
objectClass: referral
objectClass: extensibleObject
ou: away
ref: ldap://ldap.invalid/{PEOPLE}
"""
    before.have(MANY, away)
    unchanged(before, "Referral", people=f"ou=away,{SUFFIX}")
    unchanged(before, "another server", people=SUFFIX)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bind_password": "wrong"}, "Invalid credentials"),
        ({"bind_dn": "", "bind_password": ""}, "No such object|Insufficient access"),
        ({"people": f"ou=nowhere,{SUFFIX}"}, "No such object"),
        ({"groups": f"ou=nowhere,{SUFFIX}"}, "No such object"),
        ({"groups": f"ou=nothing,{SUFFIX}"}, "there are no groups"),
        ({"people_filter": "((uid=*)"}, "Bad search filter"),
        ({"disabled": "((uid=*)"}, "Bad search filter|Protocol error"),
    ],
)
def test_a_search_that_fails_changes_nothing(before: Slapd, change: dict[str, Any], said: str) -> None:
    unchanged(before, said, **change)


def test_two_entries_with_one_name_change_nothing(before: Slapd) -> None:
    before.have([*MANY, Someone("eve", more="sAMAccountName: twin\n"), Someone("bob", more="sAMAccountName: TWIN\n")])
    unchanged(before, "two entries have the name 'twin'", name="sAMAccountName")


def test_an_answer_without_anybody_locks_nobody_unless_root_says_so(before: Slapd) -> None:
    unchanged(before, "LDAP has nobody", sync.TooMuchError, people=f"ou=nothing,{SUFFIX}")
    synchronise(before, people=f"ou=nothing,{SUFFIX}", anyway=True)
    assert Person.objects.filter(locked=True).count() == len(MANY)


def test_more_than_a_fifth_are_locked_only_where_root_says_so(before: Slapd) -> None:
    before.have(MANY[:14])
    unchanged(before, "6 of 20 people would be locked", sync.TooMuchError)
    before.have(MANY[:15])
    assert len(synchronise(before).done) == 5
    before.have(MANY[:8])
    assert len(synchronise(before, anyway=True).done) == 7


def test_more_than_a_fifth_leave_their_groups_only_where_root_says_so(before: Slapd) -> None:
    before.have(MANY, group("staff", uids=["person00"]))
    unchanged(before, "19 of 20 people would be taken out of groups", sync.TooMuchError, groups=GROUPS)
    before.have(MANY, group("other", uids=["person00"]))
    unchanged(before, "20 of 20 people would be taken out of groups", sync.TooMuchError, groups=GROUPS)
    synchronise(before, groups=GROUPS, anyway=True)
    assert members("staff") == []


def test_what_fails_halfway_leaves_nothing_of_it(slapd: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    slapd.have([ALICE, BOB])
    kept = everything()

    def notes(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(audit, "notes", notes)
    with pytest.raises(OSError, match="full"):
        synchronise(slapd)
    assert everything() == kept
