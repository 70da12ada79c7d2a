"""Write the secrets of users to an encrypted file, for another host or program.

They are encrypted by age or gpg. There is no export in the clear.
"""

from __future__ import annotations

import sys

from pam_totp.cache.accounts import Account
from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.host import config as configuration
from pam_totp.host import files
from pam_totp.moving import exporting

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER ...] [--all] (--age R | --openpgp FILE | --passphrase-file FILE) --output FILE."""
    parser.add_argument("users", metavar="USER", nargs="*", help="whose authenticators")
    parser.add_argument("--all", action="store_true", help="all users who have an active one")
    parser.add_argument(
        "--age", metavar="RECIPIENT", action="append", help="encrypt for a recipient of age, or those in a file"
    )
    parser.add_argument(
        "--openpgp", metavar="FILE", action="append", help="encrypt for the OpenPGP public key in this file"
    )
    parser.add_argument("--passphrase-file", metavar="FILE", help="encrypt with the passphrase in its first line")
    parser.add_argument("--output", metavar="FILE", required=True, help="a new file, or - for standard output")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Export; 1 where a user has nothing to export, and then nothing was written."""
    if bool(arguments.users) == arguments.all:
        raise UsageError("name the users, or say --all")
    if sum(1 for each in (arguments.age, arguments.openpgp, arguments.passphrase_file) if each) != 1:
        raise UsageError("say how to encrypt: with --age, --openpgp or --passphrase-file")
    if arguments.output == "-" and sys.stdout.isatty():
        raise UsageError("standard output is a terminal: name a file")
    config = configuration.load(paths.config, paths.owner)
    with Upkeep(paths) as accounts:
        accounts.check_key()
        found = _all(accounts) if arguments.all else _these(accounts, arguments.users)
    empty = [account.name for account in found if not account.active]
    if empty or not found:
        who = f"nothing is active for {', '.join(empty)}" if empty else "nobody has an active authenticator"
        print(f"pam-totp: {who}: nothing was written, see pam-totp status", file=sys.stderr)
        return 1
    sealed = _sealed(arguments, exporting.lines(found, config))
    if arguments.output == "-":
        sys.stdout.buffer.write(sealed)
    else:
        try:
            files.write_new(arguments.output, sealed, 0o600)
        except FileExistsError:
            raise UsageError(f"{arguments.output} is there: exports overwrite nothing, choose another name") from None
    for account in found:
        common.record("export", account, "encrypted")
    count = sum(len(account.active) for account in found)
    what = f"{count} authenticator{'s' * (count != 1)} of {len(found)} user{'s' * (len(found) != 1)}"
    print(f"wrote {arguments.output}: {what}, encrypted", file=sys.stderr)
    return 0


def _all(accounts: Upkeep) -> list[Account]:
    """Everybody who has an active authenticator. Raises the error of a record that does not open."""
    found = []
    for each in accounts.all():
        if not isinstance(each, Account):
            raise each
        if each.active:
            found.append(each)
    return found


def _these(accounts: Upkeep, names: list[str]) -> list[Account]:
    found = {}
    for name in names:
        recorded = common.recorded_name(accounts, name)
        found[recorded] = accounts.get(recorded) or accounts.find(common.known_user(name))
    return list(found.values())


def _sealed(arguments: argparse.Namespace, content: bytes) -> bytes:
    if arguments.age:
        return exporting.for_age(content, arguments.age)
    if arguments.openpgp:
        return exporting.for_openpgp(content, arguments.openpgp)
    return exporting.with_passphrase(content, common.passphrase(arguments.passphrase_file))
