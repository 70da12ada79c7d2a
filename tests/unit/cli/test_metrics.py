"""metrics: the whole text, as node_exporter reads it. From a real journal: tests/login/test_log_booted.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pam_totp.cache.accounts import PENDING
from pam_totp.host import journal
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    import pytest

    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

REFUSED = "user=alice service=sshd rhost=192.0.2.7 outcome=refused reason=wrong-code"


def test_records_decisions_of_an_hour_and_the_age_of_the_cache_are_printed(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "DIRECTORIES", ())
    host.enroll(ALICE)
    host.enroll(BOB, state=PENDING)
    with host.accounts() as accounts:
        for ago in (3601, 3600, 0):
            accounts.record_event(int(host.wall) - ago, "alice", REFUSED)
    os.utime(host.paths.cache, (1_700_000_000, 1_700_000_000))
    ran = command("metrics")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "# TYPE pam_totp_users gauge",
        "# HELP pam_totp_users Records by state.",
        'pam_totp_users{state="none"} 0',
        'pam_totp_users{state="pending"} 1',
        'pam_totp_users{state="active"} 1',
        'pam_totp_users{state="locked"} 0',
        'pam_totp_users{state="damaged"} 0',
        "# TYPE pam_totp_recent_decisions gauge",
        "# HELP pam_totp_recent_decisions Decisions about logins in the last hour.",
        'pam_totp_recent_decisions{outcome="refused",reason="wrong-code"} 2',
        "# TYPE pam_totp_cache_written_timestamp_seconds gauge",
        "# HELP pam_totp_cache_written_timestamp_seconds When the cache was last written.",
        "pam_totp_cache_written_timestamp_seconds 1700000000",
        "# EOF",
    ]
