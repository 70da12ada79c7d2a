"""Give a user a new secret, shown as a QR code and as text; or many users, with a page for each.

Asks for a code and activates the secret on the first right one. Breaking off leaves it pending, and an authenticator
that was active before keeps working. Those of many users are pending, too.
"""

from __future__ import annotations

import json
import shutil
import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common, confirm, enroll_many, many
from pam_totp.errors import UsageError
from pam_totp.factors import enroll as enrolment
from pam_totp.host import config as configuration
from pam_totp.host import users
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.cache.accounts import Authenticator
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER [--label L] [--qr STYLE] [--no-account] [--no-confirm] [--replace] [--json], or --from FILE and the like."""
    parser.add_argument("user", metavar="USER", nargs="?", help="login name, as getent passwd knows it")
    many.arguments(parser, "a list of names, or CSV or JSON lines with user, label, secret")
    parser.add_argument(
        "--active", action="store_true", help="with many: secrets that the list brings count at once, without a code"
    )
    parser.add_argument(
        "--label",
        default=enrolment.DEFAULT_LABEL,
        metavar="L",
        help="name of the authenticator (default: %(default)s); one with the same label is replaced when confirmed",
    )
    parser.add_argument("--qr", choices=enrolment.STYLES, help="how to draw the QR code (default: as the terminal is)")
    parser.add_argument(
        "--no-account", action="store_true", help="for somebody without a Unix account, whom the verify service knows"
    )
    parser.add_argument("--no-confirm", action="store_true", help="leave it pending: pam-totp confirm activates it")
    parser.add_argument("--replace", action="store_true", help="void one that is pending already, without asking")
    parser.add_argument("--json", action="store_true", help="print one JSON document (needs --no-confirm)")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Enrol."""
    if many.wanted(arguments):
        if arguments.no_account:
            raise UsageError("--no-account goes with one USER: leave it out")
        return enroll_many.run(arguments, paths)
    if arguments.user is None:
        raise UsageError("say who: give a USER, --from FILE or --group G")
    if arguments.active:
        raise UsageError("--active goes with --from: leave it out")
    return _one(arguments, paths)


def _one(arguments: argparse.Namespace, paths: Paths) -> int:
    if arguments.json and not arguments.no_confirm:
        raise UsageError("--json needs --no-confirm: a program confirms with pam-totp confirm afterwards")
    label = enrolment.check_label(arguments.label)
    config = configuration.load(paths.config, paths.owner)
    user = _newcomer(arguments.user) if arguments.no_account else common.person(arguments.user, paths)
    with Accounts(paths) as accounts:
        account = accounts.find(user)
        pending = account.pending
        if pending is not None and not arguments.replace and not _void(account.name, pending):
            print("nothing changed")
            return 1
        with accounts.lock(account.name):
            account = accounts.find(user)
            if _identifier(account.pending) not in (None, _identifier(pending)):
                raise UsageError(
                    f"{user.name} was enrolled by somebody else meanwhile: see pam-totp status {user.name}"
                )
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
        common.caution(paths)
        return 0
    try:
        return confirm.ask_until_right(user, paths, config)
    except KeyboardInterrupt:
        print(f"\nLeft pending: run pam-totp confirm {account.name} to finish.", file=sys.stderr)
        return 1


def _void(name: str, pending: Authenticator) -> bool:
    """Whether a pending authenticator is to make room for another. Raises UsageError where nobody can be asked."""
    what = f"{name} has a pending authenticator already ({pending.label}, of {common.minute(pending.created)} UTC)"
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: finish it with pam-totp confirm {name}, or void it with --replace")
    return common.sure(f"{what}: pam-totp confirm {name} finishes it.\nVoid it, and make another one? [y/N] ")


def _identifier(authenticator: Authenticator | None) -> str | None:
    return None if authenticator is None else authenticator.identifier


def _newcomer(name: str) -> users.User:
    """Somebody who has no Unix account. Raises UsageError where NSS knows the name."""
    if users.find(name) is not None:
        raise UsageError(f"{name} has an account on this host: leave out --no-account")
    return users.without_account(name)


def _picture(uri: str, style: str | None) -> str:
    # A line that wraps does not scan; the key and the URI below the picture are always there.
    picture = enrolment.qr(uri, common.qr_style(style))
    if sys.stdout.isatty() and len(picture.partition("\n")[0]) > shutil.get_terminal_size().columns:
        return "(the terminal is too narrow for the QR code: make it wider, or type the key)"
    return picture
