"""Leave the fleet: this host stands alone again, and its own configuration decides.

Users keep the authenticators that came from the directory, as this host's own. Who was revoked or locked there stays
refused until pam-totp reset.
"""

from __future__ import annotations

import sys

from pam_totp.cli import common, join
from pam_totp.fleet import membership
from pam_totp.host import config as configuration
from pam_totp.host import systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[--yes]."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Leave."""
    join.require_joined(paths)
    config = configuration.load(paths.config, paths.owner)
    print(f"After that this host's own configuration decides alone: unenrolled = {config.unenrolled!r}")
    if not arguments.yes and not common.sure("Leave the fleet? [y/N] "):
        print("nothing changed")
        return 1
    if systemd.running():
        systemd.disable(join.UNIT)
    problem = membership.leave(paths)
    common.note("leave")
    print("left; the authenticators that users have stay good here")
    if problem:
        print(f"pam-totp: the directory was not told ({problem}): remove this host there", file=sys.stderr)
    return 0
