"""Who is asked for a code: (account, configuration, facts, now) -> Decision. Pure.

The order is the policy: an exemption, then the first rule that matches, then the account's own state.

On a host that has joined a fleet the directory's policy decides as well, and the stricter of the two decisions holds.
What a configuration file of the host's own says can make it stricter, never laxer; without one, the directory's alone
decides.

A fact can be unknown, and then a condition on it is neither true nor false: None. A rule with such a condition may
apply or not. Of the decisions of all rules that may apply the strictest is taken: what is unknown lets nobody in.
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
    from pam_totp.login.central import Central

    # What to do with a login. Only "skip" lets anybody in without a code; "ask-recovery", for who is waiting or locked,
    # looks at a recovery code only.
    Action = Literal["ask", "ask-recovery", "skip", "enroll", "invite", "refuse"]

# From the laxest to the strictest. Of two that skip, the one by which a deadline runs is stricter.
_STRICTNESS = ("skip", "enroll", "invite", "ask", "ask-recovery", "refuse")


class Decision:
    """An action and what led to it.

    ``reason`` is the word for the log (docs/log.md); ``seconds`` how long to wait, or how long until a deadline;
    ``remember`` for how many seconds the client is not asked again after a success; ``rule`` the rule that decided,
    None where the general settings did; ``doubts`` says, for an administrator, what is unknown of the rules, where
    knowing it could lead to another action; ``central``: the directory decided, not the host's own settings.
    """

    __slots__ = ("action", "central", "doubts", "reason", "remember", "rule", "seconds")

    def __init__(self, action: Action, reason: str, seconds: int = 0) -> None:
        self.action = action
        self.reason = reason
        self.seconds = seconds
        self.remember = 0
        self.rule: Rule | None = None
        self.doubts: list[str] = []
        self.central = False


class Facts:
    """What is known of one attempt. What is not filled in is unknown: an empty service or address, no keys or groups.

    ``source`` is whom failures are charged to; ``client`` the token of a client that could be remembered, empty where
    none could; ``groups`` is only filled where a rule names groups. ``keys`` that are known to be none are an empty
    list. ``record`` is the name of the enrolled record, with its groups, where ``user`` is another name of that uid.
    ``central`` is what the directory demands, None on a host that has not joined a fleet.
    """

    __slots__ = (
        *("address", "central", "client", "groups", "keys"),
        *("record", "record_groups", "service", "source", "user"),
    )

    def __init__(self, user: str, source: str, service: str = "", address: str = "") -> None:
        self.user = user
        self.source = source
        self.service = service
        self.address = address
        self.keys: list[PublicKey] | None = None
        self.groups: frozenset[str] | None = None
        self.record = ""
        self.record_groups: frozenset[str] | None = None
        self.client = ""
        self.central: Central | None = None


def decide(account: Account, config: Config, facts: Facts, now: Moment) -> Decision:
    """Decide about one attempt.

    SKIP is only reached for an account that is proven to have no active authenticator, or because an administrator's
    rule, exemption or setting says so.
    """
    held = withheld(account, facts, now)
    if held is not None:
        return held
    own = _own(account, config, facts, now)
    central = facts.central
    if central is None or not central.policy:
        return own
    demanded = _central(account, config, central, facts, now)
    # Without a file nobody on this host has decided anything. A client is remembered where a host alone says so.
    decision = _strictest([demanded, own]) if config.found and own.reason != "remembered" else demanded
    decision.remember = 0
    return decision


def withheld(account: Account, facts: Facts, now: Moment) -> Decision | None:
    """The refusal of a user whom the directory has locked, or for whom it has been silent for too long; else None.

    Neither a code nor a recovery code, nor an exemption, ends it.
    """
    fleet, central = account.ledger.fleet, facts.central
    decision = None
    if fleet is not None and fleet["locked"]:
        decision = Decision("refuse", "fleet-locked")
    elif central is not None and central.silent(now):
        # Under two names somebody is named only where both are.
        names = {facts.user, facts.record or facts.user}
        if not names <= central.break_glass:
            decision = Decision("refuse", "fleet-offline", central.age(now))
    if decision is not None:
        decision.central = True
    return decision


def _revoked(account: Account) -> bool:
    """Whether the directory has taken the user away, who then has nothing to be asked for, and must not be skipped."""
    fleet = account.ledger.fleet
    return fleet is not None and fleet["revoked"] and not account.active


def _central(account: Account, config: Config, central: Central, facts: Facts, now: Moment) -> Decision:
    if account.ledger.exempt(now):
        decision = Decision("skip", "exempt")
    elif _revoked(account):
        decision = Decision("refuse", "fleet-revoked")
    elif not central.mfa:
        decision = Decision("skip", "fleet-policy")
    elif account.active:
        decision = demand(account, config, facts, now)
    else:
        decision = _central_unenrolled(account, config, central, facts, now)
    decision.central = True
    return decision


def _central_unenrolled(account: Account, config: Config, central: Central, facts: Facts, now: Moment) -> Decision:
    word, fleet = central.unenrolled, account.ledger.fleet
    if fleet is not None:
        if fleet["deadline"] is not None and now.wall < fleet["deadline"]:
            return Decision("skip", "grace", -int(-(fleet["deadline"] - now.wall) // 1))
        if word == "skip" and (fleet["must"] or fleet["deadline"] is not None):
            word = "deny"
    return _unenrolled(account, config, word, facts, now)


def _own(account: Account, config: Config, facts: Facts, now: Moment) -> Decision:
    rules = possible(config.rules, account, facts, now)
    decisions = [_decide(account, config, rule, facts, now) for rule in rules]
    decision = _strictest(decisions)
    # The shortest memory, too, of those that may apply.
    remember = min(config.remember if rule is None or rule.remember is None else rule.remember for rule in rules)
    rule, doubtful = rules[decisions.index(decision)], any(each.action != decision.action for each in decisions)
    if decision.action == "ask" and facts.client and account.ledger.remembers(facts.client, remember, now):
        decision = Decision("skip", "remembered")
    decision.rule = rule
    decision.remember = remember
    if doubtful:
        decision.doubts = [
            f"rule {each.number}: {name} {told(name, None, facts)}"
            for each in rules
            if each is not None
            for name, holds in conditions(each, account, facts, now)
            if holds is None
        ]
    return decision


def _decide(account: Account, config: Config, rule: Rule | None, facts: Facts, now: Moment) -> Decision:
    if account.ledger.exempt(now):
        return Decision("skip", "exempt")
    if _revoked(account):
        return Decision("refuse", "fleet-revoked")
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
    held = withheld(account, facts, now)
    if held is not None or _revoked(account):
        return held or Decision("refuse", "fleet-revoked")
    rules = possible(config.rules, account, facts, now)
    own = _strictest([_unenrolled(account, config, _word(config, rule), facts, now) for rule in rules])
    central = facts.central
    if central is None or not central.policy:
        return own
    demanded = _central_unenrolled(account, config, central, facts, now)
    return _strictest([demanded, own]) if config.found else demanded


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


def required(account: Account, config: Config, facts: Facts, now: Moment) -> bool:
    """Whether some login of this user, to whatever service and from wherever, would need an enrolment one day."""
    central = facts.central
    if central is not None and central.policy and central.mfa and central.unenrolled != "skip":
        return True
    anywhere = Facts(facts.user, "")
    anywhere.groups, anywhere.record, anywhere.record_groups = facts.groups, facts.record, facts.record_groups
    # An account without an authenticator is in no rule for those who have just enrolled.
    rules = [rule for rule in config.rules if not rule.enrolled_within]
    return any(
        (rule is None or rule.mfa == "require") and _word(config, rule) != "skip"
        for rule in possible(rules, account, anywhere, now)
    )


def possible(rules: list[Rule], account: Account, facts: Facts, now: Moment) -> list[Rule | None]:
    """The rules one of which decides: the first that matches, and those before it of which that cannot be told.

    None stands for the general settings, which decide where no rule does. Whatever the unknown facts are, the rule that
    would decide if they were known is among these: knowing less never takes a rule away.
    """
    found: list[Rule | None] = []
    for rule in rules:
        holds = matches(rule, account, facts, now)
        if holds is not False:
            found.append(rule)
        if holds:
            return found
    return [*found, None]


def _strictest(decisions: list[Decision]) -> Decision:
    """The strictest; of several the last, whose rule certainly applies where the others only may."""
    return max(reversed(decisions), key=lambda each: (_STRICTNESS.index(each.action), each.reason == "grace"))


def _word(config: Config, rule: Rule | None) -> str:
    return config.unenrolled if rule is None or rule.unenrolled is None else rule.unenrolled


def _unenrolled(account: Account, config: Config, unenrolled: str, facts: Facts, now: Moment) -> Decision:
    seconds = 0
    state = "pending" if account.pending else "not-enrolled"
    if unenrolled == "deadline":
        seconds = account.ledger.grace_left(now, config.enrollment.period, config.enrollment.until)
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


def matches(rule: Rule, account: Account, facts: Facts, now: Moment) -> bool | None:
    """Whether every condition that a rule gives holds; None where that cannot be told."""
    return _all(holds for _, holds in conditions(rule, account, facts, now))


def conditions(rule: Rule, account: Account, facts: Facts, now: Moment) -> Iterator[tuple[str, bool | None]]:
    """The conditions that a rule gives, each with whether it holds; None where that cannot be told."""
    # Under another name, or another spelling of it, somebody who is enrolled stays the same person: a rule about one of
    # the two names may be about both.
    if rule.users:
        yield "users", _agreed(facts, facts.user in rule.users, facts.record in rule.users)
    if rule.groups:
        yield "groups", _agreed(facts, _among(facts.groups, rule), _among(facts.record_groups, rule))
    if rule.services:
        yield "services", facts.service in rule.services if facts.service else None
    if rule.networks:
        yield "networks", _in_networks(facts.address, rule)
    if rule.keys:
        yield (
            "keys",
            None
            if facts.keys is None
            else _any(_is_key(each, key, facts.user) for each in rule.keys for key in facts.keys),
        )
    if rule.enrolled_within:
        first = account.enrolled
        yield "enrolled_within", first is not None and _is_younger(now.wall - first, rule.enrolled_within)


def told(name: str, holds: bool | None, facts: Facts) -> str:
    """For an administrator: what is known of a condition, and where nothing is, why."""
    if holds is not None:
        return "match" if holds else "do not match"
    if name in ("users", "groups") and facts.record and (name == "users" or facts.groups is not None):
        return f"cannot be told: the rule is about one of the names {facts.user} and {facts.record}"
    why = {
        "groups": "the user's groups are not known",
        "services": "no service is named",
        "networks": "sshd reported a name (UseDNS)" if facts.address else "no address is known",
        "keys": _why_not_known(facts),
        "enrolled_within": "the enrolment lies in the future, check the clock",
    }
    return f"cannot be told: {why[name]}"


def _why_not_known(facts: Facts) -> str:
    if facts.keys is None:
        return "sshd did not say which keys passed"
    if any(key.fingerprint() is None for key in facts.keys):
        return "a key that passed is not understood"
    return "the certificate is not for this name"


def _all(values: Iterator[bool | None]) -> bool | None:
    found = set(values)
    return False if False in found else None if None in found else True


def _any(values: Iterator[bool | None]) -> bool | None:
    found = set(values)
    return True if True in found else None if None in found else False


def _agreed(facts: Facts, holds: bool | None, of_record: bool | None) -> bool | None:
    return holds if not facts.record or holds == of_record else None


def _among(groups: frozenset[str] | None, rule: Rule) -> bool | None:
    return None if groups is None else not groups.isdisjoint(rule.groups)


def _is_younger(age: float, limit: int) -> bool | None:
    # An enrolment that lies in the future: the clock is wrong, or was then.
    return None if age < 0 else age < limit


def _is_key(wanted: str, key: PublicKey, user: str) -> bool | None:
    if wanted == "any":
        return True
    if wanted == "certificate":
        return key.is_certificate
    authority = wanted.startswith("ca:")
    if authority and not key.is_certificate:
        return False
    found = key.authority() if authority else key.fingerprint()
    if found is None or found != wanted.removeprefix("ca:"):
        return None if found is None else False
    # One that the CA has given to somebody else is good here because an administrator says so, or because a line of
    # the user's own authorized_keys does, which every program of the user's can write.
    return None if authority and not key.is_for(user) else True


def _in_networks(address: str, rule: Rule) -> bool | None:
    import ipaddress  # only hosts whose rules name networks pay for it

    try:
        client = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None  # none, or a host name: with UseDNS sshd reports one
    if client.version == 6 and client.ipv4_mapped is not None:
        client = client.ipv4_mapped
    return any(client in network for network in rule.networks)
