"""One login attempt, over a small Conversation. Reads no clock and prints nothing; the clock is handed in.

Import list of the login path, held by a test: this package's own modules, sqlite3, json, PyNaCl's binding, and what
the interpreter has loaded anyway. Everything else is imported where a host's configuration or a user's state asks for
it: tomllib, ipaddress, hashlib, and the dialogue that enrols at the prompt.
"""

from __future__ import annotations

from pam_totp.cache.accounts import DIRECTORY, Accounts
from pam_totp.errors import CacheError, ConfigError, PamTotpError
from pam_totp.factors import otp, recovery
from pam_totp.host import config as configuration
from pam_totp.host import files, users
from pam_totp.login import log, policy
from pam_totp.login.attempt import (
    NOT_ACCEPTED,
    OUT_OF_ORDER,
    USED_ALREADY,
    Attempt,
    Conversation,
    Outcome,
    Request,
    duration,
    failures_since,
    hold,
    joined,
    refusal,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account, Authenticator
    from pam_totp.cache.ledger import Mark
    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Arguments, Config
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
    "diagnose",
    "match",
    "outcome_of",
]

LOCKED_ELSEWHERE = "Too many wrong codes: this account is locked for logins from elsewhere. Tell your administrator."
RECOVERY_PROMPT = "Recovery code: "
FEW_CODES = 3
TOLD_FOR = 2  # seconds
# What sshd answers for those whom its own settings do not let in, as long as what was typed.
_SSHDS = "\b\n\r\x7fINCORRECT"


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
    code, recovery_code = otp.parse(answer), recovery.parse(answer)
    if code is None and account.ledger.scratch:
        # Guarded like a code: what can be guessed is charged, and waits for its turn.
        code = recovery.parse_scratch(answer)
    if code is None and recovery_code is None:
        detail = joined(_replaced(answer, attempt.user.uid), account.note)
        return Outcome("refused", "malformed-code", detail, account.name, NOT_ACCEPTED)
    return _evaluate(attempt, account.name, facts, code, recovery_code, decision.remember)


def _replaced(answer: str, uid: int) -> str:
    """What made sshd put its own text in the place of the user's answer, if it did (auth-pam.c, fake_password)."""
    if not answer or answer != (_SSHDS * len(answer))[: len(answer)]:
        return ""
    setting = "PermitRootLogin is not yes" if uid == 0 else "AllowUsers, DenyUsers or the like"
    return f"sshd kept the answer back because of its own settings ({setting}): see pam-totp doctor"


def _evaluate(
    attempt: Attempt, name: str, facts: Facts, code: str | None, recovery_code: str | None, remember: int
) -> Outcome:
    """Evaluate an answer under the user's lock and charge it.

    The outcome leaves this function only after the charge is committed and the lock released.
    """
    with Accounts(attempt.paths) as accounts, accounts.lock(name):
        account = accounts.find(attempt.user)
        now = attempt.clock()
        if not account.active or account.name != name:
            # The record went away while the user typed, or another one took its place, which this lock does not hold.
            # Asked is asked: a race lets nobody in.
            return Outcome("refused", "changed-meanwhile", "log in again", name, NOT_ACCEPTED)
        held = policy.withheld(account, facts, now)
        if held is not None:
            return refusal(held, account)
        decision = policy.demand(account, attempt.config, facts, now)
        if code is not None and decision.action != "ask":
            return refusal(decision, account)
        if code is None and (wait := account.ledger.recovery_wait(facts.source, now)):
            return refusal(policy.Decision("refuse", "throttled", wait), account)
        if code is not None:
            outcome = _verify(attempt, account, facts, code, now)
        else:
            outcome = _verify_recovery(attempt, account, facts, accounts, recovery_code or "", now)
        accepted = outcome.verdict == "accepted"
        if accepted and remember and facts.client:
            account.ledger.remember(facts.client, remember, now)
        once = code is None or outcome.reason == "scratch-code"
        if not accounts.charge(account, now, durably=accepted and once):
            outcome.add_detail("recorded in /run/pam-totp only, the cache takes no writes: free space")
    return outcome


def _verify(attempt: Attempt, account: Account, facts: Facts, code: str, now: Moment) -> Outcome:
    """Evaluate a code and enter the result in the account's ledger, which the caller must charge."""
    ledger = account.ledger
    now_step = otp.step_at(now.wall)
    found = match(account, code, now_step, attempt.config)
    if found is not None:
        authenticator, mark, step = found
        mark.spend(step, now_step, attempt.config.max_drift)
        claimed = "off"
        if authenticator.source == DIRECTORY and facts.central is not None and facts.central.claims:
            from pam_totp.login import claim

            claimed = claim.claim(attempt.paths, "code", authenticator.identifier, str(step))
        if claimed == "no":
            # It stays spent here, too.
            ledger.fail(facts.source, attempt.request.rhost, now, attempt.config.lock_after)
            detail = joined(f"{authenticator.label}: used on another host", account.note)
            return Outcome("refused", "spent-elsewhere", detail, account.name, NOT_ACCEPTED)
        message = failures_since(ledger.unseen, ledger.unseen_from)
        ledger.succeed(facts.source, now)
        outcome = Outcome("accepted", "code", joined(account.note, _alone(claimed)), account.name, message)
        if ledger.locked:
            outcome.add_detail(f"locked for other sources: pam-totp unlock {account.name} ends it")
            outcome.message = f"{message}\n{LOCKED_ELSEWHERE}".lstrip()
        return outcome
    if recovery.spend_scratch(ledger, code):
        message = failures_since(ledger.unseen, ledger.unseen_from)
        ledger.succeed(facts.source, now)
        left = f"{len(ledger.scratch)} left"
        return Outcome("accepted", "scratch-code", joined(left, account.note), account.name, message)
    reason, detail = diagnose(account, code, now_step)
    # Of an attempt without an address it is not known whether it comes from where the login came from.
    own = reason == "spent-code" and attempt.request.rhost != ""
    again = own and _own_again(account, code, facts.source, attempt.config)
    if again and ledger.just_succeeded(facts.source, now):
        return Outcome("refused", reason, joined(detail, "not charged", account.note), account.name, USED_ALREADY)
    ledger.fail(facts.source, attempt.request.rhost, now, attempt.config.lock_after, note=not again)
    detail = joined(detail, f"{ledger.row} wrong in a row", account.note)
    return Outcome("refused", reason, detail, account.name, USED_ALREADY if again else NOT_ACCEPTED)


