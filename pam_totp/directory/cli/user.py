"""People."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from pam_totp.directory.models import Person

ANSWERS = {"yes": True, "no": False}
ROLES = ("user", "auditor", "helpdesk", "administrator")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is done, and to whom."""
    what = parser.add_subparsers(metavar="WHAT", required=True)
    each = what.add_parser("add", help="add people", allow_abbrev=False)
    each.add_argument("name", nargs="+")
    each.add_argument("--group", action="append", metavar="GROUP", help="default: everyone (can be repeated)")
    each.add_argument("--email", default="", help="of one person")
    each.add_argument("--display", default="", metavar="TEXT", help="a person's full name")
    each.add_argument("--role", choices=ROLES, default="user", help="in the admin portal; default: user")
    each.add_argument("--deadline", metavar="DATE", help="when the time to enrol ends: YYYY-MM-DD, or days as 7d")
    each.set_defaults(what=_add)
    each = what.add_parser("list", help="list people and how far their enrolment is", allow_abbrev=False)
    each.add_argument("name", nargs="*")
    each.set_defaults(what=_list)
    _files(what)
    each = what.add_parser("enroll", help="enrol a person here, with key and QR code on this terminal")
    each.add_argument("name")
    each.add_argument("--label", default="phone")
    each.set_defaults(what=_enroll)
    each = what.add_parser("recovery", help="print new recovery codes; earlier ones are void", allow_abbrev=False)
    each.add_argument("name")
    each.set_defaults(what=_recovery)
    each = what.add_parser("invite", help="print a one-time link for enrolling in the portal", allow_abbrev=False)
    each.add_argument("name", nargs="+")
    each.add_argument("--mail", action="store_true", help="send it by mail, and print nothing")
    each.add_argument("--days", type=int, default=7, help="how long it is good: 1 to 365; default: 7")
    each.set_defaults(what=_invite)
    each = what.add_parser("reset", help="take out authenticators and recovery codes", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("--label", help="only the authenticators with this label")
    each.add_argument("--yes", action="store_true", help="do not ask")
    each.set_defaults(what=_reset)
    for name, summary in (("lock", "refuse a person everywhere"), ("unlock", "end a lock, and waits for wrong codes")):
        each = what.add_parser(name, help=summary, allow_abbrev=False)
        each.add_argument("name", nargs="+")
        each.set_defaults(what=_lock, locked=name == "lock")
    each = what.add_parser("exempt", help="do not ask a person for codes for some time", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("until", metavar="DATE", help="YYYY-MM-DD, days as 7d, or: never")
    each.set_defaults(what=_exempt)
    _change_arguments(what.add_parser("change", help="change what is known of a person, or the groups"))
    each = what.add_parser("invitations", help="list invitations that are still good", allow_abbrev=False)
    each.set_defaults(what=_invitations)
    each = what.add_parser("role", help="give a person a role in the admin portal", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("role", choices=ROLES)
    each.set_defaults(what=_role)
    each = what.add_parser("remove", help="take a person out of the directory", allow_abbrev=False)
    each.add_argument("name")
    each.add_argument("--yes", action="store_true", help="do not ask")
    each.set_defaults(what=_remove)


def _change_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("--name", dest="new", metavar="NAME", help="another login name: hosts take it for another user")
    parser.add_argument("--email", metavar="ADDRESS")
    parser.add_argument("--display", metavar="TEXT", help="the full name")
    parser.add_argument("--deadline", metavar="DATE", help="when the time to enrol ends, or: none")
    parser.add_argument("--must-enroll", choices=ANSWERS, help="refused or enrolled, whatever a host's policy is")
    parser.add_argument("--active", choices=ANSWERS, help="no: on no host and in no portal")
    parser.add_argument("--group", action="append", metavar="GROUP", help="be in these alone (can be repeated)")
    parser.set_defaults(what=_change)


def _files(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    each = what.add_parser("import", help="add and change people from a CSV file: all or nothing", allow_abbrev=False)
    each.add_argument("file", metavar="FILE", help="- is standard input")
    each.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    each.set_defaults(what=_import)
    each = what.add_parser("export", help="write everybody as CSV, as import takes it", allow_abbrev=False)
    each.add_argument("file", metavar="FILE", help="a file that is not there yet, or - for standard output")
    each.set_defaults(what=_export)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    common.django()
    result: int = arguments.what(arguments)
    return result


def _find(name: str) -> Person:
    from pam_totp.directory import people

    return people.find(name)


def _add(arguments: argparse.Namespace) -> int:
    from django.db import transaction

    from pam_totp.directory import people

    if len(arguments.name) > 1 and (arguments.email or arguments.display):
        raise UsageError("--email and --display are of one person: add people one by one")
    deadline = common.date(arguments.deadline) if arguments.deadline else None
    fields = {"email": arguments.email, "display": arguments.display, "role": arguments.role, "deadline": deadline}
    with transaction.atomic():
        for name in arguments.name:
            people.add(common.ACTOR, name, arguments.group, **fields)
    for name in arguments.name:
        print(f"added {name}; next: pam-totp-directory user enroll {name}, or invite {name}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from django.utils import timezone

    from pam_totp.directory.models import Person

    now = timezone.now()
    people = Person.objects.prefetch_related("authenticators", "memberships")
    found = [_find(name) for name in arguments.name] or list(people)
    rows = [("NAME", "STATE", "AUTHENTICATORS", "GROUPS", "ROLE")]
    for person in found:
        state = "locked" if person.locked else str(person.state_at(now).value)
        labels = [
            each.label + (" (pending)" if each.state == "pending" else "") for each in person.authenticators.all()
        ]
        groups = [group.name for group in person.memberships.all()]
        rows.append((person.name, state, ", ".join(labels) or "-", ", ".join(groups) or "-", person.role))
    common.table(rows)
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import lists

    with common.back_to_root():
        content = sys.stdin.buffer.read(lists.LONGEST + 1) if arguments.file == "-" else common.read(arguments.file)
    done = lists.read(content, common.ACTOR, dry_run=arguments.dry_run)
    for line in done:
        print(f"would do: {line}" if arguments.dry_run else line)
    print(f"{len(done)} change{'' if len(done) == 1 else 's'}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import lists

    text = "".join(lists.written())
    if arguments.file == "-":
        sys.stdout.write(text)
        return 0
    with common.back_to_root():
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


def _enroll(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    person = _find(arguments.name)
    if not sys.stdin.isatty():
        raise UsageError("enrolling needs a terminal: use pam-totp-directory user invite for a link")
    pending, key = people.begin(common.ACTOR, person, arguments.label)
    uri = people.uri(person, key, config.load().issuer or config.load().name)
    print(_qr(uri))
    print(f"\nKey: {' '.join(key[start : start + 4] for start in range(0, len(key), 4))}\n")
    for _ in range(3):
        print("Code that the app shows: ", end="", flush=True)
        answer = sys.stdin.readline()
        if not answer:
            break
        verdict = people.confirm(common.ACTOR, person, answer.strip(), "console")
        if verdict.accepted:
            print(f"{person} is enrolled with {pending.label}. Recovery codes, for the day the phone is gone:\n")
            print("\n".join(f"  {code}" for code in people.new_recovery_codes(common.ACTOR, person)))
            return 0
        print(f"That is not right ({verdict.word}). Look at the clocks, and wait for the next code.")
    print(f"{person} is not enrolled: begin again")
    return 1


def _qr(text: str) -> str:
    from pam_totp.factors import enroll

    return enroll.qr(text, "utf8")


def _recovery(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    print("\n".join(people.new_recovery_codes(common.ACTOR, _find(arguments.name))))
    return 0


def _invite(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people
    from pam_totp.directory.cli import mail

    if not 1 <= arguments.days <= 365:
        raise UsageError("--days is 1 to 365")
    done = True
    for name in arguments.name:
        person = _find(name)
        if arguments.mail:
            people.invite_by_mail(common.ACTOR, person, arguments.days)
            if mail.sent(name):
                print(f"{name}  sent to {person.email}")
            else:
                done = False
        else:
            print(f"{name}  {people.link(people.invite(common.ACTOR, person, arguments.days), config.load().url)}")
    return 0 if done else 3


def _reset(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    person = _find(arguments.name)
    if not common.confirmed(arguments, f"Take out what {person} is enrolled with, on every host?"):
        return 1
    count = people.remove(common.ACTOR, person, arguments.label)
    if not count and arguments.label is not None:
        raise UsageError(f"{person} has no authenticator {arguments.label!r}: see user list {person}")
    print(f"{count} authenticator{'' if count == 1 else 's'} of {person} taken out")
    return 0


def _lock(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    for person in [_find(name) for name in arguments.name]:
        people.lock(common.ACTOR, person, locked=arguments.locked)
        print(f"{person} is {'locked' if arguments.locked else 'not locked'}")
    return 0


def _exempt(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    until = None if arguments.until == "never" else common.date(arguments.until)
    people.set_fields(common.ACTOR, _find(arguments.name), exempt_until=until)
    return 0


def _change(arguments: argparse.Namespace) -> int:
    from django.db import transaction

    from pam_totp.directory import people

    words = {"name": arguments.new, "email": arguments.email, "display": arguments.display}
    changed: dict[str, object] = {name: value for name, value in words.items() if value is not None}
    if arguments.deadline is not None:
        changed["deadline"] = None if arguments.deadline == "none" else common.date(arguments.deadline)
    for name, value in (("must_enroll", arguments.must_enroll), ("is_active", arguments.active)):
        if value is not None:
            changed[name] = ANSWERS[value]
    with transaction.atomic():
        person = _find(arguments.name)
        if changed:
            people.set_fields(common.ACTOR, person, **changed)
        if arguments.group is not None:
            people.put_in(common.ACTOR, person, [name for name in arguments.group if name])
    return 0


def _invitations(_: argparse.Namespace) -> int:
    from django.utils import timezone

    from pam_totp.directory.models import Invitation

    rows = [("NAME", "MADE", "MADE BY", "UNTIL")]
    good = Invitation.objects.filter(used=None, expires__gt=timezone.now()).select_related("person")
    rows += [
        (each.person.name, common.shown(each.created), each.created_by, common.shown(each.expires))
        for each in good.order_by("person__name")
    ]
    common.table(rows)
    return 0


def _role(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    people.set_fields(common.ACTOR, _find(arguments.name), role=arguments.role)
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from pam_totp.directory import people

    person = _find(arguments.name)
    if not common.confirmed(arguments, f"Take {person} out of the directory? Every host refuses the name then."):
        return 1
    people.delete(common.ACTOR, person)
    return 0
