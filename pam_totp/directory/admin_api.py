"""The HTTP API for administrators' programs; docs/directory-api.yaml describes it. Each token is for some scopes.

People with a role are changed with a scope for that alone: who resets an administrator and gets the invitation is one.
What the admin portal can do can be done here; that join tokens are root's to make holds here as there.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from pam_totp.directory import audit, config, figures, groups, hosts, http, letters, people, programs
from pam_totp.directory.http import Refused, View
from pam_totp.directory.models import (
    ApiToken,
    Group,
    Host,
    HostGroup,
    Invitation,
    JoinToken,
    Person,
    Policy,
    hash_of,
)
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 500
SEEN_EVERY = timedelta(minutes=1)
_DATES = ("exempt_until", "deadline")
_POLICY = ("mfa", "unenrolled", "enrolment_days", "max_offline", "break_glass", "claims")


class Actor(str):
    """Who does it, for the trail: the token's name; and the scopes of the token."""

    __slots__ = ("scopes",)
    scopes: frozenset[str]

    def __new__(cls, token: ApiToken) -> Self:
        """Of a token."""
        made = super().__new__(cls, f"api {token.name}"[:64])
        made.scopes = frozenset(token.scopes)
        return made


def _for(**scopes: str) -> Callable[[View], View]:
    """Take these methods, each with a token of its scope. What is changed is in one transaction."""

    def decorate(view: View) -> View:
        @http.answering(*scopes)
        @wraps(view)
        def asked(request: HttpRequest, **parts: str) -> HttpResponse:
            address = http.address(request)
            now = timezone.now()
            token = ApiToken.objects.filter(token_hash=hash_of(http.bearer(request))).first()
            if token is None or (token.expires is not None and token.expires <= now):
                bad = Refused(401, "the token is not valid", "ask for a new one: pam-totp-directory token api")
                raise http.stranger(address, bad)
            scope = scopes[str(request.method)]
            if scope not in token.scopes:
                raise Refused(403, f"the token has not the scope {scope}", "ask for one that has")
            if token.last_used is None or now - token.last_used > SEEN_EVERY:
                ApiToken.objects.filter(pk=token.pk).update(last_used=now)
            try:
                with transaction.atomic():
                    return view(request, Actor(token), **parts)
            except UsageError as error:
                message, _, advice = str(error).partition(": ")
                raise Refused(400, message, advice) from None

        asked.scopes = scopes  # type: ignore[attr-defined]  # for the tests, which try each
        return asked

    return decorate


# People


