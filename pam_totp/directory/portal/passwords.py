"""The first factor: is this the password of that person? Nothing tells a name that is here from one that is not.

Who knows it is in directory.toml: the directory itself, an LDAP server, or PAM of this machine. They say yes or no of
people whom the directory has, and nothing else: none makes a person, and a code is asked after each.

A try is charged before it is looked at, to a ledger of the name and to one of the network that it comes from, like a
code at a login: many tries at once are as many as one after the other. A right one takes its charge back.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth import hashers
from django.db import connection, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from pam_totp.cache.ledger import DAY, Ledger
from pam_totp.directory import audit, ldap, pam
from pam_totp.directory.models import Person
from pam_totp.directory.portal.models import Tries
from pam_totp.errors import PamTotpError
from pam_totp.host import clock

if TYPE_CHECKING:
    from pam_totp.host.clock import Moment

WRONG = "Name and password do not belong together, or are not known here."
# From one network, with whatever names, in a day; many people may share one.
FROM_A_NETWORK = 240
# The table cannot grow without an end: the oldest go first.
MOST_TRIES = 100_000
# Where passwords are elsewhere, a refusal is told at the end of so many seconds: how long it took tells nothing.
EVERY = 3.0
BUSY = "Too many people sign in just now. Try again in a minute."
MOST_AT_ONCE = 100
_room = threading.BoundedSemaphore(MOST_AT_ONCE)
# No number of wrong passwords locks anybody: codes are what locks.
_NEVER = 1 << 62


def check(name: str, password: str, address: str) -> tuple[Person | None, str]:
    """Whose password it is; or nobody, and what to say."""
    if settings.CONFIG.passwords == "local":
        return _check(name, password, address)
    # Each of these waits for seconds, in a thread of its own: a flood of them must leave some for everybody else.
    if not _room.acquire(blocking=False):
        return None, BUSY
    try:
        return _check(name, password, address)
    finally:
        _room.release()


def _check(name: str, password: str, address: str) -> tuple[Person | None, str]:
    source, now = network(address), clock.now()
    wait = _charge(name, source, now)
    if wait:
        return None, f"Too many tries. Try again in {in_words(wait)}."
    person = Person.objects.filter(name=name, is_active=True).first()
    here = person is not None and person.has_usable_password() and kept_here(person)
    if here and person is not None:
        right = hashers.check_password(password, person.password)
    else:
        # As long as it takes for somebody.
        hashers.make_password(password)
        right = False
    if not right and settings.CONFIG.passwords != "local":
        if not connection.in_atomic_block:
            # Somebody else may have it meanwhile: a database has a hundred.
            connection.close()
        # An administrator with a password here has that one alone, and nobody knows by the time who that is.
        right = _right_elsewhere(None if person is None or here else person.name, password)
        if not right:
            clock.pause(EVERY - (clock.now().uptime - now.uptime) % EVERY)
    if not right or person is None:
        return None, WRONG
    _take_back(name, source, now)
    return person, ""


def kept_here(person: Person) -> bool:
    """Whether a person may have a password that the directory itself keeps.

    Where passwords are elsewhere, an administrator may: else nobody could put right what is wrong with that place.
    """
    return settings.CONFIG.passwords == "local" or person.role == Person.Role.ADMINISTRATOR


def _right_elsewhere(name: str | None, password: str) -> bool:
    """What LDAP or PAM says; without a name no, after the same work. One that cannot be asked lets nobody in."""
    try:
        if settings.CONFIG.passwords == "ldap":
            return ldap.right(settings.CONFIG.ldap, name, password)
        return pam.right(name, password)
    except PamTotpError as error:
        logging.getLogger(__name__).warning("a password could not be checked, and was refused: %s", error)
        return False


def change(person: Person, password: str) -> None:
    """Give a person another password."""
    with transaction.atomic():
        person.set_password(password)
        person.save(update_fields=["password"])
        audit.note(person.name, "password-changed", person.name)


def network(address: str) -> str:
    """What a try is charged to: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    mapped = getattr(parsed, "ipv4_mapped", None)
    if parsed.version == 4 or mapped:
        return f"net:{mapped or parsed}"
    return f"net:{ipaddress.ip_network((parsed, 64), strict=False)}"


def in_words(seconds: int) -> str:
    """A time to wait, rounded up."""
    if seconds < 120:
        return f"{seconds} seconds"
    return f"{-(-seconds // 60)} minutes" if seconds < 7200 else f"{-(-seconds // 3600)} hours"


def _charge(name: str, source: str, now: Moment) -> int:
    """Charge a try to the name and to the network; or the seconds to wait, and charge nothing."""
    with transaction.atomic():
        by_name, by_network = _tries(f"name {name.casefold()}"), _tries(source)
        of_name, of_network = _ledger(by_name), _ledger(by_network)
        wait = max(of_name.wait(source, now), _network_wait(of_network, now))
        if wait:
            return wait
        of_name.fail(source, "", now, _NEVER, note=False)
        of_network.recent = [each for each in of_network.recent if now.since(each[0]) < DAY][-FROM_A_NETWORK:]
        of_network.recent.append([now.stamp(), source])
        _save(by_name, of_name)
        _save(by_network, of_network)
        _forget_old()
    return 0


def _take_back(name: str, source: str, now: Moment) -> None:
    with transaction.atomic():
        for who in (f"name {name.casefold()}", source):
            tries = _tries(who)
            ledger = _ledger(tries)
            latest = max((at for at, each in enumerate(ledger.recent) if each[1] == source), default=None)
            if latest is not None:
                del ledger.recent[latest]
            if who != source:
                ledger.succeed(source, now)
            _save(tries, ledger)


def _network_wait(ledger: Ledger, now: Moment) -> int:
    return ledger.day_wait(now, FROM_A_NETWORK)


def _tries(who: str) -> Tries:
    key = salted_hmac("pam_totp.directory.portal.tries", who, algorithm="sha256").hexdigest()
    first = {"ledger": Ledger().encode(), "latest": timezone.now()}
    return Tries.objects.select_for_update().get_or_create(who=key, defaults=first)[0]


def _ledger(tries: Tries) -> Ledger:
    return Ledger.decode(bytes(tries.ledger))


def _save(tries: Tries, ledger: Ledger) -> None:
    ledger.seq += 1
    tries.ledger = ledger.encode()
    tries.latest = timezone.now()
    tries.save(update_fields=["ledger", "latest"])


def _forget_old() -> None:
    # A ledger that nothing has been charged to for so long holds nobody up, but it knows from where its owner comes.
    Tries.objects.filter(latest__lt=timezone.now() - timedelta(days=31)).delete()
    extra = Tries.objects.count() - MOST_TRIES
    if extra > 0:
        oldest = Tries.objects.order_by("latest").values_list("pk", flat=True)[:extra]
        Tries.objects.filter(pk__in=list(oldest)).delete()
