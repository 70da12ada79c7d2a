"""The helpers that run in a machine, seen from outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.machine import Machine

HELPER = r"^/usr/bin/python3 .*helper\.main\(\)$"
# In seconds. The machine's tests share two processors with others.
PATIENCE = 20


def helpers(machine: Machine) -> list[int]:
    """The pids of the helpers."""
    return [int(pid) for pid in machine.run(["pgrep", "-f", HELPER], check=False).stdout.split()]


def helper(machine: Machine) -> int:
    """The pid of the only one."""
    [pid] = helpers(machine)
    return pid


def settle(machine: Machine, most: int = 0) -> None:
    """Wait, though not for ever, until so many helpers are left.

    One whose client has hung up is still to write its line in the log, and tests count lines.
    """
    end = time.monotonic() + PATIENCE
    while len(helpers(machine)) > most and time.monotonic() < end:
        time.sleep(0.01)


def are_gone(machine: Machine) -> bool:
    """Whether within some seconds no helper is left, nor any process that nobody has buried."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not helpers(machine) and "Z" not in machine.run(["ps", "-A", "-o", "state="]).stdout:
            return True
        time.sleep(0.05)
    return False
