"""One login attempt, over a small Conversation. Reads no clock and prints nothing; the clock is handed in.

Import list of the login path, held by a test: this package's own modules, sqlite3, json, PyNaCl's binding, and what
the interpreter has loaded anyway. Everything else is imported where a host's configuration or a user's state asks for
it: tomllib, ipaddress, hashlib, and the dialogue that enrols at the prompt. What evaluates an answer is imported once
the question is asked: sshd makes a user wait up to twice as long for the question as it took to get to it.
"""

from __future__ import annotations

from pam_totp.cache.accounts import Accounts
from pam_totp.errors import CacheError, ConfigError, PamTotpError
from pam_totp.host import config as configuration
from pam_totp.host import files, users
from pam_totp.login import log, policy
from pam_totp.login.attempt import (
    OUT_OF_ORDER,
    Attempt,
    Conversation,
    Outcome,
    Request,
    duration,
    hold,
    refusal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account
    from pam_totp.host.config import Arguments
    from pam_totp.host.paths import Paths
    from pam_totp.host.users import User
    from pam_totp.login.attempt import Clock, Verdict
    from pam_totp.login.policy import Decision, Facts

__all__ = [
    "Conversation",
    "Outcome",
    "Request",
    "ask",
    "attempt",
    "outcome_of",
]

RECOVERY_PROMPT = "Recovery code: "
TOLD_FOR = 2  # seconds


def attempt(
    request: Request,
    arguments: Arguments,
    paths: Paths,
    clock: Clock,
    conversation: Conversation,
    find: Callable[[str], User | None] | None = None,
) -> Outcome:
    """Decide, ask, verify, charge, and tell the user. Whatever is missing or broken lets nobody in.

    ``find`` says who a name is, and None where it is nobody's; by default NSS does.
    """
    name = ""
    try:
        if arguments.first_factor == "publickey" and not request.public_keys:
            return Outcome(
                "refused",
                "no-public-key",
                "sshd saw no public key in this login: set AuthenticationMethods publickey,keyboard-interactive:pam",
            )
        config = configuration.load(paths.config, paths.owner)
        user = (find or users.find)(request.user)
        if user is None:
            return Outcome("unknown-user", "unknown-user")
        name = user.name
        outcome = _attempt(Attempt(user, request, config, paths, clock, conversation))
    except PamTotpError as error:
        outcome = outcome_of(error, name)
    if outcome.message:
        conversation.tell(outcome.message)
    return outcome


def keep(outcome: Outcome, line: str, paths: Paths, clock: Clock) -> None:
    """Keep the line of a refusal for ``pam-totp status``, and tell the agent of a host that has joined a fleet.

    Best effort: the decision is made and logged.
    """
    if outcome.account and files.exists(f"{paths.run}/agent"):
        from pam_totp.login import claim

        claim.tell(paths, outcome.account, line)
    if outcome.verdict in ("accepted", "skipped") or not outcome.account:
        return
    try:
        size = configuration.load(paths.config, paths.owner).refusals
    except PamTotpError:
        size = 0
    try:
        # Whoever was refused has waited long enough, perhaps for this very lock.
        with Accounts(paths, patience=1.0) as accounts:
            accounts.record_event(int(clock().wall), outcome.account, line, size)
    except PamTotpError:
        pass


def outcome_of(error: PamTotpError, name: str = "") -> Outcome:
    """How an attempt ends that met an error: it lets nobody in. The user is not told what is broken."""
    misconfigured = isinstance(error, ConfigError)
    verdict: Verdict = "misconfigured" if misconfigured else "unavailable"
    return Outcome(verdict, error.reason, str(error), name, OUT_OF_ORDER)


def _attempt(attempt: Attempt) -> Outcome:
    with Accounts(attempt.paths) as accounts:
        if attempt.config.found:
            accounts.configured.learn()
        account = accounts.find(attempt.user)
        facts = attempt.facts(account, accounts)
        decision = policy.decide(account, attempt.config, facts, attempt.clock())
        # A door with one question asks once, and shows what it is told each time.
        again = decision.action == "refuse" and attempt.conversation.interactive
        told = again and _just_told(attempt, accounts, account.name, decision.reason)
    outcome = _carry_out(attempt, account, facts, decision)
    if told:
        outcome.message = ""
    for doubt in decision.doubts:
        outcome.add_detail(doubt)
    return outcome


def _just_told(attempt: Attempt, accounts: Accounts, name: str, reason: str) -> bool:
    """Whether the same refusal, without a question, has just been shown there: ssh tries three times by itself.

    It is about what is shown, never about what is decided.
    """
    fields = log.line(rhost=attempt.request.rhost or "-", outcome="refused", reason=reason)
    try:
        latest = accounts.events(name, 1)
    except CacheError:
        return False
    return any(0 <= attempt.clock().wall - time < TOLD_FOR and f" {fields} " in f"{line} " for time, line in latest)


def _carry_out(attempt: Attempt, account: Account, facts: Facts, decision: Decision) -> Outcome:
    if decision.action == "skip":
        return _skipped(attempt, decision, account)
    if decision.action == "refuse":
        return refusal(decision, account)
    if decision.action in ("enroll", "invite"):
        if not attempt.conversation.interactive:
            return refusal(policy.Decision("refuse", decision.reason), account)
        from pam_totp.login import dialogue

        return dialogue.enroll(attempt, account, facts, decision)

    outcome = ask(attempt, account, facts, decision)
    unshown = account.ledger.recovery and not account.ledger.recovery["shown"]
    if outcome.verdict == "accepted" and unshown and attempt.conversation.interactive:
        from pam_totp.login import dialogue

        dialogue.hand_out_recovery_codes(attempt, account.name)
    return outcome


def ask(attempt: Attempt, account: Account, facts: Facts, decision: Decision) -> Outcome:
    """Ask for a code or, where the decision says so, for a recovery code; evaluate it, and charge it."""
    # Nothing is open and nothing locked while the user types: sshd may kill this process at any moment of it.
    prompt = attempt.config.prompt
    if decision.action == "ask-recovery":
        prompt = f"{hold(decision)} Or type a recovery code.\n{RECOVERY_PROMPT}"
    answer = attempt.conversation.ask(prompt)
    if answer is None:
        return Outcome("no-answer", "no-answer", account.note, account.name)
    # After the question, which so comes sooner. Where this cannot be loaded nothing is evaluated, and nobody gets in.
    from pam_totp.login import evaluation

    return evaluation.evaluate(attempt, account, facts, answer, decision.remember)


def _skipped(attempt: Attempt, decision: Decision, account: Account) -> Outcome:
    outcome = Outcome("skipped", decision.reason, account.note, account.name)
    if decision.reason == "exempt" and account.ledger.exemption is not None:
        outcome.add_detail(f"reason given: {account.ledger.exemption[1]}")
    elif decision.reason == "exempt":
        outcome.add_detail("by the directory")
    elif decision.reason == "rule" and decision.rule is not None:
        outcome.add_detail(f"rule {decision.rule.number}")
    elif decision.reason == "grace":
        dated = account.ledger.grace or account.ledger.deadline or attempt.config.enrollment.until
        if not (dated or decision.central):
            # No date: the time begins now.
            _start_grace(attempt)
        left = duration(decision.seconds)
        outcome.add_detail(f"{left} left")
        open_here = attempt.config.self_enroll is not False and attempt.self_service
        how = ", with: pam-totp self enroll" if open_here else "."
        outcome.message = f"A verification code will be required here: set it up within {left}{how}"
    return outcome


def _start_grace(attempt: Attempt) -> None:
    """Record when the deadline began to run. Raises ChargeError where it can be recorded nowhere."""
    with Accounts(attempt.paths) as accounts:
        name = accounts.find(attempt.user).name
        with accounts.lock(name):
            account = accounts.find(attempt.user)
            if account.ledger.grace is None:
                account.ledger.grace = [attempt.clock().stamp(), 0]
                accounts.save_or_remember(account)
