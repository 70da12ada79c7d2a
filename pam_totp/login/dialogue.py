"""Enrolment inside the SSH prompt or the self-service, and the hand-out of recovery codes.

Imported only for the few logins that come here. Breaking off at any point leaves a record that locks nobody out: a
pending key that is shown again next time, or codes that count as not shown and are issued anew.
"""

from __future__ import annotations

from pam_totp.cache.accounts import Accounts
from pam_totp.errors import PamTotpError
from pam_totp.factors import enroll as enrolment
from pam_totp.factors import invitation, otp, recovery
from pam_totp.login import policy
from pam_totp.login.attempt import Outcome, duration, joined

TRIES = 5
COLUMNS = 78  # of a terminal that nothing is known of: 80, and PuTTY puts "| " before each line
INVITATION_PROMPT = "Invitation code: "
CODE_PROMPT = "Code from the app: "
REQUIRED = "A verification code is required here and not set up yet."
NOT_INVITED = "That invitation was not accepted."
CHANGED = "Your enrolment was changed meanwhile, from elsewhere: start again."

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account, Authenticator
    from pam_totp.login.attempt import Attempt
    from pam_totp.login.policy import Facts


def enroll(this: Attempt, account: Account, facts: Facts, invited: bool) -> Outcome:
    """Enrol at the prompt: with a key that is shown again at the next login while it is not confirmed.

    Raises CacheError where nothing can be written: enrolment needs a durable record.
    """
    if invited:
        outcome = check_invitation(this, account, facts)
        if outcome is not None:
            return outcome
    pending = _pending(this)

    def same(found: Account) -> bool:
        return found.pending is not None and found.pending.identifier == pending.identifier

    outcome, codes = show_until_confirmed(this, account, pending, f"{REQUIRED}\n", same)
    if codes:
        show_recovery_codes(this, account.name, codes)
    if outcome.reason == "not-confirmed":
        outcome.message = "That was not the right code either. Log in again to go on: the same key will be shown."
    return outcome


def show_until_confirmed(
    this: Attempt, account: Account, shown: Authenticator, reason: str, ready: Callable[[Account], bool]
) -> tuple[Outcome, list[str]]:
    """Show a key, wait for its first code, and activate it; with it come the recovery codes to show, if any are due.

    ``ready`` is handed the account as it is when a code arrives, under its lock. It sees to it that the key is pending
    there, or returns False where the key must not be activated any more.

    Raises CacheError where nothing can be written.
    """
    prompt = reason + _key(this, account, shown) + CODE_PROMPT
    for _ in range(TRIES):
        answer = this.talk.ask(prompt, echo=True)
        if answer is None:
            return Outcome("no-answer", "no-answer", "enrolment not finished", account.name), []
        problem, codes = _confirm(this, answer, ready)
        if problem == CHANGED:
            return Outcome("refused", "changed-meanwhile", "enrolment not finished", account.name, problem), []
        if not problem:
            return Outcome("accepted", "enrolled", account.note, account.name), codes
        prompt = f"{problem}\n{CODE_PROMPT}"
    return Outcome("refused", "not-confirmed", f"{TRIES} wrong codes at enrolment", account.name), []


def hand_out_recovery_codes(this: Attempt, name: str) -> None:
    """Issue and show new recovery codes where earlier ones were never acknowledged; the login does not depend on it."""
    try:
        codes = issue_recovery_codes(this, name)
    except (PamTotpError, MemoryError):
        return  # they still count as not shown; the next login tries again
    if codes:
        show_recovery_codes(this, name, codes)


def issue_recovery_codes(this: Attempt, name: str) -> list[str]:
    """New recovery codes, in the place of all earlier ones; not yet acknowledged. None for who is enrolled no more.

    Raises CacheError.
    """
    with Accounts(this.paths) as accounts, accounts.lock(name):
        account = accounts.find(this.user)
        if not account.active:
            return []
        codes = recovery.issue(account.ledger, accounts.sealer)
        accounts.save(account)
    return codes


