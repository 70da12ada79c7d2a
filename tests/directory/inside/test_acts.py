"""Everything that the admin portal can do, the command and the API can do, but for what is root's alone on purpose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.test import RequestFactory

from pam_totp.directory import models
from pam_totp.directory.cli import parser
from pam_totp.directory.models import Person

API = Path(__file__).parents[3] / "docs/directory-api.yaml"
# What somebody can do in the admin portal, and the same by the command and in the API. Where one of them has nothing:
# why that is so.
SAME = {
    "dashboard": ("status --json", "GET /api/v1/status"),
    "audit.jsonl": ("audit --json", "GET /api/v1/audit"),
    "look person": ("user list", "GET /api/v1/people"),
    "add person": ("user add x", "POST /api/v1/people"),
    "delete person": ("user remove x", "DELETE /api/v1/people/{name}"),
    "set person name": ("user change x --name y", "PATCH /api/v1/people/{name} name"),
    "set person display": ("user change x --display y", "PATCH /api/v1/people/{name} display"),
    "set person email": ("user change x --email y", "PATCH /api/v1/people/{name} email"),
    "set person role": ("user role x helpdesk", "PATCH /api/v1/people/{name} role"),
    "set person is_active": ("user change x --active no", "PATCH /api/v1/people/{name} active"),
    "set person must_enroll": ("user change x --must-enroll yes", "PATCH /api/v1/people/{name} must_enroll"),
    "set person deadline": ("user change x --deadline none", "PATCH /api/v1/people/{name} deadline"),
    "set person memberships": ("user change x --group y", "PATCH /api/v1/people/{name} groups"),
    "person: invite": ("user invite x", "POST /api/v1/people/{name}/invite"),
    "person: reset": ("user reset x", "POST /api/v1/people/{name}/reset"),
    "person: unlock": ("user unlock x", "PATCH /api/v1/people/{name} locked"),
    "person: lock": ("user lock x", "PATCH /api/v1/people/{name} locked"),
    "person: exempt": ("user exempt x 7d", "PATCH /api/v1/people/{name} exempt_until"),
    "person: end_exemption": ("user exempt x never", "PATCH /api/v1/people/{name} exempt_until"),
    "look group": ("group list", "GET /api/v1/groups"),
    "add group": ("group add x", "POST /api/v1/groups"),
    "delete group": ("group remove x", "DELETE /api/v1/groups/{name}"),
    "set group name": ("group rename x y", "PATCH /api/v1/groups/{name} name"),
    "set group persons": ("group join x y", "PATCH /api/v1/groups/{name} add"),
    "set group access": ("group allow x y", "PATCH /api/v1/host-groups/{name} groups"),
    "look hostgroup": ("group list", "GET /api/v1/host-groups"),
    "add hostgroup": ("group add --hosts x", "POST /api/v1/host-groups"),
    "delete hostgroup": ("group remove --hosts x", "DELETE /api/v1/host-groups/{name}"),
    "set hostgroup name": ("group rename --hosts x y", "PATCH /api/v1/host-groups/{name} name"),
    "set hostgroup policy": ("policy x --mfa yes", "PATCH /api/v1/policies/{group} mfa"),
    "set hostgroup access": ("group allow x y", "PATCH /api/v1/host-groups/{name} groups"),
    "look host": ("host list", "GET /api/v1/hosts"),
    "delete host": ("host remove x", "DELETE /api/v1/hosts/{ident}"),
    "set host name": ("host rename x y", "PATCH /api/v1/hosts/{ident} name"),
    "set host group": ("host move x y", "PATCH /api/v1/hosts/{ident} group"),
    "host: revoke": ("host revoke x", "POST /api/v1/hosts/{ident}/revoke"),
    "look apitoken": ("token list", "GET /api/v1/tokens"),
    "add apitoken": ("token api x --scope read", "POST /api/v1/tokens"),
    "delete apitoken": ("token revoke x", "DELETE /api/v1/tokens/{name}"),
    "set apitoken name": ("token api x --scope read", "POST /api/v1/tokens name"),
    "set apitoken scopes": ("token api x --scope read", "POST /api/v1/tokens scopes"),
    "set apitoken days": ("token api x --scope read --days 3", "POST /api/v1/tokens days"),
    "look jointoken": ("token list", "GET /api/v1/join-tokens"),
    "look invitation": ("user invitations", "GET /api/v1/invitations"),
    "look event": ("event --json", "GET /api/v1/logins"),
    "look audit": ("audit", "GET /api/v1/audit"),
}
# Root's alone, with the command: who has taken over the web process must not be able to do it, nor to go back in time.
ROOTS = ("token new", "epoch", "backup x", "restore x")


def acts() -> set[str]:
    """What an administrator can do in the admin portal, from Django's own list of what it manages."""
    request = RequestFactory().get("/admin/")
    request.user = Person(name="boss", role=Person.Role.ADMINISTRATOR)
    found = {"dashboard", "audit.jsonl"}
    for model, manager in admin.site._registry.items():
        name = str(model._meta.model_name)
        found.add(f"look {name}")
        thing = model() if model is not models.Host else model(revoked="2026-01-01")
        adds, changes = manager.has_add_permission(request), manager.has_change_permission(request, thing)
        found |= {f"add {name}"} if adds else set()
        found |= {f"delete {name}"} if manager.has_delete_permission(request, thing) else set()
        for each, may in ((None, adds), (thing, changes)):
            if may:
                shown = manager.get_fields(request, each)
                found |= {f"set {name} {field}" for field in shown if field not in manager.get_readonly_fields(request)}
        inlines = [each.model._meta.model_name for each in manager.inlines] if adds or changes else []
        found |= {f"set {name} {inline}" for inline in inlines}
        actions = manager.get_actions(request) if manager.actions else {}
        found |= {f"{name}: {action}" for action in actions}
    return found


def test_each_act_of_the_admin_portal_has_a_row() -> None:
    assert acts() == set(SAME)


@pytest.mark.parametrize("words", sorted({command for command, _ in SAME.values()} | set(ROOTS)))
def test_the_command_has_it(words: str) -> None:
    parser().parse_args(words.split())


def described() -> dict[str, str]:
    """The text of each method of the description of the API."""
    found, path, method = {}, "", ""
    for line in API.read_text(encoding="utf-8").partition("\npaths:\n")[2].splitlines():
        if line.startswith("  /"):
            path = line.strip().rstrip(":")
        elif re.fullmatch(r"    (get|post|patch|delete|put):", line):
            method = f"{line.strip().rstrip(':').upper()} {path}"
            found[method] = ""
        elif not line.startswith(" "):
            break
        elif method:
            found[method] += line + "\n"
    return found


@pytest.mark.parametrize("row", sorted({request for _, request in SAME.values()}))
def test_the_api_has_it(row: str) -> None:
    method, path, *field = row.split()
    text = described()[f"{method} {path}"]
    if path == "/api/v1/policies/{group}":
        assert "schemas/Policy" in text
    elif field:
        assert re.search(rf"\b{field[0]}: {{", text), text


def test_what_is_root_s_alone_is_not_in_the_api() -> None:
    assert not [row for row in described() if re.search(r"(POST|PATCH|PUT) .*(join-tokens|epoch|backup|restore)", row)]
