"""Who is asked."""

from __future__ import annotations

import tempfile
from base64 import b64decode, b64encode
from copy import copy
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_totp.cache.accounts import ACTIVE, PENDING, Account, Authenticator
from pam_totp.cache.ledger import Ledger
from pam_totp.factors.publickeys import PublicKey
from pam_totp.host.clock import Moment
from pam_totp.host.config import Config, Rule, load
from pam_totp.host.settings import DAY
from pam_totp.login.policy import Facts, decide, demand, first_enrolment, matches, required, self_enrolment, told
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
        path.write_text("\n".join([general or "#", *(f"[[rule]]\n{table}" for table in tables)]), encoding="utf-8")
        path.chmod(0o600)
        return load(str(path), ME)


KEY = PublicKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIKq1xGvpMXDPnNrGdjnSWwUTlcTKqSlm0DrTfBRZX9sO")


def plain(seed: bytes) -> PublicKey:
    return PublicKey("ssh-ed25519", b64encode(written(b"ssh-ed25519", seed * 32)).decode("ascii"))


def written(*fields: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "big") + each for each in fields)


def certificate(key: PublicKey, authority: PublicKey, *principals: bytes) -> PublicKey:
    """A certificate as sshd would hand it on, for alice where no others are named."""
    kind = b"ssh-ed25519-cert-v01@openssh.com"
    about = (
        bytes(8 + 4)
        + written(b"id", written(*principals or (b"staff", b"alice")))
        + bytes(8 + 8)
        + written(b"", b"", b"")
    )
    signed = written(b64decode(authority.text), b"signature")
    blob = written(kind, b"nonce", b64decode(key.text)[-32:]) + about + signed
    return PublicKey(kind.decode("ascii"), b64encode(blob).decode("ascii"))


OTHER_KEY, CA = plain(b"o"), plain(b"c")
CERTIFICATE, OF_ANOTHER_CA = certificate(KEY, CA), certificate(OTHER_KEY, plain(b"m"))
# A certificate of a kind that nobody knows yet.
STRANGE = PublicKey("ssh-future-cert-v01@openssh.com", "AAAA")


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
        ('keys = ["any"]', facts("", KEY), facts("")),
        (f'keys = ["ca:{CA.fingerprint()}"]', facts("", KEY, CERTIFICATE), facts("", KEY, OF_ANOTHER_CA)),
        (f'keys = ["{KEY.fingerprint()}"]', facts("", OTHER_KEY, KEY), facts("", OTHER_KEY)),
        (f'keys = ["{KEY.fingerprint()}"]', facts("", CERTIFICATE), facts("", OTHER_KEY)),
        (f'keys = ["ca:{CA.fingerprint()}", "{OTHER_KEY.fingerprint()}"]', facts("", OTHER_KEY), facts("", KEY)),
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


# What is unknown


@pytest.mark.parametrize(
    ("condition", "unknown", "why"),
    [
        ('networks = ["0.0.0.0/0", "::/0"]', facts("host.example"), "networks cannot be told: sshd reported a name"),
        ('networks = ["192.0.2.0/24"]', facts("UNKNOWN"), "networks cannot be told: sshd reported a name"),
        ('networks = ["192.0.2.0/24"]', facts(""), "networks cannot be told: no address is known"),
        ('services = ["sshd"]', facts(service=""), "services cannot be told: no service is named"),
        ('groups = ["sudo"]', Facts("alice", SOURCE), "groups cannot be told: the user's groups are not known"),
        ('keys = ["any"]', Facts("alice", SOURCE), "keys cannot be told: sshd did not say which keys passed"),
        (f'keys = ["{KEY.fingerprint()}"]', facts("", STRANGE), "keys cannot be told: a key that passed is not"),
        (f'keys = ["ca:{CA.fingerprint()}"]', facts("", KEY, STRANGE), "keys cannot be told: a key that passed is not"),
    ],
)
def test_a_rule_of_which_it_cannot_be_told_whether_it_applies_only_makes_it_stricter(
    condition: str, unknown: Facts, why: str
) -> None:
    lax = rules(f'{condition}\nmfa = "skip"')
    decision = decide(account(ACTIVE), lax, unknown, NOW)
    assert (decision.action, decision.reason, decision.rule) == ("ask", "enrolled", None)
    [doubt] = decision.doubts
    assert doubt.startswith(f"rule 1: {why}")
    strict = rules(f'{condition}\nunenrolled = "deny"', 'mfa = "skip"')
    for user, action in ((account(ACTIVE), "ask"), (account(), "refuse")):
        decision = decide(user, strict, unknown, NOW)
        assert (decision.action, decision.rule, len(decision.doubts)) == (action, strict.rules[0], 1)


def test_an_enrolment_in_the_future_is_not_known_to_be_recent() -> None:
    user = account(ACTIVE)
    user.authenticators[0].created = int(NOW.wall) + 60
    assert decide(user, rules('enrolled_within = "1h"\nmfa = "skip"'), facts(), NOW).action == "ask"
    assert decide(user, rules('enrolled_within = "1h"', 'mfa = "skip"'), facts(), NOW).action == "ask"


