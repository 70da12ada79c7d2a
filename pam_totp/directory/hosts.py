"""What is done to hosts: tokens to join with, joining, leaving, revoking. Each function is one transaction."""

from __future__ import annotations

import random
import re
import secrets
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from pam_totp.directory import audit, config
from pam_totp.directory.keeper import client, keys
from pam_totp.directory.models import Authenticator, Host, HostGroup, JoinToken, Person, hash_of
from pam_totp.errors import KeeperError, UsageError
from pam_totp.fleet import tree

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

HOSTS = "hosts"
SEEN_EVERY = 60.0  # seconds
_MOST_SEEN = 200
LOOKED_SECONDS = 1.0
KNOWN_SECONDS = 60.0
_MOST_KNOWN = 100_000
TOKEN_HOURS = 24
LONGEST_NAME = 253
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# Of lines that ended: more hosts than this with one identity are noticed as well, as they do not go on in turn.
MOST_ENDS = 32


def group_named(name: str) -> HostGroup:
    """A host group. Raises UsageError."""
    group = HostGroup.objects.filter(name=name).first()
    if group is None:
        raise UsageError(f"there is no host group {name!r}: make it with pam-totp-directory group add --hosts {name}")
    return group


def find(name: str, *, revoked: bool = False) -> Host:
    """The one host that is called so, or has this id, and was not revoked, or was. Raises UsageError."""
    those = Host.objects.exclude(revoked=None) if revoked else Host.objects.filter(revoked=None)
    found = list(those.filter(name=name)) or list(those.filter(ident=name))
    if not found:
        raise UsageError(f"there is no host {name!r}: see pam-totp-directory host list")
    if len(found) > 1:
        raise UsageError(f"there are {len(found)} hosts {name!r}: name one by its id, see pam-totp-directory host list")
    return found[0]


@transaction.atomic
def new_token(actor: str, group: HostGroup, host_name: str, hours: int, authority: str) -> str:
    """A join token, one line; root's business. ``host_name`` empty: good for any number of hosts until its end.

    ``authority`` is the SHA-256 of the CA that the host is to trust; empty: those of its system. Raises KeeperError.
    """
    identity = keys.load_identity(config.IDENTITY)
    secret = secrets.token_urlsafe(32)
    expires = timezone.now() + timedelta(hours=hours)
    JoinToken.objects.create(
        token_hash=hash_of(secret), group=group, host_name=host_name, created_by=actor, expires=expires
    )
    audit.note(actor, "token-made", host_name or group.name, group=group.name, hours=hours)
    client.ask("token", secret=secret, host=host_name, expires=int(expires.timestamp()))
    return tree.token_text(tree.JoinToken(identity.directory, identity.signing, authority, secret))


def join(secret: str, name: str, key: bytes, bearer: str, address: str) -> Host:
    """Let a host join. One whose answer was lost may ask again, and hears the same. Raises KeeperError.

    ``bearer`` is the hash of the bearer token that the host has made: nothing of what it is told is secret. So who has
    its public key, and a token for many hosts, asks in its place in vain, and takes nothing from it.
    """
    now = timezone.now()
    with transaction.atomic():
        token = JoinToken.objects.select_for_update().filter(token_hash=hash_of(secret), expires__gt=now).first()
        if token is None:
            raise KeeperError("this token is not known, or its time is over: ask for a new one", "join-token")
        # The keeper has its own list of tokens, which nobody but root adds to: it decides.
        answer = client.ask("join", secret=secret, name=name, key=client.text(key))
        host = Host.objects.filter(ident=answer["host"]).first()
        if host is None and not Host.objects.filter(token_hash=bearer).exists():
            host = Host(ident=answer["host"], name=name, group=token.group, key=key, token_hash=bearer)
        if host is None or host.token_hash != bearer:
            raise KeeperError("this host has joined before: join with a new key", "join-token")
        host.address, host.last_seen, host.voucher = address, now, client.content(answer["voucher"])
        host.save()
        JoinToken.objects.filter(pk=token.pk).update(used=now)
        audit.note(f"host {name}"[:64], "host-joined", name, id=host.ident, group=host.group.name, address=address)
    return host


