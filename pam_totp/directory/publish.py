"""Publishing: for each host that something has changed for, sealed records and a signed manifest in its folder.

A pass may be killed anywhere: files come before the manifest that names them, and the manifest before the database says
that it is there; what the database does not say is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import F, Q

from pam_totp.directory import config, hosts
from pam_totp.directory.keeper import client
from pam_totp.directory.keeper.work import MOST_HOSTS, MOST_RECORDS
from pam_totp.directory.models import (
    Audit,
    Authenticator,
    Claim,
    Event,
    Host,
    HostGroup,
    Known,
    Letter,
    Person,
    Policy,
    Published,
    RecoveryCodes,
    State,
)
from pam_totp.errors import KeeperError
from pam_totp.fleet import tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import QuerySet

    Fields = dict[str, Any]

MANIFEST = "manifest"
OBJECTS = "objects"
BUNDLE = "bundle"
BUNDLED = 16  # so many new records are also in one file, for a host that has to fetch them all
UNNEEDED_FOR = 86_400  # seconds that a file stays after the manifest has ceased to name it
CLAIMS_FOR = timedelta(days=2)  # longer than any host takes a code
# Longer than before any deadline somebody is reminded of it: each reminder is sent once.
LETTERS_FOR = timedelta(days=400)
# The kinds of events that do something (pam_totp.directory.api).
CHANGES = ("enrolled", "uploaded", "removed", "recovery-spent")
_PARTS = 20
_BATCH = 1000  # hosts of one pass
_RECORDS = 50_000  # of hosts that are written together
_MOST_NAMED = 10_000  # rows in one statement, which databases limit
_PUBLISHER = 0x70616D746F7470  # of PostgreSQL's advisory locks
_NUMBER = re.compile(rb'"sequence":([0-9]+)}\Z')
_FEW = 8  # files that are brought to the disk one by one
# Why a keeper signs nothing for a host that the database has, and what is to be done.
STRANGE = (
    "revoked there, or joined at another machine of this directory, and this one did not hear of it within a week. "
    "Revoke it, or bring the backup over from that machine"
)
_LATER = timedelta(minutes=5)  # a clock may be set back by so much without a word


@dataclass(frozen=True)
class _Content:
    """What the hosts of one group are to have. ``digests`` tells it from what they had; by person, None: policy."""

    records: dict[int, Fields]
    policy: Fields
    digests: dict[int | None, str]


@dataclass(frozen=True)
class _Work:
    """What is the same for all hosts that are published for together."""

    content: _Content
    sequence: int
    epoch: int
    now: datetime
    expires: datetime
    root: str


@dataclass(frozen=True)
class _Sealed:
    """What is to be written for a host. ``rows`` of Published go, and ``made`` are the files in their place."""

    host: Host
    folder: str
    manifest: bytes
    objects: dict[str, bytes]
    bundle: bytes | None
    rows: list[int]
    made: dict[int | None, str]
    ceased: set[str]
    unneeded: set[str]


def once(now: datetime, *, root: str = config.TREE, days: int = 7) -> int:
    """Publish for the hosts that lack something, or whose manifest has lived for half of its ``days``.

    Where a policy limits how long the directory may be silent, a manifest lives for a third of that: hosts count from
    the date that is signed.

    Returns how many; more may be left. Nothing is done where another machine of this directory publishes. Raises
    KeeperError.
    """
    if connection.vendor == "postgresql":
        tell()
    with _alone(root):
        if not _chosen(root):
            return 0
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
            work, left = _Work(_content(group), sequence, epoch, now, now + life, root), list(members)
            size = max(1, _RECORDS // (len(work.content.records) or 1))
            for first in range(0, len(left), size):
                done += _write(_seal(left[first : first + size], work), work)
        return done


_heard: list[int] = []  # up to which entry of the trail this machine's keeper was told; epoch and number then


def tell() -> None:
    """Tell this machine's keeper what has been done with another one's: joined, revoked, an epoch. Raises KeeperError.

    It is told of what the trail has gained since it was last told, and of everything at first.
    """
    state, last = State.objects.get(), Audit.objects.order_by("-id").values_list("id", flat=True).first() or 0
    heard = [last, state.epoch, state.sequence]
    if heard == _heard:
        return
    found = Host.objects.order_by("id")
    if _heard and _heard[0] <= last:
        # Who writes an entry holds a lock until it is there: none comes later that has a smaller number.
        news = Audit.objects.filter(id__gt=_heard[0], action__in=("host-joined", "host-revoked"))
        found = found.filter(ident__in=[str(detail.get("id")) for detail in news.values_list("detail", flat=True)])
    strange = tell_of(
        (
            {"host": ident, "voucher": client.text(voucher), "revoked": revoked is not None}
            for ident, voucher, revoked in found.values_list("ident", "voucher", "revoked")
        ),
        state,
    )
    for name in Host.objects.filter(ident__in=strange).values_list("name", flat=True):
        print(f"the keeper of this machine signs nothing for {name}: it was {STRANGE}", file=sys.stderr, flush=True)
    _heard[:] = heard


def tell_of(hosts: Iterable[Fields], state: State | None = None) -> list[str]:
    """Tell this machine's keeper of these hosts. Returns for which it signs nothing. Raises KeeperError."""
    strange, left = [], list(hosts)
    epoch, sequence = ("", 0) if state is None else (client.text(state.voucher), state.sequence)
    for first in range(0, len(left) or 1, MOST_HOSTS):
        part = left[first : first + MOST_HOSTS]
        strange += client.ask("hear", hosts=part, epoch=epoch, sequence=sequence)["strange"]
    return strange


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


