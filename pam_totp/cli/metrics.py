"""Print metrics for Prometheus, for the textfile collector of node_exporter.

Decisions are those of the last hour. Where there is no journal, only refusals are counted.
"""

from __future__ import annotations

import os
from collections import Counter

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.fleet import standing
from pam_totp.fleet.standing import STATES
from pam_totp.host import journal
from pam_totp.host.clock import now

PERIOD = 3600  # seconds
_STATES = ("none", "pending", "active", "locked", "damaged")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""
    del parser


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Print."""
    del arguments
    since = int(now().wall) - PERIOD
    with Accounts(paths) as accounts:
        states = Counter(each.state if isinstance(each, Account) else "damaged" for each in accounts.all())
        kept = [(time, line) for time, line in accounts.events(None) if time >= since]
    lines = map(journal.fields, (line for _, line in (journal.decisions(since) if journal.present() else kept)))
    decisions = Counter((each.get("outcome", ""), each.get("reason", "")) for each in lines)
    _family("users", "Records by state", [(f'state="{state}"', states[state]) for state in _STATES])
    _family(
        "recent_decisions",
        "Decisions about logins in the last hour",
        [(f'outcome="{outcome}",reason="{reason}"', count) for (outcome, reason), count in sorted(decisions.items())],
    )
    written = int(os.stat(paths.cache).st_mtime)
    _family("cache_written_timestamp_seconds", "When the cache was last written", [("", written)])
    _fleet(paths)
    print("# EOF")
    return 0


def _fleet(paths: Paths) -> None:
    """How a host of a fleet stands; nothing of another one."""
    found = standing.of(paths, now())
    if found is None:
        return
    _family(
        "fleet_state", "How the directory is heard of", [(f'state="{each}"', each == found.state) for each in STATES]
    )
    _family("fleet_sequence", "Number of the manifest in force", [(f'epoch="{found.epoch}"', found.sequence)])
    _family("fleet_age_seconds", "How old what the directory signed last is", [("", found.age or 0)])
    _family("fleet_last_success_timestamp_seconds", "When the directory was reached", [("", found.last_success or 0)])
    _family(
        "fleet_users", "Users of the directory", [('state="known"', found.users), ('state="revoked"', found.revoked)]
    )
    _family("fleet_pending_events", "Events that the directory has not taken", [("", found.pending)])


def _family(name: str, text: str, samples: list[tuple[str, int]]) -> None:
    print(f"# TYPE pam_totp_{name} gauge")
    print(f"# HELP pam_totp_{name} {text}.")
    for labels, value in samples:
        print(f"pam_totp_{name}{{{labels}}} {int(value)}" if labels else f"pam_totp_{name} {int(value)}")
