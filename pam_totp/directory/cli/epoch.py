"""A new epoch: after the database was restored from a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Whether it is meant."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Begin one."""
    common.django()
    hint()
    if not common.confirmed(arguments, "Begin a new epoch, and have every host take what is here now?"):
        return 1
    print(f"Epoch {begin()} has begun.")
    return 0


def hint() -> None:
    """Say what may have come back."""
    from pam_totp.directory.models import Audit, Host, Person

    last = Audit.objects.order_by("-id").first()
    print(f"The database tells of everything up to {common.shown(last.time if last else None)}.")
    print("What came later has come back, or is missing. Look at these:")
    print("  - people who were locked, reset, taken out of groups or deleted since then;")
    print("  - hosts that were revoked since then: the keeper gives them nothing, also where the list has them;")
    print("  - hosts that have joined since then: they must join again.")
    locked = ", ".join(Person.objects.filter(locked=True).values_list("name", flat=True))
    print(f"Locked now: {locked or 'nobody'}. Hosts now: {Host.objects.filter(revoked=None).count()}.")


def begin() -> int:
    """Begin a new epoch, and return its number. Raises KeeperError."""
    from django.db import transaction
    from django.db.models import F

    from pam_totp.directory import audit, publish
    from pam_totp.directory.keeper import client
    from pam_totp.directory.models import Host, State

    # This machine's keeper may not have heard of the latest one.
    publish.tell()
    with transaction.atomic():
        answer = client.ask("epoch")
        state = State.objects.select_for_update().get()
        state.epoch, state.sequence = answer["epoch"], max(state.sequence, answer["sequence"])
        state.voucher = client.content(answer["voucher"])
        state.save()
        Host.objects.filter(revoked=None).update(changes=F("changes") + 1)
        audit.note(common.ACTOR, "epoch-begun", str(state.epoch))
    return int(state.epoch)