def show_recovery_codes(this: Attempt, name: str, codes: list[str]) -> None:
    """Show them once, and note it when the user says so; else new ones are issued at the next login."""
    lines = "\n".join(f"  {one}   {other}" for one, other in zip(codes[::2], codes[1::2], strict=True))
    prompt = (
        "These are your recovery codes, for the day your phone is gone.\n"
        "Each works once, in the place of a code. They are not shown again:\n\n"
        f"{lines}\n\nWrite them down, then type yes: "
    )
    for _ in range(TRIES):
        answer = this.talk.ask(prompt, echo=True)
        if answer is None:
            return
        if answer.strip().lower() in ("yes", "y"):
            break
        # A client whose terminal went away answers with nothing, and one that answers every question with a stored
        # password has shown them to nobody.
        prompt = "Once you have written them down, type yes: "
    else:
        return
    try:
        with Accounts(this.paths) as accounts, accounts.lock(name):
            account = accounts.find(this.user)
            valid = recovery.acknowledge(account.ledger, codes, accounts.sealer)
            accounts.save(account)
    except (PamTotpError, MemoryError):
        return  # not noted as shown: new ones are issued at the next login
    if not valid:
        this.talk.tell("Other recovery codes were issued meanwhile: these are void.")


def check_invitation(this: Attempt, account: Account, facts: Facts) -> Outcome | None:
    """Ask for the invitation code, and charge a wrong one. None where it is right. Raises CacheError."""
    answer = this.talk.ask(f"{REQUIRED}\nTo set it up you need an invitation.\n{INVITATION_PROMPT}")
    if answer is None:
        return Outcome("no-answer", "no-answer", "", account.name)
    if recovery.parse(answer) is None:
        return Outcome("refused", "malformed-invitation", account.note, account.name, NOT_INVITED)
    with Accounts(this.paths) as accounts, accounts.lock(account.name):
        account = accounts.find(this.user)
        now = this.clock()
        decision = policy.first_enrolment(account, this.config, facts, now)
        if account.active or decision.action != "invite":
            return Outcome("refused", "changed-meanwhile", "log in again", account.name)
        if invitation.matches(account, answer, accounts.sealer):
            return None
        account.ledger.fail(facts.source, this.request.rhost, now, this.config.lock_after)
        accounts.charge(account, now)
    detail = joined(f"{account.ledger.row} wrong in a row", account.note)
    return Outcome("refused", "wrong-invitation", detail, account.name, NOT_INVITED)


def _pending(this: Attempt) -> Authenticator:
    """The key that was shown before and not confirmed, while it is good; else a new one."""
    with Accounts(this.paths) as accounts, accounts.lock(accounts.find(this.user).name):
        account = accounts.find(this.user)
        now = int(this.clock().wall)
        pending = account.pending
        if pending is None or not 0 <= now - pending.created < this.config.enrollment.pending:
            pending = enrolment.begin(account, enrolment.DEFAULT_LABEL, now)
            accounts.save(account)
        return pending


def _key(this: Attempt, account: Account, authenticator: Authenticator) -> str:
    uri = enrolment.uri(account, authenticator, this.config)
    picture = enrolment.qr(uri, this.config.qr)
    columns = this.talk.columns or COLUMNS
    key = f"  key  {enrolment.grouped(enrolment.base32(authenticator.secret))}\n\n"
    if not picture:
        return f"Type this key into an authenticator app:\n\n{key}"
    if len(picture.partition("\n")[0]) > columns:
        # A line that wraps spoils the picture.
        return f"Type this key into an authenticator app (the QR code would need more than {columns} columns):\n\n{key}"
    return f"Scan this with an authenticator app, or type the key into it:\n\n{picture}\n\n{key}"


def _confirm(this: Attempt, answer: str, ready: Callable[[Account], bool]) -> tuple[str, list[str]]:
    """Activate the key with its first code: what was wrong, or nothing and the recovery codes to show.

    The activation and the hashes of the recovery codes are committed together, before the codes are shown.
    """
    code = otp.parse(answer)
    if code is None:
        return "A code has six digits.", []
    with Accounts(this.paths) as accounts, accounts.lock(accounts.find(this.user).name):
        account = accounts.find(this.user)
        if not ready(account):
            return CHANGED, []
        now = this.clock()
        now_step = otp.step_at(now.wall)
        if not enrolment.confirm(account, code, now_step, this.config.window):
            seconds = enrolment.seconds_off(account, code, now_step)
            if seconds is None:
                return "That code is wrong. Take the one the app shows now.", []
            side = "ahead" if seconds > 0 else "behind"
            return f"That code is right, but your phone's clock is {duration(abs(seconds))} {side}: set it.", []
        account.ledger.succeed(this.facts(account, accounts).source, now)
        codes = recovery.issue(account.ledger, accounts.sealer) if recovery.due(account.ledger) else []
        accounts.save(account)
    return "", codes
