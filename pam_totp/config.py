"""Strict reading of ``config.toml`` and of the module's arguments. What is not understood is refused, never dropped."""

from __future__ import annotations

from pam_totp import files
from pam_totp.errors import ConfigError

_LIMIT = 1 << 20
LONGEST_PROMPT = 100
LONGEST_ISSUER = 64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Config:
    """The settings of one host; the attributes' values here are the defaults.

    prompt      what the user is asked, 1 to 100 printable characters
    window      steps accepted on either side of the expected one, 0 to 10
    max_drift   how far an authenticator's learned drift may go, 0 to 20 steps
    lock_after  failures in a row that lock an account, 10 to 1000
    unenrolled  "skip": whoever has not finished enrolment is not asked; "deny": is refused
    issuer      the name shown in the app, up to 64 printable characters without a colon; empty: the host's name
    """

    __slots__ = ("issuer", "lock_after", "max_drift", "prompt", "unenrolled", "window")

    def __init__(self) -> None:
        self.prompt = "Verification code: "
        self.window = 1
        self.max_drift = 10
        self.lock_after = 100
        self.unenrolled = "skip"
        self.issuer = ""


def load(path: str, owner: int) -> Config:
    """The configuration in the TOML file at ``path``; the defaults when there is no such file.

    Raises ConfigError with the file, the line or key, and what is allowed.
    """
    config = Config()
    try:
        content = files.read(path, owner, _LIMIT, private=False)
        files.check_parents(path, owner)
    except FileNotFoundError:
        return config
    except files.UnsafeFileError as error:
        raise ConfigError(f"the configuration is not safe: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        import tomllib  # 2.5 ms: only hosts that have a file pay for it
    except ImportError:  # an interpreter that was built without it
        import tomli as tomllib  # type: ignore[no-redef]  # the same library under its older name
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for key, value in table.items():
        if key not in _CHECKS:
            raise ConfigError(f"{path}: unknown key {key!r}; allowed are {', '.join(sorted(_CHECKS))}")
        allowed, check = _CHECKS[key]
        if not check(value):
            raise ConfigError(f"{path}: {key} must be {allowed}, not {value!r}")
        setattr(config, key, value)
    return config


class Arguments:
    """The module's arguments. ``first_factor`` is "publickey" where sshd must have seen a key, else empty."""

    __slots__ = ("first_factor",)

    def __init__(self, words: list[str]) -> None:
        """Read the words after the script's name. Raises ConfigError."""
        self.first_factor = ""
        for word in words:
            if word != "first_factor=publickey":
                raise ConfigError(f"unknown module argument {word!r}; allowed is first_factor=publickey")
            if self.first_factor:
                raise ConfigError(f"module argument {word!r} is given twice")
            self.first_factor = "publickey"


def _integer(low: int, high: int) -> tuple[str, Callable[[object], bool]]:
    # bool is an int to Python but not to TOML.
    return (
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def _text(low: int, high: int, without: str = "") -> tuple[str, Callable[[object], bool]]:
    allowed = f"a string of {low} to {high} printable characters" + (f" without {without!r}" if without else "")
    return (
        allowed,
        lambda value: (
            isinstance(value, str)
            and low <= len(value) <= high
            and value.isprintable()
            and not any(character in value for character in without)
        ),
    )


def _choice(*words: str) -> tuple[str, Callable[[object], bool]]:
    return " or ".join(f'"{word}"' for word in words), lambda value: isinstance(value, str) and value in words


_CHECKS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "prompt": _text(1, LONGEST_PROMPT),
    "window": _integer(0, 10),
    "max_drift": _integer(0, 20),
    "lock_after": _integer(10, 1000),
    "unenrolled": _choice("skip", "deny"),
    "issuer": _text(0, LONGEST_ISSUER, without=":"),
}
