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
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F, Q

from pam_totp.directory import config, hosts
from pam_totp.directory.keeper import client
from pam_totp.directory.models import (
    Authenticator,
    Claim,
    Event,
    Host,
    HostGroup,
    Person,
    Policy,
    Published,
    RecoveryCodes,
    State,
)
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
_RECORDS = 50_000  # of hosts that are written together
_MOST_NAMED = 10_000  # rows in one statement, which databases limit
_FEW = 8  # files that are brought to the disk one by one
# What the keeper refuses one host it may give the next one, but for this.
_OF_ALL = ("keeper-silent", "database-older", "number", "clock")
_LATER = timedelta(minutes=5)  # a clock may be set back by so much without a word
EVENTS_FOR = timedelta(days=365)
EVENTS_KEPT = 1_000_000  # of any age: a clock that is wrong for a day must not cost what is known of logins


@dataclass(frozen=True)
class _Content:
    """What the hosts of one group are to have. ``digests`` tells it from what they had; by person, None: policy."""

    records: dict[int, Fields]
    policy: Fields
    digests: dict[int | None, str]


@dataclass(frozen=True)
class _Sealed:
    """What is to be written for a host. ``rows`` of Published go, and ``made`` are the files in their place."""

    host: Host
    folder: str
    manifest: bytes
    objects: dict[str, bytes]
    rows: list[int]
    made: dict[int | None, str]
    ceased: set[str]
    unneeded: set[str]


