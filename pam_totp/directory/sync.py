"""People and groups as LDAP has them, put into the directory: all of it in one transaction, or nothing.

It adds people, changes what LDAP says of them, locks who is gone or disabled there, and keeps the groups that it has
made. It gives no role, lets nobody in, ends no lock but its own, and leaves alone people with a role whom it has not
made: who can put things right when LDAP is wrong is not LDAP's to change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction

from pam_totp.directory import audit, letters, people
from pam_totp.directory.models import Group, Person
from pam_totp.errors import PamTotpError

if TYPE_CHECKING:
    from pam_totp.directory.ldap import Entry, Found

ACTOR = SOURCE = "ldap"
# Of those that are there, so many may be locked, or leave a group, at once: more look like a server that lost its data.
SHARE, FEW = 0.2, 5
# A person on every host, and nobody's to enrol by the way.
_NEVER = frozenset({"root"})


class TooMuchError(PamTotpError):
    """So much would be taken away that somebody has to look first."""

    reason = "too-much"
    exit_code = 1


@dataclass
class Report:
    """What was done, one line each, and what was left alone and why."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    deeds: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def note(self, action: str, target: str, **detail: Any) -> None:
        """Have this in the audit trail, when all of it is done."""
        self.deeds.append((action, target, detail))


@dataclass
class _Taken:
    """Who loses something, of how many."""

    locked: set[str] = field(default_factory=set)
    people: int = 0
    out_of_groups: set[str] = field(default_factory=set)
    members: int = 0


def put(found: Found, *, dry_run: bool, anyway: bool, renumbered: bool = False) -> Report:
    """Put this into the directory; with ``dry_run`` only say what would be done. Raises TooMuchError.

    ``renumbered``: the server was set up anew, so that its entries have other ids and are the same people.
    """
    report, taken = Report(), _Taken()
    with transaction.atomic():
        ours = _people(found, report, taken, renumbered=renumbered)
        _groups(found, ours, report, taken)
        _look(found, taken, anyway=anyway)
        if report.deeds:
            audit.notes(ACTOR, report.deeds)
        if dry_run:
            transaction.set_rollback(True)
    return report


def _look(found: Found, taken: _Taken, *, anyway: bool) -> None:
    if anyway:
        return
    if not found.people:
        raise TooMuchError("LDAP has nobody: nothing was changed; look at [ldap] in directory.toml, or say --yes")
    for what, some, of in (
        ("locked", taken.locked, taken.people),
        ("taken out of groups", taken.out_of_groups, taken.members),
    ):
        if len(some) > FEW and len(some) > SHARE * of:
            names = ", ".join(sorted(some)[:FEW])
            raise TooMuchError(
                f"{len(some)} of {of} people would be {what} ({names}, ...): nothing was changed; "
                "look with --dry-run --yes, and say --yes where that is meant"
            )


# People


def _people(found: Found, report: Report, taken: _Taken, *, renumbered: bool) -> dict[str, Person]:
    """Bring the people up to date; returns those that are LDAP's."""
    there = {each.name: each for each in Person.objects.select_for_update()}
    taken.people = sum(1 for each in there.values() if each.source == SOURCE and not each.locked)
    ours, new = {}, []
    for name, entry in sorted(found.people.items()):
        if name in _NEVER:
            report.left.append(f"{name!r} is not taken from LDAP")
            continue
        person = there.get(name)
        if person is None:
            person = _new(entry, report)
            new += [person] if person else []
        elif person.source != SOURCE and person.role != Person.Role.USER:
            report.left.append(f"{name} has a role and is not of LDAP")
            continue
        elif renumbered or entry.ident == person.entry or person.source != SOURCE or _has_nothing(person):
            _change(person, entry, report, taken)
        else:
            # The name of an earlier one, whose authenticators are here, and maybe somebody else.
            report.left.append(
                f"{person} is another entry than before: pam-totp-directory user reset {person}, if meant"
            )
            _lock(person, "another entry", report, taken)
        if person is not None:
            ours[name] = person
    Person.objects.bulk_create(new, batch_size=500)
    everyone = Group.objects.filter(name=people.EVERYONE).first()
    if everyone is not None and new:
        # Which has their hosts published anew.
        everyone.persons.add(*new)
    for name, person in there.items():
        if person.source == SOURCE and name not in found.people:
            _lock(person, "gone", report, taken)
    return ours


def _has_nothing(person: Person) -> bool:
    """Whether nothing of a person could come into somebody else's hands by the name."""
    return person.role == Person.Role.USER and person.exempt_until is None and not person.authenticators.exists()


