"""The API for administrators' programs: what each scope opens, and what none does."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from pam_totp.directory import people, programs
from pam_totp.directory.config import SCOPES
from pam_totp.directory.models import ApiToken, Audit, Authenticator, Host, Person
from pam_totp.errors import UsageError
from tests.directory.inside.conftest import Keeper, enrolled, joined, publish_all

web: Any = Client(SERVER_NAME="dir.example.org", raise_request_exception=False)


def token(*scopes: str) -> str:
    return programs.new_token("root", f"program{ApiToken.objects.count()}", list(scopes), 1)


def ask(method: str, path: str, bearer: str, fields: object = None) -> tuple[int, Any]:
    body = "" if fields is None else json.dumps(fields)
    found = web.generic(method, f"/api/v1/{path}", body, "application/json", HTTP_AUTHORIZATION=f"Bearer {bearer}")
    return found.status_code, json.loads(found.content)


def requests(host: str) -> list[tuple[str, str, str, object]]:
    """A request for each method of each path: the scope it needs, the method, the path, the fields."""
    return [
        ("read", "GET", "people", None),
        ("people", "POST", "people", {"name": "carol"}),
        ("read", "GET", "people/alice", None),
        ("people", "PATCH", "people/alice", {"locked": True}),
        ("people", "POST", "people/alice/invite", {}),
        ("people", "POST", "people/alice/reset", {}),
        ("people", "DELETE", "people/alice", None),
        ("read", "GET", "hosts", None),
        ("hosts", "POST", f"hosts/{host}/revoke", {}),
        ("read", "GET", "policies/hosts", None),
        ("policy", "PATCH", "policies/hosts", {"unenrolled": "deny"}),
        ("read", "GET", "invitations", None),
        ("read", "GET", "groups", None),
        ("groups", "POST", "groups", {"name": "staff"}),
        ("read", "GET", "groups/everyone", None),
        ("groups", "PATCH", "groups/everyone", {"name": "all"}),
        ("groups", "DELETE", "groups/staff", None),
        ("read", "GET", "host-groups", None),
        ("groups", "POST", "host-groups", {"name": "db"}),
        ("read", "GET", "host-groups/hosts", None),
        ("groups", "PATCH", "host-groups/hosts", {"groups": []}),
        ("groups", "DELETE", "host-groups/db", None),
        ("read", "GET", f"hosts/{host}", None),
        ("hosts", "PATCH", f"hosts/{host}", {"name": "web2"}),
        ("hosts", "DELETE", f"hosts/{host}", None),
        ("read", "GET", "tokens", None),
        ("tokens", "POST", "tokens", {"name": "other", "scopes": ["tokens"]}),
        ("tokens", "DELETE", "tokens/other", None),
        ("read", "GET", "join-tokens", None),
        ("read", "GET", "status", None),
        ("audit", "GET", "audit", None),
        ("audit", "GET", "logins", None),
    ]


def test_each_request_needs_its_scope_and_no_other_opens_it(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    tokens = {scope: token(scope) for scope in SCOPES}
    for needed, method, path, fields in requests(host.ident):
        assert ask(method, path, "guessed", fields)[0] == 401
        # A host's token opens nothing here.
        assert ask(method, path, host.token, fields)[0] == 401
        for scope in set(SCOPES) - {needed}:
            assert ask(method, path, tokens[scope], fields)[0] == 403, (method, path, scope)
        assert ask(method, path, tokens[needed], fields)[0] in (200, 201), (method, path)
    assert [each.name for each in Person.objects.all()] == ["carol"]
    assert not Host.objects.exists()


def test_each_path_and_method_that_there_is_is_in_the_list_of_what_is_tried() -> None:
    from django.urls import get_resolver

    tried = {
        (method, re.sub("[0-9a-f]{32}", "web1", path).split("/")[0], path.count("/"))
        for _, method, path, _ in requests("0" * 32)
    }
    patterns = get_resolver("pam_totp.directory.api_urls").url_patterns
    there = {
        (method, str(each.pattern).split("/")[2], str(each.pattern).count("/") - 2)
        for each in patterns
        if each.callback.__module__ == "pam_totp.directory.admin_api"
        for method in getattr(each.callback, "scopes")  # noqa: B009  # its type says nothing of it
    }
    assert tried == there


def test_a_host_is_revoked_and_its_people_enrol_anew_with_both_scopes_but_nobody_with_a_role(keeper: Keeper) -> None:
    for name in ("alice", "boss"):
        enrolled(keeper, name)
    people.set_fields("root", people.find("boss"), role=Person.Role.ADMINISTRATOR)
    host = joined("web1")
    publish_all()
    path = f"hosts/{host.ident}/revoke"
    assert ask("POST", path, token("hosts"), {"reset": True})[0] == 403
    assert ask("POST", path, token("hosts", "people"), {"reset": True, "mail": True})[0] == 400
    assert ask("POST", path, token("hosts"), {"reset": 1})[0] == 400
    assert Host.objects.get().revoked is None
    status, said = ask("POST", path, token("hosts", "people"), {"reset": True})
    assert (status, said["people"], [each["name"] for each in said["reset"]]) == (200, ["alice", "boss"], ["alice"])
    secret = said["reset"][0]["link"].split("/")[-2]
    made = people.invited(secret, timezone.now())
    assert made is not None
    assert made.person.name == "alice"
    assert [each.person.name for each in Authenticator.objects.all()] == ["boss"]


def test_a_token_ends_with_its_time_and_when_it_is_revoked() -> None:
    first, second = token("read"), token("read")
    assert ask("GET", "people", first)[0] == ask("GET", "people", second)[0] == 200
    ApiToken.objects.filter(name="program0").update(expires=timezone.now())
    programs.revoke_token("root", "program1")
    assert ask("GET", "people", first)[0] == ask("GET", "people", second)[0] == 401
    with pytest.raises(UsageError):
        programs.revoke_token("root", "program1")


def test_the_token_itself_is_kept_nowhere() -> None:
    made = token("read")
    assert made not in repr(list(ApiToken.objects.values())) + repr(list(Audit.objects.values()))


def test_people_with_a_role_are_shown_and_not_changed(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    people.set_fields("root", person, role=Person.Role.HELPDESK)
    bearer = token("read", "people")
    assert ask("GET", "people/alice", bearer)[1]["role"] == "helpdesk"
    for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/invite"), ("POST", "/reset")):
        assert ask(method, f"people/alice{path}", bearer, {"role": "user"} if method == "PATCH" else {})[0] == 403
    assert Authenticator.objects.count() == 1


def test_people_with_a_role_are_changed_and_roles_given_with_the_scope_for_that(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    bearer = token("people", "roles")
    assert ask("PATCH", "people/alice", token("people"), {"role": "helpdesk"})[0] == 403
    assert ask("PATCH", "people/alice", token("roles"), {"role": "helpdesk"})[0] == 403
    assert ask("PATCH", "people/alice", bearer, {"role": "emperor"})[0] == 400
    assert ask("PATCH", "people/alice", bearer, {"role": "helpdesk"})[1]["role"] == "helpdesk"
    assert ask("POST", "people/alice/reset", bearer, {})[0] == 200
    assert not person.enrolled
    assert ask("PATCH", "people/alice", bearer, {"active": False, "name": "alicia"})[1]["active"] is False
    assert ask("GET", "people/alice", token("read"))[0] == 404


def test_what_is_not_for_this_api_cannot_be_set() -> None:
    people.add("root", "alice")
    bearer = token("people")
    for fields in ({"password": "x"}, {"is_active": False}, {"ledger": ""}, {"source": "x"}):
        assert ask("PATCH", "people/alice", bearer, fields)[0] == 400
        assert ask("POST", "people", bearer, {"name": "bob", **fields})[0] == 400
    assert ask("POST", "people", bearer, {"name": "bob", "role": "administrator"})[0] == 400
    assert Person.objects.get().role == Person.Role.USER


def test_a_program_gives_no_scope_that_it_has_not(keeper: Keeper) -> None:
    bearer = token("tokens", "read")
    for scopes in (["people"], ["read", "roles"], list(SCOPES)):
        assert ask("POST", "tokens", bearer, {"name": "more", "scopes": scopes})[0] == 403
    for wrong in ([], ["everything"], "read", [7]):
        assert ask("POST", "tokens", bearer, {"name": "more", "scopes": wrong})[0] == 400
    assert ApiToken.objects.count() == 1
    status, said = ask("POST", "tokens", bearer, {"name": "more", "scopes": ["read"], "days": 1})
    assert status == 201
    assert ask("GET", "people", said["token"])[0] == 200
    assert said["token"] not in json.dumps(ask("GET", "tokens", bearer)[1])


def test_groups_their_people_and_what_they_may_use(keeper: Keeper) -> None:
    for name in ("alice", "bob"):
        people.add("root", name)
    bearer = token(*SCOPES)
    host = joined("web1")
    assert ask("POST", "groups", bearer, {"name": "staff"}) == (201, {"name": "staff", "people": 0, "host_groups": []})
    assert ask("POST", "groups", bearer, {"name": "staff"})[0] == 400
    assert ask("PATCH", "groups/staff", bearer, {"add": ["alice", "bob"], "remove": ["bob"]})[1]["people"] == 1
    assert ask("PATCH", "groups/staff", bearer, {"add": ["nobody"]})[0] == 400
    assert [each["name"] for each in ask("GET", "people?group=staff", bearer)[1]["people"]] == ["alice"]
    ask("POST", "host-groups", bearer, {"name": "db"})
    shown = ask("PATCH", "host-groups/db", bearer, {"groups": ["staff"], "name": "databases"})[1]
    assert shown == {"name": "databases", "hosts": 0, "groups": ["staff"]}
    assert ask("PATCH", f"hosts/{host.ident}", bearer, {"group": "databases"})[1]["group"] == "databases"
    publish_all()
    assert set(host.records(keeper)) == {"alice"}
    assert ask("DELETE", "host-groups/databases", bearer)[0] == 400
    assert ask("DELETE", f"hosts/{host.ident}", bearer)[0] == 400
    assert ask("DELETE", "groups/staff", bearer)[0] == 200
    publish_all()
    assert host.records(keeper) == {}
    assert ask("GET", "status", bearer)[1]["people"]["not enrolled"] == 2


def test_a_person_is_added_changed_and_shown_with_nothing_secret(keeper: Keeper) -> None:
    bearer = token("read", "people")
    soon = (timezone.now() + timedelta(days=3)).isoformat()
    status, made = ask("POST", "people", bearer, {"name": "alice", "email": "a@example.org", "deadline": soon})
    assert (status, made["groups"], made["state"]) == (201, ["everyone"], "in enrolment")
    status, changed = ask("PATCH", "people/alice", bearer, {"groups": [], "locked": True, "deadline": None})
    assert (status, changed["groups"], changed["locked"], changed["state"]) == (200, [], True, "not enrolled")
    people.begin("root", people.find("alice"), "phone")
    shown = ask("GET", "people/alice", bearer)[1]
    assert [set(each) for each in shown["authenticators"]] == [{"label", "state", "created"}]
    assert Audit.objects.filter(actor="api program0", action="locked", target="alice").exists()


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "people", {"name": "a b"}),
        ("POST", "people", {"name": "alice"}),
        ("POST", "people", {"name": 7}),
        ("POST", "people", {"name": "bob", "groups": ["nobody"]}),
        ("POST", "people", {"name": "bob", "groups": "everyone"}),
        ("POST", "people", {"name": "bob", "email": "no address"}),
        ("PATCH", "people/alice", {"locked": "yes"}),
        ("PATCH", "people/alice", {"deadline": "tomorrow"}),
        ("PATCH", "people/alice", {"deadline": "2027-01-31T00:00:00"}),
        ("PATCH", "people/alice", {"groups": ["nobody"]}),
        ("POST", "people/alice/invite", {"days": 0}),
        ("POST", "people/alice/invite", {"days": True}),
        ("POST", "people/alice/invite", {"mail": "yes"}),
        ("POST", "people/alice/invite", {"mail": True}),
        ("POST", "people/alice/reset", {"label": 7}),
        ("PATCH", "policies/hosts", {"unenrolled": "sometimes"}),
        ("PATCH", "policies/hosts", {"enrolment_days": 366}),
        ("PATCH", "policies/hosts", {"break_glass": "root"}),
        ("PATCH", "policies/hosts", {"mfa": 7}),
        ("GET", "audit?since=x", None),
    ],
)
def test_what_is_malformed_is_refused_and_changes_nothing(method: str, path: str, fields: object) -> None:
    people.add("root", "alice")
    bearer = token(*SCOPES)
    before = Audit.objects.count()
    status, said = ask(method, path, bearer, fields)
    assert status == 400
    assert said["error"]
    assert Audit.objects.count() == before
    assert Person.objects.count() == 1


def test_a_policy_that_was_changed_reaches_the_hosts(keeper: Keeper) -> None:
    host = joined("web1")
    publish_all()
    status, said = ask("PATCH", "policies/hosts", token("policy"), {"unenrolled": "deny", "max_offline": 86400})
    assert (status, said["unenrolled"]) == (200, "deny")
    assert publish_all() == 1
    assert (host.policy(keeper).unenrolled, host.policy(keeper).max_offline) == ("deny", 86400)


def test_lists_come_in_pages(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    from pam_totp.directory import admin_api

    monkeypatch.setattr(admin_api, "PAGE", 2)
    for name in ("alice", "bob", "carol"):
        people.add("root", name)
    bearer = token("read", "audit")
    first = [each["name"] for each in ask("GET", "people", bearer)[1]["people"]]
    rest = [each["name"] for each in ask("GET", f"people?after={first[-1]}", bearer)[1]["people"]]
    assert (first, rest) == (["alice", "bob"], ["carol"])
    entries = ask("GET", "audit", bearer)[1]["entries"]
    later = ask("GET", f"audit?since={entries[-1]['id']}", bearer)[1]["entries"]
    assert later[0]["previous"] == entries[-1]["hash"]
