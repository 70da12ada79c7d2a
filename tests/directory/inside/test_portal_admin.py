"""The admin portal: its roles, what is done to people and hosts in it, and the dashboard."""

from __future__ import annotations

import json
import re
import tracemalloc
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from pam_totp.directory import asgi, audit, people
from pam_totp.directory.models import (
    ApiToken,
    Audit,
    Authenticator,
    Event,
    Group,
    Host,
    HostGroup,
    Invitation,
    Person,
    Published,
    RecoveryCodes,
    hash_of,
)
from pam_totp.directory.portal import exports
from pam_totp.errors import KeeperError
from tests.directory.inside.portal import Somebody, somebody

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.directory.inside.conftest import Keeper

PEOPLE = "/admin/directory/person/"


@pytest.fixture
def boss(keeper: Keeper) -> Somebody:
    made = somebody(keeper, "boss", role="administrator")
    made.sign_in()
    return made


@pytest.fixture
def helper(keeper: Keeper) -> Somebody:
    made = somebody(keeper, "helper", role="helpdesk")
    made.sign_in()
    return made


@pytest.fixture
def alice(keeper: Keeper) -> Somebody:
    return somebody(keeper)


def do(who: Somebody, action: str, *targets: Somebody, **fields: str) -> Any:
    """Choose people and an action, and say yes."""
    data = {"action": action, "_selected_action": [each.person.pk for each in targets], **fields}
    return who.post(PEOPLE, {**data, "sure": "yes"})


def late(monkeypatch: pytest.MonkeyPatch, *, seconds: int = 0) -> None:
    """Have all codes be typed too long ago."""
    monkeypatch.setattr("pam_totp.directory.portal.visit.LATELY", seconds)


# Actions


def test_an_action_says_what_it_does_and_asks_before_it_does_it(boss: Somebody, alice: Somebody) -> None:
    page = boss.post(PEOPLE, {"action": "reset", "index": "0", "_selected_action": alice.person.pk}).content.decode()
    assert "All authenticators and recovery codes are removed" in page
    assert "alice" in page
    assert alice.person.enrolled


def test_a_reset_removes_what_one_has_and_is_in_the_audit_trail(boss: Somebody, alice: Somebody) -> None:
    people.new_recovery_codes("root", alice.person)
    assert do(boss, "reset", alice).status_code == 302
    assert not alice.person.enrolled
    assert not RecoveryCodes.objects.filter(person=alice.person).exists()
    entry = Audit.objects.get(action="authenticators-removed")
    assert (entry.actor, entry.target) == ("boss", "alice")
    assert audit.broken() is None


