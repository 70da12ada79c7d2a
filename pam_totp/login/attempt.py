"""What a login attempt is made of: the request, the conversation with the user, and the outcome."""

from __future__ import annotations

from pam_totp.factors import publickeys

NOT_ACCEPTED = "That code was not accepted."
USED_ALREADY = "That code was used already: wait for the next one."
OUT_OF_ORDER = "Verification codes cannot be checked here now: tell your administrator."

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from pam_totp.cache.accounts import Account, Accounts
    from pam_totp.host.clock import Moment
    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths
    from pam_totp.host.users import User
    from pam_totp.login.policy import Decision, Facts

    Clock = Callable[[], Moment]
    # How an attempt ends. Only "accepted" and "skipped" let anybody in.
    Verdict = Literal["accepted", "skipped", "refused", "unknown-user", "no-answer", "unavailable", "misconfigured"]


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

    def add_detail(self, text: str) -> None:
        """Say one more thing to the administrator."""
        self.detail = joined(self.detail, text)


class Request:
    """What PAM, or a client of the verify service, says about a login.

    ``auth_info`` is the content of SSH_AUTH_INFO_0: an empty one says that no key has passed. None: this is unknown.
    ``door`` names the client whose word ``rhost`` is; empty where it is the word of a program of this host.
    """

    __slots__ = ("auth_info", "door", "rhost", "service", "user")

    def __init__(
        self, user: str, service: str = "", rhost: str = "", auth_info: str | None = None, door: str = ""
    ) -> None:
        self.user = user
        self.service = service
        self.rhost = rhost
        self.auth_info = auth_info
        self.door = door

    @property
    def public_keys(self) -> list[publickeys.PublicKey] | None:
        """The public keys that sshd has verified in this login; None where that is not known."""
        return publickeys.parse(self.auth_info)