def with_bearer(token: str) -> Host | None:
    """The host whose bearer token this is, and that was not revoked."""
    # Each request of a host comes by here: no order, and no more than the one row.
    return next(iter(Host.objects.order_by().filter(token_hash=hash_of(token), revoked=None)), None)


def known_by(token: str) -> tuple[int, str] | None:
    """Primary key and id of the host whose bearer token this is; as ``with_bearer``, at a fraction of its cost."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, ident FROM directory_host WHERE token_hash = %s AND revoked IS NULL", [hash_of(token)]
        )
        found: tuple[int, str] | None = cursor.fetchone()
    return found


class Bearers:
    """Whose bearer tokens are good. Most of what a directory is asked is whether a host's manifest is unchanged.

    Each is kept for a minute, and none when the trail has an entry about a host, which is looked for once a second. So
    who is revoked has a second more in which to read what was sealed to it before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, str], float]] = {}
        self._latest: int | None = None
        self._looked = -LOOKED_SECONDS

    def find(self, token: str) -> tuple[int, str] | None:
        """As ``known_by``."""
        now = time.monotonic()
        self._look(now)
        known, found = self._known, self.known(token)
        if found is None:
            found = known_by(token)
            if found is not None:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                # Where it was found before an entry came, this is what is thrown away for it.
                known[hash_of(token)] = found, now + KNOWN_SECONDS * _about_one()
        return found

    def known(self, token: str) -> tuple[int, str] | None:
        """As ``find``, but None where the database would have to be asked."""
        now = time.monotonic()
        found, until = self._known.get(hash_of(token), (None, 0.0))
        return found if now < until and now - self._looked < LOOKED_SECONDS else None

    def _look(self, now: float) -> None:
        with self._lock:
            if now - self._looked < LOOKED_SECONDS:
                return
            with connection.cursor() as cursor:
                cursor.execute(_SINCE, [self._latest, self._latest])
                first, last, about_a_host = cursor.fetchone()
            # Without the entry that was the latest one, this is another trail.
            if first != self._latest or about_a_host:
                self._known = {}
            self._latest, self._looked = last, now


_SINCE = """
    SELECT min(id), max(id), max(CASE WHEN id > %s AND action LIKE 'host-%%' THEN 1 ELSE 0 END)
    FROM directory_audit WHERE id >= COALESCE(%s, (SELECT max(id) FROM directory_audit))
"""


def _about_one() -> float:
    # Hosts that came at one time, after a start for one, do not all come to be looked up at one time ever after.
    return random.uniform(0.75, 1.25)  # noqa: S311  # no secret


bearers = Bearers()


class Seen:
    """When each host was heard of last. Written for many at once: each durable write holds up claims."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[int, float] = {}
        self._waiting: dict[int, tuple[datetime, str]] = {}
        self._written = -1.0

    def lately(self, host: int) -> bool:
        """Whether that a host, by its primary key, is there need not be noted now."""
        return time.monotonic() - self._noted.get(host, -SEEN_EVERY) < SEEN_EVERY

    def note(self, host: int, address: str) -> None:
        """Note that a host, by its primary key, is there."""
        if self.lately(host):
            return
        now = time.monotonic()
        with self._lock:
            self._noted[host] = now - SEEN_EVERY * (1 - _about_one())
            # To the second, so that many have the same.
            self._waiting[host] = timezone.now().replace(microsecond=0), address
            if now - self._written < 1 and len(self._waiting) < _MOST_SEEN:
                return  # it is written with those that come next
            self._written = now
        self.write()

    @transaction.atomic
    def write(self) -> None:
        """Write what is noted."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        # Who is being changed by somebody else is left out: nobody waits, so nobody waits for each other.
        free = Host.objects.order_by("pk").filter(pk__in=waiting).select_for_update(skip_locked=True)
        seen: dict[datetime, list[int]] = {}
        moved: dict[str, list[int]] = {}
        for pk, before in free.values_list("pk", "address"):
            time, address = waiting[pk]
            seen.setdefault(time, []).append(pk)
            if address != before:
                moved.setdefault(address, []).append(pk)
        # Few statements, for many: while SQLite's one writer writes this, claims wait; and on PostgreSQL each of them
        # would take the interpreter's lock, and a processor, from them.
        for time, those in seen.items():
            Host.objects.filter(pk__in=those).update(last_seen=time)
        for address, those in moved.items():
            Host.objects.filter(pk__in=those).update(address=address)