def _seal(members: list[Host], work: _Work) -> list[_Sealed]:
    """Have the keeper seal what these hosts lack, and sign, in as few requests as it takes. Raises KeeperError."""
    rows: dict[int, list[tuple[int, int | None, str, str]]] = {host.pk: [] for host in members}
    found = Published.objects.filter(host__in=rows).values_list("host_id", "pk", "person_id", "digest", "file")
    for owner, pk, person, digest, file in found:
        rows[owner].append((pk, person, digest, file))
    sealed: list[_Sealed] = []
    waiting: list[_Lack] = []
    weight = 0
    for host in members:
        lack = _Lack(host, rows[host.pk], work)
        if waiting and (len(waiting) >= MOST_HOSTS or weight + len(lack.people) > MOST_RECORDS):
            sealed += _asked(waiting, work)
            waiting, weight = [], 0
        waiting.append(lack)
        weight += len(lack.people)
    return sealed + _asked(waiting, work)


class _Lack:
    """What a host has, and what it lacks."""

    def __init__(self, host: Host, rows: list[tuple[int, int | None, str, str]], work: _Work) -> None:
        self.host = host
        self.people = work.content.records
        self.folder = os.path.join(work.root, host.ident)
        self.there = _objects(os.path.join(self.folder, OBJECTS))
        # Also where the tree was lost, or is another one than when this was published.
        self.before: dict[int | None, tuple[str, str]] = {
            person: (digest, file) for _, person, digest, file in rows if file in self.there
        }
        self.kept = {
            person: self.before[person][1]
            for person, digest in work.content.digests.items()
            if person in self.before and self.before[person][0] == digest
        }
        self.rows = [pk for pk, person, _, _ in rows if person not in self.kept]
        self.fresh = [person for person in self.people if person not in self.kept]

    def done(self, answer: Fields) -> _Sealed:
        """What is to be written, with the keeper's answer."""
        contents = [client.content(each) for each in answer["records"]]
        made: dict[int | None, str] = {
            person: tree.digest(each) for person, each in zip(self.fresh, contents, strict=True)
        }
        bundle = tree.bundle(contents) if len(contents) >= BUNDLED else None
        if answer["policy"] is not None:
            contents.append(client.content(answer["policy"]))
            made[None] = tree.digest(contents[-1])
        needed = {*self.kept.values(), *made.values()}
        return _Sealed(
            self.host,
            self.folder,
            client.content(answer["manifest"]),
            {tree.digest(each): each for each in contents},
            bundle if bundle is not None and len(bundle) <= tree.BUNDLE_LIMIT else None,
            self.rows,
            made,
            {file for _, file in self.before.values()} - needed,
            self.there - needed,
        )


def _asked(lacking: list[_Lack], work: _Work) -> list[_Sealed]:
    """One request to the keeper."""
    people = sorted({person for each in lacking for person in each.fresh})
    numbers = {person: number for number, person in enumerate(people)}
    answer = client.ask(
        "publish",
        sequence=work.sequence,
        issued=int(work.now.timestamp()),
        expires=int(work.expires.timestamp()),
        records=[work.content.records[person] for person in people],
        policy=work.content.policy,
        hosts=[
            {
                "host": each.host.ident,
                "fresh": [numbers[person] for person in each.fresh],
                "keep": sorted(file for person, file in each.kept.items() if person is not None),
                "keep_policy": each.kept.get(None),
            }
            for each in lacking
        ],
    )
    if answer["epoch"] != work.epoch:
        return []  # an epoch has begun meanwhile
    sealed = []
    for each, found in zip(lacking, answer["hosts"], strict=True):
        if "error" in found:
            # One host must not hold up the others: it keeps what it has. The doctor says so too.
            print(f"not published for {each.host.name}: {found['error']}", file=sys.stderr)
        else:
            sealed.append(each.done(found))
    return sealed