def test_a_rule_one_condition_of_which_is_false_does_not_apply_whatever_else_is_unknown() -> None:
    settings = rules('users = ["bob"]\nnetworks = ["192.0.2.0/24"]', 'mfa = "skip"')
    decision = decide(account(ACTIVE), settings, facts(""), NOW)
    assert (decision.action, decision.doubts) == ("skip", [])


def test_one_key_that_is_named_suffices_whatever_the_others_are() -> None:
    settings = rules(f'keys = ["{KEY.fingerprint()}"]\nmfa = "skip"')
    assert decide(account(ACTIVE), settings, facts("", STRANGE, KEY), NOW).action == "skip"


def test_nothing_is_doubtful_where_all_rules_that_may_apply_agree() -> None:
    settings = rules('networks = ["192.0.2.0/24"]', 'keys = ["any"]')
    assert decide(account(ACTIVE), settings, Facts("alice", SOURCE), NOW).doubts == []


def test_an_exemption_holds_whatever_is_unknown() -> None:
    user = account(ACTIVE)
    user.ledger.exemption = [NOW.wall + 60, "broken phone"]
    assert decide(user, rules('networks = ["192.0.2.0/24"]'), facts("host.example"), NOW).reason == "exempt"


def test_a_deadline_that_may_apply_begins_to_run() -> None:
    settings = rules('networks = ["192.0.2.0/24"]\nunenrolled = "deadline"', 'mfa = "skip"')
    assert decide(account(), settings, facts("host.example"), NOW).reason == "grace"


def test_a_client_is_remembered_for_the_shortest_time_that_may_apply() -> None:
    settings = rules('networks = ["192.0.2.0/24"]\nremember = "never"', general='remember = "1h"')
    user = account(ACTIVE)
    user.ledger.remember("client", 3600, NOW)
    unknown = facts("host.example", KEY)
    unknown.client = "client"
    decision = decide(user, settings, unknown, NOW)
    assert (decision.action, decision.remember) == ("ask", 0)


def test_a_certificate_of_a_named_ca_for_somebody_else_may_match_and_skips_nobody() -> None:
    user = account(ACTIVE)
    theirs = certificate(KEY, CA, b"mallory")
    named = f'keys = ["ca:{CA.fingerprint()}"]'
    for policy_of, rule in ((rules(f'{named}\nmfa = "skip"'), None), (rules(named, 'mfa = "skip"'), 1)):
        decision = decide(user, policy_of, facts("192.0.2.7", theirs), NOW)
        assert (decision.action, decision.rule and decision.rule.number) == ("ask", rule)
        assert decision.doubts == ["rule 1: keys cannot be told: the certificate is not for this name"]
    skips = rules(f'{named}\nmfa = "skip"')
    assert decide(user, skips, facts("192.0.2.7", certificate(KEY, CA)), NOW).action == "skip"


def test_a_rule_about_one_name_of_somebody_who_is_enrolled_may_be_about_the_other_and_skips_nobody() -> None:
    alias = facts(user="alicia", groups="staff")
    alias.record, alias.record_groups = "alice", frozenset(["sudo"])
    for condition in ('users = ["alice"]', 'users = ["alicia"]', 'groups = ["sudo"]', 'groups = ["staff"]'):
        for either in (rules(f'{condition}\nmfa = "skip"'), rules(condition, 'mfa = "skip"')):
            decision = decide(account(ACTIVE), either, alias, NOW)
            assert decision.action == "ask"
            name = condition.partition(" ")[0]
            about = "the rule is about one of the names alicia and alice"
            assert decision.doubts == [f"rule 1: {name} cannot be told: {about}"]
    for condition in ('users = ["alice", "alicia"]', 'groups = ["sudo", "staff"]'):
        assert decide(account(ACTIVE), rules(f'{condition}\nmfa = "skip"'), alias, NOW).action == "skip"
    assert decide(account(ACTIVE), rules('users = ["bob"]', 'mfa = "skip"'), alias, NOW).action == "skip"


# Few names, so that conditions hold often.
WORDS = ["skip", "deadline", "enroll", "invite", "deny"]
NETWORKS = [ip_network(each) for each in ("192.0.2.0/24", "192.0.2.7", "198.51.100.0/24", "2001:db8::/32")]
KEYS = ["any", "certificate", *(each.fingerprint() or "" for each in (KEY, OTHER_KEY)), f"ca:{CA.fingerprint()}"]
HELD = [KEY, OTHER_KEY, CERTIFICATE, OF_ANOTHER_CA]


def some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), max_size=2)


@st.composite
def any_rule(draw: st.DrawFn) -> Rule:
    rule = Rule(1)
    rule.users, rule.groups = draw(some(["alice", "bob"])), draw(some(["sudo", "staff"]))
    rule.services, rule.networks, rule.keys = draw(some(["sshd", "vpn"])), draw(some(NETWORKS)), draw(some(KEYS))
    rule.enrolled_within = draw(st.sampled_from([0, 0, 3600]))
    rule.mfa = draw(st.sampled_from(["require", "skip"]))
    rule.unenrolled = draw(st.sampled_from([None, *WORDS]))
    rule.remember = draw(st.sampled_from([None, 0, 60, 3600]))
    return rule


