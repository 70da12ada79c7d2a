"""What hosts and the portal have told of logins."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and how they are shown."""
    parser.add_argument("--name", metavar="NAME", help="only those of this login name")
    parser.add_argument("--since", type=int, default=0, metavar="ID", help="only what came after this event")
    parser.add_argument("--json", action="store_true", help="one object of JSON a line")


def run(arguments: argparse.Namespace) -> int:
    """Show them, the oldest first."""
    common.django()
    from pam_totp.directory import figures

    for event in figures.events(arguments.since, arguments.name):
        if arguments.json:
            print(json.dumps(event, sort_keys=True))
        else:
            words = ("id", "time", "kind", "name", "host", "service", "reason")
            print(common.plain(" ".join(str(event[word] or "-") for word in words)))
        sys.stdout.flush()
    return 0
