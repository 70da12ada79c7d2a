"""Publishing: for each host that something has changed for, sealed records and a signed manifest in its folder.

A pass may be killed anywhere: files come before the manifest that names them, and the manifest before the database says
that it is there; what the database does not say is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import F, Q

from pam_totp.directory import config, differences, hosts
from pam_totp.directory.differences import MANIFEST, OBJECTS, Content, Lack, Sealed
from pam_totp.directory.keeper import client
from pam_totp.directory.keeper.work import MOST_HOSTS, MOST_RECORDS
from pam_totp.directory.models import (
    Audit,
    Authenticator,
    Claim,
    Edition,
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
from pam_totp.errors import KeeperError, PamTotpError
from pam_totp.fleet.tree import is_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django.db.models import QuerySet

    Fields = dict[str, Any]

UNNEEDED_FOR = 6 * 3600  # seconds that a file stays after the manifest has ceased to name it
CLAIMS_FOR = timedelta(days=2)  # longer than any host takes a code
# Longer than before any deadline somebody is reminded of it: each reminder is sent once.
LETTERS_FOR = timedelta(days=400)
# The kinds of events that do something (pam_totp.directory.api).
CHANGES = ("enrolled", "uploaded", "removed", "recovery-spent")
_PARTS = 20
_BATCH = 1000  # hosts of one pass
_RECORDS = 50_000  # that are handled before they are written, all at once
_MOST_NAMED = 10_000  # rows in one statement, which databases limit
_PUBLISHER = 0x70616D746F7470  # of PostgreSQL's advisory locks
_FEW = 8  # files that are brought to the disk one by one
# Why a keeper signs nothing for a host that the database has, and what is to be done.
STRANGE = (
    "revoked there, or joined at another machine of this directory, and this one did not hear of it within a week. "
    "Revoke it, or bring the backup over from that machine"
)
_LATER = timedelta(minutes=5)  # a clock may be set back by so much without a word


@dataclass(frozen=True)
class _Work:
    """What is the same for all hosts that are published for together."""

    content: Content
    sequence: int
    epoch: int
    now: datetime
    expires: datetime
    root: str


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
            work = _Work(_content(group), sequence, epoch, now, now + life, root)
            for some in _parts(_lacking(list(members), work), _RECORDS, _BATCH):
                _look(some)
                # Where everything has to be made anew, it is more than it seemed.
                for part in _parts(some, _RECORDS, _BATCH):
                    few = _parts(part, MOST_RECORDS, MOST_HOSTS)
                    done += _write([one for each in few for one in _asked(each, work)], work)
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


def _lacking(members: list[Host], work: _Work) -> list[Lack]:
    """What these hosts lack, as far as it can be said without the rows of Published."""
    editions = Edition.objects.filter(pk__in={host.edition_id for host in members})
    found = {each.pk: differences.differing(each.digests, work.content.digests) for each in editions}
    return [
        Lack(host, os.path.join(work.root, host.ident), work.content, found.get(host.edition_id or 0))
        for host in members
    ]


def _parts(found: list[Lack], records: int, most: int) -> Iterator[list[Lack]]:
    """These in their order, in parts of so much weight and so many hosts."""
    part: list[Lack] = []
    weight = 0
    for each in found:
        if part and (len(part) >= most or weight + each.weight > records):
            yield part
            part, weight = [], 0
        part.append(each)
        weight += each.weight
    if part:
        yield part


def _look(part: list[Lack]) -> None:
    """Read the rows of those for whom something differs."""
    rows: dict[int, list[tuple[int, str]]] = {each.host.pk: [] for each in part}
    some = {each.host.pk: each.differing for each in part if each.differing is not None and each.differing.before}
    people = {person for each in some.values() for person in each.people}
    # A row without a person is of somebody who was removed.
    wanted = Published.objects.filter(Q(person__in=people) | Q(person=None), host__in=some)
    for owner, person, pk, file in wanted.values_list("host_id", "person_id", "pk", "file"):
        if person is None or person in some[owner].people:
            rows[owner].append((pk, file))
    for each in part:
        each.take(rows[each.host.pk])


def _asked(lacking: list[Lack], work: _Work) -> list[Sealed]:
    """One request to the keeper. Raises KeeperError."""
    people = sorted({person for each in lacking for person in each.fresh})
    numbers = {person: number for number, person in enumerate(people)}
    answer = client.ask(
        "publish",
        sequence=work.sequence,
        issued=int(work.now.timestamp()),
        expires=int(work.expires.timestamp()),
        records=[work.content.records[person] for person in people],
        policy=work.content.policy,
        hosts=[each.asked(numbers) for each in lacking],
    )
    if answer["epoch"] != work.epoch:
        return []  # an epoch has begun meanwhile
    sealed = []
    for each, found in zip(lacking, answer["hosts"], strict=True):
        try:
            if "error" in found:
                raise KeeperError(found["error"], found["reason"])
            sealed.append(each.done(found))
        except PamTotpError as error:
            # One host must not hold up the others: it keeps what it has. The doctor says so too.
            print(f"not published for {each.host.name}: {error}", file=sys.stderr)
    return sealed


def _write(sealed: list[Sealed], work: _Work) -> int:
    """Write for several hosts, and say in the database that it is there. Returns how many."""
    if not sealed:
        return 0
    now = work.now.timestamp()
    files: dict[str, bytes] = {}
    for each in sealed:
        # Their time begins: a host may be in the middle of fetching them.
        for name in each.ceased:
            os.utime(os.path.join(each.folder, OBJECTS, name), (now, now))
        os.makedirs(os.path.join(each.folder, OBJECTS), exist_ok=True)
        files |= {os.path.join(each.folder, OBJECTS, name): found for name, found in each.files.items()}
    # In this order: what a manifest names is there before it.
    _replace(files | {os.path.join(each.folder, MANIFEST): each.manifest for each in sealed})
    with transaction.atomic():
        # Some may have been removed meanwhile: then their rows are nobody's, and tell the next pass what is to go.
        people = set(Person.objects.filter(pk__in=work.content.records).values_list("pk", flat=True))
        for rows in _rows(sealed):
            _note_known(rows, work)
            rows.delete()
        Published.objects.bulk_create(
            (
                Published(host=each.host, person_id=person if person in people else None, file=file)
                for each in sealed
                for person, file in each.made.items()
            ),
            batch_size=_MOST_NAMED // 10,
        )
        digests = work.content.digests
        edition, _ = Edition.objects.get_or_create(digest=_digest(digests), defaults={"digests": digests})
        changes: dict[int, list[int]] = {}
        for each in sealed:
            changes.setdefault(each.host.changes, []).append(each.host.pk)
        for done, members in changes.items():
            Host.objects.filter(pk__in=members).update(
                done=done, epoch=work.epoch, sequence=work.sequence, expires=work.expires, edition=edition
            )
        Edition.objects.filter(hosts=None).delete()
    for each in sealed:
        _sweep(each.folder, each.unneeded, now)
    return len(sealed)


def _rows(sealed: list[Sealed]) -> Iterator[QuerySet[Published]]:
    """The rows that go."""
    gone = [row for each in sealed for row in each.rows or ()]
    for first in range(0, len(gone), _MOST_NAMED):
        yield Published.objects.filter(pk__in=gone[first : first + _MOST_NAMED])
    for each in sealed:
        if each.rows is None:
            yield Published.objects.filter(host=each.host)


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


def _content(group: HostGroup) -> Content:
    records, policy = _records(group), _policy(group)
    digests = {str(person): _digest(each) for person, each in records.items()}
    return Content(records, policy, digests | {"": _digest(policy)})


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
    """Have the hosts published anew whose latest manifest, with its files, is not in this tree.

    Also where the machine has lost its power before the disk had all names of what was written.
    """
    hosts = Host.objects.order_by().filter(revoked=None, sequence__gt=0).only("ident", "epoch", "sequence")
    lost = [host.pk for host in hosts if differences.in_place(host, os.path.join(root, host.ident)) is None]
    for first in range(0, len(lost), _MOST_NAMED):
        Host.objects.filter(pk__in=lost[first : first + _MOST_NAMED]).update(changes=F("changes") + 1)


def _replace(files: dict[str, bytes]) -> None:
    """Each whole file is there, or the one before it; when this returns a few are on the disk under their names.

    Many are brought there all at once: a thousand would otherwise be waited for a thousand times. Their names follow
    when the system writes them: what a power cut has taken of these is found when publishing begins again.
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
        _be_later(f"{path}.new", path)
        os.rename(f"{path}.new", path)
    for folder in {os.path.dirname(path) for path in files} if few else ():
        _sync(folder)


