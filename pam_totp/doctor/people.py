"""Who can log in over SSH, and is not asked for a code, or cannot be let in; and what users' clocks say of ours."""

from __future__ import annotations

from collections import Counter
from statistics import median

from pam_totp.cache import summary
from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cache.ledger import Ledger
from pam_totp.doctor.findings import Finding, quoted
from pam_totp.errors import NameServiceError, PamTotpError
from pam_totp.host import logins, synchronised, users
from pam_totp.login import central, policy
from pam_totp.login.attempt import duration
from pam_totp.login.policy import Facts

# Steps, and users: one authenticator that is off by a minute says nothing about the host.
FAR = 2
FEW = 3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Config
    from pam_totp.host.logins import Login
    from pam_totp.host.paths import Paths
    from pam_totp.login.central import Central


def findings(
    paths: Paths, config: Config, settings: Mapping[str, str], robots: Iterable[str], now: Moment
) -> list[Finding]:
    """What there is to say about users. ``settings`` are sshd's; ``robots`` have their key alone."""
    try:
        with Accounts(paths) as accounts:
            known = [each for each in accounts.all() if isinstance(each, Account)]
            demanded = central.load(accounts)
    except PamTotpError:
        return []  # is found elsewhere
    found = []
    for account in known:
        found += _of_account(account, config, now)
    enrolled = {account.name for account in known if account.active}
    enrolled_uids = {account.uid for account in known if account.active}
    others = {robot.partition("@")[0] for robot in robots}
    for login in _able(settings):
        if login.name not in enrolled and login.uid not in enrolled_uids and login.name not in others:
            record = next((each for each in known if each.name == login.name), None)
            found += _unenrolled(login, record, config, demanded, now)
    return found + _drifts(known)


def _able(settings: Mapping[str, str]) -> list[Login]:
    try:
        return logins.able(settings)
    except NameServiceError:
        return []  # who is in the groups that sshd lets in is not known just now


def _of_account(account: Account, config: Config, now: Moment) -> list[Finding]:
    name = quoted(account.name)
    ledger = account.ledger
    found = []
    try:
        user = users.find(account.name)
    except NameServiceError:
        return []  # nothing is known of the user just now
    if account.uid < 0 and (user is None or account.ledger.fleet):
        return []  # only clients of the verify service ask about it; or the directory's, and bound at the first login
    if user is None:
        mend = f"pam-totp reset {name}"
        return [Finding("user-gone", f"{account.name}, uid {account.uid}", mend)] if account.authenticators else []
    if user.uid != account.uid and account.authenticators:
        text = f"{account.name} was enrolled with uid {account.uid} and now has {user.uid}"
        return [Finding("uid-changed", text, f"pam-totp adopt {name}")]
    if account.active and ledger.locked:
        found.append(Finding("locked", f"{account.name}, {ledger.row} wrong in a row", f"pam-totp unlock {name}"))
    if account.pending is not None:
        text = f"{account.name}, label {account.pending.label}"
        found.append(Finding("pending", text, f"pam-totp confirm {name}"))
    if ledger.exempt(now) and ledger.exemption is not None:
        text = f"{account.name} until {summary.minute(ledger.exemption[0])} UTC: {ledger.exemption[1]}"
        found.append(Finding("exempt", text, f"pam-totp exempt {name} --end"))
    if account.active and ledger.recovery is not None and not ledger.recovery["hashes"]:
        found.append(Finding("no-recovery-codes", account.name, f"pam-totp recovery {name}"))
    del config
    return found


def _unenrolled(
    login: Login, account: Account | None, config: Config, demanded: Central | None, now: Moment
) -> list[Finding]:
    ledger_of = account or Account(login.name, login.uid, [], Ledger())
    facts = _facts(login, config)
    facts.central = demanded
    decision = policy.decide(ledger_of, config, facts, now)
    mend = f"pam-totp enroll {quoted(login.name)}"
    if decision.reason in ("exempt", "rule"):
        return []
    grace = ledger_of.ledger.grace
    if (
        config.unenrolled == "deadline"
        and grace is not None
        and not ledger_of.ledger.grace_left(now, config.enrollment.period)
    ):
        return [Finding("deadline-past", f"{login.name}: {config.enrollment.after} from here on", mend)]
    if decision.reason == "grace":
        return [Finding("not-enrolled", f"{login.name} has {duration(decision.seconds)} left to enrol", mend)]
    if decision.action == "skip":
        return [Finding("not-enrolled", f"{login.name} can log in without a code", mend)]
    words = {
        "refuse": "is refused",
        "enroll": "has to enrol at the prompt",
        "invite": "has to enrol, with an invitation",
    }
    return [Finding("not-enrolled-refused", f"{login.name} {words.get(decision.action, 'is asked')}", mend)]


def _facts(login: Login, config: Config) -> Facts:
    facts = Facts(login.name, "", "sshd")
    wanted = {name for rule in config.rules for name in rule.groups}
    try:
        facts.groups = users.groups(users.User(login.name, login.uid), wanted) if wanted else frozenset()
    except NameServiceError:
        facts.groups = None
    return facts


def _drifts(known: list[Account]) -> list[Finding]:
    drifts = {}
    for account in known:
        of_user = [
            account.ledger.marks[each.identifier].drift
            for each in account.active
            if each.identifier in account.ledger.marks
        ]
        if of_user:
            drifts[account.name] = of_user[0]
    if len(drifts) < FEW:
        return []
    signs = Counter((each > 0) - (each < 0) for each in drifts.values())
    sign, count = signs.most_common(1)[0]
    middle = median(drifts.values())
    if not sign or count * 4 < len(drifts) * 3 or abs(middle) < FAR:
        return []
    way = "behind" if sign > 0 else "ahead"
    text = f"{count} of {len(drifts)} users' clocks say that this host is about {abs(int(middle)) * 30} s {way}"
    return [Finding("drifts-agree", text, synchronised.mend())]
