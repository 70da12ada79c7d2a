"""Running another program: one of the system, with an environment of its own and for a limited time, or an editor."""

from __future__ import annotations

import os
import subprocess

from pam_totp.errors import PamTotpError

_SECONDS = 60
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


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
        said = "; ".join((done.stderr or done.stdout).strip().splitlines()[-3:]) or f"exit status {done.returncode}"
        raise ProgramError(f"{' '.join(command)} says: {said}")
    return done.stdout


def piped(*command: str, content: bytes, passphrase: bytes = b"") -> bytes:
    """What a program makes of its standard input: no secret is an argument, in its environment, or in an error.

    A passphrase of at most 4 KiB goes through a descriptor, whose number is put in the place of ``FD`` in the command.

    Raises ProgramError where it cannot be run or does not succeed, with the last it said.
    """
    # The pipe holds all of it, so nobody has to read for this to go on.
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as pipe:
            pipe.write(passphrase)
        done = subprocess.run(  # noqa: S603 - a fixed program, without a shell
            [str(reading) if word == "FD" else word for word in command],
            input=content,
            capture_output=True,
            timeout=_SECONDS,
            env=_ENVIRONMENT,
            pass_fds=(reading,),
            check=False,
        )
    except FileNotFoundError:
        raise ProgramError(f"{command[0]} is not there: install it") from None
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{command[0]} did not end within {_SECONDS} s: run it to see why") from None
    except OSError as error:
        raise ProgramError(f"{command[0]} could not be run: {error.strerror}") from None
    finally:
        os.close(reading)
    if done.returncode:
        said = "; ".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-3:])
        raise ProgramError(f"{command[0]} says: {said or f'exit status {done.returncode}'}")
    return done.stdout


def answered(text: str, *command: str) -> tuple[int, str]:
    """The exit code of a program that reads this, and all that it prints. Raises ProgramError."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, without a shell
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            env=_ENVIRONMENT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramError(f"{' '.join(command)} could not be run: {error}") from None
    return done.returncode, done.stdout


def lines(*command: str) -> Iterator[str]:
    """The lines that a program prints, as they come, for as long as it runs; it is ended where nobody reads on.

    Raises ProgramError where it cannot be run, or ends with more than 1, which journalctl says of nothing found.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed program, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            env=_ENVIRONMENT,
        )
    except OSError as error:
        raise ProgramError(f"{command[0]} could not be run: {error.strerror}") from None
    with process:
        try:
            yield from process.stdout or ()
            status = process.wait()
        finally:
            process.terminate()
    if status not in (0, 1):
        raise ProgramError(f"{command[0]} failed with exit status {status}: run it to see why")


def interactive(*command: str) -> int:
    """The exit code of a program of root's own choice, at root's terminal and in root's environment.

    Raises ProgramError where it does not start.
    """
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - without a shell
    except OSError as error:
        raise ProgramError(f"{command[0]} could not be run: {error.strerror}") from None
