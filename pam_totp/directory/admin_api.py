"""The HTTP API for administrators' programs; docs/directory-api.yaml describes it. Each token is for some scopes.

People with a role are shown and not changed here: who resets an administrator and gets the invitation is one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from pam_totp.directory import audit, hosts, http, letters, people
from pam_totp.directory.http import Refused, View
from pam_totp.directory.models import ApiToken, Event, Group, Host, Person, Policy, hash_of
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 500
SEEN_EVERY = timedelta(minutes=1)
_DATES = ("exempt_until", "deadline")
_POLICY = ("mfa", "unenrolled", "enrolment_days", "max_offline", "break_glass", "claims")


def _for(**scopes: str) -> Callable[[View], View]:
    """Take these methods, each with a token of its scope. What is changed is in one transaction."""

    def decorate(view: View) -> View:
        @http.answering(*scopes)
        @wraps(view)
        def asked(request: HttpRequest, **parts: str) -> HttpResponse:
            address = http.address(request)
            http.known(address)
            now = timezone.now()
            token = ApiToken.objects.filter(token_hash=hash_of(http.bearer(request))).first()
            if token is None or (token.expires is not None and token.expires <= now):
                http.strangers.count(address)
                raise Refused(401, "the token is not valid", "ask for a new one: pam-totp-directory token api")
            scope = scopes[str(request.method)]
            if scope not in token.scopes:
                raise Refused(403, f"the token has not the scope {scope}", "ask for one that has")
            if token.last_used is None or now - token.last_used > SEEN_EVERY:
                ApiToken.objects.filter(pk=token.pk).update(last_used=now)
            try:
                with transaction.atomic():
                    return view(request, f"api {token.name}"[:64], **parts)
            except UsageError as error:
                message, _, advice = str(error).partition(": ")
                raise Refused(400, message, advice) from None

        return asked

    return decorate


# People


@_for(GET="read", POST="people")
def persons(request: HttpRequest, actor: str) -> HttpResponse:
    """List people, in the order of their names, or add one."""
    if request.method == "POST":
        found = http.fields(request)
        _only(found, "name", "groups", *_WORDS, *_DATES)
        groups = _names(found["groups"]) if "groups" in found else None
        person = people.add(actor, http.text(found, "name", 64), groups, **_changes(found))
        return JsonResponse(_person(person), status=201)
    page = Person.objects.filter(name__gt=request.GET.get("after", "")).order_by("name")
    return JsonResponse(
        {"people": [_person(each) for each in page.prefetch_related("authenticators", "memberships")[:PAGE]]}
    )


@_for(GET="read", PATCH="people", DELETE="people")
def person(request: HttpRequest, actor: str, name: str) -> HttpResponse:
    """Show, change or remove a person."""
    if request.method == "GET":
        return JsonResponse(_person(_find(name)))
    found = _plain(name)
    if request.method == "DELETE":
        people.delete(actor, found)
        return JsonResponse({})
    asked = http.fields(request)
    _only(asked, "locked", "groups", "must_enroll", *_WORDS, *_DATES)
    if "groups" in asked:
        wanted = _names(asked["groups"])
        groups = list(Group.objects.filter(name__in=wanted))
        if len(groups) != len(set(wanted)):
            raise Refused(400, "there is no such group")
        found.memberships.set(groups)
        audit.note(actor, "person-changed", found.name, groups=wanted)
    if changed := _changes(asked):
        people.set_fields(actor, found, **changed)
    if "locked" in asked:
        people.lock(actor, found, locked=_flag(asked, "locked"))
    return JsonResponse(_person(_find(name)))


@_for(POST="people")
def invite(request: HttpRequest, actor: str, name: str) -> HttpResponse:
    """A new one-time link for enrolling in the portal, or its way by mail."""
    found = http.fields(request)
    _only(found, "days", "mail")
    days = found.get("days", people.INVITATION_DAYS)
    if type(days) is not int or not 1 <= days <= 365:
        raise Refused(400, "days must be a number from 1 to 365")
    person = _plain(name)
    if "mail" in found and _flag(found, "mail"):
        people.invite_by_mail(actor, person, days)
        return JsonResponse({"mail": person.email})
    return JsonResponse({"link": people.link(people.invite(actor, person, days), settings.CONFIG.url)})


@_for(POST="people")
def reset(request: HttpRequest, actor: str, name: str) -> HttpResponse:
    """Take out what a person is enrolled with: all of it, or the authenticators with a label."""
    found = http.fields(request)
    label = http.text(found, "label", people.LONGEST_LABEL) if "label" in found else None
    return JsonResponse({"removed": people.remove(actor, _plain(name), label)})


# Hosts and policy


@_for(GET="read")
def all_hosts(request: HttpRequest, actor: str) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """List hosts, in the order of their ids."""
    page = Host.objects.filter(ident__gt=request.GET.get("after", "")).select_related("group").order_by("ident")
    return JsonResponse({"hosts": [_host(each) for each in page[:PAGE]]})


@_for(POST="hosts")
def revoke(request: HttpRequest, actor: str, ident: str) -> HttpResponse:
    """Publish nothing for a host any more; tells whose secrets it had, and has them enrol anew where that is asked."""
    asked = http.fields(request)
    _only(asked, "reset", "mail")
    reset, mail = ("reset" in asked and _flag(asked, "reset")), ("mail" in asked and _flag(asked, "mail"))
    if mail and not (reset and letters.enabled()):
        raise Refused(400, "mail goes with reset, and needs a mail server", "see [mail] in directory.toml")
    if reset and "people" not in ApiToken.objects.get(token_hash=hash_of(http.bearer(request))).scopes:
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
    secret = people.enrol_anew(actor, person, mail=mail)
    told = {"mail": person.email} if secret is None else {"link": people.link(secret, settings.CONFIG.url)}
    return {"name": person.name, **told}


@_for(GET="read", PATCH="policy")
def policy(request: HttpRequest, actor: str, group: str) -> HttpResponse:
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
            if not isinstance(found.break_glass, list) or not all(isinstance(each, str) for each in found.break_glass):
                raise ValidationError("break_glass must be a list of names")
            found.full_clean()
        except (ValidationError, TypeError, ValueError):
            raise Refused(400, "the policy cannot be so", "see its values in the description of this API") from None
        found.save()
        audit.note(actor, "policy-changed", group, **asked)
    return JsonResponse({name: getattr(found, name) for name in _POLICY})


# What happened


@_for(GET="audit")
def trail(request: HttpRequest, actor: str) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """The audit trail, the oldest first, after an entry."""
    found = []
    for entry in audit.exported(_since(request)):
        found.append(entry)
        if len(found) == PAGE:
            break
    return JsonResponse({"entries": found})


@_for(GET="audit")
def logins(request: HttpRequest, actor: str) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """What hosts have told, the oldest first, after an event."""
    found = Event.objects.filter(pk__gt=_since(request)).select_related("host").order_by("pk")[:PAGE]
    return JsonResponse({"events": [_event(each) for each in found]})


# What is read and shown

_WORDS = ("email", "display")


def _find(name: str) -> Person:
    found = Person.objects.filter(name=name).first()
    if found is None:
        raise Refused(404, "there is no such person")
    return found


def _plain(name: str) -> Person:
    """A person without a role."""
    found = _find(name)
    if found.role != Person.Role.USER:
        raise Refused(403, "a person with a role is not changed here", "use the portal or pam-totp-directory user")
    return found


def _only(found: dict[str, Any], *names: str) -> None:
    for name in found:
        if name not in names:
            raise Refused(400, f"{name!r:.40} is not understood here", f"there are {', '.join(names)}")


def _names(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Refused(400, "groups must be a list of names")
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


def _event(found: Event) -> dict[str, object]:
    return {
        "id": found.pk,
        "time": _shown(found.time),
        "host": None if found.host is None else found.host.name,
        "kind": found.kind,
        "name": found.name,
        "service": found.service,
        "reason": found.reason,
    }
