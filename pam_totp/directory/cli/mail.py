"""Mail: a test, what waits, and sending what is due."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is done."""
    what = parser.add_subparsers(metavar="WHAT", required=True)
    each = what.add_parser("test", help="send a mail to an address", allow_abbrev=False)
    each.add_argument("address", metavar="ADDRESS")
    each.set_defaults(what=_test)
    each = what.add_parser("list", help="list mails that wait, or that no server takes", allow_abbrev=False)
    each.set_defaults(what=_list)
    each = what.add_parser("send", help="send what is due; a timer does it every minute", allow_abbrev=False)
    each.set_defaults(what=_send)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    if not config.load().mail.server:
        if arguments.what is _send:
            return 0
        raise UsageError(f"no mail is sent here: name a server in [mail] of {config.FILE}")
    if os.geteuid() == common.account(config.USER)[0]:
        common.setup()
    else:
        common.django()
    result: int = arguments.what(arguments)
    return result


def _test(arguments: argparse.Namespace) -> int:
    from django.core.exceptions import ValidationError
    from django.core.validators import validate_email
    from django.utils import timezone

    from pam_totp.directory import mail

    try:
        validate_email(arguments.address)
    except ValidationError:
        raise UsageError(f"{arguments.address!r} is no e-mail address") from None
    mail.test(config.load(), arguments.address, timezone.now())
    print(f"the mail server has taken a mail to {arguments.address}")
    return 0


def _list(_: argparse.Namespace) -> int:
    from pam_totp.directory.models import Letter

    rows = [("WHAT", "TO", "SINCE", "NEXT", "PROBLEM")]
    for letter in Letter.objects.filter(sent=None).select_related("person"):
        due = "given up" if letter.given_up else common.shown(letter.due)
        rows.append((str(letter), letter.address, common.shown(letter.created), due, letter.problem or "-"))
    common.table(rows)
    return 0


def _send(_: argparse.Namespace) -> int:
    from django.utils import timezone

    from pam_totp.directory import letters, mail

    now = timezone.now()
    letters.remind(now)
    # What waits on is in the log, and for doctor.
    return 3 if mail.run(config.load(), now) else 0


def sent(name: str) -> bool:
    """Send what waits for one person now; whether it went."""
    from django.utils import timezone

    from pam_totp.directory import mail, people

    trouble = mail.run(config.load(), timezone.now(), people.find(name).pk)
    if trouble:
        print(f"{name}: not sent yet, and tried again every minute: {trouble}", file=sys.stderr)
    return not trouble
