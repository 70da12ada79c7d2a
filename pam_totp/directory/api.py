"""The HTTP API for hosts; docs/directory-api.yaml describes it. A host sees what is its own, and 404 for the rest."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone as clock
from django.views.decorators.csrf import csrf_exempt

from pam_totp.directory import audit, config, hosts, people
from pam_totp.directory.keeper import client, keys
from pam_totp.directory.models import Authenticator, Event, Host, Person, RecoveryCodes, State, ident
from pam_totp.directory.publish import MANIFEST, OBJECTS
from pam_totp.directory.throttle import Throttle
from pam_totp.errors import KeeperError, PamTotpError
from pam_totp.factors import otp

MOST_EVENTS = 500
SEEN_EVERY = timedelta(minutes=1)
# A claim is for about now: nobody uses up codes of next week.
CLAIM_STEPS = 40
KINDS = ("login", "refused", "enrolled", "removed", "recovery-spent", "locked", "unlocked")
_HEX = re.compile(r"[0-9a-f]+")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# Of one address that has shown no valid token; and of one host, which may have a thousand records to fetch at first.
_strangers = Throttle(60, 60.0)
_hosts = Throttle(6000, 60.0)

View = Callable[..., HttpResponse]


class Refused(Exception):  # noqa: N818  # it is an answer
    """An answer other than 200: the status, what is wrong, and what to do next."""

    def __init__(self, status: int, error: str, advice: str = "", wait: int = 0) -> None:
        super().__init__(error)
        self.status, self.error, self.advice, self.wait = status, error, advice, wait


def _answering(*methods: str) -> Callable[[View], View]:
    """Take these methods, and turn what goes wrong into JSON."""

    def decorate(view: View) -> View:
        @csrf_exempt  # there is no cookie here that somebody else's page could send along
        @transaction.non_atomic_requests
        @wraps(view)
        def answering(request: HttpRequest, **parts: str) -> HttpResponse:
            try:
                if request.method not in methods:
                    raise Refused(405, f"only {' and '.join(methods)} here")
                return view(request, **parts)
            except Refused as refused:
                fields = {"error": refused.error, **({"next": refused.advice} if refused.advice else {})}
                response = JsonResponse(fields, status=refused.status)
                if refused.wait:
                    response["Retry-After"] = str(refused.wait)
                return response
            except RequestDataTooBig:
                return JsonResponse({"error": "the request is too long"}, status=413)
            except PamTotpError as error:
                # What it is stands in the log of this machine; a host asks again later.
                print(f"{request.path}: {error}", flush=True)
                return JsonResponse({"error": "the directory cannot answer now", "next": "ask again later"}, status=503)

        return answering

    return decorate


def _of_host(view: View) -> View:
    """Have the host that asks, by its bearer token."""

    @wraps(view)
    def asked(request: HttpRequest, **parts: str) -> HttpResponse:
        address = _address(request)
        if wait := _strangers.wait(address):
            raise Refused(429, "too many requests without a valid token", "wait", wait)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        host = hosts.with_bearer(token.strip()) if scheme.lower() == "bearer" else None
        if host is None:
            _strangers.count(address)
            raise Refused(401, "the token is not valid: the host has left or was revoked", "join again")
        if wait := _hosts.count(host.ident):
            raise Refused(429, "too many requests", "wait", wait)
        now = clock.now()
        if host.last_seen is None or now - host.last_seen > SEEN_EVERY:
            Host.objects.filter(pk=host.pk).update(last_seen=now, address=address)
        return view(request, host, **parts)

    return asked


def _address(request: HttpRequest) -> str:
    """Where a request comes from. An IPv4 address is one, also on a socket for both kinds."""
    try:
        found = ipaddress.ip_address(request.META.get("REMOTE_ADDR") or "127.0.0.1")
    except ValueError:
        return "127.0.0.1"
    mapped = found.ipv4_mapped if found.version == 6 else None
    return str(mapped or found)


def _fields(request: HttpRequest) -> dict[str, Any]:
    try:
        found = json.loads(request.body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body must be JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body must be an object of JSON")
    return found


def _hex(fields: dict[str, Any], name: str, digits: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) != digits or not _HEX.fullmatch(value):
        raise Refused(400, f"{name} must be {digits} hexadecimal digits")
    return value


def _text(fields: dict[str, Any], name: str, most: int, default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise Refused(400, f"{name} must be text of at most {most} characters")
    return value


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise Refused(400, f"{name} must be a number")
    return value


# Joining


@_answering("GET")
def authority(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """The directory's own CA; a join token pins it."""
    try:
        with open(settings.CONFIG.authority, "rb") as file:
            return HttpResponse(file.read(), content_type="application/x-pem-file")
    except (OSError, ValueError):
        raise Refused(404, "this directory has no CA of its own", "trust those of the system") from None