def _verify_recovery(
    attempt: Attempt, account: Account, facts: Facts, accounts: Accounts, code: str, now: Moment
) -> Outcome:
    """The same for a recovery code, which ends a wait and a lock as well.

    A slow hash under the user's lock: only for a source that may try one now.
    """
    ledger = account.ledger
    before = ledger.recovery and set(ledger.recovery["hashes"])
    if not recovery.spend(account.ledger, code, accounts.sealer):
        ledger.fail_recovery(facts.source, attempt.request.rhost, now)
        return Outcome("refused", "wrong-recovery-code", account.note, account.name, NOT_ACCEPTED)
    claimed, fleet = "off", ledger.fleet
    if fleet is not None and ledger.recovery is not None and ledger.recovery["salt"] == fleet["salt"]:
        if facts.central is not None and facts.central.claims:
            from pam_totp.login import claim

            (spent,) = (before or set()) - set(ledger.recovery["hashes"])
            claimed = claim.claim(attempt.paths, "recovery", fleet["name"], spent)
        if claimed == "no":
            ledger.fail_recovery(facts.source, attempt.request.rhost, now)
            detail = joined("a recovery code used on another host", account.note)
            return Outcome("refused", "spent-elsewhere", detail, account.name, NOT_ACCEPTED)
    failures = failures_since(ledger.unseen, ledger.unseen_from)
    ledger.unlock(otp.step_at(now.wall), attempt.config.window)
    ledger.succeed(facts.source, now)
    left = recovery.left(ledger)
    message = f"{failures}\n{_codes_left(attempt, left)}".lstrip()
    detail = joined(f"{left} left", account.note, _alone(claimed))
    return Outcome("accepted", "recovery-code", detail, account.name, message)


def _alone(claimed: str) -> str:
    """What the log says where it is not known whether a code was used on another host."""
    return "decided by this host alone: the directory could not be asked" if claimed == "unknown" else ""


def match(account: Account, code: str, now_step: int, config: Config) -> tuple[Authenticator, Mark, int] | None:
    """An active authenticator for which the code is right and unspent, its mark and the step; changes nothing."""
    found = None
    for authenticator in account.active:
        mark = account.ledger.mark(authenticator.identifier)
        # The bound may have been lowered since the drift was learned.
        middle = now_step + min(config.max_drift, max(-config.max_drift, mark.drift))
        step = otp.matching_step(authenticator.secret, code, range(middle - config.window, middle + config.window + 1))
        # Every authenticator is looked at, whichever matches: the time taken does not tell which one it was.
        if step is not None and step > mark.step and found is None:
            found = authenticator, mark, step
    return found


def _own_again(account: Account, code: str, source: str, config: Config) -> bool:
    """Whether this is the code of the user's latest login, and that login came from this source.

    Elsewhere the answer would tell a thief that a code which was looked at had been right.
    """
    ledger = account.ledger
    success = ledger.latest_success(source)
    if success is None:
        return False
    for authenticator in account.active:
        mark = ledger.mark(authenticator.identifier)
        # Another authenticator may have been used elsewhere, at another time. The drift may have been learned since.
        near = abs(mark.step - mark.drift - otp.step_at(success)) <= config.window + 1
        if near and otp.matching_step(authenticator.secret, code, range(mark.step, mark.step + 1)) is not None:
            return True
    return False


def diagnose(account: Account, code: str, now_step: int) -> tuple[str, str]:
    """Why a code does not match: the reason's word and, for an administrator, a detail."""
    for authenticator in account.active:
        mark = account.ledger.mark(authenticator.identifier)
        around = range(now_step - otp.DIAGNOSIS_STEPS, now_step + otp.DIAGNOSIS_STEPS + 1)
        step = otp.matching_step(authenticator.secret, code, around)
        if step is None:
            continue
        if step <= mark.step:
            return "spent-code", f"{authenticator.label}: already used, this code or a later one"
        seconds = (step - now_step) * otp.STEP_SECONDS
        side = "ahead" if seconds > 0 else "behind"
        return "code-of-another-time", f"{authenticator.label}: right but {abs(seconds)} s {side}, check the clocks"
    return "wrong-code", ""


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
        open_here = attempt.config.self_enroll is not False and _self_service(attempt)
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


def _codes_left(attempt: Attempt, left: int) -> str:
    codes = "1 recovery code is" if left == 1 else f"{left} recovery codes are"
    how = "New ones: pam-totp self recovery" if _self_service(attempt) else "Ask your administrator for new ones."
    return f"{codes} left." + (f" {how}" if left <= FEW_CODES else "")


def _self_service(attempt: Attempt) -> bool:
    return files.exists(attempt.paths.socket)
