"""The name service of flaky.c, which fails as it is told, in a machine."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.machine import Machine

SOURCE = Path(__file__).with_name("flaky.c")
LIBRARY = "/lib/libnss_flaky.so.2"


def install(machine: Machine) -> None:
    """Put the library where the C library of the machine looks for it; nsswitch.conf stays as it is.

    It is made by the compiler that builds the package. What tcc makes wants its stack to be executable, and Debian 13
    loads no such library.
    """
    with tempfile.TemporaryDirectory(prefix="pam-totp-flaky-") as directory:
        library = Path(directory, "library")
        options = ("-std=gnu11", "-Wall", "-Wno-unused-parameter", "-Werror", "-O1", "-shared", "-fPIC")
        subprocess.run(["gcc", *options, "-o", library, SOURCE], check=True)
        # In one step: a process that has loaded it already would crash if the file itself was written anew.
        machine.write(f"{LIBRARY}.new", library.read_bytes())
        machine.run(["mv", f"{LIBRARY}.new", LIBRARY])