def once(now: datetime, *, root: str = config.TREE, days: int = 7) -> int:
    """Publish for the hosts that lack something, or whose manifest has lived for half of its ``days``.

    Where a policy limits how long the directory may be silent, a manifest lives for a third of that: hosts count from
    the date that is signed.

    Returns how many; more may be left. Raises KeeperError.
    """
    with _alone(root):
        life = timedelta(days=days)
        # One that would live longer than any was signed while the clock was ahead.
        renew = Q(expires__lt=now + life / 2) | Q(expires__gt=now + life + _LATER)
        for policy in Policy.objects.exclude(max_offline=None):
            young = timedelta(seconds=policy.max_offline or 0) / 3
            renew |= Q(group=policy.host_group_id, expires__lt=now + life - young)
        waiting = Host.objects.filter(Q(changes__gt=F("done")) | renew, revoked=None)
        found = list(waiting.select_related("group").order_by("expires")[:_BATCH])
        if not found:
            return 0
        sequence, epoch = _next()
        done = 0
        # What a host is to have is the same for its whole group, and read after the hosts were: a change that comes now
        # is found by the next pass.
        for group, members in groupby(sorted(found, key=attrgetter("group_id")), key=attrgetter("group")):
            content, left = _content(group), list(members)
            size = max(1, _RECORDS // (len(content.records) or 1))
            for first in range(0, len(left), size):
                sealed = [
                    _seal(host, content, sequence, epoch, now, now + life, root) for host in left[first : first + size]
                ]
                done += _write([each for each in sealed if each is not None], content, now)
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


def _seal(
    host: Host, content: _Content, sequence: int, epoch: int, now: datetime, expires: datetime, root: str
) -> _Sealed | None:
    """Have the keeper seal what a host lacks, and sign. None where it cannot be."""
    folder = os.path.join(root, host.ident)
    there = _objects(os.path.join(folder, OBJECTS))
    rows = list(Published.objects.filter(host=host).values_list("pk", "person_id", "digest", "file"))
    # Also where the tree was lost, or is another one than when this was published.
    before: dict[int | None, tuple[str, str]] = {
        person: (digest, file) for _, person, digest, file in rows if file in there
    }
    kept = {
        person: before[person][1]
        for person, digest in content.digests.items()
        if person in before and before[person][0] == digest
    }
    fresh = [person for person in content.records if person not in kept]
    kept_policy = kept.get(None)
    try:
        answer = client.ask(
            "publish",
            host=host.ident,
            sequence=sequence,
            issued=int(now.timestamp()),
            expires=int(expires.timestamp()),
            records=[content.records[person] for person in fresh],
            keep=sorted(file for person, file in kept.items() if person is not None),
            policy=content.policy if kept_policy is None else None,
            keep_policy=kept_policy,
        )
    except KeeperError as error:
        if error.reason in _OF_ALL:
            raise
        # One host must not hold up the others: it keeps what it has. The doctor says so too.
        print(f"not published for {host.name}: {error}", file=sys.stderr)
        return None
    if answer["epoch"] != epoch:
        return None  # an epoch has begun meanwhile
    contents = [client.content(each) for each in answer["records"]]
    made: dict[int | None, str] = {person: tree.digest(each) for person, each in zip(fresh, contents, strict=True)}
    if kept_policy is None:
        contents.append(client.content(answer["policy"]))
        made[None] = tree.digest(contents[-1])
    needed = {*kept.values(), *made.values()}
    host.epoch, host.sequence, host.expires, host.done = epoch, sequence, expires, host.changes
    return _Sealed(
        host,
        folder,
        client.content(answer["manifest"]),
        {tree.digest(each): each for each in contents},
        [pk for pk, person, _, _ in rows if person not in kept],
        made,
        {file for _, file in before.values()} - needed,
        there - needed,
    )


def _write(sealed: list[_Sealed], content: _Content, now: datetime) -> int:
    """Write for several hosts, and say in the database that it is there. Returns how many."""
    if not sealed:
        return 0
    for each in sealed:
        # Their day begins: a host may be in the middle of fetching them.
        for name in each.ceased:
            os.utime(os.path.join(each.folder, OBJECTS, name), (now.timestamp(),) * 2)
        os.makedirs(os.path.join(each.folder, OBJECTS), exist_ok=True)
    _replace(
        {os.path.join(each.folder, OBJECTS, name): found for each in sealed for name, found in each.objects.items()}
    )
    _replace({os.path.join(each.folder, MANIFEST): each.manifest for each in sealed})
    with transaction.atomic():
        # Some may have been removed meanwhile.
        people: set[int | None] = {None, *Person.objects.filter(pk__in=content.records).values_list("pk", flat=True)}
        gone = [row for each in sealed for row in each.rows]
        for first in range(0, len(gone), _MOST_NAMED):
            Published.objects.filter(pk__in=gone[first : first + _MOST_NAMED]).delete()
        Published.objects.bulk_create(
            Published(host=each.host, person_id=person, digest=content.digests[person], file=file)
            for each in sealed
            for person, file in each.made.items()
            if person in people
        )
        Host.objects.bulk_update([each.host for each in sealed], ["done", "epoch", "sequence", "expires"])
    for each in sealed:
        _sweep(each.folder, each.unneeded, now.timestamp())
    return len(sealed)


def _content(group: HostGroup) -> _Content:
    records, policy = _records(group), _policy(group)
    digests: dict[int | None, str] = {person: _digest(each) for person, each in records.items()}
    digests[None] = _digest(policy)
    return _Content(records, policy, digests)


def _records(group: HostGroup) -> dict[int, Fields]:
    """What the records of a group's hosts are made of, by person."""
    people = list(hosts.people_of(group))
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


def _policy(group: HostGroup) -> Fields:
    policy = Policy.objects.filter(host_group=group).first() or Policy(host_group=group)
    return {
        "unenrolled": policy.unenrolled,
        "enrolment_days": policy.enrolment_days,
        "max_offline": policy.max_offline,
        "break_glass": list(policy.break_glass or ()),
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


def _replace(files: dict[str, bytes]) -> None:
    """Each whole file is there, or the one before it; when this returns they are on the disk.

    Many are brought there all at once: a thousand would otherwise be waited for a thousand times.
    """
    few = len(files) <= _FEW
    for path, content in files.items():
        with open(f"{path}.new", "wb") as file:
            file.write(content)
            if few:
                file.flush()
                os.fsync(file.fileno())
    if not few:
        os.sync()  # before they have their names: no name is of half a file
    for path in files:
        os.rename(f"{path}.new", path)
    if not few:
        os.sync()
        return
    for folder in {os.path.dirname(path) for path in files}:
        _sync(folder)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: str, unneeded: set[str], now: float) -> None:
    """Remove what no manifest of the last day has named. A file's age counts from when it was last needed."""
    for name in unneeded:
        path = os.path.join(folder, OBJECTS, name)
        if now - os.stat(path).st_mtime > UNNEEDED_FOR:
            os.unlink(path)


def tidy(now: datetime) -> None:
    """Forget claims that no host can ask about any more, but for those of recovery codes; and old events."""
    Claim.objects.filter(time__lt=now - CLAIMS_FOR, step__gt=0).delete()
    latest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    Event.objects.filter(pk__lte=latest - EVENTS_KEPT, time__lt=now - EVENTS_FOR).delete()
