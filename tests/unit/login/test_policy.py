"""Who is asked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import ACTIVE, PENDING, Account, Authenticator
from pam_totp.cache.ledger import Ledger
from pam_totp.factors.publickeys import PublicKey
from pam_totp.host.clock import Moment
from pam_totp.host.config import DAY, Config, load
from pam_totp.login.policy import Facts, decide, demand, first_enrolment, required, self_enrolment
from tests.unit.places import ME
from tests.unit.pretend import BOOT, MEMORY

if TYPE_CHECKING:
    from pam_totp.login.policy import Action

NOW = Moment(1_700_000_000, BOOT, 5000)
SOURCE = "net:192.0.2.7"
FACTS = Facts("alice", SOURCE, "sshd", "192.0.2.7")


def account(*states: str) -> Account:
    authenticators = [
        Authenticator(f"{number:016}", state, "phone", "local", 0, bytes(20)) for number, state in enumerate(states)
    ]
    return Account("alice", 1001, authenticators, Ledger())


def config(unenrolled: str = "skip") -> Config:
    settings = Config()
    settings.unenrolled = unenrolled
    return settings


@pytest.mark.parametrize(
    ("states", "unenrolled", "action", "reason"),
    [
        ((), "skip", "skip", "not-enrolled"),
        ((), "deny", "refuse", "not-enrolled"),
        ((PENDING,), "skip", "skip", "pending"),
        ((PENDING,), "deny", "refuse", "pending"),
        ((ACTIVE,), "skip", "ask", "enrolled"),
        ((ACTIVE,), "deny", "ask", "enrolled"),
        ((ACTIVE, PENDING), "skip", "ask", "enrolled"),
        ((PENDING, ACTIVE), "deny", "ask", "enrolled"),
    ],
)
def test_only_who_is_enrolled_is_asked(states: tuple[str, ...], unenrolled: str, action: Action, reason: str) -> None:
    decision = decide(account(*states), config(unenrolled), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == (action, reason, 0)


def test_who_has_to_wait_is_refused_with_the_time_left() -> None:
    waiting = account(ACTIVE)
    for _ in range(3):
        waiting.ledger.fail(SOURCE, "", NOW, 100)
    decision = decide(waiting, config(), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == ("refuse", "throttled", 30)
    assert decide(waiting, config(), Facts("alice", "key:00"), NOW).action == "ask"


def test_a_lock_is_told_rather_than_a_wait() -> None:
    locked = account(ACTIVE)
    for _ in range(10):
        locked.ledger.fail(SOURCE, "", NOW, 10)
    decision = decide(locked, config(), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == ("refuse", "locked", 0)
    assert decide(locked, config(), Facts("alice", "key:00"), NOW).action == "refuse"


# Rules


def rules(*tables: str, general: str = "") -> Config:
    """A configuration with these rules."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory, "config.toml")
        path.write_text("\n".join([general, *(f"[[rule]]\n{table}" for table in tables)]), encoding="utf-8")
        path.chmod(0o600)
        return load(str(path), ME)


KEY = PublicKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIKq1xGvpMXDPnNrGdjnSWwUTlcTKqSlm0DrTfBRZX9sO")
CERTIFICATE = PublicKey("ssh-ed25519-cert-v01@openssh.com", "AAAA")


def facts(
    address: str = "192.0.2.7", *keys: PublicKey, user: str = "alice", service: str = "sshd", groups: str = ""
) -> Facts:
    found = Facts(user, SOURCE, service, address)
    found.keys = list(keys)
    found.groups = frozenset(groups.split())
    return found


