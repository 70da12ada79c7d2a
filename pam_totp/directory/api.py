"""The HTTP API for hosts; docs/directory-api.yaml describes it. A host sees what is its own, and 404 for the rest."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone as clock

from pam_totp.directory import audit, config, hosts, http, people
from pam_totp.directory.differences import MANIFEST, OBJECTS
from pam_totp.directory.http import Refused, View
from pam_totp.directory.keeper import client, keys
from pam_totp.directory.models import Authenticator, Claim, Event, Host, Person, Published, RecoveryCodes, State, ident
from pam_totp.directory.publish import CHANGES
from pam_totp.directory.throttle import Throttle
from pam_totp.errors import KeeperError
from pam_totp.factors import otp

MOST_EVENTS = 500
# A claim is for about now: nobody uses up codes of next week.
CLAIM_STEPS = 40
KINDS = ("login", "refused", "locked", "unlocked", *CHANGES)
# What a host is told of when it was not taken.
ENROLMENTS = ("enrolled", "uploaded")
_PATH = re.compile(r"/tree/([0-9a-f]{32})/(manifest|objects/[0-9a-f]{64})")
# Of one host, which may have a thousand records to fetch at first.
_hosts = Throttle(6000, 60.0)
# A host that is not its owner's any more must not fill the disk. What is beyond that is in the host's own log.
MOST_LOGINS = 50_000
_told = Throttle(MOST_LOGINS, 86_400.0)
_said = Throttle(1, 86_400.0)


def _of_host(view: View) -> View:
    """Have the host that asks, by its bearer token."""

    @wraps(view)
    def asked(request: HttpRequest, **parts: str) -> HttpResponse:
        address = http.address(request)
        host = hosts.with_bearer(http.bearer(request))
        if host is None:
            gone = Refused(401, "the token is not valid: the host has left or was revoked", "join again")
            raise http.stranger(address, gone)
        if wait := _hosts.count(host.ident):
            raise Refused(429, "too many requests", "wait", wait)
        hosts.seen.note(host.pk, address)
        return view(request, host, **parts)

    return asked


# Joining


@http.answering("GET")
def authority(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """The directory's own CA; a join token pins it."""
    try:
        with open(settings.CONFIG.authority, "rb") as file:
            return HttpResponse(file.read(), content_type="application/x-pem-file")
    except (OSError, ValueError):
        raise Refused(404, "this directory has no CA of its own", "trust those of the system") from None


@http.answering("POST")
def join(request: HttpRequest) -> HttpResponse:
    """A host joins with a token."""
    address = http.address(request)
    fields = http.fields(request)
    secret, name = http.text(fields, "token", 128), http.text(fields, "name", hosts.LONGEST_NAME)
    if not hosts.NAME.fullmatch(name):
        raise Refused(400, "name must be a host name")
    try:
        key = base64.b64decode(http.text(fields, "key", 64), validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Refused(400, "key must be 32 bytes in base64")
    try:
        host = hosts.join(secret, name, key, http.digits(fields, "bearer", 64), address)
    except KeeperError as error:
        if error.reason != "join-token":
            raise
        message, _, advice = str(error).partition(": ")
        raise http.stranger(address, Refused(403, message, advice)) from None
    identity = keys.load_identity(config.IDENTITY)
    return JsonResponse(
        {
            "host": host.ident,
            "directory": identity.directory,
            "epoch": State.objects.get().epoch,
            "box": client.text(identity.box),
            "tree": settings.CONFIG.tree or f"{settings.CONFIG.url}/tree",
        }
    )


@http.answering("POST")
@_of_host
def leave(request: HttpRequest, host: Host) -> HttpResponse:  # noqa: ARG001  # Django calls it so
    """A host leaves, and gets nothing any more."""
    hosts.revoke(f"host {host.name}", host)
    return JsonResponse({})


# The tree


@http.answering("GET", "HEAD")
@_of_host
def manifest(request: HttpRequest, host: Host, ident: str) -> HttpResponse:
    """A host's own manifest."""
    return _file(request, host, ident, MANIFEST)


@http.answering("GET", "HEAD")
@_of_host
def published(request: HttpRequest, host: Host, ident: str, name: str) -> HttpResponse:
    """One of a host's own objects."""
    return _file(request, host, ident, f"{OBJECTS}/{name}")


def _file(request: HttpRequest, host: Host, ident: str, name: str) -> HttpResponse:
    found = None if ident != host.ident else _read(host.ident, name, request.headers.get("If-None-Match", ""))
    if found is None:
        raise Refused(404, "there is no such file", "it may come in a moment")
    return HttpResponse(found.content, status=found.status, headers=dict(found.headers))


@dataclass(frozen=True)
class File:
    """An answer with a file of the tree, or, 304, that it is unchanged."""

    status: int
    headers: tuple[tuple[str, str], ...]
    content: bytes


def _read(ident: str, name: str, etag: str) -> File | None:
    """A file of a host's folder, which may be the one that the host has by now; None where there is none."""
    headers = [("Cache-Control", "no-store")]
    try:
        with open(os.path.join(config.TREE, ident, name), "rb") as file:
            if name == MANIFEST:
                now = _etag(os.fstat(file.fileno()))
                headers.append(("ETag", now))
                if etag == now:
                    return File(304, tuple(headers), b"")
            content = file.read()
    except FileNotFoundError:
        return None
    headers += [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(content)))]
    return File(200, tuple(headers), content)


