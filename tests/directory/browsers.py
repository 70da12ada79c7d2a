"""The lane with a browser: the directory's sources, Debian's Chromium with its driver, and axe-core."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.directory import lane
from tests.lab.machine import Machine
from tests.lab.roots import root

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("chromium", "chromium-driver", "fonts-noto-core", "python3-selenium", "zbar-tools")
AXE = "/root/axe.min.js"
TESTS = "tests/directory/browser"


@contextmanager
def machine() -> Iterator[Machine]:
    """A Debian 13 with all of it but axe-core, and the sources."""
    with Machine(root(lane.SUITE, (*lane.PACKAGES, *PACKAGES))) as running:
        lane.unpack(running)
        yield running


def give_axe(running: Machine) -> None:
    """Put axe-core, which `./run test full` has fetched, into the machine. Raises KeyError where it did not."""
    running.write(AXE, Path(os.environ["PAM_TOTP_AXE"]).read_bytes())