@pytest.mark.parametrize(
    ("condition", "matching", "other"),
    [
        ('users = ["bob", "alice"]', facts(), facts(user="carol")),
        ('groups = ["wheel", "sudo"]', facts(groups="alice sudo"), facts(groups="alice sudoers")),
        ('services = ["sshd"]', facts(), facts(service="vpn")),
        ('networks = ["192.0.2.0/24"]', facts(), facts("192.0.3.7")),
        ('networks = ["192.0.2.7"]', facts(), facts("192.0.2.8")),
        ('networks = ["192.0.2.0/24"]', facts("::ffff:192.0.2.7"), facts("::ffff:192.0.3.7")),
        ('networks = ["10.0.0.0/8", "2001:db8::/32"]', facts("2001:db8:1::1"), facts("2001:db9::1")),
        ('networks = ["fe80::/10"]', facts("fe80::1%eth0"), facts("fd00::1")),
        ('networks = ["0.0.0.0/0"]', facts(), facts("::1")),
        ('networks = ["0.0.0.0/0", "::/0"]', facts("::1"), facts("host.example")),
        ('networks = ["0.0.0.0/0", "::/0"]', facts(), facts("")),
        ('keys = ["any"]', facts("", KEY), facts("")),
        ('keys = ["certificate"]', facts("", KEY, CERTIFICATE), facts("", KEY)),
        (f'keys = ["certificate", "{KEY.fingerprint()}"]', facts("", KEY), facts("", PublicKey("ssh-rsa", "AAAA"))),
        ('users = ["alice"]\nnetworks = ["192.0.2.0/24"]', facts(), facts("192.0.3.7")),
        ('users = ["alice"]\ngroups = ["sudo"]', facts(groups="sudo"), facts()),
    ],
)
def test_a_rule_is_matched_by_all_that_it_names_and_by_one_of_each(
    condition: str, matching: Facts, other: Facts
) -> None:
    settings = rules(f'{condition}\nmfa = "skip"')
    skipped, asked = (decide(account(ACTIVE), settings, each, NOW) for each in (matching, other))
    assert (skipped.action, skipped.reason, skipped.rule) == ("skip", "rule", settings.rules[0])
    assert (asked.action, asked.reason, asked.rule) == ("ask", "enrolled", None)


def test_the_first_rule_that_matches_decides() -> None:
    settings = rules(
        'networks = ["192.0.2.7"]\nmfa = "require"', 'networks = ["192.0.2.0/24"]\nmfa = "skip"', 'unenrolled = "deny"'
    )
    assert decide(account(ACTIVE), settings, facts(), NOW).action == "ask"
    assert decide(account(ACTIVE), settings, facts("192.0.2.8"), NOW).action == "skip"
    assert decide(account(ACTIVE), settings, facts("192.0.3.7"), NOW).rule is settings.rules[2]
    assert decide(account(), settings, facts("192.0.3.7"), NOW).action == "refuse"
    assert decide(account(), settings, facts(), NOW).action == "skip"


def test_a_rule_without_conditions_takes_everybody() -> None:
    assert decide(account(ACTIVE), rules('mfa = "skip"'), facts(), NOW).reason == "rule"


@pytest.mark.parametrize(("created", "action"), [(1, "ask"), (3599, "ask"), (3600, "skip")])
def test_time_since_enrolment_is_that_of_the_oldest_active_authenticator(created: int, action: Action) -> None:
    settings = rules('enrolled_within = "1h"', 'mfa = "skip"')
    user = account(PENDING, ACTIVE, ACTIVE)
    for authenticator, age in zip(user.authenticators, (9999, created, 0), strict=True):
        authenticator.created = int(NOW.wall) - age
    assert decide(user, settings, facts(), NOW).action is action
    user.ledger.enrolled = int(NOW.wall) - 3600  # the first one, which is gone
    assert decide(user, settings, facts(), NOW).action == "skip"
    assert decide(account(PENDING), settings, facts(), NOW).reason == "rule"


@pytest.mark.parametrize(
    ("word", "action", "reason"),
    [
        ("skip", "skip", "not-enrolled"),
        ("deny", "refuse", "not-enrolled"),
        ("enroll", "enroll", "not-enrolled"),
        ("invite", "refuse", "not-invited"),
        ("deadline", "skip", "grace"),
    ],
)
def test_a_rule_says_what_becomes_of_who_is_not_enrolled(word: str, action: Action, reason: str) -> None:
    general = "deny" if word == "skip" else "skip"
    settings = rules(f'users = ["alice"]\nunenrolled = "{word}"', general=f'unenrolled = "{general}"')
    decision = decide(account(), settings, facts(), NOW)
    assert (decision.action, decision.reason) == (action, reason)
    assert decide(account(ACTIVE), settings, facts(), NOW).action == "ask"


# Invitations


