"""How the fleet stands, in figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """How it is shown."""
    parser.add_argument("--json", action="store_true", help="as one object of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show it."""
    common.django()
    from pam_totp.directory import figures

    found = figures.status()
    if arguments.json:
        print(json.dumps(found, sort_keys=True))
        return 0
    rows = [("WHAT", "HOW MANY")]
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{name}: {each}", str(count)) for each, count in value.items()]
        elif name != "days":
            rows.append((name, str(value)))
    common.table(rows)
    print(f"Refused logins are of the last {found['days']} days.")
    return 0
