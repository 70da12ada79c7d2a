"""What a request means: an attempt to log in, whose answer is the login's own.

One question only can be asked and answered here. So nobody enrols through this door, and recovery codes that a user has
not seen yet are handed out at another one.
"""

from __future__ import annotations

from pam_totp.cache.accounts import Accounts
from pam_totp.host.config import Arguments
from pam_totp.host.users import User
from pam_totp.login import log, login
from pam_totp.login.attempt import Conversation, Outcome, Request

_IN = ("accepted", "skipped")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.paths import Paths
    from pam_totp.login.attempt import Clock
    from pam_totp.verify.clients import Client


class Question:
    """Who is asked about: a user at a service, from a source (an address, or empty where it is not known)."""

    __slots__ = ("service", "source", "user")

    def __init__(self, user: str, service: str, source: str) -> None:
        self.user = user
        self.service = service
        self.source = source

    def request(self, client: Client) -> Request:
        """The same for the login. Of the public keys that passed, nothing is known."""
        return Request(self.user, self.service, self.source, None, client.name)


class Answer:
    """What the login came to. ``outcome`` "ask" says that a code is wanted, and ``message`` then is the prompt."""

    __slots__ = ("message", "outcome", "reason")

    def __init__(self, outcome: str, reason: str = "", message: str = "") -> None:
        self.outcome = outcome
        self.reason = reason
        self.message = message

    @property
    def lets_in(self) -> bool:
        """Whether the user gets in."""
        return self.outcome in _IN


class OneAnswer(Conversation):
    """A conversation with somebody who has said all there is to say: a code, or nothing."""

    interactive = False

    def __init__(self, code: str | None) -> None:
        self._code = code
        self.prompt: str | None = None

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        """The code, once."""
        del echo
        self.prompt = prompt
        code, self._code = self._code, None
        return code

    def tell(self, text: str) -> None:
        """The outcome has it, too."""


def start(client: Client, question: Question, paths: Paths, clock: Clock) -> Answer:
    """Say whether a code is wanted. Whoever needs none is let in by this, which is logged; a question is not."""
    conversation = OneAnswer(None)
    request, outcome = _attempt(client, question, conversation, paths, clock)
    if outcome.verdict == "no-answer" and conversation.prompt is not None:
        return Answer("ask", message=conversation.prompt)
    return _finish(request, outcome, paths, clock)


def verify(client: Client, question: Question, code: str, paths: Paths, clock: Clock) -> Answer:
    """Say whether this user gets in with this code."""
    request, outcome = _attempt(client, question, OneAnswer(code), paths, clock)
    if outcome.verdict == "skipped" and not client.may_know:
        # To let in with any code would tell who is not enrolled.
        detail = f"{outcome.reason}, which the client {client.name} may not know: see may-know in pam-totp(8)"
        outcome = Outcome("refused", "code-required", detail, outcome.account)
    return _finish(request, outcome, paths, clock)


def refuse(request: Request, reason: str, detail: str = "") -> Answer:
    """Log a refusal of the service itself: no login came of it."""
    log.decision(request, Outcome("refused", reason, detail))
    return Answer("refused", reason)


def _attempt(
    client: Client, question: Question, conversation: OneAnswer, paths: Paths, clock: Clock
) -> tuple[Request, Outcome]:
    request = question.request(client)
    find = (lambda name: _recorded(name, paths)) if client.identity == "record" else None
    return request, login.attempt(request, Arguments([]), paths, clock, conversation, find)


def _recorded(name: str, paths: Paths) -> User | None:
    """Who has a record under exactly this name, whatever NSS says; whoever has none is nobody here.

    Were they taken for somebody who is not enrolled, another spelling of a name would get in without a code.
    """
    with Accounts(paths) as accounts:
        account = accounts.get(name)
    return None if account is None else User(account.name, account.uid)


def _finish(request: Request, outcome: Outcome, paths: Paths, clock: Clock) -> Answer:
    login.keep(outcome, log.decision(request, outcome), paths, clock)
    return Answer(outcome.verdict, outcome.reason, outcome.message)
