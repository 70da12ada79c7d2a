"""The directory's policy at a login: the stricter of it and of the host's own configuration holds."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.cache.accounts import Account
from pam_totp.cache.ledger import Ledger
from pam_totp.errors import DamageError
from pam_totp.host import config as configuration
from pam_totp.host.clock import Moment
from pam_totp.login import central, policy
from pam_totp.login.policy import Facts
from tests.unit.pretend import ALICE, BOOT, HERE

if TYPE_CHECKING:
    from tests.unit.pretend import Host

NOW = Moment(1_700_000_000.0, BOOT, 50_000.0)
FLEET: dict[str, Any] = {
    "name": "alice",
    "record": "0" * 64,
    "held": [],
    "salt": "",
    "codes": [],
    "locked": False,
    "exempt": None,
    "deadline": None,
    "must": False,
    "revoked": False,
}
WORDS = ("skip", "deny", "enroll", "invite")
STRICTNESS = ("skip", "enroll", "invite", "ask", "ask-recovery", "refuse")


def demanded(**fields: Any) -> central.Central:
    found = central.Central()
    found.policy = True
    found.issued = int(NOW.wall)
    found.taken = NOW.stamp()
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def decided(account: Account, directory: central.Central | None, now: Moment = NOW, **settings: Any) -> policy.Decision:
    config = configuration.Config()
    config.found = bool(settings)
    for name, value in settings.items():
        setattr(config, name, value)
    facts = Facts("alice", f"net:{HERE}", "sshd", HERE)
    facts.central = directory
    facts.client = "c" * 32
    return policy.decide(account, config, facts, now)


def somebody(*, active: bool, **fleet: Any) -> Account:
    from pam_totp.cache.accounts import Authenticator

    authenticators = [Authenticator("a" * 32, "active", "phone", "directory", 0, bytes(20))] if active else []
    ledger = Ledger()
    ledger.fleet = FLEET | fleet
    return Account("alice", ALICE.uid, authenticators, ledger)


@pytest.mark.parametrize(("active", "mfa"), itertools.product([True, False], [True, False]))
def test_with_both_the_stricter_decision_holds_whatever_they_say(active: bool, mfa: bool) -> None:
    for theirs, own in itertools.product(WORDS, WORDS):
        account = somebody(active=active)
        both = decided(account, demanded(unenrolled=theirs, mfa=mfa), unenrolled=own)
        alone = decided(account, None, unenrolled=own)
        directory = decided(account, demanded(unenrolled=theirs, mfa=mfa))
        levels = [STRICTNESS.index(each.action) for each in (alone, directory)]
        assert STRICTNESS.index(both.action) == max(levels)
        assert both.central == (levels[1] > levels[0])


def test_a_rule_of_the_host_s_own_that_skips_counts_no_more() -> None:
    rule = configuration.Rule(1)
    rule.mfa = "skip"
    assert decided(somebody(active=True), None, rules=[rule]).action == "skip"
    found = decided(somebody(active=True), demanded(), rules=[rule])
    assert (found.action, found.central) == ("ask", True)
    without = central.Central()
    assert decided(somebody(active=True), without, rules=[rule]).action == "skip"


def test_a_client_that_is_remembered_here_is_asked_where_the_directory_has_a_policy() -> None:
    account = somebody(active=True)
    account.ledger.remember("c" * 32, 3600, NOW)
    assert decided(account, None, remember=3600).reason == "remembered"
    found = decided(account, demanded(), remember=3600)
    assert (found.action, found.remember) == ("ask", 0)


def test_no_codes_are_asked_for_where_the_directory_says_so_and_the_host_nothing() -> None:
    found = decided(somebody(active=True), demanded(mfa=False))
    assert (found.action, found.reason) == ("skip", "fleet-policy")
    assert decided(somebody(active=True), demanded(mfa=False), prompt="Code: ").action == "ask"


def test_a_revoked_user_is_refused_under_every_policy_but_an_exemption() -> None:
    rule = configuration.Rule(1)
    rule.mfa = "skip"
    for directory in (None, central.Central(), *(demanded(unenrolled=word) for word in WORDS), demanded(mfa=False)):
        account = somebody(active=False, revoked=True)
        assert decided(account, directory).reason == "fleet-revoked"
        assert decided(account, directory, rules=[rule]).reason == "fleet-revoked"
        facts = Facts("alice", "")
        facts.central = directory
        assert policy.first_enrolment(account, configuration.Config(), facts, NOW).action == "refuse"
    account.ledger.exemption = [int(NOW.wall) + 60, "root says so"]
    assert decided(account, None).action == "skip"


def test_a_locked_user_is_refused_whatever_else_is_said() -> None:
    account = somebody(active=True, locked=True, exempt=int(NOW.wall) + 60)
    for directory in (None, central.Central(), demanded(mfa=False), demanded()):
        assert decided(account, directory).reason == "fleet-locked"


def test_after_too_long_a_silence_all_but_the_named_are_refused() -> None:
    directory = demanded(max_offline=3600, break_glass=frozenset({"root"}))
    account = somebody(active=True)
    later = Moment(NOW.wall + 3601, BOOT, NOW.uptime + 3601)
    assert decided(account, directory).action == "ask"
    found = decided(account, directory, later)
    assert (found.action, found.reason, found.seconds) == ("refuse", "fleet-offline", 3601)
    directory.break_glass = frozenset({"alice"})
    assert decided(account, directory, later).action == "ask"


def test_neither_a_clock_that_is_set_back_nor_an_old_manifest_makes_it_young() -> None:
    directory = demanded(max_offline=3600)
    back = Moment(NOW.wall - 86_400, BOOT, NOW.uptime + 3601)
    assert decided(somebody(active=True), directory, back).reason == "fleet-offline"
    # Served anew for ever: the date is signed.
    old = demanded(max_offline=3600, issued=int(NOW.wall) - 3601)
    assert decided(somebody(active=True), old).reason == "fleet-offline"
    # After a boot the wall clock is all there is, but what has passed since the boot.
    booted = Moment(NOW.wall - 86_400, "2" + BOOT[1:], 3601.0)
    assert decided(somebody(active=True), directory, booted).reason == "fleet-offline"


def test_nobody_is_break_glass_under_another_name() -> None:
    directory = demanded(max_offline=60, break_glass=frozenset({"alias"}), issued=0)
    facts = Facts("alias", "")
    facts.record = "alice"
    facts.central = directory
    assert policy.decide(somebody(active=True), configuration.Config(), facts, NOW).reason == "fleet-offline"


def test_who_has_to_enrol_is_not_skipped_and_who_has_time_is() -> None:
    soon = int(NOW.wall) + 100
    assert decided(somebody(active=False, must=True), demanded()).action == "refuse"
    assert decided(somebody(active=False, must=True), demanded(unenrolled="enroll")).action == "enroll"
    found = decided(somebody(active=False, deadline=soon), demanded(unenrolled="deny"))
    assert (found.action, found.reason, found.seconds) == ("skip", "grace", 100)
    assert decided(somebody(active=False, deadline=soon - 200), demanded()).action == "refuse"
    # The host's own is stricter.
    assert decided(somebody(active=False, deadline=soon), demanded(), unenrolled="deny").action == "refuse"


def test_whom_the_directory_does_not_know_its_policy_is_for_too() -> None:
    stranger = Account("alice", ALICE.uid, [], Ledger())
    assert decided(stranger, demanded(unenrolled="deny")).action == "refuse"
    assert decided(stranger, demanded()).action == "skip"


def test_a_first_enrolment_needs_what_the_stricter_of_the_two_wants() -> None:
    for theirs, own in itertools.product(WORDS, WORDS):
        config = configuration.Config()
        facts = Facts("alice", "")
        facts.central = demanded(unenrolled=theirs)
        account = somebody(active=False)
        # Without a file of the host's own the directory's policy is all there is.
        alone = policy.first_enrolment(account, config, facts, NOW)
        assert alone.action == {"skip": "skip", "enroll": "enroll", "deny": "refuse", "invite": "refuse"}[theirs]
        config.found, config.unenrolled = True, own
        both = policy.first_enrolment(account, config, facts, NOW)
        facts.central = None
        levels = [STRICTNESS.index(policy.first_enrolment(account, config, facts, NOW).action)]
        levels.append(STRICTNESS.index(alone.action))
        assert STRICTNESS.index(both.action) == max(levels)
        locked = somebody(active=False, locked=True)
        assert policy.first_enrolment(locked, config, facts, NOW).reason == "fleet-locked"


def test_an_enrolment_is_needed_one_day_where_the_directory_demands_it() -> None:
    config = configuration.Config()
    account = somebody(active=True)
    facts = Facts("alice", "")
    for directory, needed in (
        (None, False),
        (central.Central(), False),
        (demanded(), False),
        (demanded(unenrolled="deny"), True),
        (demanded(unenrolled="deny", mfa=False), False),
    ):
        facts.central = directory
        assert policy.required(account, config, facts, NOW) is needed


def test_what_was_kept_is_read_again_and_what_is_not_readable_is_damage() -> None:
    fields = {"unenrolled": "deny", "max_offline": 60, "break_glass": ["root"], "claims": False, "mfa": True}
    found = central.decode(central.encode(fields, 7, NOW.stamp()))
    assert (found.policy, found.unenrolled, found.max_offline, found.claims) == (True, "deny", 60, False)
    assert not central.decode(central.encode(None, 7, None)).policy
    for content in (b"", b"{}", b"[]", b"\xff", b'{"policy": {}, "issued": 1, "taken": null}'):
        with pytest.raises(DamageError):
            central.decode(content)


def test_a_host_that_has_not_joined_loads_nothing_of_it(host: Host) -> None:
    with host.accounts() as accounts:
        assert central.load(accounts) is None
