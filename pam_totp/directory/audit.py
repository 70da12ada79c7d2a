"""The audit trail: who did what. Entries are only ever added, each with the hash of the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from pam_totp.directory.models import Audit, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    Deed = tuple[str, str, dict[str, Any]]

START = "0" * 64
COMMAND = "root"  # who acts where the command does


def note(actor: str, action: str, target: str = "", **detail: Any) -> Audit:
    """Add an entry, in the transaction of what it tells about: both are there, or neither. ``detail``: no secrets."""
    return notes(actor, [(action, target, detail)])[0]


def notes(actor: str, deeds: list[Deed]) -> list[Audit]:
    """Add several entries at once: of each what was done, to what, and the detail."""
    entries: list[Audit] = []
    with transaction.atomic():
        # One row that everybody locks: the chain has no forks.
        State.objects.select_for_update().get()
        last = Audit.objects.order_by("-id").first()
        now = timezone.now()
        for action, target, detail in deeds:
            last = Audit(
                # Of a time, JSON keeps milliseconds, and with it a backup.
                time=now.replace(microsecond=now.microsecond // 1000 * 1000),
                actor=actor[:64],
                action=action,
                target=target[:256],
                detail=detail,
                previous=START if last is None else last.hash,
            )
            last.hash = last.computed()
            entries.append(last)
        Audit.objects.bulk_create(entries)
    return entries


def broken() -> Audit | None:
    """The first entry that was changed, or before which one is missing; None where the chain holds."""
    previous = START
    for entry in Audit.objects.order_by("id").iterator():
        if entry.previous != previous or entry.hash != entry.computed():
            return entry
        previous = entry.hash
    return None


def exported(since: int = 0, most: int | None = None) -> Iterator[dict[str, Any]]:
    """Entries as JSON takes them, the oldest first, after the one with this number; at most so many."""
    for entry in Audit.objects.filter(id__gt=since).order_by("id")[:most].iterator():
        yield {
            "id": entry.id,
            "time": entry.time.isoformat(),
            "actor": entry.actor,
            "action": entry.action,
            "target": entry.target,
            "detail": entry.detail,
            "previous": entry.previous,
            "hash": entry.hash,
        }
