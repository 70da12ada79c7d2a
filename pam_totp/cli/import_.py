"""Import authenticators from other programs: all of a source, or nothing.

They are active at once, and users go on with the codes that their apps show. Secrets are read from files or standard
input. What is not TOTP with SHA-1, six digits and 30 seconds is refused by name.
"""

from __future__ import annotations

import json
import os
import sys

from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.factors import enroll as enrolment
from pam_totp.host import config as configuration
from pam_totp.host import files, users
from pam_totp.host.clock import now
from pam_totp.moving import google, importing, oath, privacyidea, pskc, uris
from pam_totp.moving.entries import LARGEST_FILE, Entry, FormatError, NotSupportedError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pam_totp.host.paths import Paths
    from pam_totp.moving.importing import Plan

_FORMATS = ("google", "oath", "uri", "pskc", "privacyidea")
_HEAD = ("USER", "AUTHENTICATOR", "RESULT", "FROM", "NOTES")
_SMALL_FILE = 1 << 20
_EVERY = 250
_FEW_NAMES = 5
# What a pam_google_authenticator line has for secret= where it has nothing.
_GOOGLE_FILE = "~/.google_authenticator"


def arguments(parser: argparse.ArgumentParser) -> None:
    """--format FORMAT [SOURCE ...] [options]."""
    parser.add_argument(
        "--format", choices=_FORMATS, required=True, help="which program's: see pam-totp(8), MOVING IN AND OUT"
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*",
        help="files, - for standard input; for google: users (default: everybody who has such a file)",
    )
    parser.add_argument(
        "--label", metavar="L", default="", help="name of the authenticators (default: the serial number, or phone)"
    )
    parser.add_argument(
        "--path",
        metavar="PATH",
        default=_GOOGLE_FILE,
        help="google: where the files are, as secret= of the PAM line has it (default: %(default)s)",
    )
    parser.add_argument("--owners", metavar="FILE", help="pskc, privacyidea: lines SERIAL USER, where it does not say")
    parser.add_argument("--key-file", metavar="FILE", help="pskc: the pre-shared key, in hexadecimal or base64")
    parser.add_argument("--passphrase-file", metavar="FILE", help="pskc: the passphrase, in the first line")
    parser.add_argument("--skip", action="store_true", help="import the others where something is refused")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document: a list of objects")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Import; 1 where something is refused, and then nothing was imported, unless it was to be skipped."""
    label = enrolment.check_label(arguments.label) if arguments.label else ""
    config = configuration.load(paths.config, paths.owner)
    found = _read(arguments)
    owners = importing.Owners()
    bar = _Bar()
    with Upkeep(paths) as accounts:
        accounts.check_key()

        def prepare() -> Plan:
            return importing.plan(accounts, found, owners, config, label, int(now().wall), bar)

        if arguments.dry_run:
            plan = prepare()
        else:
            entries = (each for each in found if isinstance(each, Entry))
            names = [user.name for user in map(owners.of, entries) if user is not None]
            plan = importing.carry_out(accounts, prepare, names, arguments.skip)
    bar.end()
    done = not arguments.dry_run and (arguments.skip or not plan.refused)
    if done:
        for account in plan.changed.values():
            labels = (
                ", ".join(row.label for row in plan.rows if row.name == account.name) if len(plan.rows) < 100 else ""
            )
            common.record("import", account, f"from {arguments.format}" + (f", label {labels}" if labels else ""))
    if arguments.json:
        print(json.dumps(_objects(plan, done), indent=2))
    else:
        _tell(plan, arguments, done)
    return 1 if plan.refused and not (done and arguments.skip) else 0


class _Bar:
    """How far it is, for somebody at a terminal."""

    def __init__(self) -> None:
        self._shown = False
        self._terminal = sys.stderr.isatty()

    def __call__(self, what: str, place: int, total: int) -> None:
        if self._terminal and place % _EVERY == 0 and total > _EVERY:
            self._shown = True
            print(f"\r{what}: {place} of {total} ", end="", flush=True, file=sys.stderr)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", flush=True, file=sys.stderr)


def _read(arguments: argparse.Namespace) -> list[Entry | Refused]:
    """Everything that the sources hold. Raises UsageError, or FormatError."""
    if arguments.format == "google":
        return _google(arguments.source, arguments.path)
    if not arguments.source:
        raise UsageError("name the file to import, or - for standard input")
    owners = _owners(arguments.owners)
    found: list[Entry | Refused] = []
    for source in arguments.source:
        content = common.secret_file(source, LARGEST_FILE)
        try:
            if arguments.format == "oath":
                found += oath.parse(content)
            elif arguments.format == "uri":
                found += uris.parse(content)
            elif arguments.format == "pskc" or content.lstrip()[:1] == b"<":
                key, phrase = _key(arguments.key_file), _passphrase(arguments.passphrase_file)
                found += pskc.parse(content, owners, key, phrase)
            else:
                found += privacyidea.parse(content, owners)
        except FormatError as error:
            raise FormatError(f"{_named(source)}: {error}; nothing was imported") from None
    return found


