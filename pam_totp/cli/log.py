"""Show the decisions about logins, and why they were made.

They are read from systemd's journal. Where there is none, only the latest refusals are shown, which the cache keeps.
"""

from __future__ import annotations

import json
import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.host import journal
from pam_totp.host.clock import now

DAY = "24h"
OUTCOMES = ("accepted", "skipped", "refused", "unknown-user", "no-answer", "unavailable", "misconfigured", "error")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER] [--since DURATION] [--outcome OUTCOME] [--json] [--follow]."""
    parser.add_argument("user", metavar="USER", nargs="?", help="only decisions about this login name, as it was typed")
    parser.add_argument("--since", default=DAY, metavar="DURATION", help="how far back, like 2h (default: %(default)s)")
    parser.add_argument("--outcome", choices=OUTCOMES, help="only decisions that ended so")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until interrupted")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show; 1 where there is no such decision."""
    since = int(now().wall) - common.duration_argument(arguments.since)
    found = _kept(paths, since, arguments.follow)
    shown = 0
    try:
        for time, line in found:
            fields = journal.fields(line)
            wanted = {"user": arguments.user, "outcome": arguments.outcome}
            if any(value not in (None, fields.get(name)) for name, value in wanted.items()):
                continue
            shown += 1
            when = common.rfc3339(time)
            print(json.dumps({"time": when, **fields}) if arguments.json else f"{when}  {line}", flush=arguments.follow)
    except KeyboardInterrupt:
        if not arguments.follow:
            raise
        return 0
    if not shown:
        print(f"pam-totp: nothing of that kind since {common.rfc3339(since)}: see --since", file=sys.stderr)
    return 0 if shown else 1


def _kept(paths: Paths, since: int, follow: bool) -> Iterable[tuple[int, str]]:
    if journal.present():
        return journal.decisions(since, follow)
    if follow:
        raise UsageError("--follow needs systemd's journal, and there is none: follow /var/log/auth.log")
    print("pam-totp: no journal here: only the latest refusals, which the cache keeps", file=sys.stderr)
    with Accounts(paths) as accounts:
        return [(time, line) for time, line in reversed(accounts.events(None)) if time >= since]
