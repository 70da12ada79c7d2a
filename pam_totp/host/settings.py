"""Which values each setting of ``config.toml`` takes, and what is wrong with one that it does not take.

Imported only where there is a file: a login on a host without one has no use for it. No regular expressions: it would
load ``re`` for nothing else, 3 ms.
"""

from __future__ import annotations

from pam_totp.errors import ConfigError

LONGEST_PROMPT = 100
LONGEST_ISSUER = 64
DAY = 86_400
_UNITS = {"m": 60, "h": 3600, "d": DAY}
_BASE64_SIGNS = {ord(sign): "x" for sign in "+/"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any

    Check = tuple[str, Callable[[Any], bool]]


def parsed(content: bytes, path: str) -> dict[str, Any]:
    """What the file at ``path`` says. Raises ConfigError."""
    try:
        return toml_parser()(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # malformed, or a number or nesting beyond Python's limits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def toml_parser() -> Callable[[str], dict[str, Any]]:
    """What reads TOML. Importing it takes 2.5 ms, which only hosts that have a file pay for."""
    try:
        import tomllib
    except ImportError:  # an interpreter that was built without it
        import tomli as tomllib  # type: ignore[no-redef]  # the same library under its older name
    return tomllib.loads


def fill(target: object, table: dict[str, Any], checks: dict[str, Check], where: str) -> None:
    """Set the attributes to what a table says. Raises ConfigError: an unknown key, a value that it does not take."""
    for key, value in table.items():
        if key not in checks:
            known = ", ".join(sorted(checks.keys() - OBSOLETE))
            raise ConfigError(f"{where}: unknown key {key!r}; allowed are {known}")
        allowed, check = checks[key]
        if not check(value):
            raise ConfigError(f"{where}: {key} must be {allowed}{_flaw(key, value) or f', not {_shown(value)}'}")
        if key in OBSOLETE:
            continue
        if checks[key] in _DURATIONS:
            value = duration(value) or 0  # noqa: PLW2901  # what was checked, as seconds; "never" is none
        elif key == "services":
            value = [each.lower() for each in value]  # noqa: PLW2901  # as PAM itself spells them
        elif key == "until":
            value = date(value)  # noqa: PLW2901  # the same
        elif key == "networks":
            value = [_network(each) for each in value]  # noqa: PLW2901  # what was checked, as networks
        elif key in ("enrollment", "rule"):
            continue  # a table of its own
        setattr(target, key, value)


def duration(text: object) -> int | None:
    """Seconds in a duration like "30m", "12h" or "7d", of up to 365 days; None where it is none."""
    if not isinstance(text, str) or text[-1:] not in _UNITS:
        return None
    number = text[:-1]
    # What int() takes besides digits (a sign, blanks, digits of other scripts) is no duration.
    if not (number.isascii() and number.isdigit() and len(number) <= 6):
        return None
    seconds = int(number) * _UNITS[text[-1]]
    return seconds if 0 < seconds <= 365 * DAY else None


def date(value: object) -> int | None:
    """Seconds since the epoch of a day like 2027-01-31, its end in UTC, or a time like 2027-01-31T18:00:00Z.

    None where it is none. A time without an offset is in UTC.
    """
    from datetime import UTC, datetime  # only hosts where a date is given pay for it

    try:
        text = str(value)
        if len(text) == len("2027-01-31"):
            return int(datetime.strptime(f"{text} 23:59:59", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _is_key(text: str) -> bool:
    """Whether this is a way to name keys in a rule."""
    digest = text.removeprefix("ca:").removeprefix("SHA256:")
    plain = digest.isascii() and digest.translate(_BASE64_SIGNS).isalnum()
    return text in ("any", "certificate") or (
        text in (f"SHA256:{digest}", f"ca:SHA256:{digest}") and plain and len(digest) == 43
    )


def _flaw(key: str, value: object) -> str:
    """What is wrong with one element of a list that is wrong, where there is more to say than what is allowed."""
    look = {"networks": _network_flaw, "keys": _key_flaw}.get(key)
    if look is None or not isinstance(value, list):
        return ""
    return next((f"; {flaw}" for each in value if isinstance(each, str) and (flaw := look(each))), "")


def _shown(value: object) -> str:
    # A huge number cannot even be printed, and a table says nothing.
    if isinstance(value, str | bool) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    return f"a value of another type ({type(value).__name__})"


def _integer(low: int, high: int) -> Check:
    # bool is an int to Python but not to TOML.
    return (
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def _text(low: int, high: int, without: str = "") -> Check:
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


def _choice(*words: str) -> Check:
    return " or ".join(f'"{word}"' for word in words), lambda value: isinstance(value, str) and value in words


def _duration(low: int, high: int, low_text: str, high_text: str) -> Check:
    return (
        f'a duration from "{low_text}" to "{high_text}" (minutes m, hours h, days d)',
        lambda value: low <= (duration(value) or 0) <= high,
    )


def _or_never(check: Check) -> Check:
    allowed, holds = check
    return f'"never" or {allowed}', lambda value: value == "never" or holds(value)


def _list(what: str, check: Callable[[Any], bool]) -> Check:
    return (
        f"a list of one or more {what}",
        lambda value: (
            isinstance(value, list) and bool(value) and all(isinstance(each, str) and check(each) for each in value)
        ),
    )


def _network(text: str) -> IPv4Network | IPv6Network | None:
    import ipaddress  # only hosts whose rules name networks pay for it

    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    # A client's mapped address (::ffff:192.0.2.7) is taken for the IPv4 one, and would be in no such network.
    mapped = ipaddress.IPv6Network("::ffff:0:0/96")
    return None if network.version == 6 and network.subnet_of(mapped) else network


def _network_flaw(text: str) -> str:
    import ipaddress

    if _network(text) is not None:
        return ""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is no network: write one like 10.0.0.0/8 or fd00::/8, or an address"
    address = ipaddress.ip_address(text.partition("/")[0])
    if network.network_address == address:
        return f"{text!r} is an IPv4 network in the form of IPv6: write it as one of IPv4, like 10.0.0.0/8"
    return f"{text!r} has host bits set: write {network} for the network, or {address} for that one address"


def _key_flaw(text: str) -> str:
    if _is_key(text):
        return ""
    if text.startswith(("SHA256:", "ca:SHA256:")):
        return f"{text!r} is no fingerprint: after SHA256: come 43 characters; ssh-keygen -l -f KEY.pub prints them"
    return f'{text!r} is neither "any", "certificate", a key "SHA256:..." nor a CA "ca:SHA256:..."'


_UNENROLLED = _choice("skip", "enroll", "invite", "deny", "deadline")
_REMEMBER = _or_never(_duration(60, 30 * DAY, "1m", "30d"))
_PERIOD = _duration(DAY, 365 * DAY, "1d", "365d")
_PENDING = _duration(600, 365 * DAY, "10m", "365d")
_WITHIN = _duration(60, 365 * DAY, "1m", "365d")
_DURATIONS = (_REMEMBER, _PERIOD, _WITHIN)
OBSOLETE = {"pending"}
_NAMES = _list("names", lambda name: 0 < len(name) <= 256 and name.isprintable())

GENERAL: dict[str, Check] = {
    "prompt": _text(1, LONGEST_PROMPT),
    "window": _integer(0, 10),
    "max_drift": _integer(0, 20),
    "lock_after": _integer(10, 1000),
    "refusals": _integer(16, 100_000),
    "unenrolled": _UNENROLLED,
    "issuer": _text(0, LONGEST_ISSUER, without=":"),
    "qr": _choice("auto", "utf8", "utf8-light", "ascii", "ascii-light", "none"),
    "self_enroll": ("true or false", lambda value: isinstance(value, bool)),
    "remember": _REMEMBER,
    "enrollment": ("a table: write [enrollment] on a line of its own", lambda value: isinstance(value, dict)),
    "rule": (
        "a list of tables: write [[rule]] before each one",
        lambda value: isinstance(value, list) and all(isinstance(rule, dict) for rule in value),
    ),
}
ENROLLMENT: dict[str, Check] = {
    "period": _PERIOD,
    "until": (
        'a day like 2027-01-31, its end in UTC, or a time like "2027-01-31T18:00:00Z"',
        lambda value: not isinstance(value, int | float) and date(value) is not None,
    ),
    "after": _choice("enroll", "invite", "deny"),
    "pending": _PENDING,
}
RULE: dict[str, Check] = {
    "users": _NAMES,
    "groups": _NAMES,
    "services": _NAMES,
    "networks": _list('networks like "10.0.0.0/8" or "fd00::/8"', lambda text: _network(text) is not None),
    "keys": _list(
        'words: "any", "certificate", a key "SHA256:..." or a CA "ca:SHA256:..."',
        _is_key,
    ),
    "enrolled_within": _WITHIN,
    "mfa": _choice("require", "skip"),
    "unenrolled": _UNENROLLED,
    "remember": _REMEMBER,
}