def _named(source: str) -> str:
    return "standard input" if source == "-" else source


def _google(names: Sequence[str], pattern: str) -> list[Entry | Refused]:
    """The files of these users, or of everybody who has one. Raises UsageError where there are none."""
    everybody = {name: (uid, home) for name, uid, home, _ in reversed(users.everybody())}
    found: list[Entry | Refused] = []
    for name in names or sorted(everybody):
        if name in everybody:
            uid, home = everybody[name]
        else:
            # A directory service may list none of its users.
            user = common.known_user(name)
            uid, home = user.uid, users.home(user)
        path = _place(pattern, name, home)
        try:
            found.append(google.parse(_of_a_user(path, uid), name, path))
        except FileNotFoundError:
            if names:
                found.append(Refused(path, name, "there is no such file"))
        except NotADirectoryError:
            continue  # a home such as /dev/null
        except files.UnsafeFileError as error:
            found.append(Refused(path, name, f"not a private file of the user: {error}"))
        except OSError as error:
            found.append(Refused(path, name, f"cannot be read: {error.strerror}"))
        except (FormatError, NotSupportedError) as error:
            found.append(Refused(path, name, str(error)))
    if not found:
        raise UsageError(f"nobody has a file {pattern}: say where they are with --path")
    return found


def _place(pattern: str, name: str, home: str) -> str:
    if pattern.startswith("~/"):
        pattern = f"{home}/{pattern[2:]}"
    return pattern.replace("${USER}", name).replace("%u", name).replace("${HOME}", home).replace("%h", home)


def _of_a_user(path: str, uid: int) -> bytes:
    """A file below a home is the user's, who could put there what others may not read: so it must be the user's own."""
    owner = os.lstat(path).st_uid
    return files.read(path, owner if owner == 0 else uid, _SMALL_FILE)


def _owners(path: str | None) -> dict[str, str]:
    """Serial numbers and their users. Raises UsageError."""
    found = {}
    for place, line in enumerate(
        common.secret_file(path, _SMALL_FILE).decode("utf-8", "replace").split("\n") if path else (), 1
    ):
        words = line.split()
        if words and not words[0].startswith("#"):
            if len(words) != 2 or words[0] in found:
                raise UsageError(f"{path}, line {place}: write SERIAL USER, each serial number once")
            found[words[0]] = words[1]
    return found


def _key(path: str | None) -> bytes:
    """A pre-shared key. Raises UsageError."""
    if path is None:
        return b""
    text = "".join(common.secret_file(path, _SMALL_FILE).decode("ascii", "replace").split())
    key = pskc.key_of(text)
    if key is None:
        raise UsageError(f"{path} has no key of AES: 16, 24 or 32 bytes in hexadecimal or base64")
    return key


def _passphrase(path: str | None) -> bytes:
    """A passphrase. Raises UsageError."""
    if path is None:
        return b""
    return common.passphrase(path)


def _objects(plan: Plan, done: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {
            "user": row.name,
            "label": row.label,
            "result": row.result,
            "imported": done and row.result != importing.THERE,
            "from": row.entry.where,
            "notes": row.entry.notes,
        }
        for row in plan.rows
    ]
    refused: list[dict[str, object]] = [
        {"user": each.name, "result": "refused", "imported": False, "from": each.where, "reason": each.reason}
        for each in plan.refused
    ]
    return rows + refused


def _tell(plan: Plan, arguments: argparse.Namespace, done: bool) -> None:
    if arguments.dry_run:
        rows = [(row.name, row.label, row.result, row.entry.where, "; ".join(row.entry.notes)) for row in plan.rows]
        rows += [(each.name, "-", "refused", each.where, each.reason) for each in plan.refused]
        if rows:
            common.table(_HEAD, rows)
    else:
        for each in plan.refused:
            print(f"pam-totp: refused: {each.name} ({each.where}): {each.reason}", file=sys.stderr)
        for note, names in _noted(plan).items():
            more = f" and {len(names) - _FEW_NAMES} more" if len(names) > _FEW_NAMES else ""
            print(f"note: {', '.join(names[:_FEW_NAMES])}{more}: {note}")
    new = [row for row in plan.rows if row.result in (importing.NEW, importing.FURTHER)]
    updated = sum(row.result == importing.UPDATED for row in plan.rows)
    there = len(plan.rows) - len(new) - updated
    count = f"{_counted(len(new), 'authenticator')} of {_counted(len({row.name for row in new}), 'user')}"
    also = "".join(
        f"; {number} {what}"
        for number, what in (
            (updated, "updated with what was used there"),
            (there, "there already"),
            (len(plan.refused), "refused"),
        )
        if number
    )
    if arguments.dry_run:
        print(f"would import {count}{also}; nothing was changed")
    elif done:
        print(f"imported {count}{also}")
    else:
        print("pam-totp: nothing was imported: mend what is refused, or leave it out with --skip", file=sys.stderr)


def _noted(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in plan.rows:
        for note in row.entry.notes:
            found.setdefault(note, []).append(row.name)
    return found


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
