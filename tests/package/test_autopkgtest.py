"""debian/tests, run by autopkgtest: its chroot back-end in the root and the namespaces of a machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import ENVIRONMENT, Machine

if TYPE_CHECKING:
    from tests.lab.roots import Root

pytestmark = pytest.mark.full

CHECKOUT = Path(__file__).resolve().parents[2]


def test_the_packages_own_tests_pass(workshop_root: Root, debs: tuple[Path, ...], tmp_path: Path) -> None:
    with Machine(workshop_root) as machine:
        # There is nothing to fetch, and no way to: all that it depends on is there.
        machine.sh("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
        # The chroot back-end cannot isolate; the machine does, whose network is loopback alone.
        command = [
            *machine.around("--net", "--pid", "--uts", "--ipc"),
            *("autopkgtest", "--no-built-binaries", "--ignore-restrictions=isolation-container"),
            *(
                f"--output-dir={tmp_path}/out",
                *map(str, debs),
                f"{CHECKOUT}/",
                "--",
                "chroot",
                machine.seen_from_outside,
            ),
        ]
        done = subprocess.run(
            command,
            env=ENVIRONMENT,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=300,
        )
    assert done.returncode == 0, done.stdout[-20000:]
    assert re.findall(r"^(\w+) +(\w+)", (tmp_path / "out/summary").read_text(encoding="utf-8")) == [("login", "PASS")]
