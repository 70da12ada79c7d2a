"""The hooks that PAM calls, over a small interface. Glue only: conversation, clock, and Outcome -> PAM code.

Two adapters implement the interface: ``helper`` for our own engine (pam_totp.so), and ``pam_python``. ``setcred`` is in
the engines themselves, where it costs nothing. Whatever happens here, the answer is the name of one of PAM's
constants, and anything unforeseen denies.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.login.attempt import Conversation, Outcome, Request, Verdict

# The only way to a PAM code. A verdict that is missing here denies.
_CODES: dict[Verdict, str] = {
    "accepted": "PAM_SUCCESS",
    "skipped": "PAM_IGNORE",
    "refused": "PAM_AUTH_ERR",
    "unknown-user": "PAM_USER_UNKNOWN",
    "no-answer": "PAM_CONV_ERR",
    "unavailable": "PAM_AUTHINFO_UNAVAIL",
    "misconfigured": "PAM_SERVICE_ERR",
}
CODES = frozenset(_CODES.values())


class PamError(Exception):
    """PAM itself refused what was asked of it."""


class Transaction:
    """What the hooks need of a PAM transaction.

    ``kept`` is text that one line of the stack keeps for the next one, None at first. It is gone with the transaction,
    and no other transaction sees it.
    """

    kept: str | None = None

    def request(self) -> Request:
        """Who wants to log in. Raises UnicodeError where a part is not UTF-8, PamError where PAM does not tell."""
        raise NotImplementedError

    def ask(self, prompt: str, echo: bool) -> str | None:
        """Ask the user. None where there is no answer: refused, aborted, not text."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """Show a line to the user. Must not fail."""
        raise NotImplementedError

    def hand_on(self, password: str) -> None:
        """Make this the password that the next lines of the stack find. Raises PamError."""
        raise NotImplementedError


def authenticate(transaction: Transaction, words: list[str]) -> str:
    """Ask for and verify a code (design, section 4)."""
    import gc

    # The interpreter ends with the transaction; looking for cycles in what is imported costs 1 ms and finds nothing.
    gc.disable()
    try:
        return _authenticate(transaction, words)
    except BaseException as error:  # noqa: BLE001  # an exception that escaped would be judged by the engine
        return failed(error)


def account(transaction: Transaction, words: list[str], name: str) -> str:
    """With ``combined=verify``: deny where PAM may have let in a code that was never verified. Else deny: misplaced."""
    if words != ["combined=verify"]:
        return misplaced(name, "account")
    try:
        from pam_totp.engine import combined

        return combined.account(transaction)
    except BaseException as error:  # noqa: BLE001  # an exception that escaped would be judged by the engine
        return failed(error)


def misplaced(name: str, phase: str) -> str:
    """Deny: the module, which the line calls so, belongs in ``auth`` lines only."""
    try:
        from pam_totp.login import log

        detail = f"remove {name} from {phase} lines: it belongs in auth lines only"
        log.send(
            log.ERROR, f"pam_totp(-:{phase})", log.line(outcome="misconfigured", reason="misplaced", detail=detail)
        )
    except BaseException:  # noqa: BLE001  # logging failed; the answer is the same
        return "PAM_SERVICE_ERR"
    return "PAM_SERVICE_ERR"


def failed(error: BaseException) -> str:
    """Deny because of a bug. Only the kind of the error and where it was is logged: its text could hold anything.

    Where nothing can be logged the answer is no constant of PAM's, which denies as well.
    """
    try:
        from pam_totp.login import log

        log.internal_error("pam_totp(-:auth)", error)
    except BaseException:  # noqa: BLE001  # the log's own code could not be had
        return ""
    return "PAM_SERVICE_ERR"


def get_ready() -> None:
    """Import what an answer needs. For an engine that has asked, and has nothing to do until the user has typed."""
    from pam_totp.login import evaluation  # noqa: F401  # to be there then


def _authenticate(transaction: Transaction, words: list[str]) -> str:
    # The log too, before anything is asked: a disk that fails meanwhile must not keep us from saying so.
    from pam_totp.errors import PamTotpError
    from pam_totp.host import clock
    from pam_totp.host.config import Arguments
    from pam_totp.host.paths import Paths
    from pam_totp.login import log, login  # noqa: F401  # for _finish and failed

    request = login.Request("")
    try:
        # First of all: what is logged of a bad argument names the login, too.
        request = transaction.request()
        arguments = Arguments(words)
        code = None
        if arguments.combined:
            from pam_totp.engine import combined

            if arguments.combined == "split":
                ended = combined.split(transaction, request)
                return "PAM_IGNORE" if ended is None else _finish(request, ended)
            code = combined.kept_code(transaction)
        outcome = login.attempt(request, arguments, Paths(), clock.now, _conversation(transaction, code))
    except UnicodeError:
        outcome = login.Outcome("unknown-user", "unknown-user", "the name or the host is not UTF-8")
    except PamError:
        outcome = login.Outcome("no-answer", "no-answer", "no user name")
    except PamTotpError as error:
        outcome = login.outcome_of(error)
        transaction.tell(outcome.message)
    if outcome.verdict in ("accepted", "skipped") and transaction.kept is not None:
        from pam_totp.engine import combined

        transaction.kept = combined.VERIFIED
    return _finish(request, outcome)


def _finish(request: Request, outcome: Outcome) -> str:
    """Log an outcome, keep a refusal for ``pam-totp status``, and turn it into a PAM code."""
    from pam_totp.host import clock
    from pam_totp.host.paths import Paths
    from pam_totp.login import log, login

    login.keep(outcome, log.decision(request, outcome), Paths(), clock.now)
    return _CODES[outcome.verdict]


def _conversation(transaction: Transaction, code: str | None) -> Conversation:
    """A conversation with the user; a code that was kept is the answer to its first question."""
    from pam_totp.login.attempt import Conversation

    class PamConversation(Conversation):
        def ask(self, prompt: str, echo: bool = False) -> str | None:
            nonlocal code
            if code is None:
                return transaction.ask(prompt, echo)
            answer, code = code, None
            return answer

        def tell(self, text: str) -> None:
            transaction.tell(text)

    return PamConversation()
