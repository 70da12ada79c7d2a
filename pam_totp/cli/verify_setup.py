"""``pam-totp verify setup PROGRAM``: show what it will write, ask, write all of it or nothing; and undo it."""

from __future__ import annotations

import json

from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.host import files, pinned
from pam_totp.host.clock import now
from pam_totp.host.pinned import SetupError
from pam_totp.verify import setup
from pam_totp.verify.freeradius import FreeRadius
from pam_totp.verify.lemonldap import LemonLDAP

# What can be set up, and the options of ``verify`` that say how.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "freeradius": ("module", "nas", "listen", "identity", "service"),
    "lemonldap": ("listen", "identity", "service", "may_know"),
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.arrange import Changes
    from pam_totp.host.paths import Paths
    from pam_totp.verify.setup import Program


def run(arguments: argparse.Namespace, paths: Paths, listening: list[str]) -> int:
    """Set it up, or undo that. ``listening`` are the addresses of the service."""
    if arguments.undo and any(getattr(arguments, option) for option in PROGRAMS[arguments.client]):
        raise UsageError("--undo goes with nothing that says what is to be in force: leave the others out")
    if arguments.json and not (arguments.yes or arguments.dry_run):
        raise UsageError("--json asks nothing: add --yes or --dry-run")
    address = arguments.listen or next((each for each in listening if not each.startswith("/")), None)
    who = (arguments.identity, arguments.service)
    program: Program
    if arguments.client == "freeradius":
        program = FreeRadius(arguments.module, arguments.nas or [], address, *who)
    else:
        program = LemonLDAP(address, *who, arguments.may_know, int(now().wall))
    try:
        return _undo(program, arguments, paths) if arguments.undo else _set_up(program, arguments, paths)
    except files.UnsafeFileError as error:
        raise SetupError(str(error)) from None


def _set_up(program: Program, arguments: argparse.Namespace, paths: Paths) -> int:
    changes = program.changes(paths)
    if not changes:
        _end(program, arguments, changes, f"nothing to change: {program.name} is set up")
        return 0
    if not _wanted(program, arguments, changes, program.notes(), "Write this?"):
        return 1
    with common.one_setup(paths):
        how = setup.put_in_force(program, paths, changes)
    common.note("verify-setup", program.name)
    _end(program, arguments, changes, f"set up: {program.name}", how, changed=True)
    return 0


def _undo(program: Program, arguments: argparse.Namespace, paths: Paths) -> int:
    changes = setup.undoing(program, paths)
    if not changes and not pinned.before(paths, program.key):
        _end(program, arguments, changes, f"nothing to undo: verify setup has changed nothing of {program.name}")
        return 0
    if not _wanted(program, arguments, changes, [], "Undo this?"):
        return 1
    with common.one_setup(paths):
        how = setup.undo(program, paths, changes)
    common.note("verify-setup-undo", program.name)
    text = f"undone: {program.name} is as it was before pam-totp verify setup"
    _end(program, arguments, changes, text, how, changed=True)
    return 0


def _wanted(program: Program, arguments: argparse.Namespace, changes: Changes, notes: list[str], question: str) -> bool:
    """Show the change, and say whether it is to be made."""
    if not arguments.json:
        for path, (old, new) in changes.items():
            if what := program.hidden(path):
                print(f"{path}: {what}: {'removed' if new.content is None else f'written, with mode {new.mode:o}'}")
            else:
                # Without context: what stands beside it can be somebody's secret.
                common.show_change(path, old, new, context=0)
        print(*(f"\n{note}" for note in notes), sep="\n", end="\n" if notes else "")
    if arguments.dry_run:
        _end(program, arguments, changes, "nothing was changed: this was a dry run", changed=True)
        return False
    if not arguments.yes and not common.sure(f"\n{question} [y/N] "):
        print("nothing changed")
        return False
    return True


def _end(
    program: Program,
    arguments: argparse.Namespace,
    changes: Changes,
    text: str,
    how: str = "",
    *,
    changed: bool = False,
) -> None:
    """Print how it ended."""
    if arguments.json:
        print(
            json.dumps({"changed": changed, "program": program.name, "files": sorted(changes), "restarted": bool(how)})
        )
    elif changed and not arguments.dry_run:
        print(f"{text}; {how or f'no running {program.name} was found: it reads this when it starts'}")
    else:
        print(text)
