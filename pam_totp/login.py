"""One login attempt, over a small Conversation. Reads no clock and prints nothing; the clock is handed in.

Import list of the login path, held by a test: this package's own modules, sqlite3, json, PyNaCl's binding, and what
the interpreter has loaded anyway. tomllib only where a configuration file exists.
"""

from __future__ import annotations

import enum

from pam_totp import config as configuration
from pam_totp import otp, policy, users
from pam_totp.accounts import Accounts
from pam_totp.errors import CacheError, ChargeError, ConfigError, HostKeyError, LockTimeoutError, NameServiceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.accounts import Account
    from pam_totp.config import Arguments, Config
    from pam_totp.ledger import Mark, Moment
    from pam_totp.paths import Paths

    Clock = Callable[[], Moment]


class Verdict(enum.Enum):
    """How an attempt ends. Only ACCEPTED and SKIPPED let anybody in."""

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    REFUSED = "refused"
    UNKNOWN_USER = "unknown-user"
    NO_ANSWER = "no-answer"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


class Outcome:
    """How an attempt ended.

    ``reason`` is the word for the log and ``detail`` what an administrator can act on; ``account`` names the record (or
    the user) the attempt was about, empty for nobody NSS knows; ``message`` is for the user.
    """

    __slots__ = ("account", "detail", "message", "reason", "verdict")

    def __init__(self, verdict: Verdict, reason: str, detail: str = "", account: str = "", message: str = "") -> None:
        self.verdict = verdict
        self.reason = reason
        self.detail = detail
        self.account = account
        self.message = message


class Request:
    """What PAM says about a login: ``auth_info`` is the content of SSH_AUTH_INFO_0, empty where there is none."""

    __slots__ = ("auth_info", "rhost", "service", "user")

    def __init__(self, user: str, service: str = "", rhost: str = "", auth_info: str = "") -> None:
        self.user = user
        self.service = service
        self.rhost = rhost
        self.auth_info = auth_info

    @property
    def public_keys(self) -> list[str]:
        """The public keys that sshd has verified in this login: lines ``publickey TYPE KEY``."""
        lines = (line.split() for line in self.auth_info.splitlines())
        return [" ".join(words[1:3]) for words in lines if len(words) >= 3 and words[0] == "publickey"]


class Conversation:
    """How a login talks to its user."""

    def ask(self, prompt: str) -> str | None:
        """Ask without echo. None where there is no answer: refused, aborted, not text."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """Show a line. Must not fail."""
        raise NotImplementedError


def attempt(request: Request, arguments: Arguments, paths: Paths, clock: Clock, talk: Conversation) -> Outcome:
    """Decide, ask, verify, charge, and tell the user. Whatever is missing or broken lets nobody in."""
    name = ""
    try:
        if arguments.first_factor == "publickey" and not request.public_keys:
            return Outcome(
                Verdict.REFUSED,
                "no-public-key",
                "sshd saw no public key in this login: set AuthenticationMethods publickey,keyboard-interactive:pam",
            )
        config = configuration.load(paths.config, paths.owner)
        user = users.find(request.user)
        if user is None:
            return Outcome(Verdict.UNKNOWN_USER, "unknown-user")
        name = user.name
        outcome = _attempt(user, request, config, paths, clock, talk)
    except ConfigError as error:
        return Outcome(Verdict.MISCONFIGURED, error.reason, str(error), name)
    except (CacheError, ChargeError, HostKeyError, LockTimeoutError, NameServiceError) as error:
        return Outcome(Verdict.UNAVAILABLE, error.reason, str(error), name)
    if outcome.message:
        talk.tell(outcome.message)
    return outcome


def _attempt(
    user: users.User, request: Request, config: Config, paths: Paths, clock: Clock, talk: Conversation
) -> Outcome:
    with Accounts(paths) as accounts:
        account = accounts.find(user)
        source = _source(request, accounts)
        decision = policy.decide(account, config, source, clock())
    if decision.action is policy.Action.SKIP:
        return Outcome(Verdict.SKIPPED, decision.reason, account.note, account.name)
    if decision.action is policy.Action.REFUSE:
        return _refusal(decision, account)

    # Nothing is open and nothing locked while the user types: sshd may kill this process at any moment of it.
    answer = talk.ask(config.prompt)
    if answer is None:
        return Outcome(Verdict.NO_ANSWER, "no-answer", account.note, account.name)
    code = otp.parse(answer)
    if code is None:
        return Outcome(Verdict.REFUSED, "malformed-code", account.note, account.name, _NOT_ACCEPTED)

    with Accounts(paths) as accounts, accounts.lock(account.name):
        account = accounts.find(user)
        now = clock()
        decision = policy.decide(account, config, source, now)
        if decision.action is policy.Action.SKIP:
            # The record went away while the user typed. Asked is asked: a race lets nobody in.
            return Outcome(Verdict.REFUSED, "changed-meanwhile", "log in again", account.name, _NOT_ACCEPTED)
        if decision.action is policy.Action.REFUSE:
            return _refusal(decision, account)
        outcome = _verify(account, code, source, request.rhost, now, config)
        if not accounts.charge(account, now):
            outcome.detail = _joined(
                outcome.detail, "recorded in /run/pam-totp only, the cache takes no writes: free space"
            )
    # Only here, after the charge is committed and the lock released, does the outcome leave.
    return outcome


def _verify(account: Account, code: str, source: str, rhost: str, now: Moment, config: Config) -> Outcome:
    """Evaluate a code and enter the result in the account's ledger, which the caller must charge."""
    ledger = account.ledger
    now_step = otp.step_at(now.wall)
    found = match(account, code, now_step, config)
    if found is not None:
        mark, step = found
        mark.spend(step, now_step, config.max_drift)
        message = _failures_since(ledger.unseen, ledger.unseen_from)
        ledger.succeed(source, now)
        return Outcome(Verdict.ACCEPTED, "code", account.note, account.name, message)
    reason, detail = diagnose(account, code, now_step)
    ledger.fail(source, rhost, now, config.lock_after)
    detail = _joined(detail, f"{ledger.row} wrong in a row", account.note)
    return Outcome(Verdict.REFUSED, reason, detail, account.name, _NOT_ACCEPTED)