def _write(sealed: list[_Sealed], work: _Work) -> int:
    """Write for several hosts, and say in the database that it is there. Returns how many."""
    if not sealed:
        return 0
    now = work.now.timestamp()
    files: dict[str, bytes] = {}
    for each in sealed:
        # Their day begins: a host may be in the middle of fetching them.
        for name in each.ceased:
            os.utime(os.path.join(each.folder, OBJECTS, name), (now, now))
        os.makedirs(os.path.join(each.folder, OBJECTS), exist_ok=True)
        files |= {os.path.join(each.folder, OBJECTS, name): found for name, found in each.objects.items()}
        if each.bundle is not None:
            files[os.path.join(each.folder, BUNDLE)] = each.bundle
    # In this order: what a manifest names is there before it.
    _replace(files | {os.path.join(each.folder, MANIFEST): each.manifest for each in sealed})
    with transaction.atomic():
        # Some may have been removed meanwhile.
        people: set[int | None] = {
            None,
            *Person.objects.filter(pk__in=work.content.records).values_list("pk", flat=True),
        }
        gone = [row for each in sealed for row in each.rows]
        for first in range(0, len(gone), _MOST_NAMED):
            rows = Published.objects.filter(pk__in=gone[first : first + _MOST_NAMED])
            _note_known(rows, work)
            rows.delete()
        Published.objects.bulk_create(
            (
                Published(host=each.host, person_id=person, digest=work.content.digests[person], file=file)
                for each in sealed
                for person, file in each.made.items()
                if person in people
            ),
            batch_size=_MOST_NAMED // 10,
        )
        changes: dict[int, list[int]] = {}
        for each in sealed:
            changes.setdefault(each.host.changes, []).append(each.host.pk)
        for done, members in changes.items():
            Host.objects.filter(pk__in=members).update(
                done=done, epoch=work.epoch, sequence=work.sequence, expires=work.expires
            )
    for each in sealed:
        _sweep(each.folder, each.unneeded, now)
    return len(sealed)


def _note_known(rows: QuerySet[Published], work: _Work) -> None:
    """Note who is on these hosts no more: when one is revoked, they have to enrol anew as well."""
    pairs = rows.exclude(person=None).values_list("host_id", "person_id")
    Known.objects.bulk_create(
        (
            Known(host_id=host, person_id=person, until=work.now)
            for host, person in pairs
            if person not in work.content.records
        ),
        batch_size=_MOST_NAMED // 10,
        update_conflicts=True,
        unique_fields=["host", "person"],
        update_fields=["until"],
    )


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


_publishing: list[Any] = []  # the connection by which this process is the one that publishes


def _chosen(root: str) -> bool:
    """Whether this machine publishes, of several with one database. It does so until its connection ends.

    Who begins may have another tree than who published before: then what it lacks is published anew.
    """
    connection.ensure_connection()
    if _publishing == [connection.connection]:
        return True
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [_PUBLISHER])
            if not cursor.fetchone()[0]:
                return False
    _lost(root)
    _publishing[:] = [connection.connection]
    return True


def _lost(root: str) -> None:
    """Have the hosts published anew whose latest manifest is not in this tree."""
    hosts = Host.objects.order_by().filter(revoked=None, sequence__gt=0).values_list("pk", "ident", "sequence")
    lost = [pk for pk, ident, sequence in hosts if _sequence(os.path.join(root, ident, MANIFEST)) != sequence]
    for first in range(0, len(lost), _MOST_NAMED):
        Host.objects.filter(pk__in=lost[first : first + _MOST_NAMED]).update(changes=F("changes") + 1)


def _sequence(path: str) -> int | None:
    """The number of a manifest, which is the last that stands in it."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 64))
            found = _NUMBER.search(file.read())
    except FileNotFoundError:
        return None
    return None if found is None else int(found[1])


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
    """Remove what no manifest of the last day has named, and a bundle as old as that.

    A file's age counts from when it was last needed.
    """
    for path in (os.path.join(folder, BUNDLE), *(os.path.join(folder, OBJECTS, name) for name in unneeded)):
        with suppress(FileNotFoundError):
            if now - os.stat(path).st_mtime > UNNEEDED_FOR:
                os.unlink(path)


def tidy(now: datetime, events_days: int) -> None:
    """Forget claims that no host can ask about any more, but those of recovery codes; and logins of long ago.

    What a host told that has changed something is kept: it may tell it again, and by its id that changes nothing more.
    """
    Claim.objects.filter(time__lt=now - CLAIMS_FOR, step__gt=0).delete()
    Letter.objects.exclude(sent=None, given_up=None).filter(created__lt=now - LETTERS_FOR).delete()
    # A clock that is wrong for a day must not cost what is known of logins: those of the hosts count as well.
    told = Event.objects.exclude(host=None).order_by("-time").first() or Event.objects.order_by("-time").first()
    last = now if told is None else min(now, told.time)
    old = Event.objects.filter(time__lt=last - timedelta(days=events_days))
    old = old.filter(Q(host=None) | ~Q(kind__in=CHANGES)).order_by("pk")
    # A part at a time, so that nobody who writes waits for long; what is left has its turn in an hour.
    for _ in range(_PARTS):
        found = list(old.values_list("pk", flat=True)[:_MOST_NAMED])
        if not found:
            break
        Event.objects.filter(pk__in=found).delete()


def checkpoint() -> None:
    """Have SQLite move into its file what is in its log, as far as that holds nobody up."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
