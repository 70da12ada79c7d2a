"""The audit trail."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """How it is shown."""
    parser.add_argument("--since", type=int, default=0, metavar="ID", help="only what came after this entry")
    parser.add_argument("--json", action="store_true", help="one object of JSON a line, with the hashes")
    parser.add_argument("--check", action="store_true", help="say whether an entry was changed or taken out")


def run(arguments: argparse.Namespace) -> int:
    """Show it, or check it."""
    common.django()
    from pam_totp.directory import audit

    if arguments.check:
        broken = audit.broken()
        if broken is not None:
            print(f"entry {broken.pk} was changed, or one before it was taken out: compare it with an export of yours")
            return 1
        last = list(audit.exported())[-1:]
        # Who keeps this line elsewhere notices that the end was cut off.
        print("nothing was changed; " + (f"the last entry is {last[0]['id']}, {last[0]['hash']}" if last else "empty"))
        return 0
    for entry in audit.exported(arguments.since):
        if arguments.json:
            print(json.dumps(entry, sort_keys=True))
        else:
            detail = " ".join(f"{name}={value}" for name, value in sorted(entry["detail"].items()))
            line = f"{entry['id']} {entry['time'][:19]} {entry['actor']} {entry['action']} {entry['target']} {detail}"
            print(common.plain(line).rstrip())
        sys.stdout.flush()
    return 0
