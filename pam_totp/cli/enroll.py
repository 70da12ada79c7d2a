"""Give a user a new secret, shown as a QR code and as text.

Asks for a code and activates the secret on the first right one. Breaking off leaves it pending, and an authenticator
that was active before keeps working.
"""

from __future__ import annotations

import json
import shutil
import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common, confirm
from pam_totp.errors import UsageError
from pam_totp.factors import enroll as enrolment
from pam_totp.host import config as configuration
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER [--label L] [--qr STYLE] [--no-confirm] [--json]."""
    common.user_argument(parser)
    parser.add_argument(
        "--label",
        default=enrolment.DEFAULT_LABEL,
        metavar="L",
        help="name of the authenticator (default: %(default)s); one with the same label is replaced when confirmed",
    )
    parser.add_argument("--qr", choices=enrolment.STYLES, help="how to draw the QR code (default: as the terminal is)")
    parser.add_argument("--no-confirm", action="store_true", help="leave it pending: pam-totp confirm activates it")
    parser.add_argument("--json", action="store_true", help="print one JSON document (needs --no-confirm)")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Enrol."""
    if arguments.json and not arguments.no_confirm:
        raise UsageError("--json needs --no-confirm: a program confirms with pam-totp confirm afterwards")
    label = enrolment.check_label(arguments.label)
    config = configuration.load(paths.config, paths.owner)
    user = common.known_user(arguments.user)
    with Accounts(paths) as accounts:
        name = accounts.find(user).name
        with accounts.lock(name):
            account = accounts.find(user)
            if account.name != user.name:
                raise UsageError(
                    f"{user.name} is another name of {account.name} (uid {user.uid}), whose codes count for both: "
                    f"enrol {account.name}"
                )
            authenticator = enrolment.begin(account, label, int(now().wall))
            accounts.save(account)
    common.record("enroll", account, f"label {label}, pending")
    uri = enrolment.uri(account, authenticator, config)
    key = enrolment.base32(authenticator.secret)
    if arguments.json:
        fields = {"user": account.name, "label": label, "state": "pending", "secret": key, "uri": uri}
        print(json.dumps(fields))
        return 0
    print(f"New secret for {account.name} (label {label}). Scan it, or type the key into the app:\n")
    picture = _picture(uri, arguments.qr)
    if picture:
        print(picture + "\n")
    print(f"  key  {enrolment.grouped(key)}")
    print(f"  uri  {uri}\n")
    if arguments.no_confirm:
        print(f"Pending: {account.name} is not asked for a code before pam-totp confirm {account.name} has seen one.")
        return 0
    try:
        return confirm.ask_until_right(user, paths, config)
    except KeyboardInterrupt:
        print(f"\nLeft pending: run pam-totp confirm {account.name} to finish.", file=sys.stderr)
        return 1


def _picture(uri: str, style: str | None) -> str:
    # A line that wraps does not scan; the key and the URI below the picture are always there.
    picture = enrolment.qr(uri, common.qr_style(style))
    if sys.stdout.isatty() and len(picture.partition("\n")[0]) > shutil.get_terminal_size().columns:
        return "(the terminal is too narrow for the QR code: make it wider, or type the key)"
    return picture
