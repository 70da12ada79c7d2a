"""Who is asked for a code: (account, configuration, facts, now) -> Decision. Pure.

The order is the policy: an exemption, then the first rule that matches, then the account's own state.
"""

from __future__ import annotations

from pam_totp.cache.ledger import guesses_a_day

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from pam_totp.cache.accounts import Account
    from pam_totp.factors.publickeys import PublicKey
    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Config, Rule

    # What to do with a login. Only "skip" lets anybody in without a code; "ask-recovery", for who is waiting or locked,
    # looks at a recovery code only.
    Action = Literal["ask", "ask-recovery", "skip", "enroll", "invite", "refuse"]


class Decision:
    """An action and what led to it.

    ``reason`` is the word for the log (docs/log.md); ``seconds`` how long to wait, or how long until a deadline;
    ``remember`` for how many seconds the client is not asked again after a success; ``rule`` the rule that matched.
    """

    __slots__ = ("action", "reason", "remember", "rule", "seconds")

    def __init__(self, action: Action, reason: str, seconds: int = 0) -> None:
        self.action = action
        self.reason = reason
        self.seconds = seconds
        self.remember = 0
        self.rule: Rule | None = None


class Facts:
    """What is known of one attempt.

    ``source`` is whom failures are charged to; ``client`` the token of a client that could be remembered, empty where
    none could; ``groups`` is only filled where a rule names groups.
    """

    __slots__ = ("address", "client", "groups", "keys", "service", "source", "user")

    def __init__(self, user: str, source: str, service: str = "", address: str = "") -> None:
        self.user = user
        self.source = source
        self.service = service
        self.address = address
        self.keys: list[PublicKey] = []
        self.groups: frozenset[str] = frozenset()
        self.client = ""


def decide(account: Account, config: Config, facts: Facts, now: Moment) -> Decision:
    """Decide about one attempt.

    SKIP is only reached for an account that is proven to have no active authenticator, or because an administrator's
    rule, exemption or setting says so.
    """
    rule = next((each for each in config.rules if matches(each, account, facts, now)), None)
    remember = config.remember if rule is None or rule.remember is None else rule.remember
    decision = _decide(account, config, rule, facts, now)
    if decision.action == "ask" and facts.client and account.ledger.remembers(facts.client, remember, now):
        decision = Decision("skip", "remembered")
    decision.rule = rule
    decision.remember = remember
    return decision


def _decide(account: Account, config: Config, rule: Rule | None, facts: Facts, now: Moment) -> Decision:
    if account.ledger.exempt(now):
        return Decision("skip", "exempt")
    if rule is not None and rule.mfa == "skip":
        return Decision("skip", "rule")
    if not account.active:
        return _unenrolled(account, config, _word(config, rule), facts, now)
    return demand(account, config, facts, now)


def demand(account: Account, config: Config, facts: Facts, now: Moment) -> Decision:
    """Ask for a code whatever rules and exemptions say; never SKIP. Waits and the lock hold as at any login."""
    ledger = account.ledger
    locked = ledger.locks_out(facts.source, now, config.lock_after)
    # Before the first enrolment it is the code of a key that an administrator made.
    wait = ledger.wait(facts.source, now, guesses_a_day(len(account.active) or 1, config.window))
    if not locked and not wait:
        return Decision("ask", "enrolled")
    recoverable = ledger.recovery and ledger.recovery["hashes"] and not ledger.recovery_wait(facts.source, now)
    action: Action = "ask-recovery" if recoverable else "refuse"
    return Decision(action, "locked") if locked else Decision(action, "throttled", wait)


def first_enrolment(account: Account, config: Config, facts: Facts, now: Moment) -> Decision:
    """What a first enrolment needs: nothing (ENROLL, SKIP), an invitation (INVITE), or an administrator (REFUSE).

    An exemption, and a rule that skips the code, let in without one; they do not say that anybody may enrol.
    """
    rule = next((each for each in config.rules if matches(each, account, facts, now)), None)
    return _unenrolled(account, config, _word(config, rule), facts, now)


def self_enrolment(account: Account, config: Config, facts: Facts, now: Moment) -> Decision:
    """The same through the self-service, where every program that runs as the user is the user.

    One that enrols first, with a key of its own, locks the owner out. So where un-enrolled users are let in without a
    code, and nothing says that they should enrol, ``self_enroll`` must say that they may.
    """
    decision = first_enrolment(account, config, facts, now)
    if decision.action == "refuse":
        return decision
    told = decision.action != "skip" or decision.reason == "grace"
    allowed = told if config.self_enroll is None else config.self_enroll
    return decision if allowed else Decision("refuse", "self-enroll-off")


def required(config: Config, facts: Facts) -> bool:
    """Whether some login of this user, to whatever service and from wherever, would need an enrolment one day."""
    for rule in config.rules:
        named = not rule.users or facts.user in rule.users
        if not named or (rule.groups and facts.groups.isdisjoint(rule.groups)) or rule.enrolled_within:
            continue
        if rule.mfa == "require" and _word(config, rule) != "skip":
            return True
        if not (rule.services or rule.networks or rule.keys):
            return False  # it takes every login that is left
    return config.unenrolled != "skip"


def _word(config: Config, rule: Rule | None) -> str:
    return config.unenrolled if rule is None or rule.unenrolled is None else rule.unenrolled


def _unenrolled(account: Account, config: Config, unenrolled: str, facts: Facts, now: Moment) -> Decision:
    seconds = 0
    state = "pending" if account.pending else "not-enrolled"
    if unenrolled == "deadline":
        seconds = account.ledger.grace_left(now, config.enrollment.period)
        if seconds:
            return Decision("skip", "grace", seconds)
        unenrolled = config.enrollment.after
    if unenrolled == "skip":
        return Decision("skip", state)
    if unenrolled == "deny":
        return Decision("refuse", state)
    if unenrolled == "enroll":
        return Decision("enroll", state)
    invitation = account.ledger.invitation
    if invitation is None or now.wall >= invitation[1]:
        return Decision("refuse", "not-invited")
    wait = account.ledger.invitation_wait(facts.source, now)
    if wait:
        return Decision("refuse", "throttled", wait)
    return Decision("invite", state)


def matches(rule: Rule, account: Account, facts: Facts, now: Moment) -> bool:
    """Whether every condition that a rule gives holds."""
    return all(holds for _, holds in conditions(rule, account, facts, now))


def conditions(rule: Rule, account: Account, facts: Facts, now: Moment) -> Iterator[tuple[str, bool]]:
    """The conditions that a rule gives, each with whether it holds."""
    if rule.users:
        yield "users", facts.user in rule.users
    if rule.groups:
        yield "groups", not facts.groups.isdisjoint(rule.groups)
    if rule.services:
        yield "services", facts.service in rule.services
    if rule.networks:
        yield "networks", _in_networks(facts.address, rule)
    if rule.keys:
        yield "keys", any(_is_key(wanted, key) for wanted in rule.keys for key in facts.keys)
    if rule.enrolled_within:
        first = account.enrolled
        yield "enrolled_within", first is not None and now.wall - first < rule.enrolled_within


def _is_key(wanted: str, key: PublicKey) -> bool:
    if wanted == "any":
        return True
    return key.is_certificate if wanted == "certificate" else key.fingerprint() == wanted


def _in_networks(address: str, rule: Rule) -> bool:
    import ipaddress  # only hosts whose rules name networks pay for it

    try:
        client = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False  # a host name is in no network: with UseDNS sshd reports one
    if client.version == 6 and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return any(client in network for network in rule.networks)
