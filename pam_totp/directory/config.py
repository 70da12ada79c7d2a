"""The directory's configuration file, /etc/pam-totp-directory/directory.toml, and where everything else is."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pam_totp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIGURATION = "/etc/pam-totp-directory"
STATE = "/var/lib/pam-totp-directory"
KEYS = "/var/lib/pam-totp-keeper"
SOCKET = "/run/pam-totp-directory/keeper.sock"
PASSWORDS_SOCKET = "/run/pam-totp-directory/passwords.sock"
FILE = f"{CONFIGURATION}/directory.toml"
IDENTITY = f"{CONFIGURATION}/identity"
DATABASE = f"{STATE}/directory.db"
SESSION_KEY = f"{STATE}/session.key"
TREE = f"{STATE}/tree"
# Whom the two processes run as.
USER = "pam-totp-directory"
KEEPER = "pam-totp-keeper"

# What an API token may be good for. "roles": also for people with a role, and for giving one.
SCOPES = ("read", "people", "groups", "hosts", "policy", "roles", "tokens", "audit")

_SCHEMES = ("postgresql", "postgres")
_PORTS = {"starttls": 587, "implicit": 465, "none": 25}
_HERE = ("localhost", "127.0.0.1", "::1")
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Mail:
    """The table ``[mail]``: the server that mail is handed to. Without ``server`` no mail is sent.

    ``tls`` is "starttls" or "implicit", and is never done without; or "none", for a server on this very machine.
    ``port`` 0 is the usual one. ``authority`` is a file with the CA of the server, empty: those that the system knows.
    ``sender`` is called ``from`` in the file. ``reminders``: so many days before the time to enrol ends, a reminder.
    """

    server: str = ""
    port: int = 0
    tls: str = "starttls"
    authority: str = ""
    sender: str = ""
    user: str = ""
    password_file: str = ""
    reminders: tuple[int, ...] = (7, 3, 1, 0)

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self.server, self.port or _PORTS[self.tls]


# Who says whether a password is right: the directory itself, an LDAP server, or PAM of this machine.
BACK_ENDS = ("local", "ldap", "pam")


@dataclass(frozen=True)
class Ldap:
    """The table [ldap]: the server whose people are synchronised, and whose passwords sign in with passwords = "ldap".

    ``url`` is ldaps://HOST, or ldap://HOST, which StartTLS protects: nothing is said to a server that does not show a
    certificate of ``ca`` for this name. ``bind_dn`` and ``bind_password`` are of the account that searches. People are
    below ``people``, match ``people_filter``, and have their login name in ``name``. With ``dn``, such as
    ``uid={name},ou=people,dc=example,dc=org``, a password is checked without a search. Who matches ``disabled`` is
    locked. Groups are below ``groups``; where it is empty, they are left alone.
    """

    url: str = ""
    ca: str = ""
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    people: str = ""
    people_filter: str = "(objectClass=person)"
    name: str = "uid"
    dn: str = ""
    disabled: str = ""
    groups: str = ""
    groups_filter: str = "(|(objectClass=posixGroup)(objectClass=groupOfNames)(objectClass=group))"


@dataclass(frozen=True)
class Oidc:
    """The table [oidc]: the OpenID Connect provider at which people may sign in to the portals; without it, none.

    ``issuer`` is the provider's address, as its tokens have it. ``claim`` is what holds the login name in them.
    ``acr`` and ``amr`` are the values of these claims of which each says that a second factor was used there; where
    neither is given, the directory asks for a code of its own.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = f"{CONFIGURATION}/oidc.secret"
    claim: str = "sub"
    acr: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()

    def check(self, path: str) -> None:
        """Raises ConfigError."""
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ConfigError(
                f'{path}: oidc.issuer is the address of the provider, such as "https://auth.example.org/"'
            )
        if not self.client_id or not self.claim:
            raise ConfigError(f"{path}: oidc.client_id and oidc.claim cannot be empty: correct it")
        if not self.client_secret_file.startswith("/"):
            raise ConfigError(f"{path}: oidc.client_secret_file is a path that begins with /: correct it")


