"""However `./run vagrant` ends, nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab import cache
from tests.lab.package import CHECKOUT
from tests.lab.vagrant.scratch import scratch


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_nothing_is_left_when_it_is_ended_while_the_box_boots(number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lab.vagrant"],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        assert any("Waiting for domain" in line for line in process.stderr)
        uplink = next(child for child in _children(process.pid) if _words(child)[0] == "slirp4netns")
        machine = int(_words(uplink)[-2])
        inside = os.readlink(f"/proc/{machine}/ns/pid")
        running = _in_namespace(inside)
        for name in ("libvirtd", "dnsmasq", "qemu-system-x86_64"):
            assert any(name in words[0] for words in map(_words, running) if words)
        process.send_signal(number)
        process.stderr.read()
        assert process.wait() == status
    end = time.monotonic() + 10
    while (_in_namespace(inside) or _words(uplink)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _in_namespace(inside)
    assert not _words(uplink)
    assert "/boxes/run-" not in Path("/proc/mounts").read_text(encoding="utf-8")
    if number == signal.SIGKILL:
        # It could not remove its files; the next run does.
        assert _files()
        with scratch():
            pass
    assert not _files()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _words(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone, or a zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")[:-1]
    return []


def _in_namespace(name: str) -> list[int]:
    """The processes of a process namespace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/pid"):
        with suppress(OSError):  # gone meanwhile
            if os.readlink(path) == name:
                found.append(int(path.parent.parent.name))
    return found


def _files() -> list[Path]:
    return list((cache.home() / "boxes").glob("run-*"))
