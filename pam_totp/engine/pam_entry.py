"""The hooks that pam_python calls. Glue only: conversation, clock, and Outcome -> PAM code from one table.

``setcred`` is in the script that the PAM line names (debian/pam_totp.py): there it costs nothing beyond the
interpreter, which sshd loads a second time for it. Whatever happens here, the answer is one of PAM's named constants,
and anything unforeseen denies.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.login.attempt import Conversation, Outcome, Request, Verdict

COMBINED_PROMPT = "Password and verification code: "

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


def pam_sm_authenticate(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Ask for and verify a code (design, section 4)."""
    import gc

    del flags
    # The interpreter ends with the transaction; looking for cycles in what is imported costs 1 ms and finds nothing.
    gc.disable()
    try:
        return _authenticate(pamh, argv[1:])
    except BaseException as error:  # noqa: BLE001  # an exception that escaped would be judged by pam_python
        return _failed(pamh, error)


def pam_sm_acct_mgmt(pamh: Any, flags: int, argv: list[str]) -> Any:
    """With ``combined=verify``: deny where an answer was split and its code never verified. Else deny: misplaced."""
    del flags
    if argv[1:] != ["combined=verify"]:
        return _misplaced(pamh, argv, "account")
    try:
        return _account(pamh)
    except BaseException as error:  # noqa: BLE001  # an exception that escaped would be judged by pam_python
        return _failed(pamh, error)