def _etag(about: os.stat_result) -> str:
    """What names the content of a manifest: a file is replaced, never changed."""
    return f'"{about.st_ino:x}-{about.st_mtime_ns:x}-{about.st_size:x}"'


def unchanged(path: str, token: str, etag: str) -> File | None:
    """The answer that a manifest is unchanged, as most are, where that takes no database; None: ask ``file``."""
    asked = _PATH.fullmatch(path)
    host = None if asked is None or asked[2] != MANIFEST else hosts.bearers.known(token)
    if asked is None or host is None or host[1] != asked[1] or not hosts.seen.lately(host[0]):
        return None
    try:
        now = _etag(os.stat(os.path.join(config.TREE, host[1], MANIFEST)))
    except OSError:
        return None
    if etag != now or _hosts.count(host[1]):
        return None
    return File(304, (("Cache-Control", "no-store"), ("ETag", now)), b"")


def file(path: str, token: str, etag: str, address: str) -> File | None:
    """What GET of this path answers a host with this token; None where that is no file, but a refusal."""
    asked = _PATH.fullmatch(path)
    if asked is None:
        return None
    host = hosts.bearers.find(token)
    if host is None or host[1] != asked[1] or _hosts.count(host[1]):
        return None
    hosts.seen.note(host[0], address)
    return _read(host[1], asked[2], etag)


# Claims


@http.answering("POST")
@_of_host
def claim(request: HttpRequest, host: Host) -> HttpResponse:
    """Use a code up in the whole fleet: the first one to ask has it."""
    fields = http.fields(request)
    if "recovery" in fields:
        login = http.digits(fields, "login", 32) if "login" in fields else ident()
        done = _claim_recovery(host, http.text(fields, "name", 256), http.digits(fields, "recovery", 32), login)
        return JsonResponse({"claimed": done})
    claimed = _claim_code(host.pk, fields)
    if claimed is None:
        raise Refused(404, "there is no such authenticator")
    return JsonResponse({"claimed": claimed})


def _claim_code(host: int, fields: dict[str, Any]) -> bool | None:
    """Whether the host, by its primary key, has the code; None where it was not given the authenticator."""
    login = http.digits(fields, "login", 32) if "login" in fields else ident()
    authenticator, step = http.digits(fields, "authenticator", 32), http.number(fields, "step")
    if abs(step - otp.step_at(clock.now().timestamp())) > CLAIM_STEPS:
        raise Refused(400, "this step is not of now", "look at the clocks")
    # What the host was not given, it has nothing to say about; nor has one that was revoked just now.
    if people.claim(authenticator, step, host, login, given=True):
        return True
    given = Published.objects.filter(person__authenticators__ident=authenticator, host=host, host__revoked=None)
    return False if given.exists() else None


def claimant(token: str) -> int | None:
    """The host with this token, by its primary key; None where it is refused. A claim sees who was revoked since."""
    host = hosts.bearers.find(token)
    return None if host is None or _hosts.count(host[1]) else host[0]


def claimed(content: bytes, host: int) -> bool | None:
    """What a claim of a code with this body answers a host, by its primary key; None where that is a refusal.

    Raises Refused or ValueError for what is not such a claim.
    """
    found = json.loads(content)
    return None if "recovery" in found else _claim_code(host, found)


@transaction.atomic
def _claim_recovery(host: Host, name: str, digest: str, login: str) -> bool:
    codes = RecoveryCodes.objects.select_for_update().filter(person__name=name, person__published__host=host).first()
    if codes is None:
        raise Refused(404, "there are no such recovery codes")
    stands = people.spent_recovery(name, digest)
    if digest not in codes.hashes:
        # Void, or spent: perhaps by this very login. Of what there is not nothing is kept: a host could fill the disk.
        return Claim.objects.filter(authenticator=stands, step=0, host=host, login=login).exists()
    if not people.claim(stands, 0, host.pk, login):
        return False
    codes.hashes = [each for each in codes.hashes if each != digest]
    codes.save(update_fields=["hashes"])
    audit.note(f"host {host.name}", "recovery-code-spent", name, left=len(codes.hashes))
    return True