def _be_later(new: str, path: str) -> None:
    """Have a file be of a later second than the one in whose place it comes.

    By second and size alone a web server's ETag, and rsync, tell what has changed: a lock that follows an unlock within
    a second is of the same size.
    """
    with suppress(FileNotFoundError):
        former = int(os.stat(path).st_mtime)
        if os.stat(new).st_mtime < former + 1:
            os.utime(new, (former + 1, former + 1))


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: str, unneeded: set[str], now: float) -> None:
    """Remove what no manifest has named for some time. A file's age counts from when it was last needed."""
    for name in unneeded:
        path = os.path.join(folder, OBJECTS, name)
        with suppress(FileNotFoundError):
            if now - os.stat(path).st_mtime > UNNEEDED_FOR:
                os.unlink(path)


def tidy(now: datetime, events_days: int) -> None:
    """Forget claims that no host can ask about any more, but those of recovery codes; and logins of long ago.

    What a host told that has changed something is kept: it may tell it again, and by its id that changes nothing more.
    What was published for hosts that are revoked or deleted goes as well.
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
    # In this order: who joins meanwhile has no folder in the list. And last: one that cannot be removed keeps no rows.
    folders = set(filter(is_identifier, os.listdir(config.TREE)))
    for name in folders.difference(Host.objects.filter(revoked=None).values_list("ident", flat=True)):
        shutil.rmtree(os.path.join(config.TREE, name))


def checkpoint() -> None:
    """Have SQLite move into its file what is in its log, as far as that holds nobody up."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
