"""Fills a directory with people and hosts, and changes it, with the package's own parts; runs in its machine as root.

Usage: fleet_site.py VERB..., each with a line of JSON on standard output:
    people COUNT PEOPLE
                       the people of such hosts, each with an authenticator and recovery codes
    hosts COUNT PEOPLE so many hosts in a host group of their own, which these people may use. What each has to know
                       goes to the file hosts.json beside this one
    published GROUP    wait until the tree has everything for the hosts of this host group: seconds
    change GROUP       change one of its people: when it was committed, and after how many seconds the tree had it
    forget GROUP       remove the hosts

One by one, hosts would cost several durable writes each to join, and people two; here it is one transaction for all, of
the same rows.
"""

import base64
import json
import os
import secrets
import sys
import time

sys.path.insert(0, "/usr/lib/pam-totp-directory")

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.directory.keeper import client, keys, state
from pam_totp.fleet import tree

HOSTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hosts.json")
PATIENCE = 4 * 3600.0  # ten million records take a while at first


def people(count: int, reached: int) -> dict[str, object]:
    """People with everything that a record has."""
    from django.db import transaction

    from pam_totp.directory.models import Authenticator, Group, Person, RecoveryCodes

    began = time.time()
    with transaction.atomic():
        group = Group.objects.create(name=f"h{count}p{reached}")
        names = [f"u{count}x{reached}x{number}" for number in range(reached)]
        Person.objects.bulk_create(Person(name=name, password="!") for name in names)
        made = list(Person.objects.filter(name__in=names))
        Group.persons.through.objects.bulk_create(
            Group.persons.through(group_id=group.pk, person_id=each.pk) for each in made
        )
    # The keeper is asked outside of a transaction: the web process shall not wait.
    answers = [(each, client.ask("new", person=each.pk)) for each in made]
    with transaction.atomic():
        Authenticator.objects.bulk_create(
            Authenticator(ident=said["id"], person=each, state="active", secret=client.content(said["sealed"]))
            for each, said in answers
        )
        RecoveryCodes.objects.bulk_create(
            RecoveryCodes(person=each, salt=secrets.token_hex(16), hashes=[secrets.token_hex(16) for _ in range(10)])
            for each in made
        )
    return {"seconds": time.time() - began}


def hosts(count: int, reached: int) -> dict[str, object]:
    """Hosts that have joined, as the keeper and the database would say of them."""
    from django.db import transaction

    from pam_totp.directory.models import Access, Authenticator, Group, Host, HostGroup, hash_of

    name, now = f"h{count}p{reached}", int(time.time())
    made = []
    for number in range(count):
        private, public = tree.new_box_key()
        made.append((tree.new_identifier(), f"{name}n{number}", secrets.token_urlsafe(32), private, public))
    with common.back_to_root():
        kept = state.State(os.path.join(config.KEYS, state.FILE))
        with kept.change():
            for ident, called, _, _, public in made:
                kept.add_host(ident, called, public, now)
    with transaction.atomic():
        group = HostGroup.objects.create(name=name)
        Access.objects.create(group=Group.objects.get(name=name), host_group=group)
        Host.objects.bulk_create(
            Host(ident=ident, name=called, group=group, key=public, token_hash=hash_of(token))
            for ident, called, token, _, public in made
        )
    begun = time.time()
    identity = keys.load_identity(config.IDENTITY)
    known = Authenticator.objects.filter(person__memberships__name=name).values_list("ident", flat=True)
    content = {
        "directory": identity.directory,
        "key": base64.b64encode(identity.signing).decode(),
        "authenticators": list(known),
        "hosts": [[ident, token, base64.b64encode(private).decode()] for ident, _, token, private, _ in made],
    }
    with common.back_to_root(), open(HOSTS, "w", encoding="ascii") as file:
        json.dump(content, file)
    return {"group": name, "begun": begun}


def behind(group: str) -> int:
    """How many hosts of a group the tree lacks something for."""
    from django.db.models import F

    from pam_totp.directory.models import Host

    return Host.objects.filter(group__name=group, revoked=None, changes__gt=F("done")).count()


def published(group: str) -> dict[str, object]:
    """Wait for the tree."""
    began = time.time()
    while behind(group):
        if time.time() - began > PATIENCE:
            raise SystemExit("the tree is not complete")
        time.sleep(0.05)
    return {"until": time.time(), "seconds": time.time() - began}


def change(group: str) -> dict[str, object]:
    """Lock somebody, or unlock."""
    from pam_totp.directory.models import Person

    person = Person.objects.filter(memberships__accesses__host_group__name=group).order_by("pk")[0]
    person.locked = not person.locked
    person.save(update_fields=["locked"])
    return {"at": time.time(), **published(group)}


def forget(group: str) -> dict[str, object]:
    """Have no such hosts any more."""
    from django.db import transaction

    from pam_totp.directory.models import Access, Host, HostGroup, Published

    with transaction.atomic():
        Published.objects.filter(host__group__name=group).delete()
        gone = list(Host.objects.filter(group__name=group).values_list("ident", flat=True))
        Host.objects.filter(group__name=group).delete()
        Access.objects.filter(host_group__name=group).delete()
        HostGroup.objects.filter(name=group).delete()
    return {"hosts": len(gone)}


if __name__ == "__main__":
    common.django()
    verb, *words = sys.argv[1:]
    does = {"people": people, "hosts": hosts, "published": published, "change": change, "forget": forget}[verb]
    arguments = map(int, words) if verb in ("people", "hosts") else words
    print(json.dumps(does(*arguments)))  # type: ignore[operator]  # each has its own arguments
