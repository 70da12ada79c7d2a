"""Having another program of this host ask the verify service: which files change, and changing all of them or none."""

from __future__ import annotations

import os

from pam_totp.errors import PamTotpError
from pam_totp.host import arrange, pinned, rewrite
from pam_totp.host.pinned import SetupError
from pam_totp.verify import clients

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.host.arrange import Changes
    from pam_totp.host.paths import Paths
    from pam_totp.host.rewrite import State


class Program:
    """A program that ``verify setup`` writes the settings of.

    name    what the command calls it
    owner   the uid that its files belong to, which can be one of its own
    """

    name = ""
    owner = 0

    @property
    def key(self) -> str:
        """What the first state of its files is kept under. No PAM service has such a name."""
        return f"verify+{self.name}"

    def look(self, path: str, paths: Paths) -> State:
        """A file as it is now, of this program's or of ours. Raises UnsafeFileError, or OSError."""
        ours = path.startswith(f"{os.path.dirname(paths.config)}/")
        return rewrite.look(path, paths.owner if ours else self.owner, links=not ours)

    def changes(self, paths: Paths) -> Changes:
        """The files that have to be changed, as they are and as they shall be. Raises SetupError or UsageError."""
        raise NotImplementedError

    def hidden(self, path: str) -> str:
        """What a file is for whose content is not shown; empty for one whose content is."""
        del path
        return ""

    def without(self, path: str, text: str) -> str | None:
        """A file that the site has settings in, too, without ours; None for a file that is ours alone."""
        del path, text
        return None

    def undoing(self, was: dict[str, State], paths: Paths) -> Changes:
        """The files that have to be changed to have what ``was`` there. Raises SetupError.

        A file that the site has changed since keeps its changes and loses ours only.
        """
        found = {}
        for path, before in was.items():
            now = self.look(path, paths)
            rest = self.without(path, now.text)
            if rest is None or rest == self.without(path, before.text):
                new = before
            else:
                new = now if now.content is None else now.with_text(rest)
            if now != new:
                found[path] = (now, new)
        # What names others is taken away before them: the site's own files, then links.
        return dict(
            sorted(found.items(), key=lambda each: (self.without(each[0], "") is None, each[1][0].link is None))
        )

    def notes(self) -> list[str]:
        """What the administrator has to know or to do, a sentence each."""
        return []

    def check(self) -> None:
        """Have the program look at its settings. Raises ProgramError with what it says."""

    def restart(self) -> str:
        """Have it work with its settings. Returns how; empty where it does not run. Raises ProgramError."""
        raise NotImplementedError


def undoing(program: Program, paths: Paths) -> Changes:
    """The files that have to be changed to have what was there before the first set-up. Raises SetupError."""
    return program.undoing(pinned.before(paths, program.key), paths)


def put_in_force(program: Program, paths: Paths, changes: Changes) -> str:
    """Do what ``changes`` has found, or change nothing. Returns how the program was restarted.

    Raises what keeps it from being done: SetupError, ProgramError, UnsafeFileError or OSError.
    """
    _unchanged(program, paths, changes)
    # What was broken before is nothing that this change could be blamed for.
    program.check()
    first = not pinned.before(paths, program.key)
    pinned.remember(paths, program.key, {path: old for path, (old, _) in changes.items()})
    clients.make_directory(paths)
    try:
        return _carry_out(program, changes, program.check)
    except BaseException:
        if first:
            pinned.forget(paths, program.key)
        raise


def undo(program: Program, paths: Paths, changes: Changes) -> str:
    """Do what ``undoing`` has found, or change nothing; and forget the first state. Like ``put_in_force`` otherwise.

    Settings that the program does not take as they are need not be good afterwards.
    """
    _unchanged(program, paths, changes)
    check = program.check
    try:
        check()
    except PamTotpError:
        check = _nothing
    how = _carry_out(program, changes, check)
    pinned.forget(paths, program.key)
    return how


def _unchanged(program: Program, paths: Paths, changes: Changes) -> None:
    if any(program.look(path, paths) != old for path, (old, _) in changes.items()):
        raise SetupError("a file was changed meanwhile: run it again to see the new change")


def _nothing() -> None:
    pass


def _carry_out(program: Program, changes: Changes, check: Callable[[], None]) -> str:
    how = ""
    restarted = False

    def check_and_restart() -> None:
        nonlocal how, restarted
        check()
        restarted = True
        how = program.restart()

    with arrange.uninterrupted():
        try:
            arrange.carry_out(changes, check_and_restart)
        except BaseException:
            if restarted:
                _again(program)  # with the files that are back
            raise
    return how


def _again(program: Program) -> None:
    try:
        program.restart()
    except PamTotpError:
        pass  # what went wrong first is what is said
