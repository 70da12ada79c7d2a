"""Publishing: for each host that something has changed for, sealed records and a signed manifest in its folder.

A pass may be killed anywhere: files come before the manifest that names them, and the manifest before the database says
that it is there; what the database does not say is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F, Q

from pam_totp.directory import config, hosts
from pam_totp.directory.keeper import client
from pam_totp.directory.models import Authenticator, Claim, Host, Person, Policy, Published, RecoveryCodes, State
from pam_totp.errors import KeeperError
from pam_totp.fleet import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    Fields = dict[str, Any]

MANIFEST = "manifest"
OBJECTS = "objects"
UNNEEDED_FOR = 86_400  # seconds that a file stays after the manifest has ceased to name it
CLAIMS_FOR = timedelta(days=2)  # longer than any host takes a code
_BATCH = 200  # hosts of one pass


def once(now: datetime, *, root: str = config.TREE, days: int = 7) -> int:
    """Publish for the hosts that lack something, or whose manifest has lived for half of its ``days``.

    Where a policy limits how long the directory may be silent, a manifest lives for a third of that: hosts count from
    the date that is signed.

    Returns how many; more may be left. Raises KeeperError.
    """
    with _alone(root):
        life = timedelta(days=days)
        renew = Q(expires__lt=now + life / 2)
        for policy in Policy.objects.exclude(max_offline=None):
            young = timedelta(seconds=policy.max_offline or 0) / 3
            renew |= Q(group=policy.host_group_id, expires__lt=now + life - young)
        waiting = Host.objects.filter(Q(changes__gt=F("done")) | renew, revoked=None)
        found = list(waiting.select_related("group").order_by("expires")[:_BATCH])
        if not found:
            return 0
        sequence, epoch = _next()
        done = 0
        for host in found:
            done += _publish(host, sequence, epoch, now, now + timedelta(days=days), root)
        return done


def _next() -> tuple[int, int]:
    """A new sequence number, committed before anything is signed with it; and the epoch. Raises KeeperError."""
    with transaction.atomic():
        state = State.objects.select_for_update().get()
        keeper = client.ask("status")
        if keeper["sequence"] > state.sequence or keeper["epoch"] != state.epoch:
            raise KeeperError(
                "the database is older than what was signed: it was restored from a backup. Nothing is published until "
                "pam-totp-directory epoch was run, which says what to look at",
                "database-older",
            )
        state.sequence += 1
        state.save()
    return state.sequence, state.epoch


def _publish(host: Host, sequence: int, epoch: int, now: datetime, expires: datetime, root: str) -> bool:
    # Read before everything else: a change that comes now is found by the next pass.
    changes = Host.objects.values_list("changes", flat=True).get(pk=host.pk)
    before = {each.person_id: each for each in Published.objects.filter(host=host)}
    records, policy = _records(host), _policy(host)
    digests = {person: _digest(fields) for person, fields in records.items()}
    # Also where the tree was lost, or is another one than when this was published.
    there = _objects(os.path.join(root, host.ident, OBJECTS))
    before = {person: each for person, each in before.items() if each.file in there}
    fresh = [person for person in records if person not in before or before[person].digest != digests[person]]
    kept = {person: before[person].file for person in records if person not in fresh}
    policy_digest = _digest(policy)
    old_policy = before.get(None)
    new_policy = old_policy is None or old_policy.digest != policy_digest
    try:
        answer = client.ask(
            "publish",
            host=host.ident,
            sequence=sequence,
            issued=int(now.timestamp()),
            expires=int(expires.timestamp()),
            records=[records[person] for person in fresh],
            keep=sorted(kept.values()),
            policy=policy if new_policy else None,
            keep_policy=None if new_policy or old_policy is None else old_policy.file,
        )
    except KeeperError as error:
        if error.reason not in ("host-unknown", "damaged", "lost") and not error.reason.startswith("fleet-"):
            raise
        # One host must not hold up the others: it keeps what it has. The doctor says so too.
        print(f"not published for {host.name}: {error}", file=sys.stderr)
        return False
    if answer["epoch"] != epoch:
        return False  # an epoch has begun meanwhile
    contents = [client.content(each) for each in answer["records"]]
    made: dict[int | None, str] = {person: tree.digest(each) for person, each in zip(fresh, contents, strict=True)}
    if new_policy:
        contents.append(client.content(answer["policy"]))
        made[None] = tree.digest(contents[-1])
    _write(os.path.join(root, host.ident), contents, client.content(answer["manifest"]))
    with transaction.atomic():
        Published.objects.filter(host=host).exclude(person__in=list(kept)).exclude(
            Q(person=None) if not new_policy else Q(pk=None)
        ).delete()
        Published.objects.bulk_create(
            Published(
                host=host, person_id=person, digest=policy_digest if person is None else digests[person], file=file
            )
            for person, file in made.items()
        )
        Host.objects.filter(pk=host.pk).update(done=changes, epoch=epoch, sequence=sequence, expires=expires)
    _sweep(os.path.join(root, host.ident), {*kept.values(), *made.values(), *_policy_file(host)}, now.timestamp())
    return True


def _policy_file(host: Host) -> list[str]:
    return list(Published.objects.filter(host=host, person=None).values_list("file", flat=True))


def _records(host: Host) -> dict[int, Fields]:
    """What the records of a host are made of, by person."""
    people = list(hosts.people_of(host.group))
    keys: dict[int, list[Fields]] = {person.pk: [] for person in people}
    for each in Authenticator.objects.filter(person__in=keys, state=Authenticator.State.ACTIVE):
        keys[each.person_id].append(
            {
                "id": each.ident,
                "label": each.label,
                "created": int(each.created.timestamp()),
                "sealed": client.text(each.secret),
            }
        )
    codes = {each.person_id: each for each in RecoveryCodes.objects.filter(person__in=keys)}
    return {person.pk: _record(person, keys[person.pk], codes.get(person.pk)) for person in people}


def _record(person: Person, authenticators: list[Fields], codes: RecoveryCodes | None) -> Fields:
    return {
        "person": person.pk,
        "name": person.name,
        "authenticators": authenticators,
        "recovery": {"salt": codes.salt, "hashes": codes.hashes} if codes is not None and codes.hashes else None,
        "locked": person.locked,
        "exempt_until": _seconds(person.exempt_until),
        "deadline": _seconds(person.deadline),
        "must_enroll": person.must_enroll,
        "forget_before": _seconds(person.forget_before),
    }


def _policy(host: Host) -> Fields:
    policy = Policy.objects.filter(host_group=host.group).first() or Policy(host_group=host.group)
    return {
        "unenrolled": policy.unenrolled,
        "enrolment_days": policy.enrolment_days,
        "max_offline": policy.max_offline,
        "break_glass": policy.break_glass,
        "claims": policy.claims,
        "mfa": policy.mfa,
    }


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


def _digest(fields: Fields) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


# Files


@contextmanager
def _alone(root: str) -> Iterator[None]:
    """One publisher at a time."""
    descriptor = os.open(os.path.join(root, ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _objects(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _write(folder: str, contents: list[bytes], manifest: bytes) -> None:
    objects = os.path.join(folder, OBJECTS)
    os.makedirs(objects, exist_ok=True)
    for content in contents:
        _replace(os.path.join(objects, tree.digest(content)), content)
    _sync(objects)
    _replace(os.path.join(folder, MANIFEST), manifest)
    _sync(folder)


def _replace(path: str, content: bytes) -> None:
    """The whole file is there, or the one before it."""
    with open(f"{path}.new", "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: str, needed: set[str], now: float) -> None:
    """Remove what no manifest of the last day has named. A host may be in the middle of fetching."""
    with os.scandir(os.path.join(folder, OBJECTS)) as entries:
        for entry in entries:
            if entry.name in needed:
                # Its age counts from when it was last needed.
                os.utime(entry.path, (now, now))
            elif now - entry.stat().st_mtime > UNNEEDED_FOR:
                os.unlink(entry.path)


def tidy(now: datetime) -> None:
    """Forget claims that no host can ask about any more. Those of recovery codes stay."""
    Claim.objects.filter(time__lt=now - CLAIMS_FOR, step__gt=0).delete()