def pam_sm_open_session(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: the module belongs in ``auth`` lines only."""
    del flags
    return _misplaced(pamh, argv, "session")


def pam_sm_close_session(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: the module belongs in ``auth`` lines only."""
    del flags
    return _misplaced(pamh, argv, "session")


def pam_sm_chauthtok(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: the module belongs in ``auth`` lines only."""
    del flags
    return _misplaced(pamh, argv, "password")


def _authenticate(pamh: Any, words: list[str]) -> Any:
    # The log too, before anything is asked: a disk that fails meanwhile must not keep us from saying so.
    from pam_totp.errors import PamTotpError
    from pam_totp.host import clock
    from pam_totp.host.config import Arguments
    from pam_totp.host.paths import Paths
    from pam_totp.login import log, login  # noqa: F401  # for _finish and _failed

    request = login.Request("")
    try:
        arguments = Arguments(words)
        request = login.Request(pamh.get_user(None) or "", pamh.service or "", pamh.rhost or "", _auth_info(pamh))
        talk = _talk(pamh)
        if arguments.combined == "split":
            return _split(pamh, request, talk)
        if arguments.combined == "verify":
            talk = _kept_code(pamh, talk)
        outcome = login.attempt(request, arguments, Paths(), clock.now, talk)
    except UnicodeError:
        outcome = login.Outcome("unknown-user", "unknown-user", "the name or the host is not UTF-8")
    except pamh.exception:
        outcome = login.Outcome("no-answer", "no-answer", "no user name")
    except PamTotpError as error:
        outcome = login.outcome_of(error)
    if outcome.verdict in ("accepted", "skipped"):
        pamh.module.pam_totp_verified = True
    return _finish(pamh, request, outcome)


def _finish(pamh: Any, request: Request, outcome: Outcome) -> Any:
    """Log an outcome, keep a refusal for ``pam-totp status``, and turn it into a PAM code."""
    from pam_totp.login import log

    text = log.decision(request, outcome)
    good = outcome.verdict in ("accepted", "skipped")
    if not good and outcome.account:
        _record(outcome.account, text)
    return getattr(pamh, _CODES[outcome.verdict])


def _talk(pamh: Any) -> Conversation:
    from pam_totp.login.attempt import Conversation

    class Talk(Conversation):
        def ask(self, prompt: str, echo: bool = False) -> str | None:
            style = pamh.PAM_PROMPT_ECHO_ON if echo else pamh.PAM_PROMPT_ECHO_OFF
            try:
                answer = pamh.conversation(pamh.Message(style, prompt)).resp
            except (pamh.exception, UnicodeError):
                # Refused or aborted; or bytes that are not text, which no code can be.
                return None
            return answer if isinstance(answer, str) else None

        def tell(self, text: str) -> None:
            try:
                pamh.conversation(pamh.Message(pamh.PAM_TEXT_INFO, text))
            except (pamh.exception, UnicodeError):
                pass  # nobody listens any more; what was decided stays decided

    return Talk()


# Password and code in one answer. pam_python keeps one module object for each PAM transaction and runs every line of
# the stack in it: what is kept there is gone with the transaction, and no other one can see it.


def _split(pamh: Any, request: Request, talk: Conversation) -> Any:
    """Ask once, hand the password on as PAM's token, and keep the code."""
    from pam_totp.host import clock, stack
    from pam_totp.host.paths import Paths
    from pam_totp.login import login

    stack.require_verification(request.service, Paths())
    answer = talk.ask(COMBINED_PROMPT)
    if answer is None:
        return _finish(pamh, request, login.Outcome("no-answer", "no-answer"))
    pamh.authtok, pamh.module.pam_totp_code = login.split(answer, request, Paths(), clock.now)
    pamh.module.pam_totp_verified = False
    return pamh.PAM_IGNORE


def _kept_code(pamh: Any, talk: Conversation) -> Conversation:
    """A conversation that answers its first question with the code that was kept."""
    from pam_totp.errors import ConfigError
    from pam_totp.login.attempt import Conversation

    if not hasattr(pamh.module, "pam_totp_code"):
        raise ConfigError("combined=verify without a line with combined=split before it: add that line")
    kept: str | None = pamh.module.pam_totp_code
    pamh.module.pam_totp_code = None

    class Kept(Conversation):
        def ask(self, prompt: str, echo: bool = False) -> str | None:
            nonlocal kept
            if kept is None:
                return talk.ask(prompt, echo)
            answer, kept = kept, None
            return answer

        def tell(self, text: str) -> None:
            talk.tell(text)

    return Kept()


def _account(pamh: Any) -> Any:
    # Not split in this transaction: another method than PAM's authenticated, and there is nothing to finish.
    if getattr(pamh.module, "pam_totp_verified", True):
        return pamh.PAM_IGNORE
    from pam_totp.login import log

    detail = "the code was split off and never verified: add a line with combined=verify after common-auth"
    log.send(log.ERROR, "pam_totp(-:account)", log.line(outcome="refused", reason="not-verified", detail=detail))
    return pamh.PAM_AUTH_ERR


def _auth_info(pamh: Any) -> str:
    try:
        value = pamh.env["SSH_AUTH_INFO_0"]
    except KeyError:
        return ""
    return value if isinstance(value, str) else ""


def _record(name: str, text: str) -> None:
    """Keep the refusal for ``pam-totp status``; best effort, the decision is made and logged."""
    from pam_totp.cache.accounts import Accounts
    from pam_totp.errors import PamTotpError
    from pam_totp.host import clock
    from pam_totp.host.paths import Paths

    try:
        # Whoever was refused has waited long enough, perhaps for this very lock.
        with Accounts(Paths(), patience=1.0) as accounts:
            accounts.record_event(int(clock.now().wall), name, text)
    except PamTotpError:
        pass


def _failed(pamh: Any, error: BaseException) -> Any:
    try:
        # Only the kind of the error and where it was: its text could hold anything.
        from pam_totp.login import log

        log.internal_error("pam_totp(-:auth)", error)
    except BaseException:  # noqa: BLE001  # logging failed; the answer is the same
        return pamh.PAM_SERVICE_ERR
    return pamh.PAM_SERVICE_ERR


def _misplaced(pamh: Any, argv: list[str], phase: str) -> Any:
    try:
        from pam_totp.login import log

        detail = f"remove {argv[0] if argv else 'pam_totp.py'} from {phase} lines: it belongs in auth lines only"
        log.send(
            log.ERROR, f"pam_totp(-:{phase})", log.line(outcome="misconfigured", reason="misplaced", detail=detail)
        )
    except BaseException:  # noqa: BLE001  # logging failed; the answer is the same
        return pamh.PAM_SERVICE_ERR
    return pamh.PAM_SERVICE_ERR