@_answering("POST")
def join(request: HttpRequest) -> HttpResponse:
    """A host joins with a token."""
    address = _address(request)
    if wait := _strangers.wait(address):
        raise Refused(429, "too many requests without a valid token", "wait", wait)
    fields = _fields(request)
    secret, name = _text(fields, "token", 128), _text(fields, "name", hosts.LONGEST_NAME)
    if not _NAME.fullmatch(name):
        raise Refused(400, "name must be a host name")
    try:
        key = base64.b64decode(_text(fields, "key", 64), validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Refused(400, "key must be 32 bytes in base64")
    try:
        joined = hosts.join(secret, name, key, address)
    except KeeperError as error:
        if error.reason != "join-token":
            raise
        _strangers.count(address)
        message, _, advice = str(error).partition(": ")
        raise Refused(403, message, advice) from None
    identity = keys.load_identity(config.IDENTITY)
    return JsonResponse(
        {
            "host": joined.host.ident,
            "token": joined.token,
            "directory": identity.directory,
            "epoch": State.objects.get().epoch,
            "box": client.text(identity.box),
            "tree": f"{settings.CONFIG.url}/tree",
        }
    )


@_answering("POST")
@_of_host
def leave(request: HttpRequest, host: Host) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """A host leaves, and gets nothing any more."""
    hosts.revoke(f"host {host.name}", host)
    return JsonResponse({})


# The tree


@_answering("GET", "HEAD")
@_of_host
def manifest(request: HttpRequest, host: Host, ident: str) -> HttpResponse:
    """A host's own manifest."""
    return _file(request, host, ident, MANIFEST)


@_answering("GET", "HEAD")
@_of_host
def published(request: HttpRequest, host: Host, ident: str, name: str) -> HttpResponse:
    """One of a host's own objects."""
    return _file(request, host, ident, OBJECTS, name)


def _file(request: HttpRequest, host: Host, ident: str, *parts: str) -> HttpResponse:
    if ident != host.ident:
        raise Refused(404, "there is no such file")
    try:
        with open(os.path.join(config.TREE, host.ident, *parts), "rb") as file:
            about = os.fstat(file.fileno())
            # A file is replaced, never changed.
            etag = f'"{about.st_ino:x}-{about.st_mtime_ns:x}-{about.st_size:x}"'
            if request.headers.get("If-None-Match") == etag:
                response = HttpResponse(status=304)
            else:
                response = HttpResponse(file.read(), content_type="application/octet-stream")
    except FileNotFoundError:
        raise Refused(404, "there is no such file", "it may come in a moment") from None
    if parts[0] == MANIFEST:
        response["ETag"] = etag
    response["Cache-Control"] = "no-store"
    return response


# Claims


@_answering("POST")
@_of_host
def claim(request: HttpRequest, host: Host) -> HttpResponse:
    """Use a code up in the whole fleet: the first one to ask has it."""
    fields = _fields(request)
    login = _hex(fields, "login", 32) if "login" in fields else ident()
    if "recovery" in fields:
        done = _claim_recovery(host, _text(fields, "name", 256), _hex(fields, "recovery", 32), login)
        return JsonResponse({"claimed": done})
    authenticator, step = _hex(fields, "authenticator", 32), _number(fields, "step")
    if abs(step - otp.step_at(clock.now().timestamp())) > CLAIM_STEPS:
        raise Refused(400, "this step is not of now", "look at the clocks")
    # What the host was not given, it has nothing to say about.
    if not Authenticator.objects.filter(ident=authenticator, person__published__host=host).exists():
        raise Refused(404, "there is no such authenticator")
    return JsonResponse({"claimed": people.claim(authenticator, step, host, login)})


@transaction.atomic
def _claim_recovery(host: Host, name: str, digest: str, login: str) -> bool:
    codes = RecoveryCodes.objects.select_for_update().filter(person__name=name, person__published__host=host).first()
    if codes is None:
        raise Refused(404, "there are no such recovery codes")
    known = digest in codes.hashes
    stands = people.spent_recovery(name, digest)
    if not people.claim(stands, 0, host, login):
        return False
    if known:
        codes.hashes = [each for each in codes.hashes if each != digest]
        codes.save(update_fields=["hashes"])
        audit.note(f"host {host.name}", "recovery-code-spent", name, left=len(codes.hashes))
    return True


# Events


@_answering("POST")
@_of_host
def events(request: HttpRequest, host: Host) -> HttpResponse:
    """What happened on a host. Each event is taken once, however often it is sent."""
    found = _fields(request).get("events")
    if not isinstance(found, list) or len(found) > MOST_EVENTS:
        raise Refused(400, f"events must be a list of at most {MOST_EVENTS}")
    taken = []
    for each in found:
        if not isinstance(each, dict):
            raise Refused(400, "each event must be an object of JSON")
        identifier = _hex(each, "id", 32)
        with transaction.atomic():
            if not Event.objects.filter(ident=identifier).exists():
                _take(host, identifier, each)
        taken.append(identifier)
    return JsonResponse({"taken": taken})


def _take(host: Host, identifier: str, fields: dict[str, Any]) -> None:
    kind, name = _text(fields, "kind", 16), _text(fields, "name", 256)
    if kind not in KINDS:
        raise Refused(400, f"kind must be one of {', '.join(KINDS)}")
    authenticator = _hex(fields, "authenticator", 32) if fields.get("authenticator") else ""
    now = clock.now()
    # A clock that is wrong must not put an event where nobody looks.
    time = min(datetime.fromtimestamp(_number(fields, "time"), UTC), now + timedelta(minutes=5))
    person = Person.objects.filter(name=name, published__host=host).first()
    event = Event(
        ident=identifier,
        host=host,
        person=person,
        name=name,
        time=time,
        kind=kind,
        service=_text(fields, "service", 64, ""),
        reason=_text(fields, "reason", 64, ""),
        authenticator=authenticator,
    )
    if person is not None and kind in ("enrolled", "removed", "recovery-spent"):
        event.reason = _apply(host, person, kind, authenticator, fields) or event.reason
    event.save(force_insert=True)


def _apply(host: Host, person: Person, kind: str, authenticator: str, fields: dict[str, Any]) -> str:
    """Have the directory know what the person has done on the host; returns why not, or nothing."""
    actor = f"host {host.name}"
    if kind == "recovery-spent" and fields.get("recovery"):
        digest = _hex(fields, "recovery", 32)
        _claim_recovery(host, person.name, digest, ident())
    elif kind == "removed":
        for each in person.authenticators.filter(ident=authenticator):
            each.delete()
            audit.note(actor, "authenticators-removed", person.name, labels=[each.label])
    elif kind == "enrolled":
        return _enrolled(actor, host, person, authenticator, fields)
    return ""


def _enrolled(actor: str, host: Host, person: Person, authenticator: str, fields: dict[str, Any]) -> str:
    try:
        opened = client.ask("open_event", host=host.ident, person=person.pk, sealed=_text(fields, "sealed", 8192))
    except KeeperError as error:
        if error.reason == "keeper-silent":
            raise
        return "not-opened"
    if opened["name"] != person.name or opened["id"] != authenticator:
        return "not-of-this-person"
    if Authenticator.objects.filter(ident=authenticator).exists():
        return "known-already"
    others = person.authenticators.filter(state=Authenticator.State.ACTIVE).exclude(label=opened["label"])
    if others.count() >= people.MOST_AUTHENTICATORS:
        return "too-many"
    made = Authenticator.objects.create(
        ident=authenticator, person=person, label=opened["label"], secret=client.content(opened["sealed"])
    )
    people.activate(person, made)
    audit.note(actor, "enrolled", person.name, label=made.label)
    return ""
