"""Write key and cache to one file, or one of them, while users log in; then read it back.

The file holds all secrets, unless it has the cache alone: without the key nobody opens that.
"""

from __future__ import annotations

import sys

from pam_totp.host.clock import now
from pam_totp.moving import backup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """FILE [--only PART]."""
    parser.add_argument("file", metavar="FILE", help="a new file; it is root's alone")
    parser.add_argument("--only", choices=("cache", "key"), help="one of the two, so that they can be kept apart")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Back up; 3 where records are damaged, which are backed up as they are."""
    parts = wanted(arguments.only) or (backup.CACHE, backup.KEY)
    problems = backup.write(paths, arguments.file, parts, now())
    for problem in problems:
        print(f"pam-totp: damaged: {problem}", file=sys.stderr)
    if problems:
        print(
            f"pam-totp: {arguments.file} was written with the damage that the cache has: keep your older backup",
            file=sys.stderr,
        )
        return 3
    held = " and ".join(part.removesuffix(".db") for part in sorted(parts))
    secret = " (with both, whoever has it has all secrets)" if len(parts) > 1 else ""
    print(f"wrote {arguments.file}: {held}{secret}; read back, and every record opens")
    return 0


def wanted(only: str | None) -> tuple[str, ...]:
    """The parts that were named; none where none was."""
    return {None: (), "cache": (backup.CACHE,), "key": (backup.KEY,)}[only]