@_for(GET="read", POST="people")
def persons(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List people, in the order of their names, or add one."""
    if request.method == "POST":
        found = http.fields(request)
        _only(found, "name", "groups", *_WORDS, *_DATES)
        wanted = _names(found["groups"]) if "groups" in found else None
        person = people.add(actor, http.text(found, "name", 64), wanted, **_changes(found))
        return JsonResponse(_person(person), status=201)
    page = Person.objects.filter(name__gt=_asked(request, "after")).order_by("name")
    if group := _asked(request, "group"):
        page = page.filter(memberships__name=group)
    if state := _asked(request, "state"):
        if state not in Person.State.values:
            raise Refused(400, "there is no such state", f"there are {', '.join(Person.State.values)}")
        page = page.filter(pk__in=figures.people(state, timezone.now()).values("pk"))
    return JsonResponse(
        {"people": [_person(each) for each in page.prefetch_related("authenticators", "memberships")[:PAGE]]}
    )


@_for(GET="read", PATCH="people", DELETE="people")
def person(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """Show, change or remove a person."""
    if request.method == "GET":
        return JsonResponse(_person(_find(name)))
    found = _changed_by(actor, name)
    if request.method == "DELETE":
        people.delete(actor, found)
        return JsonResponse({})
    asked = http.fields(request)
    _only(asked, "name", "role", "active", "locked", "groups", "must_enroll", *_WORDS, *_DATES)
    if "groups" in asked:
        people.put_in(actor, found, _names(asked["groups"]))
    changed = _changes(asked)
    if "active" in asked:
        changed["is_active"] = _flag(asked, "active")
    if "name" in asked:
        changed["name"] = http.text(asked, "name", 64)
    if "role" in asked:
        changed["role"] = _role(actor, asked)
    if changed:
        people.set_fields(actor, found, **changed)
    if "locked" in asked:
        people.lock(actor, found, locked=_flag(asked, "locked"))
    return JsonResponse(_person(_find(found.name)))


@_for(POST="people")
def invite(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """A new one-time link for enrolling in the portal, or its way by mail."""
    found = http.fields(request)
    _only(found, "days", "mail")
    days = found.get("days", people.INVITATION_DAYS)
    if type(days) is not int or not 1 <= days <= 365:
        raise Refused(400, "days must be a number from 1 to 365")
    person = _changed_by(actor, name)
    if "mail" in found and _flag(found, "mail"):
        people.invite_by_mail(actor, person, days)
        return JsonResponse({"mail": person.email})
    return JsonResponse({"link": people.link(people.invite(actor, person, days), settings.CONFIG.url)})


@_for(POST="people")
def reset(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """Take out what a person is enrolled with: all of it, or the authenticators with a label."""
    found = http.fields(request)
    label = http.text(found, "label", people.LONGEST_LABEL) if "label" in found else None
    return JsonResponse({"removed": people.remove(actor, _changed_by(actor, name), label)})


@_for(GET="read")
def invitations(request: HttpRequest, actor: Actor) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """List invitations, used ones too, the oldest first; the links themselves are kept nowhere."""
    found = Invitation.objects.filter(pk__gt=_since(request)).select_related("person").order_by("pk")[:PAGE]
    return JsonResponse(
        {
            "invitations": [
                {
                    "id": each.pk,
                    "name": each.person.name,
                    "created": _shown(each.created),
                    "created_by": each.created_by,
                    "expires": _shown(each.expires),
                    "used": _shown(each.used),
                }
                for each in found
            ]
        }
    )


# Groups


@_for(GET="read", POST="groups")
def all_groups(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List groups of people, in the order of their names, or make one."""
    return _groups(request, actor, Group, "groups")


@_for(GET="read", PATCH="groups", DELETE="groups")
def group(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """Show, change or remove a group of people. Who is in it: the list of people tells."""
    found = Group.objects.filter(name=name).first()
    if found is None:
        raise Refused(404, "there is no such group")
    if request.method == "DELETE":
        groups.remove(actor, found)
        return JsonResponse({})
    if request.method == "PATCH":
        asked = http.fields(request)
        _only(asked, "name", "add", "remove")
        for word in ("add", "remove"):
            if word in asked:
                groups.members(actor, found, _names(asked[word], word), inside=word == "add")
        if "name" in asked:
            groups.rename(actor, found, http.text(asked, "name", 64))
    return JsonResponse(_group(found))


@_for(GET="read", POST="groups")
def all_host_groups(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List host groups, in the order of their names, or make one."""
    return _groups(request, actor, HostGroup, "host_groups")


@_for(GET="read", PATCH="groups", DELETE="groups")
def host_group(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:
    """Show, change or remove a host group, and which groups may use its hosts."""
    found = HostGroup.objects.filter(name=name).first()
    if found is None:
        raise Refused(404, "there is no such host group")
    if request.method == "DELETE":
        groups.remove(actor, found)
        return JsonResponse({})
    if request.method == "PATCH":
        asked = http.fields(request)
        _only(asked, "name", "groups")
        if "groups" in asked:
            groups.open_to(actor, found, _names(asked["groups"]))
        if "name" in asked:
            groups.rename(actor, found, http.text(asked, "name", 64))
    return JsonResponse(_group(found))


def _groups(request: HttpRequest, actor: Actor, kind: type[Group | HostGroup], word: str) -> HttpResponse:
    if request.method == "POST":
        found = http.fields(request)
        _only(found, "name")
        made = groups.add(actor, http.text(found, "name", 64), of_hosts=kind is HostGroup)
        return JsonResponse(_group(made), status=201)
    page = kind.objects.filter(name__gt=_asked(request, "after")).order_by("name")[:PAGE]
    return JsonResponse({word: [_group(each) for each in page]})


# Hosts and policy


@_for(GET="read")
def all_hosts(request: HttpRequest, actor: Actor) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """List hosts, in the order of their ids."""
    page = Host.objects.filter(ident__gt=_asked(request, "after")).select_related("group").order_by("ident")
    return JsonResponse({"hosts": [_host(each) for each in page[:PAGE]]})


@_for(GET="read", PATCH="hosts", DELETE="hosts")
def host(request: HttpRequest, actor: Actor, ident: str) -> HttpResponse:
    """Show a host, call it something else, put it into another host group; or take it off the list, if revoked."""
    found = Host.objects.filter(ident=ident).select_related("group").first()
    if found is None:
        raise Refused(404, "there is no such host")
    if request.method == "DELETE":
        hosts.forget(actor, found)
        return JsonResponse({})
    if request.method == "PATCH":
        asked = http.fields(request)
        _only(asked, "name", "group")
        if "name" in asked:
            hosts.rename(actor, found, http.text(asked, "name", hosts.LONGEST_NAME))
        if "group" in asked:
            hosts.move(actor, found, hosts.group_named(http.text(asked, "group", 64)))
    return JsonResponse(_host(found))


@_for(POST="hosts")
def revoke(request: HttpRequest, actor: Actor, ident: str) -> HttpResponse:
    """Publish nothing for a host any more; tells whose secrets it had, and has them enrol anew where that is asked."""
    asked = http.fields(request)
    _only(asked, "reset", "mail")
    reset, mail = ("reset" in asked and _flag(asked, "reset")), ("mail" in asked and _flag(asked, "mail"))
    if mail and not (reset and letters.enabled()):
        raise Refused(400, "mail goes with reset, and needs a mail server", "see [mail] in directory.toml")
    if reset and "people" not in actor.scopes:
        raise Refused(403, "the token has not the scope people", "ask for one that has")
    host = Host.objects.filter(ident=ident, revoked=None).first()
    if host is None:
        raise Refused(404, "there is no such host")
    concerned = hosts.revoke(actor, host)
    answer: dict[str, object] = {"people": [each.name for each in concerned]}
    if reset:
        # Who has a role is not changed here: the portal and the command do that.
        plain = [each for each in concerned if each.role == Person.Role.USER]
        answer["reset"] = [_anew(actor, each, mail=mail) for each in plain]
    return JsonResponse(answer)


def _anew(actor: str, person: Person, *, mail: bool) -> dict[str, str]:
    link = people.enrol_anew(actor, person, mail=mail)
    told = {"mail": person.email} if link is None else {"link": link}
    return {"name": person.name, **told}


@_for(GET="read", PATCH="policy")
def policy(request: HttpRequest, actor: Actor, group: str) -> HttpResponse:
    """Show or change what holds on the hosts of a host group."""
    found = Policy.objects.filter(host_group__name=group).first()
    if found is None:
        raise Refused(404, "there is no such host group")
    if request.method == "PATCH":
        asked = http.fields(request)
        _only(asked, *_POLICY)
        for name, value in asked.items():
            setattr(found, name, value)
        try:
            found.full_clean()
        except (ValidationError, TypeError, ValueError):
            raise Refused(400, "the policy cannot be so", "see its values in the description of this API") from None
        found.save()
        audit.note(actor, "policy-changed", group, **asked)
    return JsonResponse({name: getattr(found, name) for name in _POLICY})


# Tokens


@_for(GET="read", POST="tokens")
def tokens(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List programs with their scopes, or make a token for one: with no scope that this one has not."""
    if request.method == "POST":
        found = http.fields(request)
        _only(found, "name", "scopes", "days")
        scopes, days = _names(found.get("scopes"), "scopes"), found.get("days", 365)
        if not scopes or not set(config.SCOPES).issuperset(scopes):
            raise Refused(400, "scopes must be a list of scopes", f"there are {', '.join(config.SCOPES)}")
        if type(days) is not int or not 1 <= days <= 3650:
            raise Refused(400, "days must be a number from 1 to 3650")
        if beyond := set(scopes) - actor.scopes:
            raise Refused(403, f"the token has not the scopes {', '.join(sorted(beyond))}", "ask for one that has")
        name = http.text(found, "name", 64)
        return JsonResponse({"name": name, "token": programs.new_token(actor, name, scopes, days)}, status=201)
    page = ApiToken.objects.filter(name__gt=_asked(request, "after")).order_by("name")[:PAGE]
    return JsonResponse(
        {
            "tokens": [
                {
                    "name": each.name,
                    "scopes": each.scopes,
                    "created_by": each.created_by,
                    "expires": _shown(each.expires),
                    "last_used": _shown(each.last_used),
                }
                for each in page
            ]
        }
    )


@_for(DELETE="tokens")
def token(request: HttpRequest, actor: Actor, name: str) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """End a program's token."""
    if not ApiToken.objects.filter(name=name).exists():
        raise Refused(404, "there is no such program")
    programs.revoke_token(actor, name)
    return JsonResponse({})


@_for(GET="read")
def join_tokens(request: HttpRequest, actor: Actor) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """List join tokens, the oldest first. They are root's to make: whoever takes this process over adds no host."""
    found = JoinToken.objects.filter(pk__gt=_since(request)).select_related("group").order_by("pk")[:PAGE]
    return JsonResponse(
        {
            "join_tokens": [
                {
                    "id": each.pk,
                    "host": each.host_name,
                    "group": each.group.name,
                    "created_by": each.created_by,
                    "expires": _shown(each.expires),
                    "used": _shown(each.used),
                }
                for each in found
            ]
        }
    )


# What happened


@_for(GET="read")
def status(request: HttpRequest, actor: Actor) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """How the fleet stands, in figures."""
    return JsonResponse(figures.status())


@_for(GET="audit")
def trail(request: HttpRequest, actor: Actor) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """The audit trail, the oldest first, after an entry."""
    return JsonResponse({"entries": list(audit.exported(_since(request), PAGE))})


@_for(GET="audit")
def logins(request: HttpRequest, actor: Actor) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """What hosts have told, the oldest first, after an event."""
    return JsonResponse({"events": list(islice(figures.events(_since(request)), PAGE))})


# What is read and shown

_WORDS = ("email", "display")


def _find(name: str) -> Person:
    found = Person.objects.filter(name=name).first()
    if found is None:
        raise Refused(404, "there is no such person")
    return found


def _changed_by(actor: Actor, name: str) -> Person:
    """A person whom this program may change."""
    found = _find(name)
    if found.role != Person.Role.USER and "roles" not in actor.scopes:
        raise Refused(403, "a person with a role is changed with the scope roles", "ask for a token that has it")
    return found


def _role(actor: Actor, asked: dict[str, Any]) -> str:
    if "roles" not in actor.scopes:
        raise Refused(403, "the token has not the scope roles", "ask for one that has")
    return http.text(asked, "role", 16)


def _asked(request: HttpRequest, name: str) -> str:
    """What the address asks for."""
    return request.GET.get(name, "").replace("\0", "")


def _only(found: dict[str, Any], *names: str) -> None:
    for name in found:
        if name not in names:
            raise Refused(400, f"{name!r:.40} is not understood here", f"there are {', '.join(names)}")


def _names(value: object, what: str = "groups") -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.isprintable() for each in value):
        raise Refused(400, f"{what} must be a list of names")
    return value


def _flag(found: dict[str, Any], name: str) -> bool:
    if type(found[name]) is not bool:
        raise Refused(400, f"{name} must be true or false")
    return bool(found[name])


def _changes(found: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {name: http.text(found, name, 254) for name in _WORDS if name in found}
    if "must_enroll" in found:
        changed["must_enroll"] = _flag(found, "must_enroll")
    for name in _DATES:
        if name in found:
            changed[name] = None if found[name] is None else _time(found, name)
    return changed


def _time(found: dict[str, Any], name: str) -> datetime:
    try:
        time = parse_datetime(http.text(found, name, 40))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise Refused(400, f"{name} must be a time with its zone, as 2027-01-31T00:00:00Z, or null")
    return time


def _since(request: HttpRequest) -> int:
    text = request.GET.get("since", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise Refused(400, "since must be a number")
    return int(text)


def _shown(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _person(found: Person) -> dict[str, object]:
    return {
        "name": found.name,
        "display": found.display,
        "email": found.email,
        "role": found.role,
        "active": found.is_active,
        "source": found.source,
        "uid_number": found.uid_number,
        "state": found.state_at(timezone.now()).value,
        "locked": found.locked,
        "must_enroll": found.must_enroll,
        "exempt_until": _shown(found.exempt_until),
        "deadline": _shown(found.deadline),
        "groups": sorted(each.name for each in found.memberships.all()),
        "authenticators": [
            {"label": each.label, "state": each.state, "created": _shown(each.created)}
            for each in found.authenticators.all()
        ],
    }


def _group(found: Group | HostGroup) -> dict[str, object]:
    if isinstance(found, HostGroup):
        return {
            "name": found.name,
            "hosts": found.hosts.filter(revoked=None).count(),
            "groups": sorted(each.group.name for each in found.accesses.select_related("group")),
        }
    return {
        "name": found.name,
        "people": found.persons.count(),
        "host_groups": sorted(each.host_group.name for each in found.accesses.select_related("host_group")),
    }


def _host(found: Host) -> dict[str, object]:
    return {
        "host": found.ident,
        "name": found.name,
        "group": found.group.name,
        "joined": _shown(found.joined),
        "last_seen": _shown(found.last_seen),
        "revoked": _shown(found.revoked),
        "cloned": _shown(found.cloned),
        "pending": found.changes > found.done,
    }
