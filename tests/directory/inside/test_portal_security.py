"""What somebody hostile meets in the portals: every page, by every role, and the ways around a sign-in."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import hashers
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from pam_totp.directory import audit, people
from pam_totp.directory.models import (
    Access,
    ApiToken,
    Event,
    Group,
    Host,
    HostGroup,
    Invitation,
    JoinToken,
    Person,
    Policy,
    hash_of,
)
from pam_totp.directory.portal import passwords
from pam_totp.directory.portal.models import Tries
from tests.directory.inside.portal import PASSWORD, Somebody, somebody

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.directory.inside.conftest import Keeper

ROLES = ("nobody", "user", "auditor", "helpdesk", "administrator")


@pytest.fixture
def alice(keeper: Keeper) -> Somebody:
    return somebody(keeper)


# Every page


def pages() -> dict[str, str]:
    """The name and the path of every page of the portals."""
    return {name: path for name, path in paths().items() if name.startswith(("portal:", "admin:"))}


def paths() -> dict[str, str]:
    """The name and the path of everything that is answered, as Django's own table of paths has them."""

    def walk(patterns: list[URLPattern | URLResolver], before: str, prefix: str) -> Iterator[tuple[str, str]]:
        for each in patterns:
            path = before + str(each.pattern)
            if isinstance(each, URLResolver):
                inner = f"{prefix}{each.namespace}:" if each.namespace else prefix
                yield from walk(each.url_patterns, path, inner)
            else:
                yield f"{prefix}{each.name}", path

    return dict(walk(get_resolver().url_patterns, "/", ""))


# What a page answers a GET with, by role: nobody, user, auditor, helpdesk, administrator. "in": the sign-in is what it
# leads to; "no": as if there were no such page; "off": elsewhere in the portal; "code": a code is wanted first.
FOR_ALL = ("200", "off", "off", "off", "off")
SIGNED_IN = ("in", "200", "200", "200", "200")
OWN = ("in", "no", "no", "no", "no")  # somebody else's authenticator
HALFWAY = ("in", "off", "off", "off", "off")
POST_ONLY = ("405",) * 5
LOOKED_AT = ("in", "no", "200", "200", "200")
CHANGED = ("in", "no", "403", "403", "200")
NEVER = ("in", "no", "403", "403", "403")
PORTAL = {
    "portal:home": SIGNED_IN,
    "portal:login": FOR_ALL,
    "portal:code": HALFWAY,
    # Off without a provider; with one, see test_portal_provider.py.
    "portal:provider": ("404",) * 5,
    "portal:provider_back": ("404",) * 5,
    "portal:provider_end": ("404",) * 5,
    "portal:provider_ended": POST_ONLY,
    "portal:logout": POST_ONLY,
    "portal:invitation": ("404",) * 5,
    "portal:enrol": HALFWAY,
    "portal:confirm": ("in", "off", "off", "off", "off"),
    "portal:logins": SIGNED_IN,
    "portal:password": SIGNED_IN,
    "portal:recovery": SIGNED_IN,
    "portal:add": SIGNED_IN,
    "portal:replace": OWN,
    "portal:remove": OWN,
    "admin:index": LOOKED_AT,
    "admin:audit_lines": LOOKED_AT,
    "admin:jsi18n": LOOKED_AT,
    "admin:autocomplete": NEVER,
    "admin:view_on_site": ("in", "no", "404", "404", "404"),
    "admin:app_list": LOOKED_AT,
    "admin:None": ("in", "no", "404", "404", "404"),
}
THINGS = {
    "person": {},
    "group": {},
    "hostgroup": {},
    "host": {"add": NEVER, "delete": NEVER},
    "apitoken": {},
    "jointoken": {"add": NEVER, "delete": NEVER},
    "invitation": {"add": NEVER, "delete": NEVER},
    "event": {"add": NEVER, "delete": NEVER},
    "audit": {"add": NEVER, "delete": NEVER},
}
OF_A_THING = {"changelist": LOOKED_AT, "add": CHANGED, "change": LOOKED_AT, "delete": CHANGED, "history": LOOKED_AT}
RULES = PORTAL | {
    f"admin:directory_{thing}_{view}": others.get(view, rule)
    for thing, others in THINGS.items()
    for view, rule in OF_A_THING.items()
}


