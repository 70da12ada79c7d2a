"""The hooks that pam_python calls. Glue only: conversation, clock, and Outcome -> PAM code from one table.

Nothing is imported at module level: sshd loads this file a second time for ``setcred``, which must cost nothing
beyond the interpreter. Whatever happens, the answer is one of PAM's named constants, and anything unforeseen denies.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The only way to a PAM code. A verdict that is missing here denies.
_CODES = {
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
    del flags
    try:
        return _authenticate(pamh, argv[1:])
    except BaseException as error:  # noqa: BLE001  # an exception that escaped would be judged by pam_python
        # Only the kind of the error and where it was: its text could hold anything.
        return _failed(pamh, error)


def pam_sm_setcred(pamh: Any, flags: int, argv: list[str]) -> Any:
    """There are no credentials to set. PAM calls this for every ``auth`` line, so it must not deny."""
    del flags, argv
    return pamh.PAM_IGNORE


def pam_sm_acct_mgmt(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: the module belongs in ``auth`` lines only."""
    del flags
    return _misplaced(pamh, argv, "account")


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
    from pam_totp import clock, log, login
    from pam_totp.config import Arguments
    from pam_totp.errors import ConfigError
    from pam_totp.paths import Paths

    class Talk(login.Conversation):
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

    try:
        request = login.Request(
            pamh.get_user(None) or "",
            pamh.service or "",
            pamh.rhost or "",
            _auth_info(pamh),
        )
    except UnicodeError:
        request = login.Request("")
        outcome = login.Outcome(login.Verdict.UNKNOWN_USER, "unknown-user", "the name or the host is not UTF-8")
    except pamh.exception:
        request = login.Request("")
        outcome = login.Outcome(login.Verdict.NO_ANSWER, "no-answer", "no user name")
    else:
        try:
            outcome = login.attempt(request, Arguments(words), Paths(), clock.now, Talk())
        except ConfigError as error:
            outcome = login.Outcome(login.Verdict.MISCONFIGURED, error.reason, str(error))

    text = log.line(
        user=request.user or "-",
        service=request.service or "-",
        rhost=request.rhost or "-",
        outcome=outcome.verdict.value,
        reason=outcome.reason,
        detail=outcome.detail,
    )
    good = outcome.verdict in (login.Verdict.ACCEPTED, login.Verdict.SKIPPED)
    broken = outcome.verdict in (login.Verdict.UNAVAILABLE, login.Verdict.MISCONFIGURED)
    priority = log.INFO if good and not outcome.detail else log.ERROR if broken else log.NOTICE
    log.send(priority, f"pam_totp({request.service or '-'}:auth)", text)
    if not good and outcome.account:
        _record(outcome.account, text)
    return getattr(pamh, _CODES[outcome.verdict.value])


def _auth_info(pamh: Any) -> str:
    try:
        value = pamh.env["SSH_AUTH_INFO_0"]
    except KeyError:
        return ""
    return value if isinstance(value, str) else ""


def _record(name: str, text: str) -> None:
    """Keep the refusal for ``pam-totp status``; best effort, the decision is made and logged."""
    from pam_totp import clock
    from pam_totp.accounts import Accounts
    from pam_totp.errors import PamTotpError
    from pam_totp.paths import Paths

    try:
        with Accounts(Paths()) as accounts:
            accounts.record_event(int(clock.now().wall), name, text)
    except PamTotpError:
        pass


def _failed(pamh: Any, error: BaseException) -> Any:
    try:
        from pam_totp import log

        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        text = log.line(outcome="error", reason="internal-error", detail=f"{type(error).__name__} at {where}")
        log.send(log.ERROR, "pam_totp(-:auth)", text)
    except BaseException:  # noqa: BLE001  # logging failed; the answer is the same
        return pamh.PAM_SERVICE_ERR
    return pamh.PAM_SERVICE_ERR


def _misplaced(pamh: Any, argv: list[str], phase: str) -> Any:
    try:
        from pam_totp import log

        detail = f"remove {argv[0] if argv else 'pam_totp.py'} from {phase} lines: it belongs in auth lines only"
        log.send(
            log.ERROR, f"pam_totp(-:{phase})", log.line(outcome="misconfigured", reason="misplaced", detail=detail)
        )
    except BaseException:  # noqa: BLE001  # logging failed; the answer is the same
        return pamh.PAM_SERVICE_ERR
    return pamh.PAM_SERVICE_ERR