def match(account: Account, code: str, now_step: int, config: Config) -> tuple[Mark, int] | None:
    """The mark and the step of an active authenticator for which the code is right and unspent; changes nothing."""
    found = None
    for authenticator in account.active:
        mark = account.ledger.mark(authenticator.identifier)
        middle = now_step + mark.drift
        step = otp.matching_step(authenticator.secret, code, range(middle - config.window, middle + config.window + 1))
        # Every authenticator is looked at, whichever matches: the time taken does not tell which one it was.
        if step is not None and step > mark.step and found is None:
            found = mark, step
    return found


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
        return "code-of-another-time", f"{authenticator.label}: right but {abs(seconds)} s {_side(seconds)}"
    return "wrong-code", ""


def _side(seconds: int) -> str:
    return "ahead, check the clocks" if seconds > 0 else "behind, check the clocks"


def _source(request: Request, accounts: Accounts) -> str:
    """Whom a failure is charged to: the public keys that passed, else the address (IPv4 /32, IPv6 /64)."""
    keys = request.public_keys
    if keys:
        return "key:" + accounts.token("\n".join(keys))
    return "net:" + network(request.rhost)


def network(address: str) -> str:
    """An address, or the /64 of an IPv6 address. Anything else (a host name) stands for itself, shortened."""
    address = address.partition("%")[0].lower()
    if ":" not in address:
        return address[:64]
    if address.startswith("::ffff:") and "." in address:
        return address[len("::ffff:") :][:64]
    head, gap, tail = address.partition("::")
    groups = head.split(":") if head else []
    if gap:
        behind = tail.split(":") if tail else []
        missing = 8 - len(groups) - len(behind) - ("." in tail)
        groups += ["0"] * missing + behind
    return ":".join(group.lstrip("0") or "0" for group in groups[:4])[:64] + "::/64"


_NOT_ACCEPTED = "That code was not accepted."


def _refusal(decision: policy.Decision, account: Account) -> Outcome:
    if decision.reason == "throttled":
        detail = f"{decision.seconds} s left"
        message = f"Too many wrong codes. Try again in {duration(decision.seconds)}."
    elif decision.reason == "locked":
        detail = f"pam-totp unlock {account.name} ends it"
        message = "Too many wrong codes: this account is locked. Ask your administrator to unlock it."
    else:
        detail = f"pam-totp enroll {account.name} sets it up"
        message = "A verification code is required here and not set up for you. Ask your administrator to enrol you."
    return Outcome(Verdict.REFUSED, decision.reason, _joined(detail, account.note), account.name, message)


def _failures_since(count: int, address: str) -> str:
    if not count:
        return ""
    codes = "There was 1 wrong code" if count == 1 else f"There were {count} wrong codes"
    return f"{codes} since your last login{f', the last from {address}' if address else ''}."


def _joined(*details: str) -> str:
    return "; ".join(detail for detail in details if detail)


def duration(seconds: int) -> str:
    """Seconds in words, rounded up to the unit that matters: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