def test_every_page_has_a_row_in_the_table_of_who_may_open_it() -> None:
    unnamed = {"admin:None"}  # Django's own: an old address of a thing, and whatever else is under /admin/
    assert set(pages()) - unnamed == set(RULES) - unnamed


@pytest.fixture
def things(keeper: Keeper) -> dict[str, int | str]:
    """One of each thing, which is somebody else's."""
    owner = somebody(keeper, "owner", email="owner@example.org")
    group = Group.objects.create(name="staff")
    group.persons.add(owner.person)
    hosts = HostGroup.objects.create(name="web")
    Policy.objects.create(host_group=hosts)
    Access.objects.create(group=group, host_group=hosts)
    host = Host.objects.create(name="web1", group=hosts, key=b"k" * 32, token_hash="h" * 64)
    event = Event.objects.create(
        ident="e" * 32, host=host, person=owner.person, name="owner", time=timezone.now(), kind="login"
    )
    later = timezone.now() + timedelta(days=1)
    token = JoinToken.objects.create(token_hash="j" * 64, group=hosts, created_by="root", expires=later)
    people.invite("root", owner.person)
    return {
        "person": owner.person.pk,
        "group": group.pk,
        "hostgroup": hosts.pk,
        "host": host.pk,
        "event": event.pk,
        "jointoken": token.pk,
        "apitoken": ApiToken.objects.create(name="t", token_hash="a" * 64, created_by="root").pk,
        "invitation": Invitation.objects.get().pk,
        "audit": audit.note("root", "test").pk,
        "authenticator": owner.person.authenticators.get().ident,
    }


def address_of(name: str, path: str, things: dict[str, int | str]) -> str:
    """A path with what belongs in it: of a thing that there is."""
    thing = name.split("_")[1] if name.count("_") == 2 else ""
    values = {"object_id": things.get(thing, 1), "ident": things["authenticator"], "token": "x" * 43}
    values |= {"content_type_id": 1}
    path = re.sub(r"\^\(\?P<app_label>[^)]*\)/\$", "directory/", path).replace("(?P<url>.*)$", "nothing")
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), path)


def outcome(response: Any) -> str:
    place = response.headers.get("Location", "")
    if response.status_code != 302:
        return "no" if response.status_code == 404 else str(response.status_code)
    if place.startswith("/login/?") or place == "/login/":
        return "in"
    return "code" if place.startswith("/confirm/") else "off"


@pytest.mark.parametrize("role", ROLES)
def test_every_page_is_for_whom_the_table_says(keeper: Keeper, things: dict[str, int | str], role: str) -> None:
    visitor = Somebody(Person(name="visitor"), keeper)
    if role != "nobody":
        visitor = somebody(keeper, "visitor", role=role)
        visitor.sign_in()
    found = {}
    for name, path in pages().items():
        found[name] = outcome(visitor.get(address_of(name, path, things)))
    wanted = {name: RULES[name][ROLES.index(role)] for name in found}
    # 404 is what there is no page for, and "no" what there is none for this role: to the visitor they are the same.
    assert {name: (each, wanted[name].replace("404", "no")) for name, each in found.items()} == {
        name: (rule.replace("404", "no"),) * 2 for name, rule in wanted.items()
    }


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_session_opens_nothing_of_the_api_that_is_for_hosts_and_programs(
    keeper: Keeper, things: dict[str, int | str], method: str
) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    boss.sign_in()
    answers = {}
    for name in set(paths()) - set(pages()):
        path = re.sub(r"<ident:\w+>", "a" * 32, re.sub(r"<(str|hash):\w+>", "b" * 64, paths()[name]))
        answers[name] = getattr(boss, method)(path).status_code
    del answers["ca"]  # the certificate is everybody's
    assert len(answers) > 10
    assert set(answers.values()) <= {400, 401, 403, 404, 405}, answers