@st.composite
def any_config(draw: st.DrawFn) -> Config:
    settings = Config()
    settings.unenrolled, settings.remember = draw(st.sampled_from(WORDS)), draw(st.sampled_from([0, 60, 3600]))
    settings.enrollment.after = draw(st.sampled_from(["enroll", "invite", "deny"]))
    settings.rules = draw(st.lists(any_rule(), max_size=4))
    return settings


@st.composite
def any_account(draw: st.DrawFn) -> Account:
    user = account(*draw(some([ACTIVE, PENDING])))
    for each in user.authenticators:
        each.created = int(NOW.wall) - draw(st.sampled_from([60, 7200]))
    user.ledger.locked = draw(st.booleans())
    user.ledger.exemption = draw(st.sampled_from([None, None, [NOW.wall + 60, "a test"]]))
    user.ledger.invitation = draw(st.sampled_from([None, ["token", NOW.wall + 60]]))
    user.ledger.grace = draw(st.sampled_from([None, [NOW.stamp(), -365 * DAY]]))
    user.ledger.remember("client", 3600, Moment(NOW.wall - 120, BOOT, NOW.uptime - 120))
    return user


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    address = draw(st.sampled_from(["192.0.2.7", "192.0.2.8", "198.51.100.9", "2001:db8::1", "203.0.113.1"]))
    groups = " ".join(draw(some(["sudo", "staff"])))
    found = facts(address, *draw(some(HELD)), service=draw(st.sampled_from(["sshd", "vpn"])), groups=groups)
    found.client = draw(st.sampled_from(["", "client"]))
    return found


@st.composite
def less_is_known(draw: st.DrawFn) -> tuple[Facts, Facts]:
    """What is known of a login, and the same where some of it is not known."""
    known = draw(any_facts())
    unknown = Facts(known.user, known.source, known.service, known.address)
    unknown.client, unknown.groups = known.client, draw(st.sampled_from([known.groups, None]))
    unknown.service = draw(st.sampled_from([known.service, ""]))
    unknown.address = draw(st.sampled_from([known.address, "", "host.example", "UNKNOWN"]))
    keys = [STRANGE if each.is_certificate and draw(st.booleans()) else each for each in known.keys or ()]
    unknown.keys = draw(st.sampled_from([keys, None]))
    return known, unknown


# From the laxest to the strictest.
ORDER = ["skip", "enroll", "invite", "ask", "ask-recovery", "refuse"]


@settings(max_examples=500)
@given(any_account(), any_config(), less_is_known())
def test_knowing_less_of_a_login_never_makes_a_decision_laxer(
    user: Account, config: Config, both: tuple[Facts, Facts]
) -> None:
    known, unknown = both
    for decided in (decide, first_enrolment):
        full, part = (decided(user, config, each, NOW) for each in (known, unknown))
        assert ORDER.index(part.action) >= ORDER.index(full.action)
        assert part.remember <= full.remember
        assert part.reason == "grace" or full.reason != "grace" or part.action != "skip"
    if not user.active:
        assert required(user, config, unknown, NOW) or not required(user, config, known, NOW)


@given(any_account(), any_config(), any_facts(), st.sampled_from(["alice", "bob", "carol"]), some(["sudo", "staff"]))
def test_another_name_of_somebody_who_is_enrolled_is_never_asked_less(
    user: Account, config: Config, known: Facts, other: str, groups: list[str]
) -> None:
    own, alias = (copy(known) for _ in range(2))
    alias.user, alias.groups = other, frozenset(groups)
    alias.record, alias.record_groups = own.user, own.groups
    # What a certificate is for is asked of the name that logs in.
    alias.keys = own.keys = []
    full, part = (decide(user, config, each, NOW) for each in (own, alias))
    assert ORDER.index(part.action) >= ORDER.index(full.action)
    assert part.remember <= full.remember


@given(any_account(), any_config(), any_facts())
def test_where_everything_is_known_the_first_rule_that_matches_decides_alone(
    user: Account, config: Config, known: Facts
) -> None:
    decision = decide(user, config, known, NOW)
    assert decision.rule is next((rule for rule in config.rules if matches(rule, user, known, NOW)), None)
    assert not decision.doubts


@given(any_account(), any_config())
def test_with_nothing_known_a_rule_skips_only_if_it_names_nothing_but_users(user: Account, config: Config) -> None:
    decision = decide(user, config, Facts("alice", SOURCE), NOW)
    if decision.action == "skip" and decision.reason == "rule":
        assert decision.rule is not None
        named = (decision.rule.groups, decision.rule.services, decision.rule.networks, decision.rule.keys)
        assert not any(named)


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
    assert required(account(ACTIVE), settings, facts(), NOW) == needed


def test_what_is_known_of_a_condition_is_told() -> None:
    assert told("users", True, facts()) == "match"
    assert told("users", False, facts()) == "do not match"