def _new(entry: Entry, report: Report) -> Person | None:
    person = Person(name=entry.name, source=SOURCE, locked=entry.disabled, locked_by=SOURCE if entry.disabled else "")
    person.set_unusable_password()
    _describe(person, entry)
    if not _valid(person, entry, report):
        return None
    report.note("person-added", person.name, role=person.role, locked=person.locked)
    report.done.append(f"{person}: added" + (", locked: disabled" if person.locked else ""))
    return person


def _change(person: Person, entry: Entry, report: Report, taken: _Taken) -> None:
    before, address = _fields(person), person.email
    adopted = person.source != SOURCE
    person.source = SOURCE
    _describe(person, entry)
    if not _valid(person, entry, report):
        person.refresh_from_db()
        return
    changed = [name for name, value in _fields(person).items() if before[name] != value]
    if changed:
        person.save(update_fields=changed)
        letters.moved(person, ACTOR, address)
        report.note("person-changed", person.name, fields=changed)
        report.done.append(f"{person}: " + ("is LDAP's from now on" if adopted else f"changed: {', '.join(changed)}"))
    if entry.disabled:
        _lock(person, "disabled", report, taken)
    elif person.locked and person.locked_by == SOURCE:
        # Waits for wrong codes go on: who rules LDAP must not be able to end them.
        person.locked, person.locked_by = False, ""
        person.save(update_fields=["locked", "locked_by"])
        report.note("unlocked", person.name)
        report.done.append(f"{person}: unlocked")


def _lock(person: Person, why: str, report: Report, taken: _Taken) -> None:
    if person.locked:
        return
    person.locked, person.locked_by = True, SOURCE
    person.save(update_fields=["locked", "locked_by"])
    report.note("locked", person.name, why=why)
    report.done.append(f"{person}: locked: {why}")
    taken.locked.add(person.name)


def _describe(person: Person, entry: Entry) -> None:
    """What is known of somebody. A text that is no name or address is none: it keeps nobody out."""
    person.entry = entry.ident
    person.uid_number = entry.uid_number
    person.display = "".join(letter for letter in entry.display if letter.isprintable())[:150]
    person.email = entry.email


def _fields(person: Person) -> dict[str, object]:
    return {name: getattr(person, name) for name in ("source", "entry", "uid_number", "display", "email")}


def _valid(person: Person, entry: Entry, report: Report) -> bool:
    try:
        person.clean_fields(exclude=["password"])
    except ValidationError as error:
        if set(error.message_dict) == {"email"}:
            report.left.append(f"{person}: {entry.email!r:.80} is no e-mail address")
            person.email = ""
            return True
        report.left.append(f"{entry.name!r:.80} is not taken: {'; '.join(error.messages)}")
        return False
    return True


# Groups


def _groups(found: Found, ours: dict[str, Person], report: Report, taken: _Taken) -> None:
    there = {each.name: each for each in Group.objects.prefetch_related("persons")}
    members: set[str] = set()
    for name, names in sorted(found.groups.items()):
        group = there.get(name)
        if group is None:
            group = Group(name=name, source=SOURCE)
            try:
                group.full_clean()
            except ValidationError:
                report.left.append(f"the group {name!r:.80} is not taken: that is no name of a group here")
                continue
            group.save()
            report.note("group-made", name)
            report.done.append(f"group {name}: made")
        elif group.source != SOURCE:
            report.left.append(f"the group {name} is not of LDAP")
            continue
        wanted = {each: ours[each] for each in names if each in ours}
        members |= _members(group, wanted, report, taken)
    for name, group in there.items():
        # Who may use which hosts hangs on it, so it stays, empty. Where groups are not asked for, none is gone.
        if group.source == SOURCE and found.groups and name not in found.groups:
            members |= _members(group, {}, report, taken)
    taken.members = len(members)


def _members(group: Group, wanted: dict[str, Person], report: Report, taken: _Taken) -> set[str]:
    """Have these people, of all of LDAP's, in a group; returns who was in it."""
    now = {each.name: each for each in group.persons.all() if each.source == SOURCE} if group.pk else {}
    gone = {name: each for name, each in now.items() if name not in wanted}
    new = {name: each for name, each in wanted.items() if name not in now}
    for some, inside in ((gone, False), (new, True)):
        if some:
            (group.persons.add if inside else group.persons.remove)(*some.values())
            report.note("group-changed", group.name, people=sorted(some), inside=inside)
            report.done.append(f"group {group}: {'with' if inside else 'without'} {', '.join(sorted(some))}")
    taken.out_of_groups |= gone.keys()
    return set(now)
