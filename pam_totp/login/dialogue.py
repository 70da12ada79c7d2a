"""Enrolment inside the SSH prompt or the self-service, and the hand-out of recovery codes.

Imported only for the few logins that come here. Breaking off at any point leaves a record that locks nobody out: one
that is as it was, or recovery codes that count as not shown and are issued anew.

Whoever has the first factor may be a thief of it. So each conversation shows a key of its own, which is kept only with
its first right code: nobody else has seen the key that a user confirms. An administrator's key is never shown.
"""

from __future__ import annotations

from pam_totp.cache.accounts import Accounts
from pam_totp.errors import PamTotpError
from pam_totp.factors import enroll as enrolment
from pam_totp.factors import invitation, otp, recovery
from pam_totp.host import config as configuration
from pam_totp.login import policy
from pam_totp.login.attempt import NOT_ACCEPTED, Outcome, duration, failures_since, hold, joined, refusal

TRIES = 5
COLUMNS = 78  # of a terminal that nothing is known of: 80, and PuTTY puts "| " before each line
INVITATION_PROMPT = "Invitation code: "
CODE_PROMPT = "Code from the app: "
ISSUED_PROMPT = "Code, or new: "
NEW = "new"
REQUIRED = "A verification code is required here and not set up yet.\n"
NOT_INVITED = "That invitation was not accepted."
CHANGED = "Your enrolment was changed meanwhile, from elsewhere: start again."
VOID = "The key that your administrator had made for you is void."
ISSUED_DETAIL = "with the key that an administrator made"
VOID_DETAIL = "the key that an administrator made is void"
_ISSUED = (
    "Your administrator has made a key for you. Type the code that its app shows.\n"
    "If you do not have it, type new, and set up an app with another key.\n"
)
_NEW_KEY = "Here is another key. Once its first code is right, your administrator's is void.\n"
_KEPT = (
    "The key is kept once its first code is right. If the connection breaks before\n"
    "that, delete the key from the app, begin again, and scan the new one.\n"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account, Authenticator
    from pam_totp.host.clock import Moment
    from pam_totp.login.attempt import Attempt
    from pam_totp.login.policy import Decision, Facts


class Beginning:
    """What a first enrolment began with. A code counts only as long as all of it holds.

    Users take minutes to scan a key. Meanwhile somebody else may have enrolled, or an administrator may have made a key
    or another invitation, or changed the policy.
    """

    __slots__ = ("action", "invitation", "keys", "name")

    def __init__(self, account: Account, decision: Decision) -> None:
        self.name = account.name
        self.action = decision.action
        self.keys = _keys(account)
        self.invitation = account.ledger.invitation

    def holds(self, attempt: Attempt, account: Account, accounts: Accounts) -> bool:
        """Whether the account, as read under its lock, and the policy of now are still those. Raises ConfigError."""
        if (account.name, _keys(account)) != (self.name, self.keys):
            return False
        config = configuration.load(attempt.paths.config, attempt.paths.owner)
        config.qr = attempt.config.qr
        attempt.config = config
        decision = attempt.first_enrolment(account, attempt.facts(account, accounts), attempt.clock())
        # Wrong invitations of somebody at the same source do not hold up the one who has shown the right one.
        throttled = self.action == "invite" and decision.reason == "throttled"
        return account.ledger.invitation == self.invitation and (decision.action == self.action or throttled)


def enroll(attempt: Attempt, account: Account, facts: Facts, decision: Decision) -> Outcome:
    """Enrol at the prompt of a login. Raises CacheError where nothing can be written: it needs a durable record."""
    outcome, codes = first(attempt, account, facts, decision, enrolment.DEFAULT_LABEL, REQUIRED)
    if codes:
        show_recovery_codes(attempt, account.name, codes)
    if outcome.reason == "not-confirmed":
        outcome.message = (
            "That was not the right code either. This key is void: delete it from the app,\n"
            "log in again, and scan the new one."
        )
    return outcome


def first(
    attempt: Attempt, account: Account, facts: Facts, decision: Decision, label: str, reason: str
) -> tuple[Outcome, list[str]]:
    """Enrol somebody who has no active authenticator, as policy has decided: ENROLL, INVITE, or SKIP in self-service.

    Returns the recovery codes to show, too. Raises CacheError.
    """
    beginning = Beginning(account, decision)
    if beginning.action == "invite":
        outcome = _check_invitation(attempt, facts, beginning, reason)
        if outcome is not None:
            return outcome, []
    with Accounts(attempt.paths) as accounts, accounts.lock(beginning.name):
        account = accounts.find(attempt.user)
        if not beginning.holds(attempt, account, accounts):
            return _changed(account), []
        # Unchanged. A cache that takes no writes shall say so now, and not once a key is scanned.
        accounts.save(account)
    failures = failures_since(account.ledger.unseen, account.ledger.unseen_from)
    codes: list[str] = []
    issued = account.issued
    outcome = _ask_for_issued(attempt, account, facts, beginning, reason, codes) if issued is not None else None
    if outcome is None:
        outcome, codes = _show_fresh(attempt, account, beginning, label, reason if issued is None else _NEW_KEY)
        if outcome.verdict == "accepted" and issued is not None:
            outcome.add_detail(VOID_DETAIL)
            outcome.message = VOID
    if outcome.verdict == "accepted":
        outcome.message = f"{outcome.message}\n{failures}".strip()
    return outcome, codes


def show_until_confirmed(
    attempt: Attempt, account: Account, shown: Authenticator, reason: str, ready: Callable[[Account, Accounts], bool]
) -> tuple[Outcome, list[str]]:
    """Show a key, wait for its first code, and activate it; with it come the recovery codes to show, if any are due.

    ``ready`` is handed the account as it is when a code arrives, under its lock. It puts the key into it, or returns
    False where the key must not be activated any more.

    Raises CacheError where nothing can be written.
    """
    prompt = reason + _key(attempt, account, shown) + CODE_PROMPT
    for _ in range(TRIES):
        answer = attempt.conversation.ask(prompt, echo=True)
        if answer is None:
            return _unfinished(account), []
        problem, codes = _confirm(attempt, account.name, answer, ready)
        if problem == CHANGED:
            return _changed(account), []
        if not problem:
            return Outcome("accepted", "enrolled", account.note, account.name), codes
        prompt = f"{problem}\n{CODE_PROMPT}"
    return Outcome("refused", "not-confirmed", f"{TRIES} wrong codes at enrolment", account.name), []


def hand_out_recovery_codes(attempt: Attempt, name: str) -> None:
    """Issue and show new recovery codes where earlier ones were never acknowledged; the login does not depend on it."""
    try:
        codes = issue_recovery_codes(attempt, name)
    except (PamTotpError, MemoryError):
        return  # they still count as not shown; the next login tries again
    if codes:
        show_recovery_codes(attempt, name, codes)


def issue_recovery_codes(attempt: Attempt, name: str) -> list[str]:
    """New recovery codes, in the place of all earlier ones; not yet acknowledged. None for who is enrolled no more.

    Raises CacheError.
    """
    with Accounts(attempt.paths) as accounts, accounts.lock(name):
        account = accounts.find(attempt.user)
        if not account.active:
            return []
        codes = recovery.issue(account.ledger, accounts.sealer)
        accounts.save(account)
    return codes


def show_recovery_codes(attempt: Attempt, name: str, codes: list[str]) -> None:
    """Show them once, and note it when the user says so; else new ones are issued at the next login."""
    lines = "\n".join(f"  {one}   {other}" for one, other in zip(codes[::2], codes[1::2], strict=True))
    prompt = (
        "These are your recovery codes, for the day your phone is gone.\n"
        "Each works once, in the place of a code. They are not shown again:\n\n"
        f"{lines}\n\nWrite them down, then type yes: "
    )
    for _ in range(TRIES):
        answer = attempt.conversation.ask(prompt, echo=True)
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
        with Accounts(attempt.paths) as accounts, accounts.lock(name):
            account = accounts.find(attempt.user)
            valid = recovery.acknowledge(account.ledger, codes, accounts.sealer)
            accounts.save(account)
    except (PamTotpError, MemoryError):
        return  # not noted as shown: new ones are issued at the next login
    if not valid:
        attempt.conversation.tell("Other recovery codes were issued meanwhile: these are void.")


def _check_invitation(attempt: Attempt, facts: Facts, beginning: Beginning, reason: str) -> Outcome | None:
    """Ask for the invitation code, and charge a wrong one to its source. None where it is right. Raises CacheError."""
    answer = attempt.conversation.ask(f"{reason}To set it up you need an invitation.\n{INVITATION_PROMPT}")
    if answer is None:
        return Outcome("no-answer", "no-answer", "", beginning.name)
    if recovery.parse(answer) is None:
        return Outcome("refused", "malformed-invitation", "", beginning.name, NOT_INVITED)
    with Accounts(attempt.paths) as accounts, accounts.lock(beginning.name):
        account = accounts.find(attempt.user)
        now = attempt.clock()
        decision = attempt.first_enrolment(account, facts, now)
        if decision.reason == "throttled":
            return refusal(decision, account)
        if account.active or account.name != beginning.name or decision.action != "invite":
            return _changed(account)
        if invitation.matches(account, answer, accounts.sealer):
            beginning.invitation = account.ledger.invitation
            return None
        account.ledger.fail_recovery(facts.source, attempt.request.rhost, now)
        accounts.charge(account, now)
    return Outcome("refused", "wrong-invitation", account.note, account.name, NOT_INVITED)


def _ask_for_issued(
    attempt: Attempt, account: Account, facts: Facts, beginning: Beginning, reason: str, codes: list[str]
) -> Outcome | None:
    """Ask for the code of the key that an administrator made; None where the user wants another key.

    Its code is guarded as at a login: who guesses it gets in. The recovery codes to show are added to ``codes``.
    """
    decision = policy.demand(account, attempt.config, facts, attempt.clock())
    if decision.action == "ask":
        prompt = f"{reason}{_ISSUED}{ISSUED_PROMPT}"
    else:
        # Strangers can use up the day's guesses, but keep no user from setting up another key.
        prompt = f"{hold(decision)}\nOr type new, and set up an app with another key: "
    answer = attempt.conversation.ask(prompt, echo=True)
    if answer is None:
        return _unfinished(account)
    if answer.strip().lower() == NEW:
        return None
    code = otp.parse(answer)
    if code is None:
        return Outcome("refused", "malformed-code", account.note, account.name, NOT_ACCEPTED)
    with Accounts(attempt.paths) as accounts, accounts.lock(beginning.name):
        account = accounts.find(attempt.user)
        if not beginning.holds(attempt, account, accounts):
            return _changed(account)
        now = attempt.clock()
        decision = policy.demand(account, attempt.config, facts, now)
        if decision.action != "ask":
            return refusal(decision, account)
        now_step = otp.step_at(now.wall)
        if enrolment.confirm(account, code, now_step, attempt.config.window):
            codes += _enrolled(account, accounts, facts, now)
            return Outcome("accepted", "enrolled", joined(ISSUED_DETAIL, account.note), account.name)
        seconds = enrolment.seconds_off(account, code, now_step)
        account.ledger.fail(facts.source, attempt.request.rhost, now, attempt.config.lock_after)
        accounts.charge(account, now)
    off = "" if seconds is None else f"right but {abs(seconds)} s {_side(seconds)}, check the clocks"
    detail = joined("of the key that an administrator made", off, f"{account.ledger.row} wrong in a row", account.note)
    word = "wrong-code" if seconds is None else "code-of-another-time"
    return Outcome("refused", word, detail, account.name, NOT_ACCEPTED)


def _show_fresh(
    attempt: Attempt, account: Account, beginning: Beginning, label: str, reason: str
) -> tuple[Outcome, list[str]]:
    shown = enrolment.fresh(label, int(attempt.clock().wall))

    def ready(found: Account, accounts: Accounts) -> bool:
        if not beginning.holds(attempt, found, accounts):
            return False
        found.authenticators = [shown]
        # What was guessed so far was the code of a key that is void now.
        found.ledger.unlock(otp.step_at(attempt.clock().wall), attempt.config.window)
        return True

    return show_until_confirmed(attempt, account, shown, reason, ready)


def _key(attempt: Attempt, account: Account, authenticator: Authenticator) -> str:
    uri = enrolment.uri(account, authenticator, attempt.config)
    picture = enrolment.qr(uri, attempt.config.qr)
    columns = attempt.conversation.columns or COLUMNS
    key = f"  key  {enrolment.grouped(enrolment.base32(authenticator.secret))}\n\n{_KEPT}{_time(attempt)}\n"
    if not picture:
        return f"Type this key into an authenticator app:\n\n{key}"
    if len(picture.partition("\n")[0]) > columns:
        # A line that wraps spoils the picture.
        return f"Type this key into an authenticator app (the QR code would need more than {columns} columns):\n\n{key}"
    return f"Scan this with an authenticator app, or type the key into it:\n\n{picture}\n\n{key}"


def _time(attempt: Attempt) -> str:
    seconds = attempt.seconds_in_all()
    return f"You have {duration(seconds)} in all, from when you connected.\n" if seconds else ""


def _confirm(
    attempt: Attempt, name: str, answer: str, ready: Callable[[Account, Accounts], bool]
) -> tuple[str, list[str]]:
    """Activate the key with its first code: what was wrong, or nothing and the recovery codes to show."""
    code = otp.parse(answer)
    if code is None:
        return "A code has six digits.", []
    with Accounts(attempt.paths) as accounts, accounts.lock(name):
        account = accounts.find(attempt.user)
        if account.name != name or not ready(account, accounts):
            return CHANGED, []
        now = attempt.clock()
        now_step = otp.step_at(now.wall)
        if not enrolment.confirm(account, code, now_step, attempt.config.window):
            seconds = enrolment.seconds_off(account, code, now_step)
            if seconds is None:
                return "That code is wrong. Take the one the app shows now.", []
            off = f"{duration(abs(seconds))} {_side(seconds)}"
            return f"That code is right, but your phone's clock is {off}: set it.", []
        return "", _enrolled(account, accounts, attempt.facts(account, accounts), now)


def _enrolled(account: Account, accounts: Accounts, facts: Facts, now: Moment) -> list[str]:
    """Save a new enrolment as a login: the recovery codes to show, whose hashes are committed with it."""
    account.ledger.succeed(facts.source, now)
    codes = recovery.issue(account.ledger, accounts.sealer) if recovery.due(account.ledger) else []
    accounts.save(account)
    return codes


def _keys(account: Account) -> list[tuple[str, str]]:
    return [(each.identifier, each.state) for each in account.authenticators]


def _side(seconds: int) -> str:
    return "ahead" if seconds > 0 else "behind"


def _unfinished(account: Account) -> Outcome:
    return Outcome("no-answer", "no-answer", "enrolment not finished", account.name)


def _changed(account: Account) -> Outcome:
    return Outcome("refused", "changed-meanwhile", "enrolment not finished", account.name, CHANGED)
