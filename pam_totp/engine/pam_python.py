"""The hooks for pam_python: what its handle is to pam_entry's interface.

pam_python keeps one module object for each PAM transaction and runs every line of the stack in it: what is kept there
is gone with the transaction, and no other one can see it. It turns numbers that are no PAM codes into success, so the
only values returned are the handle's own constants.
"""

from __future__ import annotations

from pam_totp.engine import pam_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pam_totp.login.attempt import Request


class Handle(pam_entry.Transaction):
    """A transaction over pam_python's handle, whose getters raise UnicodeError, or an exception class of its own."""

    def __init__(self, pamh: Any) -> None:
        self._pamh = pamh
        self.kept = getattr(pamh.module, "pam_totp_kept", None)

    def request(self) -> Request:
        """Who wants to log in."""
        from pam_totp.login.attempt import Request

        pamh = self._pamh
        try:
            return Request(pamh.get_user(None) or "", pamh.service or "", pamh.rhost or "", self._auth_info())
        except pamh.exception:
            raise pam_entry.PamError from None

    def ask(self, prompt: str, echo: bool) -> str | None:
        """Ask the user."""
        pamh = self._pamh
        style = pamh.PAM_PROMPT_ECHO_ON if echo else pamh.PAM_PROMPT_ECHO_OFF
        try:
            answer = pamh.conversation(pamh.Message(style, prompt)).resp
        except (pamh.exception, UnicodeError):
            # Refused or aborted; or bytes that are not text, which no code can be.
            return None
        return answer if isinstance(answer, str) else None

    def tell(self, text: str) -> None:
        """Show a line to the user."""
        pamh = self._pamh
        try:
            pamh.conversation(pamh.Message(pamh.PAM_TEXT_INFO, text))
        except (pamh.exception, UnicodeError):
            pass  # nobody listens any more; what was decided stays decided

    def hand_on(self, password: str) -> None:
        """Make this the password that the next lines of the stack find."""
        try:
            self._pamh.authtok = password
        except self._pamh.exception:
            raise pam_entry.PamError from None

    def _auth_info(self) -> str | None:
        try:
            value = self._pamh.env["SSH_AUTH_INFO_0"]
        except KeyError:
            return None  # nothing is known; an empty one says that no key has passed
        return value if isinstance(value, str) else None


def pam_sm_authenticate(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Ask for and verify a code."""
    del flags
    return _answer(pamh, lambda handle: pam_entry.authenticate(handle, argv[1:]))


def pam_sm_acct_mgmt(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Judge what ``combined=split`` has kept."""
    del flags
    return _answer(pamh, lambda handle: pam_entry.account(handle, argv[1:], _name(argv)))


def pam_sm_open_session(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: misplaced."""
    del flags
    return _answer(pamh, lambda _: pam_entry.misplaced(_name(argv), "session"))


def pam_sm_close_session(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: misplaced."""
    del flags
    return _answer(pamh, lambda _: pam_entry.misplaced(_name(argv), "session"))


def pam_sm_chauthtok(pamh: Any, flags: int, argv: list[str]) -> Any:
    """Deny: misplaced."""
    del flags
    return _answer(pamh, lambda _: pam_entry.misplaced(_name(argv), "password"))


def _name(argv: list[str]) -> str:
    return argv[0] if argv else "pam_totp.py"


def _answer(pamh: Any, hook: Callable[[Handle], str]) -> Any:
    try:
        handle = Handle(pamh)
        name = hook(handle)
        if handle.kept is not None:
            pamh.module.pam_totp_kept = handle.kept
    except BaseException as error:  # noqa: BLE001  # an exception that escaped would be judged by pam_python
        name = pam_entry.failed(error)
    return getattr(pamh, name) if name in pam_entry.CODES else pamh.PAM_SERVICE_ERR
