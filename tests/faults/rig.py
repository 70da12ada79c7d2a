"""A machine with an agent in it that runs the functions of `inside`."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab.helpers import settle
from tests.lab.pam import alone

if TYPE_CHECKING:
    from tests.lab.machine import Machine

CHECKOUT = Path(__file__).resolve().parents[2]
TREE = "/run/lab/tree"
SHIPPED = ("tests/__init__.py", "tests/faults/__init__.py", "tests/faults/inside")


class InsideError(Exception):
    """A function failed in the machine; the message is its traceback."""


class Rig:
    """A machine whose own Python runs functions of tests/faults/inside. A context manager.

    The PAM service `lab` is the module alone (tests/lab/pam.py). alice, bob and carol exist.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._agent: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        for name in ("alice", "bob", "carol"):
            self.machine.run(["useradd", "--create-home", name])
        alone(self.machine)
        unpack = self.machine.inside(["sh", "-c", 'mkdir -p "$1" && tar x -C "$1"', "sh", TREE])
        subprocess.run(unpack, input=_archive(), check=True)
        self._agent = self.machine.popen(
            ["python3", "-m", "tests.faults.inside.agent"], env={"PYTHONPATH": TREE, "PYTHONDONTWRITEBYTECODE": "1"}
        )
        self("holder", "prepare", line=self.machine.module)
        return self

    def __exit__(self, *_: object) -> None:
        if self._agent is not None:
            # At the end of its input it ends by itself; the machine takes care of the rest.
            self._agent.communicate()

    def __call__(self, module: str, function: str, **arguments: object) -> Any:
        """What a function of `inside` returns. Raises InsideError."""
        if self._agent is None or self._agent.stdin is None or self._agent.stdout is None:
            raise AssertionError
        # What the function before has killed at its prompt: its helper is still to write a line, and lines are counted.
        settle(self.machine)
        self._agent.stdin.write(json.dumps([module, function, arguments]) + "\n")
        self._agent.stdin.flush()
        line = self._agent.stdout.readline()
        if not line:
            raise InsideError("the agent has ended: " + self._agent.communicate()[1])
        reply = json.loads(line)
        if "error" in reply:
            raise InsideError(reply["error"])
        return reply["result"]


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in SHIPPED:
            archive.add(CHECKOUT / name, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
    return buffer.getvalue()
