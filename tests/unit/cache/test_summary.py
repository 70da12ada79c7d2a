"""What there is to say about an account."""

from __future__ import annotations

from pam_totp.cache import summary
from pam_totp.cache.accounts import PENDING
from tests.unit.pretend import ALICE, HERE, Host


def test_what_programs_are_told_is_complete_and_holds_no_secret(host: Host) -> None:
    secret = host.enroll()
    host.enroll(label="tablet", state=PENDING)
    host.login("alice", host.code(secret))
    host.later(60)
    host.fail(3)
    fields = summary.fields(host.account(), host.now(), 1)
    authenticators = fields.pop("authenticators")
    assert isinstance(authenticators, list)
    common = {"source": "local", "enrolled": "2023-11-14T22:13:45Z"}
    assert sorted(authenticators, key=str) == [
        {"label": "phone", "state": "active"} | common,
        {"label": "tablet", "state": "pending"} | common,
    ]
    assert fields == {
        "user": "alice",
        "state": "active",
        "failures": 3,
        "retry_at": "2023-11-14T22:15:15Z",
        "last_success": "2023-11-14T22:13:45Z",
        "recovery_codes": 0,
    }
    assert HERE not in str(fields)


def test_an_exemption_is_the_state_that_is_told(host: Host) -> None:
    assert summary.state(host.account(ALICE), host.now()) == "none"
    host.enroll()
    assert summary.state(host.account(), host.now()) == "active"
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 60, "a test"]))
    assert summary.state(host.account(), host.now()) == "exempt"
    host.later(60)
    assert summary.state(host.account(), host.now()) == "active"


def test_times_are_in_utc_and_a_missing_one_is_told_as_such() -> None:
    assert (summary.rfc3339(0), summary.minute(0)) == ("1970-01-01T00:00:00Z", "1970-01-01 00:00")
    assert (summary.rfc3339(None), summary.minute(None)) == (None, "-")


def test_a_time_of_no_year_is_shown_as_a_number() -> None:
    assert summary.rfc3339(1 << 60) == summary.minute(1 << 60) == f"@{1 << 60}"