def invited(until: float) -> Account:
    user = account()
    user.ledger.invitation = ["token", until]
    return user


def test_an_invitation_counts_until_it_is_over() -> None:
    assert decide(invited(NOW.wall + 1), config("invite"), FACTS, NOW).action == "invite"
    assert decide(invited(NOW.wall), config("invite"), FACTS, NOW).reason == "not-invited"


def test_wrong_invitations_hold_up_their_own_source_only() -> None:
    user = invited(NOW.wall + 3600)
    for number in range(100):
        user.ledger.fail_recovery(f"net:192.0.2.{number}", "", NOW)
    for _ in range(5):
        user.ledger.fail_recovery(SOURCE, "", NOW)
    decision = decide(user, config("invite"), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == ("refuse", "throttled", 600)
    assert decide(user, config("invite"), Facts("alice", "key:00"), NOW).action == "invite"


def test_guesses_at_the_code_of_an_administrators_key_hold_up_no_invitation() -> None:
    user = invited(NOW.wall + 3600)
    for _ in range(200):
        user.ledger.fail(SOURCE, "", NOW, 100)
    assert user.ledger.locked
    assert decide(user, config("invite"), FACTS, NOW).action == "invite"


# The self-service


@pytest.mark.parametrize("word", [None, True, False])
@pytest.mark.parametrize(
    ("setting", "unasked", "reason"),
    [
        ("", "refuse", "self-enroll-off"),
        ('unenrolled = "enroll"', "enroll", "not-enrolled"),
        ('[enrollment]\nperiod = "2d"', "skip", "grace"),
        ('unenrolled = "deny"', "refuse", "not-enrolled"),
        ('unenrolled = "invite"', "refuse", "not-invited"),
    ],
)
def test_who_may_enrol_through_the_self_service(setting: str, unasked: str, reason: str, word: bool | None) -> None:
    settings = rules(general=setting)
    settings.self_enroll = word
    decision = self_enrolment(account(), settings, FACTS, NOW)
    closed = unasked == "refuse" and reason != "self-enroll-off"
    if word is None or closed:
        assert (decision.action, decision.reason) == (unasked, reason)
    elif word:
        assert decision.action != "refuse"
    else:
        assert (decision.action, decision.reason) == ("refuse", "self-enroll-off")


# Deadlines


def later(seconds: float) -> Moment:
    return Moment(NOW.wall + seconds, BOOT, NOW.uptime + seconds)


@pytest.mark.parametrize(("after", "action"), [("enroll", "enroll"), ("invite", "refuse"), ("deny", "refuse")])
def test_a_deadline_runs_from_the_first_login_it_applies_to(after: str, action: Action) -> None:
    settings = rules(general=f'[enrollment]\nperiod = "2d"\nafter = "{after}"')
    user = account()
    for now in (NOW, later(50 * DAY)):
        decision = decide(user, settings, FACTS, now)
        assert (decision.action, decision.reason, decision.seconds) == ("skip", "grace", 2 * DAY)
    user.ledger.grace = [NOW.stamp(), 0]
    assert decide(user, settings, FACTS, later(DAY)).seconds == DAY
    assert decide(user, settings, FACTS, later(2 * DAY - 1)).seconds == 1
    assert decide(user, settings, FACTS, later(2 * DAY)).action is action
    user.ledger.grace = [NOW.stamp(), DAY]
    assert decide(user, settings, FACTS, later(2 * DAY)).seconds == DAY


def test_a_pending_key_does_not_end_a_deadline_nor_prolong_it() -> None:
    settings = rules(general='[enrollment]\nperiod = "1d"')
    user = account(PENDING)
    user.ledger.grace = [NOW.stamp(), 0]
    assert decide(user, settings, FACTS, later(DAY - 1)).reason == "grace"
    assert decide(user, settings, FACTS, later(DAY)).action == "refuse"


def test_setting_the_clock_back_does_not_prolong_a_deadline() -> None:
    user = account()
    user.ledger.grace = [NOW.stamp(), 0]
    settings = rules(general='[enrollment]\nperiod = "1d"')
    assert decide(user, settings, FACTS, Moment(NOW.wall - 9 * DAY, BOOT, NOW.uptime + DAY)).action == "refuse"


def test_who_is_enrolled_has_no_deadline() -> None:
    user = account(ACTIVE)
    user.ledger.grace = [NOW.stamp(), 0]
    assert decide(user, rules(general='[enrollment]\nperiod = "1d"'), FACTS, NOW).action == "ask"


# Exemptions


@pytest.mark.parametrize("states", [(), (PENDING,), (ACTIVE,)])
def test_who_is_exempt_is_not_asked_until_the_exemption_ends(states: tuple[str, ...]) -> None:
    user = account(*states)
    user.ledger.exemption = [NOW.wall + 60, "broken phone"]
    user.ledger.locked = bool(states)
    settings = rules('mfa = "require"\nunenrolled = "deny"')
    assert decide(user, settings, FACTS, NOW).reason == "exempt"
    assert decide(user, settings, FACTS, later(59)).action == "skip"
    assert decide(user, settings, FACTS, later(60)).action == "refuse" if states != (ACTIVE,) else "ask"


# Remembered clients


def client(token: str = "client") -> Facts:
    found = facts()
    found.client = token
    return found


def test_a_client_is_remembered_for_as_long_as_policy_said_and_still_says() -> None:
    user = account(ACTIVE)
    hour = rules(general='remember = "1h"')
    assert decide(user, hour, client(), NOW).remember == 3600
    user.ledger.remember("client", 3600, NOW)
    assert decide(user, hour, client(), later(3599)).reason == "remembered"
    assert decide(user, hour, client(), later(3600)).action == "ask"
    assert decide(user, rules(general='remember = "1d"'), client(), later(3600)).action == "ask"
    assert decide(user, rules(general='remember = "1m"'), client(), later(60)).action == "ask"
    assert decide(user, rules(general='remember = "1m"'), client(), later(59)).action == "skip"
    assert decide(user, rules(), client(), later(1)).action == "ask"


def test_another_client_or_none_at_all_is_not_remembered() -> None:
    user = account(ACTIVE)
    user.ledger.remember("client", 3600, NOW)
    settings = rules(general='remember = "1h"')
    assert decide(user, settings, client("other"), NOW).action == "ask"
    assert decide(user, settings, client(""), NOW).action == "ask"


def test_nobody_is_remembered_across_a_boot() -> None:
    user = account(ACTIVE)
    user.ledger.remember("client", 3600, NOW)
    settings = rules(general='remember = "1h"')
    assert decide(user, settings, client(), Moment(NOW.wall, "another boot", NOW.uptime)).action == "ask"


def test_setting_the_clock_back_does_not_prolong_a_memory() -> None:
    user = account(ACTIVE)
    user.ledger.remember("client", 3600, NOW)
    settings = rules(general='remember = "1h"')
    assert decide(user, settings, client(), Moment(NOW.wall - DAY, BOOT, NOW.uptime + 3600)).action == "ask"


def test_a_rule_remembers_longer_shorter_or_never() -> None:
    settings = rules(
        'users = ["bob"]\nremember = "never"', 'users = ["carol"]\nremember = "1m"', general='remember = "1h"'
    )
    found = [decide(account(ACTIVE), settings, facts(user=user), NOW).remember for user in ("alice", "bob", "carol")]
    assert found == [3600, 0, 60]
    user = account(ACTIVE)
    user.ledger.remember("client", 3600, NOW)
    bob = facts(user="bob")
    bob.client = "client"
    assert decide(user, settings, bob, NOW).action == "ask"


def test_a_lock_or_a_wait_outweighs_a_memory() -> None:
    user = account(ACTIVE)
    user.ledger.remember("client", 3600, NOW)
    user.ledger.locked = True
    assert decide(user, rules(general='remember = "1h"'), client(), NOW).reason == "locked"


# Recovery codes


def test_a_wait_or_a_lock_leaves_the_way_of_a_recovery_code_while_there_are_any() -> None:
    user = account(ACTIVE)
    user.ledger.recovery = {"salt": "", "hashes": ["x"], "shown": True}
    for _ in range(3):
        user.ledger.fail(SOURCE, "", NOW, 100)
    decision = decide(user, config(), FACTS, NOW)
    assert (decision.action, decision.reason, decision.seconds) == ("ask-recovery", "throttled", 30)
    user.ledger.locked = True
    assert decide(user, config(), FACTS, NOW).action == "ask-recovery"
    user.ledger.recovery["hashes"] = []
    assert decide(user, config(), FACTS, NOW).action == "refuse"


def test_a_code_is_demanded_whatever_exempts_from_it_at_logins() -> None:
    exempt = account(ACTIVE)
    exempt.ledger.exemption = [NOW.wall + DAY, "a test"]
    assert decide(exempt, config(), FACTS, NOW).action == "skip"
    assert demand(exempt, config(), FACTS, NOW).action == "ask"
    exempt.ledger.locked = True
    assert demand(exempt, config(), FACTS, NOW).action == "refuse"


def test_a_recovery_code_is_not_asked_for_where_its_source_has_tried_too_many() -> None:
    waiting = account(ACTIVE)
    waiting.ledger.locked = True
    waiting.ledger.recovery = {"salt": "00" * 16, "hashes": ["00" * 16], "shown": True}
    for number in range(5):
        assert demand(waiting, config(), FACTS, NOW).action == "ask-recovery", number
        waiting.ledger.fail_recovery(SOURCE, "", NOW)
    decision = demand(waiting, config(), FACTS, NOW)
    assert (decision.action, decision.reason) == ("refuse", "locked")


@pytest.mark.parametrize(("count", "window", "guesses"), [(1, 1, 24), (2, 1, 16), (5, 1, 6), (1, 10, 4), (5, 10, 1)])
def test_the_more_codes_a_guess_can_hit_the_fewer_guesses_a_day(count: int, window: int, guesses: int) -> None:
    user, settings = account(*[ACTIVE] * count), config()
    settings.window = window
    for number in range(guesses):
        assert demand(user, settings, FACTS, NOW).action == "ask"
        user.ledger.fail(f"net:{number}", "", NOW, 100)
    assert demand(user, settings, FACTS, NOW).reason == "throttled"


def test_an_exemption_or_a_rule_without_codes_is_no_leave_to_enrol() -> None:
    nobody = account()
    nobody.ledger.exemption = [NOW.wall + DAY, "a test"]
    assert first_enrolment(nobody, config("deny"), FACTS, NOW).action == "refuse"
    skipping = rules('mfa = "skip"', general='unenrolled = "deny"')
    assert decide(account(), skipping, FACTS, NOW).action == "skip"
    assert first_enrolment(account(), skipping, FACTS, NOW).action == "refuse"


@pytest.mark.parametrize("word", ["skip", "enroll", "deny", "invite", "deadline"])
def test_without_exemptions_a_first_enrolment_is_decided_as_at_a_login(word: str) -> None:
    for each in (account(), account(PENDING), invited(NOW.wall + 1)):
        login, here = decide(each, config(word), FACTS, NOW), first_enrolment(each, config(word), FACTS, NOW)
        assert (here.action, here.reason, here.seconds) == (login.action, login.reason, login.seconds)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (config("skip"), False),
        *((config(word), True) for word in ("enroll", "invite", "deny", "deadline")),
        (rules('unenrolled = "deny"'), True),
        (rules('users = ["bob"]\nunenrolled = "deny"'), False),
        (rules('groups = ["sudo"]\nunenrolled = "deny"'), False),
        (rules('services = ["other"]\nunenrolled = "deny"'), True),
        (rules('networks = ["203.0.113.0/24"]\nunenrolled = "deny"'), True),
        (rules('keys = ["any"]\nunenrolled = "deny"'), True),
        (rules('enrolled_within = "30d"\nunenrolled = "deny"'), False),
        (rules('mfa = "skip"\nunenrolled = "deny"'), False),
        (rules('users = ["alice"]\nunenrolled = "skip"', general='unenrolled = "deny"'), False),
        (rules('users = ["alice"]\nmfa = "skip"', general='unenrolled = "deny"'), False),
        (rules('keys = ["any"]\nmfa = "skip"', general='unenrolled = "deny"'), True),
    ],
)
def test_mfa_is_required_where_some_login_of_the_user_could_need_it(settings: Config, needed: bool) -> None:
    assert required(settings, FACTS) == needed
