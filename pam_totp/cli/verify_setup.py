"""``pam-totp verify setup PROGRAM``: show what it will write, ask, write all of it or nothing; and undo it."""

from __future__ import annotations

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
        print(f"nothing to change: {program.name} is set up")
        return 0
    _show(program, changes)
    for note in program.notes():
        print(f"\n{note}")
    if arguments.dry_run:
        print("nothing was changed: this was a dry run")
        return 1
    if not arguments.yes and not common.sure("\nWrite this? [y/N] "):
        print("nothing changed")
        return 1
    with common.one_setup(paths):
        how = setup.put_in_force(program, paths, changes)
    common.note("verify-setup", program.name)
    print(f"set up: {program.name}{_how(program, how)}")
    return 0


def _undo(program: Program, arguments: argparse.Namespace, paths: Paths) -> int:
    changes = setup.undoing(program, paths)
    if not changes and not pinned.before(paths, program.key):
        print(f"nothing to undo: verify setup has changed nothing of {program.name}")
        return 0
    _show(program, changes)
    if arguments.dry_run:
        print("nothing was changed: this was a dry run")
        return 1
    if not arguments.yes and not common.sure("\nUndo this? [y/N] "):
        print("nothing changed")
        return 1
    with common.one_setup(paths):
        how = setup.undo(program, paths, changes)
    common.note("verify-setup-undo", program.name)
    print(f"undone: {program.name} is as it was before pam-totp verify setup{_how(program, how)}")
    return 0


def _how(program: Program, how: str) -> str:
    return f"; {how}" if how else f"; no running {program.name} was found: it reads this when it starts"


def _show(program: Program, changes: Changes) -> None:
    for path, (old, new) in changes.items():
        if what := program.hidden(path):
            print(f"{path}: {what}: {'removed' if new.content is None else f'written, with mode {new.mode:o}'}")
        else:
            # Without context: what stands beside it can be somebody's secret.
            common.show_change(path, old, new, context=0)