@dataclass(frozen=True)
class Config:
    """What the file says. All of it has a default but ``name``, the DNS name that hosts and browsers use.

    ``issuer`` is what authenticator apps show. ``database`` is "sqlite", or ``postgresql://USER:PASSWORD@HOST/NAME``.
    ``certificate`` and ``certificate_key`` are files; ``authority`` is the directory's own CA, empty where the
    certificate is of one that the systems know. ``manifest_days`` is how long a manifest is good.
    ``events_days`` is how long logins are kept that hosts have told of; the audit trail is kept for ever.
    ``self_enroll``: whether a password alone lets somebody set up a first authenticator in the portal; else it takes an
    invitation. ``tree``: where hosts that join fetch what is published, if that is not here. ``passwords`` is who knows
    the passwords of the portal: "local", "ldap" or "pam". ``mail``, ``ldap`` and ``oidc`` are tables of their own.
    """

    name: str = ""
    issuer: str = ""
    listen: str = "[::]:443"
    database: str = "sqlite"
    certificate: str = f"{CONFIGURATION}/tls.crt"
    certificate_key: str = f"{CONFIGURATION}/tls.key"
    authority: str = f"{CONFIGURATION}/ca.crt"
    workers: int = 2
    manifest_days: int = 7
    events_days: int = 400
    self_enroll: bool = True
    tree: str = ""
    mail: Mail = Mail()
    passwords: str = "local"
    ldap: Ldap = Ldap()
    oidc: Oidc = Oidc()

    @property
    def url(self) -> str:
        """Where the directory is reached, without a slash at the end."""
        port = self.listen.rpartition(":")[2]
        return f"https://{self.name}" + ("" if port == "443" else f":{port}")

    def databases(self) -> dict[str, dict[str, object]]:
        """As Django takes it. Raises ConfigError."""
        if self.database == "sqlite":
            # A writer waits for its turn, and takes it at the beginning: what it has read, it may then change.
            return {"default": {"ENGINE": "pam_totp.directory.sqlite", "NAME": DATABASE, "OPTIONS": {"timeout": 20}}}
        parts = urlsplit(self.database)
        if parts.scheme not in _SCHEMES or not parts.path.strip("/"):
            raise ConfigError(f"{FILE}: database is sqlite or postgresql://USER:PASSWORD@HOST/NAME: correct it")
        return {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": unquote(parts.path.strip("/")),
                "USER": unquote(parts.username or ""),
                "PASSWORD": unquote(parts.password or ""),
                "HOST": parts.hostname or "",
                "PORT": str(parts.port or ""),
            }
        }


def load(path: str = FILE) -> Config:
    """Read the file. Raises ConfigError for one that is missing, not TOML, or has what is not known."""
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: set the directory up with pam-totp-directory init --name NAME") from None
    except (OSError, ValueError) as error:
        # Neither kind of message holds a value, which may be a password.
        reason = error.strerror if isinstance(error, OSError) else "no TOML in UTF-8"
        raise ConfigError(f"{path}: {reason}: correct it") from None
    return of(content, path)


def of(content: dict[str, object], path: str = FILE) -> Config:
    """The configuration with these settings. Raises ConfigError."""
    content = dict(content)
    tables = {name: content.pop(name) for name in _TABLES if name in content}
    _check(content, {name: kind for name, kind in _kinds(Config).items() if name not in _TABLES}, path, "")
    config = Config(**content)  # type: ignore[arg-type]  # checked above
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} is a table: write [{name}], and its settings below it")
        made: Any = _TABLES[name](table, path)
        config = replace(config, **{name: made})
    if not config.name:
        raise ConfigError(f'{path}: name is missing: add name = "dir.example.org"')
    if not 1 <= config.manifest_days <= 365 or not 1 <= config.workers <= 64:
        raise ConfigError(f"{path}: manifest_days must be 1 to 365, and workers 1 to 64: correct it")
    if not 1 <= config.events_days <= 36_500:
        raise ConfigError(f"{path}: events_days must be 1 to 36500: correct it")
    if not config.listen.rpartition(":")[2].isdigit():
        raise ConfigError(f'{path}: listen must be ADDRESS:PORT, such as "[::]:443": correct it')
    if config.tree and not config.tree.startswith("https://"):
        raise ConfigError(f"{path}: tree must be https://HOST/PATH, where a copy of the tree is: correct it")
    config.databases()
    if config.passwords not in BACK_ENDS:
        raise ConfigError(f"{path}: passwords must be one of {', '.join(BACK_ENDS)}: correct it")
    if config.passwords == "ldap" and config.ldap == Ldap():
        raise ConfigError(f'{path}: passwords = "ldap" needs a table [ldap] with url, ca and people: add it')
    return config


def _kinds(kind: type[Config | Mail | Ldap | Oidc]) -> dict[str, type]:
    return {each.name: type(each.default) for each in fields(kind)}


def _check(content: dict[str, object], kinds: dict[str, type], path: str, table: str) -> None:
    for name, value in content.items():
        if name not in kinds:
            raise ConfigError(f"{path}: there is no setting {table}{name}; there are {', '.join(kinds)}")
        if type(value) is not kinds[name]:
            raise ConfigError(f"{path}: {table}{name} must be of the type {kinds[name].__name__}: correct it")