@pytest.mark.parametrize("action", ["invite", "reset", "unlock", "lock", "exempt", "end_exemption"])
def test_each_action_wants_a_code_that_was_typed_lately(
    boss: Somebody, alice: Somebody, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(monkeypatch)
    before = Person.objects.values().get(pk=alice.person.pk)
    page = do(boss, action, alice, days="3")
    assert "Verification code" in page.content.decode()
    wrong = do(boss, action, alice, days="3", code="000000")
    assert "not accepted" in wrong.content.decode()
    assert Person.objects.values().get(pk=alice.person.pk) == before
    assert alice.person.enrolled
    assert not Invitation.objects.exists()
    assert do(boss, action, alice, days="3", code=boss.code()).status_code in (200, 302)
    assert Audit.objects.filter(actor="boss", target="alice").exists()


def test_lock_and_unlock(boss: Somebody, alice: Somebody) -> None:
    do(boss, "lock", alice)
    assert Person.objects.get(name="alice").locked
    do(boss, "unlock", alice)
    assert not Person.objects.get(name="alice").locked


def test_unlocking_ends_the_wait_after_wrong_codes(boss: Somebody, alice: Somebody) -> None:
    alice.password()
    pages = [alice.post("/login/code/", {"code": "000000"}).content.decode() for _ in range(4)]
    assert "Try again in" in pages[-1]
    do(boss, "unlock", alice)
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/"


def test_an_exemption_has_an_end(boss: Somebody, alice: Somebody) -> None:
    do(boss, "exempt", alice, days="3")
    until = Person.objects.get(name="alice").exempt_until
    assert until is not None
    assert timedelta(days=2.9) < until - timezone.now() < timedelta(days=3)
    do(boss, "exempt", alice, days="366")
    assert Person.objects.get(name="alice").exempt_until == until
    do(boss, "end_exemption", alice)
    assert Person.objects.get(name="alice").exempt_until is None


def test_an_invitation_is_a_link_that_is_shown_once_and_works(boss: Somebody, keeper: Keeper) -> None:
    carol = Somebody(Person.objects.create_user("carol"), keeper)
    page = do(boss, "invite", carol, days="3").content.decode()
    link = re.search(r"https://dir\.example\.org(/invitation/[\w-]+/)", page)
    assert link
    assert carol.get(link[1]).status_code == 200
    assert link[1].split("/")[2] not in str([*Invitation.objects.values(), *Audit.objects.values()])
    carol.post(link[1])
    carol.scan("/enrol/")
    assert carol.finish("/enrol/").status_code == 200


def test_many_at_once(boss: Somebody, keeper: Keeper) -> None:
    crowd = [somebody(keeper, f"user{number}", enrolled=False) for number in range(20)]
    page = do(boss, "invite", *crowd, days="7").content.decode()
    assert len(set(re.findall(r"/invitation/[\w-]+/", page))) == 20


# Roles


def test_the_helpdesk_helps_people_without_a_role_and_nobody_else(
    helper: Somebody, alice: Somebody, boss: Somebody
) -> None:
    assert do(helper, "reset", alice).status_code == 302
    assert not alice.person.enrolled
    for action in ("reset", "invite", "unlock"):
        assert do(helper, action, boss, days="3").status_code == 403
        assert do(helper, action, alice, boss, days="3").status_code == 403
    assert boss.person.enrolled
    assert not Invitation.objects.exists()


def test_what_a_role_may_not_do_is_not_offered(helper: Somebody, boss: Somebody, keeper: Keeper) -> None:
    auditor = somebody(keeper, "auditor", role="auditor")
    auditor.sign_in()
    offered = {}
    for who in (boss, helper, auditor):
        page = who.get(PEOPLE).content.decode()
        found = set(re.findall(r'<option value="(\w+)"', page))
        offered[who.name] = found
    assert offered["boss"] == {"invite", "reset", "unlock", "lock", "exempt", "end_exemption"}
    assert offered["helper"] == {"invite", "reset", "unlock"}
    assert offered["auditor"] == set()


def test_a_role_is_changed_with_a_code_and_not_without(
    boss: Somebody, alice: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{PEOPLE}{alice.person.pk}/change/"
    data = {"name": "alice", "role": "helpdesk", "is_active": "on", "deadline": ""}
    late(monkeypatch)
    assert boss.post(path, data).headers["Location"] == f"/confirm/?next={path}"
    assert Person.objects.get(name="alice").role == "user"
    late(monkeypatch, seconds=300)
    boss.get("/")
    assert boss.post(path, data).status_code == 302
    assert Person.objects.get(name="alice").role == "helpdesk"
    entry = Audit.objects.get(action="person-changed")
    assert (entry.actor, entry.target, entry.detail) == ("boss", "alice", {"fields": ["role"]})


def test_who_loses_the_role_loses_the_admin_portal_at_once(boss: Somebody, helper: Somebody) -> None:
    assert helper.get("/admin/").status_code == 200
    Person.objects.filter(name="helper").update(role="user")
    assert helper.get("/admin/").status_code == 404
    Person.objects.filter(name="boss").update(locked=True)
    assert boss.get("/admin/").headers["Location"] == "/login/?next=/admin/"


def test_no_password_and_no_secret_is_shown_or_set(boss: Somebody, alice: Somebody) -> None:
    page = boss.get(f"{PEOPLE}{alice.person.pk}/change/").content.decode()
    assert "argon2" not in page
    assert 'name="password"' not in page
    assert 'name="secret"' not in page


# Groups, hosts, tokens


def test_who_is_in_a_group_is_changed_there_and_reaches_its_hosts(boss: Somebody, alice: Somebody) -> None:
    group, hosts = Group.objects.create(name="staff"), HostGroup.objects.create(name="web")
    group.accesses.create(host_group=hosts)
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    before = host.changes
    access = group.accesses.get()
    data: dict[str, Any] = {
        "name": "staff",
        "persons": [alice.person.pk],
        "accesses-TOTAL_FORMS": "1",
        "accesses-INITIAL_FORMS": "1",
    }
    data |= {"accesses-0-id": access.pk, "accesses-0-group": group.pk, "accesses-0-host_group": hosts.pk}
    assert boss.post(f"/admin/directory/group/{group.pk}/change/", data).status_code == 302
    assert list(group.persons.all()) == [alice.person]
    host.refresh_from_db()
    assert host.changes > before


def test_the_groups_of_a_person_are_changed_at_the_person_and_hosts_hear_of_it(boss: Somebody, alice: Somebody) -> None:
    staff, other = (Group.objects.create(name=name) for name in ("staff", "other"))
    hosts = HostGroup.objects.create(name="web")
    staff.accesses.create(host_group=hosts)
    other.persons.add(alice.person)
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    before = host.changes
    data = {"name": "alice", "role": "user", "is_active": "on", "deadline": "", "memberships": [staff.pk]}
    assert boss.post(f"{PEOPLE}{alice.person.pk}/change/", data).status_code == 302
    assert list(alice.person.memberships.all()) == [staff]
    host.refresh_from_db()
    assert host.changes > before


def test_a_revoked_host_is_refused_and_names_whom_to_enrol_anew(
    boss: Somebody, alice: Somebody, keeper: Keeper
) -> None:
    hosts = HostGroup.objects.create(name="web")
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    Published.objects.create(host=host, person=alice.person, file="f" * 64)
    data = {"action": "revoke", "_selected_action": host.pk, "sure": "yes"}
    page = boss.post("/admin/directory/host/", data).content.decode()
    assert "alice" in page
    host.refresh_from_db()
    assert host.revoked is not None
    assert host.token_hash != "h" * 64


def test_a_revoked_host_has_its_people_reset_and_invited_in_one_action_after_a_code(
    boss: Somebody, alice: Somebody, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = somebody(keeper, "bob")
    somebody(keeper, "carol")
    hosts = HostGroup.objects.create(name="web")
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    for who in (alice, bob):
        Published.objects.create(host=host, person=who.person, file="f" * 64)
    path, data = "/admin/directory/host/", {"action": "revoke", "_selected_action": host.pk}
    late(monkeypatch)
    page = boss.post(path, {**data, "index": "0"}).content.decode()
    assert "web1: it has the secrets of alice, bob" in page
    assert 'name="reset"' in page
    assert "not accepted" in boss.post(path, {**data, "sure": "yes", "reset": "on", "code": "000000"}).content.decode()
    host.refresh_from_db()
    assert (host.revoked, alice.person.enrolled) == (None, True)
    page = boss.post(path, {**data, "sure": "yes", "reset": "on", "code": boss.code()}).content.decode()
    links = dict(re.findall(r"<dt>(\w+), of web1</dt><dd><code>https://dir\.example\.org(/invitation/\S+/)<", page))
    assert links.keys() == {"alice", "bob"}
    assert alice.get(links["alice"]).status_code == 200
    assert [name for name in ("alice", "bob", "carol", "boss") if Person.objects.get(name=name).enrolled] == [
        *("carol", "boss")
    ]
    host.refresh_from_db()
    assert host.revoked is not None
    found = set(Audit.objects.filter(actor="boss").values_list("action", "target"))
    assert {("host-revoked", "web1")} | {
        (action, name) for action in ("authenticators-removed", "invited") for name in ("alice", "bob")
    } <= found


def test_what_cannot_be_done_is_said_and_the_rest_is_done(
    boss: Somebody, alice: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise KeeperError("the keeper does not answer")

    monkeypatch.setattr("pam_totp.directory.hosts.revoke", refuse)
    hosts = HostGroup.objects.create(name="web")
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    data = {"action": "revoke", "_selected_action": host.pk, "sure": "yes"}
    assert boss.post("/admin/directory/host/", data).status_code == 302
    assert "Not web1: the keeper does not answer" in boss.get("/admin/directory/host/").content.decode()


def test_an_api_token_is_shown_once_and_only_its_hash_is_kept(boss: Somebody, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/admin/directory/apitoken/add/"
    data = {"name": "backup", "scopes": ["read", "audit"], "days": "30"}
    late(monkeypatch)
    assert boss.post(path, data).headers["Location"] == f"/confirm/?next={path}"
    assert not ApiToken.objects.exists()
    late(monkeypatch, seconds=300)
    for wrong in ({"scopes": ["everything"]}, {"days": "0"}, {"days": "99999"}, {"name": "../x"}):
        assert boss.post(path, data | wrong).status_code == 200
        assert not ApiToken.objects.exists()
    page = boss.post(path, data).content.decode()
    shown = re.search(r"<code>([\w.-]{40,})</code>", page)
    assert shown
    kept = ApiToken.objects.get()
    assert kept.token_hash == hash_of(shown[1])
    assert (kept.created_by, kept.scopes) == ("boss", ["audit", "read"])
    headers = {"HTTP_AUTHORIZATION": f"Bearer {shown[1]}"}
    assert boss.get("/api/v1/people", **headers).status_code == 200
    assert boss.get("/api/v1/people").status_code in (401, 403)
    assert shown[1] not in str(list(Audit.objects.values()))


# The audit trail, and the dashboard


def answered(somebody: Somebody, path: str, part: Callable[[int, bytes], None]) -> int:
    """Ask the application that the web process runs, and hand over each part of the body as it comes."""
    cookies = "; ".join(f"{name}={each.value}" for name, each in somebody.browser.cookies.items())
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"dir.example.org"), (b"cookie", cookies.encode())],
        "scheme": "https",
        "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 443),
    }
    status: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        elif message.get("body"):
            await sync_to_async(part)(status[0], message["body"])

    # In this thread, which alone sees the test's database.
    async_to_sync(asgi.application)(scope, receive, send)
    return status[0]


def exported(somebody: Somebody) -> list[dict[str, Any]]:
    parts: list[bytes] = []
    assert answered(somebody, "/admin/audit.jsonl", lambda _, part: parts.append(part)) == 200
    return [json.loads(line) for line in b"".join(parts).splitlines()]


def test_the_audit_trail_is_exported_with_its_chain_after_a_code(
    boss: Somebody, alice: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(boss, "lock", alice)
    late(monkeypatch)
    assert boss.get("/admin/audit.jsonl").headers["Location"] == "/confirm/?next=/admin/audit.jsonl"
    late(monkeypatch, seconds=300)
    lines = exported(boss)
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert ("boss", "locked", "alice") in [(line["actor"], line["action"], line["target"]) for line in lines]


def test_an_export_of_any_length_is_sent_as_it_is_read(boss: Somebody, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is longer than what is held of it, and what is noted while it is sent is in it."""
    monkeypatch.setattr(exports, "PART", 50)
    for number in range(20):
        audit.notes("root", [("noted", f"entry {number} {each}", {"text": "x" * 2000}) for each in range(100)])
    sizes: list[int] = []
    lines: list[bytes] = []

    def part(status: int, content: bytes) -> None:
        assert status == 200
        if not sizes:
            audit.note("root", "meanwhile")
        sizes.append(len(content))
        lines[:] = [*lines[-1:], content]

    exported(boss)  # what is imported for it stays
    tracemalloc.start()
    try:
        assert answered(boss, "/admin/audit.jsonl", part) == 200
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) > 4 << 20
    assert max(sizes) < 150_000
    assert most < 2 << 20
    assert b'"action": "meanwhile"' in lines[-1]


def test_an_export_without_a_code_or_a_role_gives_no_line_of_it(
    boss: Somebody, alice: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.sign_in()
    late(monkeypatch)
    before = Audit.objects.count()
    shown: list[bytes] = []
    stranger = Somebody(alice.person, alice.keeper)
    for who, status in ((boss, 302), (alice, 404), (stranger, 302)):
        assert answered(who, "/admin/audit.jsonl", lambda _, part: shown.append(part)) == status
    assert b"previous" not in b"".join(shown)
    assert Audit.objects.count() == before


def test_the_dashboard_counts(boss: Somebody, keeper: Keeper) -> None:
    now = timezone.now()
    for name, deadline in (("late", now - timedelta(days=1)), ("soon", now + timedelta(days=1)), ("never", None)):
        Person.objects.create_user(name, deadline=deadline)
    Person.objects.create_user("free", exempt_until=now + timedelta(days=1))
    Person.objects.create_user("gone", is_active=False)
    hosts = HostGroup.objects.create(name="web")
    for number, seen in enumerate((now, now - timedelta(hours=2), now - timedelta(days=9), None)):
        Host.objects.create(name=f"h{number}", group=hosts, key=bytes(32), token_hash=str(number) * 64, last_seen=seen)
    for number in range(3):
        reason = "wrong-code" if number else "throttled"
        Event.objects.create(ident=str(number) * 32, name="x", time=now, kind="refused", reason=reason)
    page = boss.get("/admin/").content.decode()
    rows = dict(re.findall(r"<th scope=\"row\">(?:<a [^>]*>)?([^<]+)(?:</a>)?</th><td>(\d+)</td>", page))
    assert {name: int(count) for name, count in rows.items()} == {
        "not enrolled": 1,
        "in enrolment": 1,
        "enrolment expired": 1,
        "enrolled": 1,
        "exempt": 1,
        "locked": 0,
        "within 5 minutes": 1,
        "within an hour": 0,
        "within a day": 1,
        "longer ago": 1,
        "never": 1,
        "cloned: two with one identity": 0,
        "wrong-code": 2,
        "throttled": 1,
    }
    for state, names in (("enrolment expired", ["late"]), ("enrolled", ["boss"]), ("exempt", ["free"])):
        listed = boss.get(PEOPLE, data={"state": state}).content.decode()
        assert re.findall(r'class="field-name"><a [^>]*>(\w+)<', listed) == names
    assert Authenticator.objects.count() == 1


@pytest.mark.parametrize("role", ["auditor", "helpdesk"])
def test_nobody_asks_for_what_is_not_shown_by_filtering_lists(boss: Somebody, keeper: Keeper, role: str) -> None:
    """Letter by letter, a list tells whose password's hash begins with what."""
    visitor = somebody(keeper, "visitor", role=role)
    visitor.sign_in()
    token = ApiToken.objects.create(name="t", token_hash="a" * 64, created_by="root")
    invited = somebody(keeper, "invited", enrolled=False)
    people.invite("root", invited.person)
    for query in (
        "person/?password__startswith=argon2",
        "person/?password__regex=.*",
        "person/?ledger__isnull=0",
        "person/?memberships__persons__password__startswith=argon2",
        f"apitoken/?token_hash__startswith={token.token_hash[:3]}",
        "jointoken/?token_hash__startswith=a",
        f"invitation/?token_hash__startswith={Invitation.objects.get().token_hash[:3]}",
        "invitation/?person__password__startswith=argon2",
        "host/?token_hash__startswith=a",
        "host/?key__isnull=0",
    ):
        assert visitor.get(f"/admin/directory/{query}").status_code == 400, query
    for query in ("person/?locked__exact=0", "person/?state=enrolled", "person/?q=bo", "event/?kind__exact=login"):
        assert visitor.get(f"/admin/directory/{query}").status_code == 200, query


def test_an_invitation_is_void_once_the_person_has_another_role(helper: Somebody, keeper: Keeper) -> None:
    """Who helps a person without a role keeps the link, and waits until that person is an administrator."""
    carol = Somebody(Person.objects.create_user("carol"), keeper)
    link = re.search(
        r"https://dir\.example\.org(/invitation/[\w-]+/)", do(helper, "invite", carol, days="7").content.decode()
    )
    assert link
    early = Somebody(carol.person, keeper)
    early.post(link[1])
    early.scan("/enrol/")
    people.set_fields("root", carol.person, role="administrator")
    assert early.finish("/enrol/").status_code == 403
    assert carol.get(link[1]).status_code == 404
    assert not carol.person.enrolled
    fresh = people.invite("root", Person.objects.get(name="carol"))
    assert carol.get(f"/invitation/{fresh}/").status_code == 200


@pytest.mark.parametrize("thing", ["group", "host", "hostgroup", "apitoken", "person"])
def test_whatever_is_changed_takes_a_code_that_was_typed_lately(
    boss: Somebody, thing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is moved into another group, or a group that is given hosts, gets the people's secrets."""
    group, hosts = Group.objects.create(name="staff"), HostGroup.objects.create(name="web")
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    kept = {"group": group.pk, "host": host.pk, "hostgroup": hosts.pk, "person": boss.person.pk}
    paths = [f"/admin/directory/{thing}/add/"] if thing != "host" else []
    paths += [f"/admin/directory/{thing}/{kept[thing]}/change/"] if thing in kept else []
    late(monkeypatch)
    for path in paths:
        assert boss.post(path, {"name": "other"}).headers["Location"] == f"/confirm/?next={path}"
        assert boss.get(path).headers["Location"] == f"/confirm/?next={path}"


@pytest.mark.parametrize("names", ['{"a": 1}', '"root"', "7", '["a", 1]', '["a/b"]'])
def test_break_glass_users_that_are_no_list_of_names_are_not_kept(boss: Somebody, names: str) -> None:
    """The keeper would not seal such a policy, for any host of the group."""
    hosts = HostGroup.objects.get(name="hosts")
    policy = hosts.policy
    data: dict[str, Any] = {"name": "hosts", "policy-TOTAL_FORMS": "1", "policy-INITIAL_FORMS": "1"}
    data |= {"policy-0-id": policy.pk, "policy-0-host_group": hosts.pk, "policy-0-mfa": "on"}
    data |= {"policy-0-unenrolled": "skip", "policy-0-enrolment_days": "7", "policy-0-break_glass": names}
    data |= {"accesses-TOTAL_FORMS": "0", "accesses-INITIAL_FORMS": "0"}
    assert boss.post(f"/admin/directory/hostgroup/{hosts.pk}/change/", data).status_code == 200
    policy.refresh_from_db()
    assert policy.break_glass == []
