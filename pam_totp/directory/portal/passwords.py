"""The first factor: is this the password of that person? Nothing tells a name that there is from one that there is not.

A try is charged before it is looked at, to a ledger of the name and to one of the network that it comes from, like a
code at a login: many tries at once are as many as one after the other. A right one takes its charge back.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING

from django.contrib.auth import hashers
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from pam_totp.cache.ledger import DAY, Ledger
from pam_totp.directory import audit
from pam_totp.directory.models import Person
from pam_totp.directory.portal.models import Tries
from pam_totp.host import clock

if TYPE_CHECKING:
    from pam_totp.host.clock import Moment

WRONG = "Name and password do not belong together, or are not known here."
# From one network, with whatever names, in a day; many people may share one.
FROM_A_NETWORK = 240
# The table cannot grow without an end: the oldest go first.
MOST_TRIES = 100_000
# No number of wrong passwords locks anybody: codes are what locks.
_NEVER = 1 << 62


def check(name: str, password: str, address: str) -> tuple[Person | None, str]:
    """Whose password it is; or nobody, and what to say."""
    source, now = network(address), clock.now()
    wait = _charge(name, source, now)
    if wait:
        return None, f"Too many tries. Try again in {in_words(wait)}."
    person = Person.objects.filter(name=name, is_active=True).first()
    if person is not None and person.has_usable_password():
        right = hashers.check_password(password, person.password)
    else:
        # As long as it takes for somebody.
        hashers.make_password(password)
        right = False
    if not right or person is None:
        return None, WRONG
    _take_back(name, source, now)
    return person, ""


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