class Conversation:
    """How a login talks to its user.

    ``columns`` is how wide the user's screen is; 0 where that is not known. ``interactive``: more than one question can
    be asked. Without it nobody enrols, and no recovery codes are handed out.
    """

    columns = 0
    interactive = True

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        """Ask, without echo where not told otherwise. None where there is no answer: refused, aborted, not text."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """Show a line. Must not fail."""
        raise NotImplementedError


class Attempt:
    """One attempt of one known user: what was asked for, under which settings, with which clock and conversation."""

    __slots__ = ("clock", "config", "conversation", "paths", "request", "user")

    def __init__(
        self, user: User, request: Request, config: Config, paths: Paths, clock: Clock, conversation: Conversation
    ) -> None:
        self.user = user
        self.request = request
        self.config = config
        self.paths = paths
        self.clock = clock
        self.conversation = conversation

    def facts(self, account: Account, accounts: Accounts) -> Facts:
        """What policy decides on. Raises ConfigError where the configuration is missing that this host had."""
        from pam_totp.host import users
        from pam_totp.login.policy import Facts

        accounts.configured.require(self.config.found, self.paths.config)
        request = self.request
        keys = request.public_keys
        identities = "\n".join(key.identity() for key in keys or ())
        # Whom a failure is charged to: the address (IPv4 /32, IPv6 /64), together with the public keys that passed. A
        # key alone would be trusted in a thief's hands, an address alone in those of all who share it.
        near = network(request.rhost)
        both = f"{identities}\0{near}"
        source = f"key:{accounts.sealer.token(both, 'source')}" if keys else f"net:{near}"
        if request.door:
            # Each client has sources of its own: one that lies about addresses neither uses up the tries of a place
            # that the user logs in from by another door, nor borrows its good name.
            source = f"door:{request.door} {near}"
        facts = Facts(self.user.name, source, request.service, request.rhost)
        if accounts.configured.joined:
            from pam_totp.login import central

            facts.central = central.load(accounts)
        facts.keys = keys
        wanted = {name for rule in self.config.rules for name in rule.groups}
        # Of somebody without a Unix account no name service knows the groups: they stay unknown.
        if wanted and not self.user.outside:
            facts.groups = users.groups(self.user, wanted)
        if account.active and account.name != self.user.name:
            facts.record = account.name
            if wanted:
                facts.record_groups = users.groups(users.User(account.name, account.uid), wanted)
        if keys and request.rhost and account.active:
            generation = " ".join(sorted(each.identifier for each in account.active))
            client = f"{identities}\0{request.rhost}\0{request.service}\0{generation}"
            facts.client = accounts.sealer.token(client, "client")
        return facts

    @property
    def self_service(self) -> bool:
        """Whether users can help themselves here."""
        from pam_totp.host import files

        return files.exists(self.paths.socket)

    def seconds_in_all(self) -> int:
        """How long the user has, from the beginning of the connection; 0 where that is not known, or for ever."""
        if self.request.service != "sshd":
            return 0
        from pam_totp.host import sshd
        from pam_totp.host.programs import ProgramError

        try:
            return int(sshd.effective()["logingracetime"])
        except (ProgramError, OSError, KeyError, ValueError):
            return 0  # it is said where it is known; nothing depends on it

    def first_enrolment(self, account: Account, facts: Facts, now: Moment) -> Decision:
        """What a first enrolment needs here (policy.first_enrolment)."""
        from pam_totp.login import policy

        return policy.first_enrolment(account, self.config, facts, now)


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


def refusal(decision: Decision, account: Account) -> Outcome:
    """How an attempt ends that the policy refuses."""
    if decision.reason == "throttled":
        detail = f"{decision.seconds} s left"
        message = hold(decision)
    elif decision.reason == "locked":
        detail = f"pam-totp unlock {account.name} ends it"
        message = f"{hold(decision)} Ask your administrator to unlock it."
    elif decision.reason == "not-invited":
        detail = f"pam-totp invite {account.name} prints an invitation code"
        message = "A verification code is required here. Ask your administrator for an invitation to set it up."
    elif decision.reason == "fleet-locked":
        detail = "the directory has locked this user"
        message = "This account is locked. Ask your administrator to unlock it."
    elif decision.reason == "fleet-revoked":
        detail = f"the directory does not list this user any more; if that is wrong here, pam-totp reset {account.name}"
        message = "You are not set up for logins here any more. Ask your administrator."
    elif decision.reason == "fleet-offline":
        detail = f"nothing new of the directory for {duration(decision.seconds)}: see pam-totp fleet"
        message = OUT_OF_ORDER
    elif decision.reason == "self-enroll-off":
        detail = f"pam-totp enroll {account.name} sets it up; see self_enroll in pam-totp.toml(5)"
        message = "Setting up an authenticator by yourself is not open to you here. Ask your administrator."
    else:
        detail = f"pam-totp enroll {account.name} sets it up"
        message = "A verification code is required here and not set up for you. Ask your administrator to enrol you."
    return Outcome("refused", decision.reason, joined(detail, account.note), account.name, message)


def hold(decision: Decision) -> str:
    """What a user who has to wait, or is locked, is told of it."""
    if decision.reason == "locked":
        return "Too many wrong codes: this account is locked."
    return f"Too many wrong codes. Try again in {duration(decision.seconds)}."


def failures_since(count: int, address: str) -> str:
    """What a user who gets in is told of wrong codes; empty where there were none."""
    if not count:
        return ""
    codes = "There was 1 wrong code" if count == 1 else f"There were {count} wrong codes"
    return f"{codes} since your last login{f', the last from {address}' if address else ''}."


def joined(*details: str) -> str:
    """Several details in one line."""
    return "; ".join(detail for detail in details if detail)


def duration(seconds: int) -> str:
    """Seconds in words, rounded up to the unit that matters: "40 s", "3 min", "2 h 10 min", "7 days"."""
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{-(-minutes // (24 * 60))} days"
