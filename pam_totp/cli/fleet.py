"""Say how this host stands with its directory: what is in force, how old it is, and what is pending.

Exit code 1 where the directory has been silent for longer than it allows, what it published was refused, or another
host has this one's identity.
"""

from __future__ import annotations

import json

from pam_totp.cli import common
from pam_totp.fleet import agent, standing
from pam_totp.host.clock import now
from pam_totp.login.attempt import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.fleet.standing import Standing
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[--json]."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Say it; 1 also where this host has not joined."""
    moment = now()
    found = standing.of(paths, moment)
    if arguments.json:
        print(json.dumps({"joined": False} if found is None else {"joined": True} | vars(found)))
    elif found is None:
        print("this host has joined no fleet: pam-totp join URL")
    else:
        _show(found)
    return 0 if found is not None and found.state in ("fresh", "behind") and not found.cloned else 1


def _show(found: Standing) -> None:
    rows = [
        ("directory", f"{found.url} ({found.directory})"),
        ("this host", f"{found.name} ({found.host})"),
        ("state", found.state + (f": {found.error}" if found.error else "")),
        ("in force", f"epoch {found.epoch}, number {found.sequence}" if found.sequence else "nothing yet"),
        ("age", duration(found.age) if found.age is not None else "-"),
        ("policy", found.policy or "none: this host's own configuration decides"),
        ("users", f"{found.users}, {found.revoked} revoked, {found.unbound} not known to the name service"),
        ("pending", f"{found.pending} events for the directory"),
    ]
    if found.max_offline is not None:
        rows.insert(5, ("may be silent", duration(found.max_offline)))
    if found.cloned:
        rows.insert(3, ("cloned", agent.CLONED))
    rows += [("waits", problem) for problem in found.problems]
    if found.last_success is not None:
        rows.insert(4, ("reached", f"{common.minute(found.last_success)} UTC"))
    for name, text in rows:
        print(f"{name + ':':<15}{text}")
