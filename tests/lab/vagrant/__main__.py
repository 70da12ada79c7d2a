"""The command behind `./run vagrant`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from tests.lab.machine import MachineError
from tests.lab.package import BuildError
from tests.lab.roots import SUITES, RootError
from tests.lab.sources import NoSourcesError
from tests.lab.ssh import SessionError
from tests.lab.vagrant.run import run


def main() -> int:
    """Run it. The exit status is 0 if every step went as it should, 1 if not or if it could not run."""
    parser = argparse.ArgumentParser(prog="./run vagrant", description="Run the Vagrantfile, and log in to its box.")
    parser.add_argument("--suite", choices=SUITES, default="bookworm", help="the box's; default: bookworm")
    suite = parser.parse_args().suite
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        return 0 if run(suite) else 1
    except (BuildError, MachineError, NoSourcesError, RootError, SessionError, subprocess.SubprocessError) as error:
        print(f"vagrant: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nvagrant: interrupted; nothing is left running", file=sys.stderr)
        return 130


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
