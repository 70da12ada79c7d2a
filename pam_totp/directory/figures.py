"""How the fleet stands, in figures: in front of the admin portal, by the command and in the API."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from pam_totp.directory import hosts
from pam_totp.directory.models import Authenticator, Event, Host, Person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.db.models import QuerySet

DAYS = 7
# A host looks for changes every 15 s, and every 5 minutes where that fails.
AGES = (
    ("within 5 minutes", timedelta(minutes=5)),
    ("within an hour", timedelta(hours=1)),
    ("within a day", timedelta(1)),
)
_MOST_REASONS = 10


def people(state: str, now: datetime) -> QuerySet[Person]:
    """The people who are in a state of enrolment (Person.State), as Person.state_at has it."""
    state_of = Person.State
    active = Authenticator.objects.filter(person=OuterRef("pk"), state=Authenticator.State.ACTIVE)
    found = Person.objects.filter(is_active=True)
    exempt = Q(exempt_until__gt=now)
    if state == state_of.EXEMPT:
        return found.filter(exempt)
    found = found.exclude(exempt).filter(Exists(active) if state == state_of.ENROLLED else ~Exists(active))
    if state == state_of.NOT_ENROLLED:
        return found.filter(deadline=None)
    if state == state_of.IN_ENROLLMENT:
        return found.filter(deadline__gt=now)
    return found.filter(deadline__lte=now) if state == state_of.ENROLLMENT_EXPIRED else found


def figures() -> dict[str, Any]:
    """How many people are how far, how old the hosts' latest word is, and why logins were refused."""
    now = timezone.now()
    refused = Event.objects.filter(kind="refused", time__gte=now - timedelta(days=DAYS))
    reasons = refused.values("reason").annotate(count=Count("id")).order_by("-count", "reason")
    return {
        "people_by_state": [(state.label, state.value, people(state, now).count()) for state in Person.State],
        "locked": Person.objects.filter(locked=True, is_active=True).count(),
        "hosts_by_age": _hosts(now),
        "clones": hosts.clones().count(),
        "refused_by_reason": [(each["reason"] or "not said", each["count"]) for each in reasons[:_MOST_REASONS]],
        "days": DAYS,
    }


def status() -> dict[str, object]:
    """The same by names."""
    found = figures()
    return {
        "people": {value: count for _, value, count in found["people_by_state"]},
        "locked": found["locked"],
        "hosts": dict(found["hosts_by_age"]),
        "refused": dict(found["refused_by_reason"]),
        "days": found["days"],
    }


def events(since: int = 0, name: str | None = None) -> Iterator[dict[str, object]]:
    """What hosts and the portal have told, the oldest first, after an event; of one login name, or of all."""
    found = Event.objects.filter(pk__gt=since).select_related("host").order_by("pk")
    for each in (found if name is None else found.filter(name=name)).iterator():
        yield {
            "id": each.pk,
            "time": each.time.isoformat(),
            "host": None if each.host is None else each.host.name,
            "kind": each.kind,
            "name": each.name,
            "service": each.service,
            "reason": each.reason,
        }


def _hosts(now: datetime) -> list[tuple[str, int]]:
    found = Host.objects.filter(revoked=None)
    rows, earlier = [], 0
    for label, age in AGES:
        count = found.filter(last_seen__gte=now - age).count()
        rows.append((label, count - earlier))
        earlier = count
    seen = found.exclude(last_seen=None).count()
    return [*rows, ("longer ago", seen - earlier), ("never", found.count() - seen)]