@http.answering("POST")
@_of_host
def line(request: HttpRequest, host: Host) -> HttpResponse:
    """A host hands over the next number of its line, and hears whether it is the only one that does."""
    fields = http.fields(request)
    before, latest = http.digits(fields, "before", 32), http.digits(fields, "latest", 32)
    if latest in (before, "0" * 32):
        raise Refused(400, "latest must be a new number")
    return JsonResponse({"alone": hosts.go_on(host, before, latest, http.address(request))})


# Events


@http.answering("POST")
@_of_host
def events(request: HttpRequest, host: Host) -> HttpResponse:
    """What happened on a host. Each event is taken once, however often it is sent; why one changed nothing is told."""
    found = http.fields(request).get("events")
    if not isinstance(found, list) or len(found) > MOST_EVENTS:
        raise Refused(400, f"events must be a list of at most {MOST_EVENTS}")
    taken, refused = [], {}
    for each in found:
        if not isinstance(each, dict):
            raise Refused(400, "each event must be an object of JSON")
        identifier = http.digits(each, "id", 32)
        with transaction.atomic():
            # Of this host: another one that knows, or guesses, an id must not have the event be passed over.
            known = Event.objects.filter(ident=identifier, host=host).first() or _take(host, identifier, each)
        taken.append(identifier)
        if known.kind in ENROLMENTS and known.reason:
            refused[identifier] = known.reason
    return JsonResponse({"taken": taken, "refused": refused})


def _take(host: Host, identifier: str, fields: dict[str, Any]) -> Event:
    kind, name = http.text(fields, "kind", 16), http.text(fields, "name", 256)
    if kind not in KINDS:
        raise Refused(400, f"kind must be one of {', '.join(KINDS)}")
    authenticator = http.digits(fields, "authenticator", 32) if fields.get("authenticator") else ""
    now = clock.now()
    # A clock that is wrong must not put an event where nobody looks.
    try:
        time = min(datetime.fromtimestamp(http.number(fields, "time"), UTC), now + timedelta(minutes=5))
    except (ValueError, OverflowError):
        raise Refused(400, "time must be a time in seconds") from None
    person = Person.objects.filter(name=name, published__host=host).first()
    event = Event(
        ident=identifier,
        host=host,
        person=person,
        name=name,
        time=time,
        kind=kind,
        service=http.text(fields, "service", 64, ""),
        reason=http.text(fields, "reason", 64, ""),
        authenticator=authenticator,
    )
    if person is None and kind in ENROLMENTS:
        event.reason = "unknown-person"
    changed = False
    if person is not None and kind in CHANGES:
        refused = _apply(host, person, kind, authenticator, fields)
        event.reason, changed = refused or event.reason, not refused
    if not changed and _told.count(host.ident):
        # It is taken, so that what matters is heard after it, and not kept.
        if not _said.count(host.ident):
            print(f"host {host.name} tells of more than {MOST_LOGINS} logins a day: they are not kept", flush=True)
        return event
    event.save(force_insert=True)
    return event


def _apply(host: Host, person: Person, kind: str, authenticator: str, fields: dict[str, Any]) -> str:
    """Have the directory know what the person has done on the host; returns why not, or nothing."""
    actor = f"host {host.name}"
    if kind == "recovery-spent" and fields.get("recovery"):
        digest = http.digits(fields, "recovery", 32)
        _claim_recovery(host, person.name, digest, ident())
    elif kind == "removed":
        people.remove_one(actor, person, authenticator)
    elif kind == "enrolled":
        return _enrolled(actor, host, person, authenticator, fields)
    elif kind == "uploaded":
        return _uploaded(actor, host, person, authenticator, fields)
    return ""


def _uploaded(actor: str, host: Host, person: Person, authenticator: str, fields: dict[str, Any]) -> str:
    """Take an enrolment from before the host joined: the first ones of a person, and beside no others.

    For people with a role it takes an invitation, as in the portal.
    """
    person = Person.objects.select_for_update().get(pk=person.pk)
    if person.role != Person.Role.USER:
        return "has-a-role"
    own = Event.objects.filter(host=host, person=person, kind="uploaded", reason="").values("authenticator")
    if person.authenticators.filter(state=Authenticator.State.ACTIVE).exclude(ident__in=own).exists():
        return "enrolled-already"
    return _enrolled(actor, host, person, authenticator, fields)


def _enrolled(actor: str, host: Host, person: Person, authenticator: str, fields: dict[str, Any]) -> str:
    try:
        opened = client.ask("open_event", host=host.ident, person=person.pk, sealed=http.text(fields, "sealed", 8192))
    except KeeperError as error:
        if error.reason in ("keeper-silent", "too-many"):
            raise  # the host hands it up again later
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
    people.activate(actor, person, made)
    audit.note(actor, "enrolled", person.name, label=made.label)
    return ""
