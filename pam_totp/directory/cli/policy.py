"""What holds on the hosts of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.cli import common
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from pam_totp.directory.models import Policy

ANSWERS = {"yes": True, "no": False}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Of which group, and what is to be changed."""
    parser.add_argument("group", nargs="?", default="hosts", metavar="HOSTGROUP", help="default: hosts")
    parser.add_argument("--mfa", choices=ANSWERS, help="whether codes are asked for at all")
    parser.add_argument(
        "--unenrolled",
        choices=("skip", "invite", "enroll", "deny"),
        help="somebody who is not enrolled is not asked, enrols with an invitation or at the prompt, or is refused",
    )
    parser.add_argument("--days", type=int, metavar="N", help="how long people have to enrol: 1 to 365")
    parser.add_argument("--max-offline", metavar="HOURS", help="hosts without news for so long refuse; or: none")
    parser.add_argument("--break-glass", action="append", metavar="NAME", help="who gets in then (can be repeated)")
    parser.add_argument("--claims", choices=ANSWERS, help="whether a code is good once in the whole fleet")


def run(arguments: argparse.Namespace) -> int:
    """Show it, or change it."""
    common.django()
    from django.db import transaction

    from pam_totp.directory import audit, hosts
    from pam_totp.directory.models import Policy

    with transaction.atomic():
        group = hosts.group_named(arguments.group)
        policy, _ = Policy.objects.get_or_create(host_group=group)
        changed = _changed(arguments)
        if changed:
            for name, value in changed.items():
                setattr(policy, name, value)
            _check(policy)
            policy.save()
            audit.note(common.ACTOR, "policy-changed", group.name, **changed)
    _show(policy)
    return 0


def _changed(arguments: argparse.Namespace) -> dict[str, object]:
    changed: dict[str, object] = {}
    if arguments.mfa:
        changed["mfa"] = ANSWERS[arguments.mfa]
    if arguments.claims:
        changed["claims"] = ANSWERS[arguments.claims]
    if arguments.unenrolled:
        changed["unenrolled"] = arguments.unenrolled
    if arguments.days is not None:
        changed["enrolment_days"] = arguments.days
    if arguments.max_offline is not None:
        if arguments.max_offline != "none" and not arguments.max_offline.isdigit():
            raise UsageError("--max-offline is a number of hours, or none")
        changed["max_offline"] = None if arguments.max_offline == "none" else int(arguments.max_offline) * 3600
    if arguments.break_glass is not None:
        changed["break_glass"] = [name for name in arguments.break_glass if name]
    return changed


def _check(policy: Policy) -> None:
    from django.core.exceptions import ValidationError

    try:
        policy.full_clean()
    except ValidationError as error:
        raise UsageError(f"the policy cannot be so: {'; '.join(error.messages)}") from None


def _show(policy: Policy) -> None:
    offline = "none" if policy.max_offline is None else f"{policy.max_offline // 3600} hours"
    common.table(
        [
            ("SETTING", "VALUE"),
            ("mfa", "yes" if policy.mfa else "no"),
            ("unenrolled", policy.unenrolled),
            ("days", str(policy.enrolment_days)),
            ("max-offline", offline),
            ("break-glass", ", ".join(policy.break_glass) or "-"),
            ("claims", "yes" if policy.claims else "no"),
        ]
    )