def _mail(table: dict[str, object], path: str) -> Mail:
    """The table of mail. Raises ConfigError; what it says has no value in it that may be secret."""
    kinds = {_name(name): kind for name, kind in _kinds(Mail).items()} | {"reminders": list}
    _check(table, kinds, path, "mail.")
    mail = Mail(**{_name(name): value for name, value in table.items()})  # type: ignore[arg-type]  # checked above
    days = table.get("reminders", list(mail.reminders))
    wrong = ""
    if mail.tls not in _PORTS:
        wrong = f"tls must be one of {', '.join(_PORTS)}"
    elif mail.tls == "none" and (mail.server not in _HERE or mail.user):
        wrong = 'tls = "none" is for a server on this machine that wants no password'
    elif not 0 <= mail.port < 1 << 16 or not mail.server.isprintable() or " " in mail.server:
        wrong = "server is a host's name, and port a number below 65536"
    elif not isinstance(days, list) or not all(type(day) is int and 0 <= day <= 365 for day in days):
        wrong = "reminders are days, 0 to 365, in a list"
    elif table and not (mail.server and _ADDRESS.fullmatch(mail.sender)):
        wrong = 'it needs server = "mail.example.org" and from = "totp@example.org"'
    elif bool(mail.user) != bool(mail.password_file):
        wrong = "user and password_file belong together"
    if wrong:
        raise ConfigError(f"{path}: [mail]: {wrong}: correct it")
    assert isinstance(days, list)  # looked at above
    return replace(mail, reminders=tuple(sorted(set(days), reverse=True)))


def _name(name: str) -> str:
    """The other name of a setting that is a word of Python's: in the file from, here sender."""
    return {"from": "sender", "sender": "from"}.get(name, name)


def _oidc(table: dict[str, object], path: str) -> Oidc:
    """The table of the provider. Raises ConfigError."""
    values: dict[str, Any] = dict(table)
    for name in ("acr", "amr"):
        found = values.get(name, [])
        # An empty list, or an empty word, would be taken for a demand that is none.
        if not isinstance(found, list) or (name in values and not found) or not all(_is_word(each) for each in found):
            raise ConfigError(f'{path}: oidc.{name} is a list of words, such as ["otp"]: correct it')
        values[name] = tuple(found)
    _check(values, _kinds(Oidc), path, "oidc.")
    made = Oidc(**values)
    made.check(path)
    return made


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _ldap(table: dict[str, object], path: str) -> Ldap:
    """The table of LDAP. Raises ConfigError."""
    _check(table, _kinds(Ldap), path, "ldap.")
    found = Ldap(**table)  # type: ignore[arg-type]  # checked above
    filters = [each for each in (found.people_filter, found.disabled, found.groups_filter) if each]
    wrong = ""
    if not table:
        return found
    if urlsplit(found.url).scheme not in ("ldap", "ldaps") or not urlsplit(found.url).hostname:
        wrong = "url must be ldaps://HOST, or ldap://HOST, which begins with StartTLS"
    elif not (found.ca and found.people):
        wrong = "it needs ca, a file, and people, where they are"
    elif not all(each.startswith("(") and each.endswith(")") for each in filters):
        wrong = "people_filter, disabled and groups_filter are filters in parentheses"
    elif found.dn and found.dn.count("{name}") != 1:
        wrong = "dn must have {name} once, in the place of the login name"
    elif bool(found.bind_dn) != bool(found.bind_password):
        wrong = "bind_dn and bind_password belong together"
    if wrong:
        raise ConfigError(f"{path}: [ldap]: {wrong}: correct it")
    return found


_TABLES: dict[str, Callable[[dict[str, object], str], Mail | Ldap | Oidc]] = {
    "mail": _mail,
    "ldap": _ldap,
    "oidc": _oidc,
}


def text(config: Config) -> str:
    """The file for a configuration: what differs from the defaults."""
    lines = ["# Settings of the directory; pam-totp-directory(8) explains them.\n", *_lines(config, Config())]
    for name in _TABLES:
        table = getattr(config, name)
        if settings := _lines(table, type(table)()):
            lines += [f"\n[{name}]\n", *settings]
    return "".join(lines)


def _lines(found: Config | Mail | Ldap | Oidc, default: Config | Mail | Ldap | Oidc) -> list[str]:
    values = [(each.name, getattr(found, each.name), getattr(default, each.name)) for each in fields(found)]
    return [
        f"{_name(name)} = {_written(value)}\n"
        for name, value, usual in values
        if value != usual and name not in _TABLES
    ]


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(value: str) -> str:
    if not value.isprintable():
        raise ConfigError("a setting has only printable characters: choose another value")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