seen = Seen()


@transaction.atomic
def go_on(host: Host, before: str, latest: str, address: str) -> bool:
    """Take the next number of a host's line (pam_totp.fleet.line); whether the host is known to be one.

    A number that follows no end begins another one: the host was put back to an older state, or cloned. That it was
    cloned is said when an end of before grows as well. A repeated one, as the answer was lost, changes nothing.
    """
    kept = Host.objects.select_for_update().get(pk=host.pk)
    ends, cloned = list(kept.ends), kept.cloned
    if kept.line not in ("", before, latest):
        if not {before, latest}.isdisjoint(ends) and cloned is None:
            cloned = timezone.now()
            places = [kept.line_address, address]
            audit.note(f"host {kept.name}"[:64], "host-cloned", kept.name, id=kept.ident, addresses=places)
        ends = [each for each in [*ends, kept.line] if each not in (before, latest)][-MOST_ENDS:]
    # No signal: nothing is to be published because of it.
    Host.objects.filter(pk=kept.pk).update(line=latest, ends=ends, line_address=address, cloned=cloned)
    return cloned is None


def clones() -> QuerySet[Host]:
    """The hosts whose identity two have."""
    return Host.objects.filter(revoked=None).exclude(cloned=None)


@transaction.atomic
def revoke(actor: str, host: Host) -> list[Person]:
    """Publish nothing for a host any more, and hear nothing of it. Returns whose secrets it had: re-enrol them."""
    concerned = list(known_to(host))
    client.ask("revoke", host=host.ident)
    host.revoked = timezone.now()
    host.token_hash = hash_of(secrets.token_urlsafe(32))
    host.save(update_fields=["revoked", "token_hash"])
    audit.note(actor, "host-revoked", host.name, id=host.ident, people=len(concerned))
    return concerned


@transaction.atomic
def move(actor: str, host: Host, group: HostGroup) -> None:
    """Put a host into another host group: it gets the people of that one."""
    host.group = group
    host.save(update_fields=["group"])
    audit.note(actor, "host-moved", host.name, id=host.ident, group=group.name)


@transaction.atomic
def rename(actor: str, host: Host, name: str) -> None:
    """Call a host something else here; it does not mind. Raises UsageError."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UsageError(f"{name!r} is no host name: choose another one")
    before, host.name = host.name, name
    host.save(update_fields=["name"])
    audit.note(actor, "host-renamed", before, id=host.ident, name=name)


@transaction.atomic
def forget(actor: str, host: Host) -> None:
    """Take a host that was revoked off the list. Raises UsageError."""
    if host.revoked is None:
        raise UsageError(f"{host} is not revoked: revoke it first, and nobody speaks for it any more")
    audit.note(actor, "host-deleted", host.name, id=host.ident)
    host.delete()


def people_of(group: HostGroup) -> QuerySet[Person]:
    """Who may use the hosts of a group now."""
    return Person.objects.filter(is_active=True, memberships__accesses__host_group=group).distinct()


def known_to(host: Host) -> QuerySet[Person]:
    """The people with an active authenticator whose record the host has, or had when there was that authenticator."""
    active = Authenticator.objects.filter(state=Authenticator.State.ACTIVE)
    now = active.filter(person__published__host=host)
    before = active.filter(person__known__host=host, created__lte=F("person__known__until"))
    return Person.objects.filter(Q(pk__in=now.values("person")) | Q(pk__in=before.values("person")))
