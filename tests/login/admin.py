"""`pam-totp` in a process that stays: a test's preparations then cost no start of an interpreter each.

What tests are about is done with the command itself; this is for the many enrolments before them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.machine import Machine

# Runs in the machine. A line of its input is a command line's arguments and what is typed at it, both in JSON.
LOOP = """
import contextlib, io, json, sys
from pam_totp.cli import main

requests, answers = sys.stdin, sys.stdout
for request in requests:
    argv, typed = json.loads(request)
    sys.stdin = io.StringIO(typed)
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(argv)
    print(json.dumps([code, output.getvalue(), errors.getvalue()]), file=answers, flush=True)
"""


class Admin:
    """An administrator's running commands. `close` it before its machine is left."""

    def __init__(self, machine: Machine) -> None:
        self._process = machine.popen(["/usr/bin/python3", "-I", "-c", LOOP])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def run(self, *argv: str, typed: str = "") -> str:
        """What `pam-totp ARGV` prints; it must exit with 0."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(json.dumps([argv, typed]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        code, output, errors = json.loads(line) if line else (None, "", self._process.communicate()[1])
        assert code == 0, f"pam-totp {' '.join(argv)} ended with {code}: {output}{errors}"
        return str(output)

    def read(self, *argv: str, typed: str = "") -> Any:
        """The JSON document that `pam-totp ARGV --json` prints."""
        return json.loads(self.run(*argv, "--json", typed=typed))