def test_every_form_wants_its_token(keeper: Keeper, things: dict[str, int | str]) -> None:
    admin = somebody(keeper, "root-of-all", role="administrator")
    admin.sign_in()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.browser.cookies
    before = counts()
    for name, path in pages().items():
        response = strict.post(address_of(name, path, things), {"post": "yes"}, secure=True)
        # What a provider sends is signed, and no browser's; there is none here.
        assert response.status_code == (404 if name == "portal:provider_ended" else 403), name
    assert counts() == before


def counts() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Person, Group, Host, ApiToken, Event, Invitation))


@pytest.mark.parametrize("role", ["user", "auditor", "helpdesk"])
def test_a_role_changes_nothing_by_a_post_that_it_may_not_make(
    keeper: Keeper, things: dict[str, int | str], role: str
) -> None:
    visitor = somebody(keeper, "visitor", role=role)
    visitor.sign_in()
    before = (counts(), list(Person.objects.order_by("pk").values("role", "locked", "email", "exempt_until")))
    for name, path in pages().items():
        if name.startswith("admin:"):
            data = {"post": "yes", "name": "x", "role": "administrator", "is_active": "on", "persons": "1"}
            visitor.post(address_of(name, path, things), data)
    changelist = "/admin/directory/person/"
    owner, boss = things["person"], somebody(keeper, "boss", role="administrator").person.pk
    for action in ("invite", "reset", "unlock", "lock", "exempt", "end_exemption", "delete_selected"):
        for target in (boss, *([] if role == "helpdesk" and action in HELP else [owner])):
            visitor.post(changelist, {"action": action, "_selected_action": target, "sure": "yes", "days": "3"})
    assert Person.objects.get(pk=boss).enrolled
    assert Person.objects.get(pk=owner).enrolled
    Person.objects.get(pk=boss).authenticators.all().delete()
    Person.objects.get(pk=boss).delete()
    assert (counts(), list(Person.objects.order_by("pk").values("role", "locked", "email", "exempt_until"))) == before


HELP = ("invite", "reset", "unlock")


def test_nobody_makes_themselves_something_else_by_naming_fields(alice: Somebody) -> None:
    alice.sign_in()
    more = {"role": "administrator", "is_active": "on", "locked": "", "name": "root", "exempt_until": "2099-01-01"}
    new = "a horse of another colour"
    alice.post("/password/", {"password": new, "again": new, **more})
    path = "/authenticators/add/"
    alice.scan(path)
    data = {"label": "tablet", "code": alice.code(), "key": alice.key, "state": "active", "person": "1", **more}
    alice.post(path, data)
    kept = Person.objects.get(pk=alice.person.pk)
    assert (kept.name, kept.role, kept.exempt_until) == ("alice", "user", None)
    assert kept.check_password(new)


# Ways around a sign-in


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "https://testserver.evil.example/",
        "/%0d%0aLocation:%20https://evil.example/",
        "evil.example",
        "\t//evil.example",
    ],
)
def test_a_sign_in_leads_to_no_other_host(alice: Somebody, elsewhere: str) -> None:
    alice.post("/login/", {"name": "alice", "password": PASSWORD}, QUERY_STRING="")
    alice.post("/logout/")
    alice.browser.post(f"/login/?{query(elsewhere)}", {"name": "alice", "password": PASSWORD}, secure=True)
    place = alice.post("/login/code/", {"code": alice.code()}).headers["Location"]
    assert place == "/" or (place.startswith("/%0d") and "\n" not in place)
    again = alice.get(f"/confirm/?{query(elsewhere)}").headers["Location"]
    assert again == place


def query(place: str) -> str:
    from urllib.parse import urlencode

    return urlencode({"next": place})


