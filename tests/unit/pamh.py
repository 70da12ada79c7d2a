"""What pam_python hands to the hooks, scripted. Imports nothing: a test measures what a login imports."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class PamError(Exception):
    """What pam_python raises when PAM itself refuses."""


class Raises:
    """In the place of a value: reading it raises this."""

    def __init__(self, kind: type[BaseException], *arguments: object) -> None:
        self.kind = kind
        self.arguments = arguments


NOT_TEXT = Raises(UnicodeDecodeError, "utf-8", b"\xff", 0, 1, "invalid start byte")
PAM_ERROR = Raises(PamError)


class Words:
    def __init__(self, style: int, text: str) -> None:
        self.msg_style = style
        self.msg = text


class Response:
    def __init__(self, resp: object) -> None:
        self.resp = resp


class Module:
    """The script's module object: one for each transaction."""


class Pamh:
    """A transaction.

    ``answers`` are given in order to prompts; a prompt without an answer fails the test through ``unexpected``.
    """

    PAM_SUCCESS = 0
    PAM_OPEN_ERR = 1
    PAM_SERVICE_ERR = 3
    PAM_SYSTEM_ERR = 4
    PAM_PERM_DENIED = 6
    PAM_AUTH_ERR = 7
    PAM_CRED_INSUFFICIENT = 8
    PAM_AUTHINFO_UNAVAIL = 9
    PAM_USER_UNKNOWN = 10
    PAM_MAXTRIES = 11
    PAM_CRED_ERR = 17
    PAM_CONV_ERR = 19
    PAM_IGNORE = 25
    PAM_ABORT = 26
    PAM_PROMPT_ECHO_OFF = 1
    PAM_PROMPT_ECHO_ON = 2
    PAM_ERROR_MSG = 3
    PAM_TEXT_INFO = 4

    exception = PamError
    Message = Words

    def __init__(
        self,
        user: object = "alice",
        *answers: object,
        service: object = "sshd",
        rhost: object = "192.0.2.7",
        env: Mapping[str, object] | None = None,
        deafness: object = None,
    ) -> None:
        self._user = user
        self._service = service
        self._rhost = rhost
        self._env = dict(env or {})
        self._deafness = deafness
        self.answers = list(answers)
        self.asked: list[str] = []
        self.told: list[str] = []
        self.unexpected: list[str] = []
        self.authtok: object = None
        self.module: object = Module()

    def get_user(self, prompt: str | None) -> Any:
        del prompt
        return _given(self._user)

    @property
    def service(self) -> Any:
        return _given(self._service)

    @property
    def rhost(self) -> Any:
        return _given(self._rhost)

    @property
    def env(self) -> Any:
        return {key: _given(value) for key, value in self._env.items()}

    def conversation(self, message: Words) -> Response:
        if message.msg_style == self.PAM_TEXT_INFO:
            _given(self._deafness)
            self.told.append(message.msg)
            return Response(None)
        self.asked.append(message.msg)
        if message.msg_style != self.PAM_PROMPT_ECHO_OFF or not self.answers:
            self.unexpected.append(message.msg)
            raise PamError
        return Response(_given(self.answers.pop(0)))


def _given(value: object) -> object:
    if isinstance(value, Raises):
        raise value.kind(*value.arguments)
    return value
