"""A throw-away Debian machine that systemd has booted, for what only systemd does."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.machine import HERE, Machine, MachineError
from tests.lab.roots import root

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("systemd-sysv", "dbus")
HIERARCHIES = ("", "systemd", "unified")
PATIENCE = 60


class Booted(Machine):
    """A machine of a suite that runs systemd, without the package. It has the journal in place of the lab's log.

    `more` are further packages of the distribution. What it changes is kept in memory, or in the directory `upper`.
    """

    def __init__(self, suite: str, more: tuple[str, ...] = (), *, upper: Path | None = None) -> None:
        super().__init__(root(suite, (*PACKAGES, *more)), upper=upper)
        self._group = f"pam-totp-lab-{os.urandom(4).hex()}"
        self._supervisor = 0

    def reboot(self) -> None:
        """Reboot: what was started is started anew, and /run is empty. Raises MachineError."""
        former = self._pid
        self.run(["systemctl", "--no-block", "reboot"])
        end = time.monotonic() + PATIENCE
        while Path(f"/proc/{former}").exists() or not self._up(self._supervisor):
            if time.monotonic() > end:
                raise MachineError("the machine does not come back from a reboot")
            time.sleep(0.05)

    def journal(self) -> list[str]:
        """The messages of the journal, oldest first."""
        self.run(["journalctl", "--sync"])
        return self.run(["journalctl", "--output=cat", "--no-pager", "--quiet"]).stdout.splitlines()

    def _boot(self, stack: ExitStack) -> None:
        stage = cache.home() / "stage"
        stage.mkdir(mode=0o700, exist_ok=True)
        stack.callback(self._remove_groups)
        command: list[str | Path] = [
            # A chain that dies as a whole, and takes its process namespace with it, should this process be killed.
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--",
            ),
            *(HERE / "boot-systemd.sh", stage, ":".join(map(str, self.root.layers)), self._group, self._upper or ""),
        ]
        with tempfile.TemporaryFile() as console:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True
            )
            stack.callback(self._end, process)
            self._supervisor = process.pid
            end = time.monotonic() + PATIENCE
            while not self._up(process.pid):
                if process.poll() is not None or time.monotonic() > end:
                    console.seek(0)
                    raise MachineError(f"systemd did not boot:\n{console.read().decode(errors='replace')}")
                time.sleep(0.05)

    def _up(self, supervisor: int) -> bool:
        self._pid = next(_systemds(supervisor), 0)
        if not self._pid:
            return False
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in ("running", "degraded")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        super()._end(process)
        with suppress(ProcessLookupError):
            process.kill()

    def _remove_groups(self) -> None:
        for hierarchy in HIERARCHIES:
            top = Path("/sys/fs/cgroup", hierarchy, self._group)
            if top.is_dir():
                # The kernel needs a moment until the last process has left.
                for directory in (*sorted(top.glob("**/"), reverse=True), top):
                    _remove(directory)


def _systemds(pid: int) -> Iterator[int]:
    """The machine's systemd, once it is there: what systemd-nspawn has started, which unshare has."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            if Path(f"/proc/{child}/comm").read_text(encoding="utf-8").strip() == "systemd":
                yield int(child)
            yield from _systemds(int(child))


def _remove(directory: Path) -> None:
    for _ in range(100):
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