def test_a_sign_in_leads_on_to_the_page_that_was_wanted(keeper: Keeper) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    place = boss.get("/admin/directory/host/").headers["Location"]
    assert place == "/login/?next=/admin/directory/host/"
    boss.password(path=place)
    assert boss.post("/login/code/", {"code": boss.code()}).headers["Location"] == "/admin/directory/host/"


def test_the_admin_portal_has_no_sign_in_of_its_own(alice: Somebody, keeper: Keeper) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    for path in ("/admin/login/", "/admin/password_change/", "/admin/logout/"):
        response = boss.post(path, {"username": "boss", "password": PASSWORD})
        assert response.status_code in (302, 404, 403)
    assert "_auth_user_id" not in boss.browser.session


# Names


def visible(response: Any) -> tuple[int, str]:
    """All that an answer shows, but for what is random, and the name that was typed."""
    page = re.sub(r'(name="csrfmiddlewaretoken" value=")[^"]*', r"\1", response.content.decode())
    return response.status_code, re.sub(r'(name="name" value=")[^"]*', r"\1", page)


def test_a_name_that_there_is_not_gets_the_answer_of_one_that_there_is(keeper: Keeper) -> None:
    somebody(keeper, "alice")
    somebody(keeper, "inactive", enrolled=False, is_active=False)
    Person.objects.create_user("invited")
    answers = set()
    for name in ("alice", "inactive", "invited", "nobody", "x" * 64, "'; --"):
        visitor = Somebody(Person(name=name), keeper)
        answers.add(visible(visitor.password("wrong password")))
    assert len(answers) == 1


