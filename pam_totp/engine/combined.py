"""Password and code in one answer: what lines with ``combined=split`` and ``combined=verify`` do besides a login."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.engine.pam_entry import Transaction
    from pam_totp.host.paths import Paths
    from pam_totp.login.attempt import Clock, Outcome, Request

PROMPT = "Password and verification code: "

# What the lines keep for each other. After a blank behind the first one stands the code.
_SPLIT = "split"
_TRIED = "tried"
VERIFIED = "verified"


def split(transaction: Transaction, request: Request) -> Outcome | None:
    """Ask once, hand the password on as PAM's token, and keep the code. An outcome where there was no answer."""
    from pam_totp.host import clock, stack
    from pam_totp.host.paths import Paths
    from pam_totp.login.attempt import Outcome

    stack.require_verification(request.service, Paths())
    answer = transaction.ask(PROMPT, echo=False)
    if answer is None:
        return Outcome("no-answer", "no-answer")
    password, code = taken_apart(answer, request, Paths(), clock.now)
    transaction.kept = _SPLIT if code is None else f"{_SPLIT} {code}"
    transaction.hand_on(password)
    return None


def kept_code(transaction: Transaction) -> str | None:
    """The code that was kept, which is taken once. Raises ConfigError where no line has split anything."""
    if transaction.kept is None:
        from pam_totp.errors import ConfigError

        raise ConfigError("combined=verify without a line with combined=split before it: add that line")
    kept, blank, code = transaction.kept.partition(" ")
    transaction.kept = _TRIED
    return code if kept == _SPLIT and blank else None


def account(transaction: Transaction) -> str:
    """Deny where PAM may have let in a code that was never verified."""
    # Not split in this transaction: another method than PAM's authenticated, and there is nothing to finish.
    if transaction.kept in (None, VERIFIED):
        return "PAM_IGNORE"
    from pam_totp.host import stack
    from pam_totp.host.paths import Paths
    from pam_totp.login import log

    # PAM tells no module whether it has let the user in. A password that it refused is no reason to refuse the public
    # key that sshd has accepted since; but where the stack can let in without the code, this may be such a login.
    service = transaction.request().service
    if stack.verification_is_certain(service, Paths()):
        return "PAM_IGNORE"
    detail = "the code was split off and not verified: let nothing skip the required line with combined=verify"
    log.send(
        log.ERROR, log.prefix(service, "account"), log.line(outcome="refused", reason="not-verified", detail=detail)
    )
    return "PAM_AUTH_ERR"


def taken_apart(answer: str, request: Request, paths: Paths, clock: Clock) -> tuple[str, str | None]:
    """The password in an answer that holds both, and the code, which ``login.attempt`` is to be given.

    Only for a user who has to type a code now; for everybody else the answer is a password as a whole, and the code is
    None. A code at the end is six digits or a recovery code with its dash; where there is none, or nothing before it,
    the whole answer is the password and the code is empty, which no attempt accepts.

    Raises any PamTotpError that would end an attempt.
    """
    from pam_totp.cache.accounts import Accounts
    from pam_totp.factors import otp, recovery
    from pam_totp.host import config, users
    from pam_totp.login import policy
    from pam_totp.login.attempt import Attempt, Conversation

    settings = config.load(paths.config, paths.owner)
    user = users.find(request.user)
    if user is None:
        return answer, None
    attempt = Attempt(user, request, settings, paths, clock, Conversation())
    with Accounts(paths) as accounts:
        account = accounts.find(user)
        decision = policy.decide(account, settings, attempt.facts(account, accounts), clock())
    if not account.active or decision.action == "skip":
        return answer, None
    for parse, size in ((recovery.parse_shown, recovery.SHOWN_LENGTH), (otp.parse, otp.DIGITS)):
        if len(answer) > size and parse(answer[-size:]) is not None:
            return answer[:-size], answer[-size:]
    return answer, ""
