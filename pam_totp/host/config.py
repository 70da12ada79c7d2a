"""Strict reading of ``config.toml`` and of the module's arguments. What is not understood is refused, never dropped.

What each key takes is in settings.py, which is imported only where there is a file.
"""

from __future__ import annotations

from pam_totp.errors import ConfigError
from pam_totp.host import files

_LIMIT = 1 << 20
_DAY = 86_400

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


class Config:
    """The settings of one host; the attributes' values here are the defaults.

    prompt      what the user is asked, 1 to 100 printable characters
    window      steps accepted on either side of the expected one, 0 to 10
    max_drift   how far an authenticator's learned drift may go, 0 to 20 steps
    lock_after  failures in a row that lock an account, 10 to 1000
    refusals    how many of the latest refusals the cache keeps, 16 to 100,000
    unenrolled  what happens to whoever has not finished enrolment: "skip" (not asked), "enroll" (at the prompt),
                "invite" (at the prompt, with an invitation code), "deny", or "deadline" (the table below says when)
    issuer      the name shown in the app, up to 64 printable characters without a colon; empty: the host's name
    qr          how QR codes are drawn at the prompt: "auto", "utf8", "ascii", "none"; for light terminals "utf8-light",
                "ascii-light"
    self_enroll  whether un-enrolled users may enrol through the self-service; None: where policy has them enrol
    remember    seconds for which a client with the same key and address is not asked again; 0: never
    enrollment  the table [enrollment]
    rules       the tables [[rule]], first match wins
    found       whether there is a file at all
    obsolete    the keys in the file that mean nothing any more, for ``config check``
    """

    __slots__ = (
        "enrollment",
        "found",
        "issuer",
        "lock_after",
        "max_drift",
        "obsolete",
        "prompt",
        "qr",
        "refusals",
        "remember",
        "rules",
        "self_enroll",
        "unenrolled",
        "window",
    )

    def __init__(self) -> None:
        self.prompt = "Verification code: "
        self.window = 1
        self.max_drift = 10
        self.lock_after = 100
        self.refusals = 256
        self.unenrolled = "skip"
        self.issuer = ""
        self.qr = "auto"
        self.self_enroll: bool | None = None
        self.remember = 0
        self.enrollment = Enrollment()
        self.rules: list[Rule] = []
        self.found = False
        self.obsolete: list[str] = []


class Enrollment:
    """The table [enrollment].

    period   seconds a user has from the first login that policy applies to, 1 to 365 days
    until    the date by which everybody has to enrol, in seconds since the epoch, in the place of a period; or None
    after    what then applies: "enroll", "invite" or "deny"

    Where ``period`` or ``until`` is given, "deadline" is the default of ``unenrolled``.
    """

    __slots__ = ("after", "period", "until")

    def __init__(self) -> None:
        self.period = 7 * _DAY
        self.until: int | None = None
        self.after = "deny"


class Rule:
    """One table [[rule]]: every condition given must hold; an empty one always does.

    users, groups, services    names
    networks                   client networks
    keys                       "any" (some public key passed), "SHA256:..." (this key, or a certificate for it),
                               "ca:SHA256:..." (a certificate of this CA), or "certificate" (of any CA, the user's own
                               included: not with mfa "skip")
    enrolled_within            seconds since the oldest active authenticator was made; 0: no condition
    mfa                        "require" or "skip"
    unenrolled, remember       in the place of the general ones; None where the rule does not say
    """

    __slots__ = (
        "enrolled_within",
        "groups",
        "keys",
        "mfa",
        "networks",
        "number",
        "remember",
        "services",
        "unenrolled",
        "users",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.users: list[str] = []
        self.groups: list[str] = []
        self.services: list[str] = []
        self.networks: list[IPv4Network | IPv6Network] = []
        self.keys: list[str] = []
        self.enrolled_within = 0
        self.mfa = "require"
        self.unenrolled: str | None = None
        self.remember: int | None = None


def load(path: str, owner: int) -> Config:
    """The configuration in the TOML file at ``path``; the defaults when there is no such file.

    Raises ConfigError with the file, the line or key, and what is allowed.
    """
    config = Config()
    content = _read(path, owner)
    if content is None:
        return config
    from pam_totp.host import settings

    table = settings.parsed(content, path)
    config.found = True
    rules = table.get("rule", [])
    enrollment = table.get("enrollment", {})
    settings.fill(config, table, settings.GENERAL, path)
    settings.fill(config.enrollment, enrollment, settings.ENROLLMENT, f"{path}: [enrollment]")
    # Written for 0.1.0, where a key that was not confirmed was shown again. To refuse it would lock users out at the
    # upgrade; to pass over it is safe, because the key is now void as soon as the login ends.
    config.obsolete = [f"[enrollment] {key}" for key in enrollment if key in settings.OBSOLETE]
    if "period" in enrollment and "until" in enrollment:
        raise ConfigError(f"{path}: [enrollment]: period and until are two deadlines: remove one of them")
    if enrollment.keys() & {"period", "until"} and "unenrolled" not in table:
        config.unenrolled = "deadline"
    for number, fields in enumerate(rules, 1):
        rule = Rule(number)
        where = f"{path}: [[rule]] number {number}"
        settings.fill(rule, fields, settings.RULE, where)
        if "certificate" in rule.keys and rule.mfa == "skip":
            raise ConfigError(
                f'{where}: "certificate" also takes certificates of a CA that the user put into authorized_keys: for '
                'mfa = "skip" name the CA: keys = ["ca:SHA256:..."], where ssh-keygen -l -f CA.pub prints SHA256:...'
            )
        config.rules.append(rule)
    return config


class Arguments:
    """The module's arguments.

    first_factor  "publickey" where sshd must have seen a key, else empty
    combined      "split" or "verify" where password and code come in one answer, else empty
    """

    __slots__ = ("combined", "first_factor")

    def __init__(self, words: list[str]) -> None:
        """Read the words after the script's name. Raises ConfigError."""
        self.first_factor = ""
        self.combined = ""
        for word in words:
            if word not in _ARGUMENTS:
                raise ConfigError(f"unknown module argument {word!r}; allowed are {', '.join(_ARGUMENTS)}")
            name, _, value = word.partition("=")
            if getattr(self, name):
                raise ConfigError(f"module argument {name} is given twice")
            setattr(self, name, value)


_ARGUMENTS = ("first_factor=publickey", "combined=split", "combined=verify")


def _read(path: str, owner: int) -> bytes | None:
    try:
        content = files.read(path, owner, _LIMIT, private=False)
        files.check_parents(path, owner)
    except FileNotFoundError:
        return None
    except files.UnsafeFileError as error:
        raise ConfigError(f"the configuration is not safe: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not content.strip():
        # What a write to a full disk leaves, or a redirection that failed.
        raise ConfigError(
            f"{path} is empty: restore it; or, if the defaults are to hold, remove it and run pam-totp config reset"
        )
    return content
