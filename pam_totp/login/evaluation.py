"""What becomes of an answer: it is evaluated under the user's lock, and charged, before anybody hears of it.

Imported once the question is asked: our own engine does it while the user types.
"""

from __future__ import annotations

from pam_totp.cache.accounts import DIRECTORY, Accounts
from pam_totp.factors import otp, recovery
from pam_totp.login import policy
from pam_totp.login.attempt import NOT_ACCEPTED, USED_ALREADY, Outcome, failures_since, joined, refusal

LOCKED_ELSEWHERE = "Too many wrong codes: this account is locked for logins from elsewhere. Tell your administrator."
FEW_CODES = 3
# What sshd answers for those whom its own settings do not let in, as long as what was typed.
_SSHDS = "\b\n\r\x7fINCORRECT"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.accounts import Account, Authenticator
    from pam_totp.cache.ledger import Mark
    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Config
    from pam_totp.login.attempt import Attempt
    from pam_totp.login.policy import Facts


def evaluate(attempt: Attempt, account: Account, facts: Facts, answer: str, remember: int) -> Outcome:
    """Evaluate an answer of the user, whose account it was when the question was asked, and charge it."""
    code, recovery_code = otp.parse(answer), recovery.parse(answer)
    if code is None and account.ledger.scratch:
        # Guarded like a code: what can be guessed is charged, and waits for its turn.
        code = recovery.parse_scratch(answer)
    if code is None and recovery_code is None:
        detail = joined(_replaced(answer, attempt.user.uid), account.note)
        return Outcome("refused", "malformed-code", detail, account.name, NOT_ACCEPTED)
    return _evaluate(attempt, account.name, facts, code, recovery_code, remember)


def _replaced(answer: str, uid: int) -> str:
    """What made sshd put its own text in the place of the user's answer, if it did (auth-pam.c, fake_password)."""
    if not answer or answer != (_SSHDS * len(answer))[: len(answer)]:
        return ""
    setting = "PermitRootLogin is not yes" if uid == 0 else "AllowUsers, DenyUsers or the like"
    return f"sshd kept the answer back because of its own settings ({setting}): see pam-totp doctor"


def _evaluate(
    attempt: Attempt, name: str, facts: Facts, code: str | None, recovery_code: str | None, remember: int
) -> Outcome:
    """Evaluate a code under the user's lock and charge it.

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
            outcome = _verify(attempt, account, facts, accounts, code, now)
        else:
            outcome = _verify_recovery(attempt, account, facts, accounts, recovery_code or "", now)
        accepted = outcome.verdict == "accepted"
        if accepted and remember and facts.client:
            account.ledger.remember(facts.client, remember, now)
        once = code is None or outcome.reason == "scratch-code"
        if not accounts.charge(account, now, durably=accepted and once):
            outcome.add_detail("recorded in /run/pam-totp only, the cache takes no writes: free space")
    return outcome


def _verify(attempt: Attempt, account: Account, facts: Facts, accounts: Accounts, code: str, now: Moment) -> Outcome:
    """Evaluate a code and enter the result in the account's ledger, which the caller must charge."""
    ledger = account.ledger
    now_step = otp.step_at(now.wall)
    found = match(account, code, now_step, attempt.config)
    if found is not None:
        authenticator, mark, step = found
        mark.spend(step, now_step, attempt.config.max_drift)
        claimed = "off"
        if authenticator.source == DIRECTORY:
            claimed = _claim(attempt, facts, accounts, "code", authenticator.identifier, str(step))
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
        (spent,) = (before or set()) - set(ledger.recovery["hashes"])
        claimed = _claim(attempt, facts, accounts, "recovery", fleet["name"], spent)
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


def _claim(attempt: Attempt, facts: Facts, accounts: Accounts, *fields: str) -> str:
    """Whether a code is this login's alone in the whole fleet; "off" where that is not asked."""
    if facts.central is None or not facts.central.claims:
        return "off"
    from pam_totp.cache.configured import IDENTITY
    from pam_totp.login import claim

    return claim.claim(attempt.paths, accounts.configured.stamp(IDENTITY), *fields)


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


def _codes_left(attempt: Attempt, left: int) -> str:
    codes = "1 recovery code is" if left == 1 else f"{left} recovery codes are"
    how = "New ones: pam-totp self recovery" if attempt.self_service else "Ask your administrator for new ones."
    return f"{codes} left." + (f" {how}" if left <= FEW_CODES else "")