@pytest.mark.parametrize("name", ["alice", "inactive", "invited", "nobody"])
def test_each_try_takes_one_slow_hash_whether_there_is_such_a_name_or_not(
    keeper: Keeper, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody(keeper, "alice")
    somebody(keeper, "inactive", enrolled=False, is_active=False)
    Person.objects.create_user("invited")
    hashed: list[str] = []
    argon2 = hashers.Argon2PasswordHasher
    encode, verify = argon2.encode, argon2.verify

    def counted(method: Any) -> Any:
        def called(*words: Any) -> Any:
            hashed.append(method.__name__)
            return method(*words)

        return called

    monkeypatch.setattr(argon2, "encode", counted(encode))
    monkeypatch.setattr(argon2, "verify", counted(verify))
    Somebody(Person(name=name), keeper).password("wrong password")
    assert len(hashed) == 1


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_passwords_are_throttled_by_name_whether_there_is_such_a_name_or_not(keeper: Keeper, name: str) -> None:
    somebody(keeper, "alice")
    pages = [Somebody(Person(name=name), keeper).password("wrong").content.decode() for _ in range(4)]
    assert ["Try again in " in page for page in pages] == [False, False, False, True]
    # The right password has to wait as well; from elsewhere it has not.
    assert "Try again" in Somebody(Person(name=name), keeper).password().content.decode()
    elsewhere = Somebody(Person(name=name), keeper)
    elsewhere.browser.defaults["REMOTE_ADDR"] = "192.0.2.9"
    assert (elsewhere.password().status_code == 302) == (name == "alice")


def test_a_network_that_tries_many_names_is_held_up(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "FROM_A_NETWORK", 5)
    pages = [Somebody(Person(name=f"n{number}"), keeper).password("x").content.decode() for number in range(6)]
    assert ["Too many tries" in page for page in pages] == [False] * 5 + [True]


def test_right_passwords_are_not_counted(keeper: Keeper) -> None:
    alice = somebody(keeper)
    for _ in range(30):
        assert alice.password().headers["Location"] == "/login/code/"


def test_strangers_who_guess_do_not_keep_the_owner_from_the_usual_place(keeper: Keeper) -> None:
    alice = somebody(keeper)
    alice.password()
    for number in range(40):
        thief = Somebody(alice.person, keeper)
        thief.browser.defaults["REMOTE_ADDR"] = f"198.51.100.{number}"
        thief.password("wrong")
    assert alice.password().headers["Location"] == "/login/code/"


def test_tries_are_kept_without_names_and_not_without_an_end(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_TRIES", 3)
    for number in range(6):
        Somebody(Person(name=f"secret{number}"), keeper).password("x")
    assert Tries.objects.count() <= 4
    assert "secret" not in str(list(Tries.objects.values()))


def test_a_header_does_not_say_where_a_try_comes_from(keeper: Keeper) -> None:
    pages = []
    for number in range(4):
        visitor = Somebody(Person(name="nobody"), keeper)
        visitor.browser.defaults["HTTP_X_FORWARDED_FOR"] = f"192.0.2.{number}"
        pages.append(visitor.password("x").content.decode())
    assert "Try again" in pages[-1]


# What every answer carries


@pytest.mark.parametrize("path", ["/login/", "/", "/admin/", "/nothing/", "/static/portal/portal.css"])
def test_every_answer_forbids_what_is_inline_framed_or_sniffed(keeper: Keeper, path: str) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    boss.sign_in()
    response = boss.get(path)
    policy = response.headers.get("Content-Security-Policy", "")
    if path.startswith("/static/"):
        assert response.headers["Content-Type"].startswith("text/css")
    else:
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Frame-Options"] == "DENY"
        assert "script-src" not in policy or path == "/admin/"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Strict-Transport-Security" in response.headers


def test_no_page_has_anything_inline(keeper: Keeper, things: dict[str, int | str]) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    for visitor in (Somebody(Person(name="x"), keeper), boss):
        if visitor is boss:
            boss.sign_in()
        for name, path in pages().items():
            response = visitor.get(address_of(name, path, things))
            if not response.streaming and response.headers["Content-Type"].startswith("text/html"):
                page = response.content.decode()
                assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", page), name


def test_pages_are_not_kept_by_browsers_or_proxies(alice: Somebody) -> None:
    alice.sign_in()
    for path in ("/", "/logins/", "/login/", "/authenticators/add/", "/recovery/"):
        assert "no-store" in alice.get(path).headers["Cache-Control"]


def test_cookies_are_out_of_reach_of_scripts_other_sites_and_plain_http(alice: Somebody) -> None:
    alice.sign_in()
    for name in ("__Host-session", "__Host-csrf"):
        cookie = alice.browser.cookies[name]
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, True, "Strict", "/")
        assert not cookie["domain"]


def test_a_name_with_markup_in_it_stays_text(keeper: Keeper) -> None:
    page = Somebody(Person(name="<script>alert(1)</script>"), keeper).password().content.decode()
    assert "<script>alert" not in page
    alice = somebody(keeper, display="<b>Alice</b>")
    alice.sign_in()
    Event.objects.create(
        ident=hash_of("x")[:32],
        person=alice.person,
        name="alice",
        time=timezone.now(),
        kind="refused",
        service="<i>ssh</i>",
        reason="<u>why</u>",
    )
    page = alice.get("/").content.decode()
    assert "&lt;b&gt;Alice" in page
    assert "<i>ssh" not in page
    assert "<u>why" not in page


def test_an_invitation_is_not_in_the_log_also_where_a_form_fails(
    keeper: Keeper, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser without cookies, and an error of ours: Django tells of both, with the address."""
    import logging.config

    from django.conf import settings

    person = Person.objects.create_user("carol")
    secret = people.invite("root", person)
    logging.config.dictConfig(settings.LOGGING)
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    assert strict.post(f"/invitation/{secret}/", secure=True).status_code == 403

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(people, "invited", broken)
    assert strict.get(f"/invitation/{secret}/", secure=True).status_code == 500
    strict.get("/nothing%0Apam-totp: forged", secure=True, HTTP_HOST="evil\nforged")
    said = capfd.readouterr().err
    assert "Forbidden" in said
    assert "RuntimeError" in said
    assert secret not in said
    assert not [line for line in said.splitlines() if line.startswith(("forged", "pam-totp: forged"))]
