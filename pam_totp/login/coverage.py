"""Everybody who can log in over SSH: who is enrolled, and what a login would come to now.

Not on the login path. What is not known beforehand, the address and the key, is unknown here: where rules name networks
or keys it is the strictest that may happen.
"""

from __future__ import annotations

from pam_totp.cache.accounts import Account
from pam_totp.cache.ledger import Ledger
from pam_totp.errors import PamTotpError
from pam_totp.host import logins, pinned, sshd
from pam_totp.host.programs import ProgramError
from pam_totp.host.users import User
from pam_totp.login import policy
from pam_totp.login.attempt import Attempt, Conversation, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Accounts
    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths
    from pam_totp.login.policy import Decision

_SHOWN = 10


class Standing:
    """How one user stands. Where the record cannot be used there is no decision but an ``error``, and nobody gets in.

    ``robot``: a user whose key alone is enough, as was said to ``setup``; such a one is not asked at all.
    """

    __slots__ = ("account", "decision", "error", "name", "robot")

    def __init__(self, name: str, account: Account, decision: Decision | None, error: PamTotpError | None) -> None:
        self.name = name
        self.account = account
        self.decision = decision
        self.error = error
        self.robot = False

    @property
    def action(self) -> str:
        """What a login would come to: the word of the decision, or "refuse"."""
        return "refuse" if self.decision is None else self.decision.action

    @property
    def missing(self) -> bool:
        """Whether no code is asked for because nothing is enrolled."""
        return not (self.account.active or self.robot or self.error)

    @property
    def refused(self) -> bool:
        """Whether this user gets in by no code: not enrolled, where that is needed, or with a record that is unusable.

        A wait and a lock are no such thing.
        """
        if self.robot:
            return False
        return self.action == "refuse" and not self.account.active

    @property
    def why(self) -> str:
        """Why nobody gets in, as an administrator is told."""
        if self.error is not None:
            return str(self.error)
        reason = "" if self.decision is None else self.decision.reason
        if reason == "not-invited":
            return "is not enrolled, and has no invitation, which the configuration demands"
        return f"is {'pending' if reason == 'pending' else 'not enrolled'}, and the configuration refuses such users"


def everybody(accounts: Accounts, config: Config, paths: Paths, moment: Moment) -> list[Standing]:
    """Everybody who can log in over SSH, by name; as far as name services list their users.

    Raises NameServiceError or CacheError where nothing can be told of anybody.
    """
    try:
        settings = sshd.effective()
    except ProgramError:
        settings = {}  # no sshd, or one that does not start: what would be, if it did with its defaults
    try:
        pin = pinned.load(paths, pinned.SSHD)
    except PamTotpError:
        pin = None
    robots = {robot.partition("@")[0] for robot in pin.robots} if pin is not None else set()
    found = []
    for login in logins.able(settings):
        standing = of(accounts, config, paths, User(login.name, login.uid), moment)
        standing.robot = login.name in robots
        found.append(standing)
    return found


def of(accounts: Accounts, config: Config, paths: Paths, user: User, moment: Moment) -> Standing:
    """How one user stands."""
    nobody = Account(user.name, user.uid, [], Ledger())
    try:
        account = accounts.find(user)
        request = Request(user.name, "sshd")
        facts = Attempt(user, request, config, paths, lambda: moment, Conversation()).facts(account, accounts)
    except PamTotpError as error:
        return Standing(user.name, nobody, None, error)
    return Standing(user.name, account, policy.decide(account, config, facts, moment), None)


def named(standings: list[Standing], which: Callable[[Standing], bool]) -> str:
    """How many, and their names, unless they are too many; "nobody" where there is none."""
    names = [each.name for each in standings if which(each)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} ({', '.join(names[:_SHOWN])}{more})" if names else "nobody"


def told(standings: list[Standing]) -> list[str]:
    """In words, for an administrator: how many are not enrolled, and how many would be refused."""
    if not standings:
        return []
    count = "1 user" if len(standings) == 1 else f"{len(standings)} users"
    return [
        f"{count} can log in over SSH; not enrolled: {named(standings, lambda each: each.missing)}",
        f"would be refused: {named(standings, lambda each: each.refused)}",
    ]
