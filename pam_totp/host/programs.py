"""Running another program: one of the system, with an environment of its own and for a limited time, or an editor."""

from __future__ import annotations

import subprocess

from pam_totp.errors import PamTotpError

_SECONDS = 60
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class ProgramError(PamTotpError):
    """A program is missing, says no, or does not end."""

    reason = "program-failed"


def run(*command: str, fail: bool = True) -> str:
    """What a program prints; with ``fail`` it has to succeed. Raises ProgramError with the last it said."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, without a shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            env=_ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramError(f"{' '.join(command)} could not be run: {error}") from None
    if fail and done.returncode:
        said = "; ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ProgramError(f"{' '.join(command)} says: {said}")
    return done.stdout


def interactive(*command: str) -> int:
    """The exit code of a program of root's own choice, at root's terminal and in root's environment.

    Raises ProgramError where it does not start.
    """
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - without a shell
    except OSError as error:
        raise ProgramError(f"{command[0]} could not be run: {error.strerror}") from None
