"""The LDAP server, or Active Directory: whether a password is somebody's, and which people and groups there are.

Nothing is said to a server before it has shown, by TLS, a certificate of the CA in the settings for the name in them.
No referral is followed. What cannot be asked, or is not whole, is an error and never an answer.

Debian's python3-ldap does all of it. django-auth-ldap would make people, answers a failing search like a name that
there is not, and logs what was typed as a name.
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pam_totp.errors import PamTotpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pam_totp.directory.config import Ldap

# For connecting, and for each answer.
TIMEOUT = 5
PAGE = 500
# More would not be somebody's people, but a server that never ends.
MOST_PAGES = 2_000
# Of one group.
MOST_MEMBERS = 1_000_000
# Active Directory gives no more than 1,500 values of an attribute at once, and says which.
_RANGE = re.compile(r"[a-z]+;range=([0-9]{1,9})-([0-9]{1,9}|\*)")
# Active Directory's login name, in which upper and lower case are the same: hosts have it in lower case, as SSSD does.
_WITHOUT_CASE = "samaccountname"
# What stays when an entry is renamed: text, and Active Directory's 16 bytes.
_ENTRY = ("entryUUID", "objectGUID")
LONGEST_IDENT = 64
# RFC 4511, section 4.2: an empty password is no password, and a bind with one succeeds.
_WRONG = ("INVALID_CREDENTIALS", "NO_SUCH_OBJECT", "INAPPROPRIATE_AUTH", "INVALID_DN_SYNTAX")

Attributes = dict[str, list[bytes]]


class LdapError(PamTotpError):
    """The LDAP server cannot be asked, is not who it should be, or does not give a whole answer."""

    reason = "ldap-unusable"


@dataclass(frozen=True)
class Entry:
    """Somebody in LDAP, as it is there: nothing of it is checked yet. ``ident`` stays when an entry is renamed."""

    name: str
    ident: str
    display: str
    email: str
    uid_number: int | None
    disabled: bool


@dataclass(frozen=True)
class Found:
    """All that there is: people by login name, and the login names of the people in each group."""

    people: dict[str, Entry]
    groups: dict[str, set[str]] = field(default_factory=dict)


def right(settings: Ldap, name: str | None, password: str) -> bool:
    """Whether this is the password of somebody. Raises LdapError.

    Without a name it is nobody's, after the same questions with a name that there is not: a stranger's name tells
    nothing by the time that it takes, and who guesses locks no account that the directory does not know.
    """
    if not password or "\0" in password:
        return False
    asked = name or secrets.token_hex(8)
    nobody = f"cn={secrets.token_hex(8)},{settings.people}"
    if settings.dn:
        dn = settings.dn.replace("{name}", _module().dn.escape_dn_chars(asked))
    else:
        dn = _dn_of(settings, asked) or nobody
    try:
        with _connected(settings, dn, password):
            return name is not None and dn != nobody
    except _Wrong:
        return False


def found(settings: Ldap) -> Found:
    """The people and groups that there are, all of them. Raises LdapError."""
    with _connected(settings, settings.bind_dn, settings.bind_password) as server:
        people, by_dn = _people(server, settings)
        groups = _groups(server, settings, people, by_dn) if settings.groups else {}
    if settings.groups and not groups:
        raise LdapError(f"there are no groups below {settings.groups}: look at groups and groups_filter")
    return Found(people, groups)


def probe(settings: Ldap) -> None:
    """Whether the server can be asked. Raises LdapError."""
    with _connected(settings, settings.bind_dn, settings.bind_password):
        pass


# People and groups


def _people(server: _Server, settings: Ldap) -> tuple[dict[str, Entry], dict[_Dn, str]]:
    disabled: set[_Dn] = set()
    if settings.disabled:
        which = f"(&{settings.people_filter}{settings.disabled})"
        disabled = {_normal(dn) for dn, _ in server.all(settings.people, which, ["1.1"])}
    people: dict[str, Entry] = {}
    by_dn: dict[_Dn, str] = {}
    wanted = [settings.name, "displayName", "cn", "mail", "uidNumber", *_ENTRY]
    for dn, attributes in server.all(settings.people, settings.people_filter, wanted):
        name = _first(attributes, settings.name)
        if settings.name.lower() == _WITHOUT_CASE:
            name = name.lower()
        if not name:
            continue
        if name in people:
            raise LdapError(f"two entries have the name {name!r:.80}: one of them is {dn!r:.200}; make it one")
        number = _first(attributes, "uidNumber")
        people[name] = Entry(
            name,
            (_first(attributes, _ENTRY[0]) or attributes.get(_ENTRY[1].lower(), [b""])[0].hex())[:LONGEST_IDENT],
            _first(attributes, "displayName") or _first(attributes, "cn"),
            _first(attributes, "mail"),
            int(number) if number.isascii() and number.isdigit() and len(number) < 11 else None,
            _normal(dn) in disabled,
        )
        by_dn[_normal(dn)] = name
    return people, by_dn


def _groups(server: _Server, settings: Ldap, people: dict[str, Entry], by_dn: dict[_Dn, str]) -> dict[str, set[str]]:
    """Each group with its people, and with those of the groups that are in it."""
    names: dict[_Dn, str] = {}
    people_of: dict[_Dn, set[str]] = {}
    groups_of: dict[_Dn, set[_Dn]] = {}
    wanted = ["cn", "member", "uniqueMember", "memberUid"]
    # All pages come before anything else is asked.
    for text, attributes in list(server.all(settings.groups, settings.groups_filter, wanted)):
        dn, name = _normal(text), _first(attributes, "cn")
        if name in names.values():
            raise LdapError(f"two groups have the name {name!r:.80}: one of them is {text!r:.200}; make it one")
        names[dn] = name
        of_kind = {kind: server.values(text, attributes, kind) for kind in ("member", "uniquemember", "memberuid")}
        members = {_normal(_text(each)) for each in of_kind["member"] + of_kind["uniquemember"]}
        uids = {_text(each) for each in of_kind["memberuid"]}
        people_of[dn] = {by_dn[each] for each in members if each in by_dn} | (uids & people.keys())
        groups_of[dn] = members
    found = {}
    for dn, name in names.items():
        inside, queue = set[_Dn](), [dn]
        while queue:
            each = queue.pop()
            if each in people_of and each not in inside:
                inside.add(each)
                queue += groups_of[each]
        found[name] = set[str]().union(*(people_of[each] for each in inside))
    return found


_Dn = tuple[tuple[tuple[str, str], ...], ...]


def _normal(dn: str) -> _Dn:
    """A DN in which upper and lower case, blanks and the ways to escape make no difference."""
    module = _module()
    try:
        parts = module.dn.str2dn(dn)
    except module.DECODING_ERROR:
        raise LdapError(f"{dn!r:.200} is no DN") from None
    return tuple(
        tuple(sorted((kind.lower(), " ".join(value.lower().split())) for kind, value, _ in part)) for part in parts
    )


def _first(attributes: Attributes, name: str) -> str:
    values = attributes.get(name.lower())
    return _text(values[0]).strip() if values else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _dn_of(settings: Ldap, name: str) -> str | None:
    """The DN of the one who has this login name and is not disabled."""
    escaped = _module().filter.escape_filter_chars(name)
    disabled = f"(!{settings.disabled})" if settings.disabled else ""
    with _connected(settings, settings.bind_dn, settings.bind_password) as server:
        dns = server.some(settings.people, f"(&{settings.people_filter}{disabled}({settings.name}={escaped}))")
    # Of two with one name none is meant.
    return dns[0] if len(dns) == 1 else None


# The connection


class _Wrong(Exception):  # noqa: N818  # it is an answer
    """These are not the DN and password of anybody."""


class _Server:
    """A connection to the server, bound."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def some(self, base: str, which: str) -> list[str]:
        """The DNs of at most two entries: a third one would tell nothing more."""
        module = _module()
        try:
            answer = self._connection.search_ext_s(
                base, module.SCOPE_SUBTREE, which, ["1.1"], timeout=TIMEOUT, sizelimit=2
            )
        except module.SIZELIMIT_EXCEEDED:
            return []
        return [dn for dn, _ in answer if dn]

    def all(self, base: str, which: str, wanted: list[str]) -> Iterator[tuple[str, Attributes]]:
        """Every entry, in pages (RFC 2696), which the server has to know. Raises LdapError where one is elsewhere."""
        module = _module()
        control = module.controls.SimplePagedResultsControl(True, size=PAGE, cookie="")
        for _ in range(MOST_PAGES):
            asked = self._connection.search_ext(base, module.SCOPE_SUBTREE, which, wanted, serverctrls=[control])
            _, answer, _, controls = self._connection.result3(asked, timeout=TIMEOUT)
            for dn, attributes in answer:
                if not dn:
                    raise LdapError(
                        f"below {base} are entries that another server has: choose a base without referrals"
                    )
                yield dn, {name.lower(): values for name, values in attributes.items()}
            pages = [each for each in controls if each.controlType == control.controlType]
            if not pages:
                raise LdapError("the server gives no pages, so its answer may be a part: this is not RFC 2696")
            if not pages[0].cookie:
                return
            control.cookie = pages[0].cookie
        raise LdapError(f"below {base} are more than {MOST_PAGES * PAGE} entries: choose another base")

    def values(self, dn: str, attributes: Attributes, name: str) -> list[bytes]:
        """All values of an attribute of an entry, also those that were not sent with it. Raises LdapError.

        Where there are many, Active Directory names the attribute "member;range=0-1499", and is to be asked for
        "member;range=1500-*", until what it names ends with "*". Half of a group is no group.
        """
        values = attributes.get(name, [])
        parts = [each for each in attributes if each.startswith(f"{name};")]
        if not parts:
            return values
        while True:
            bounds = _RANGE.fullmatch(parts[0]) if len(parts) == 1 else None
            part = attributes[parts[0]] if bounds else []
            last = bounds is not None and bounds[2] == "*"
            if bounds is None or not part or attributes.get(name) or int(bounds[1]) != len(values):
                raise LdapError(f"{dn!r:.200} is given in parts that do not fit together: leave it out by a filter")
            if not last and int(bounds[2]) != len(values) + len(part) - 1:
                raise LdapError(f"{dn!r:.200} is given in parts, one of which is not whole: leave it out by a filter")
            values = values + part
            if len(values) > MOST_MEMBERS:
                raise LdapError(f"{dn!r:.200} has more than {MOST_MEMBERS} members: leave it out by a filter")
            if last:
                return values
            attributes = self._one(dn, f"{name};range={len(values)}-*")
            parts = [each for each in attributes if each.startswith(f"{name};")]

    def _one(self, dn: str, wanted: str) -> Attributes:
        """One attribute of one entry. Raises LdapError."""
        module = _module()
        answer = self._connection.search_ext_s(
            dn, module.SCOPE_BASE, "(objectClass=*)", [wanted], timeout=TIMEOUT, sizelimit=1
        )
        if len(answer) != 1 or not answer[0][0]:
            raise LdapError(f"{dn!r:.200} was there, and is not: try again")
        return {name.lower(): values for name, values in answer[0][1].items()}


@contextmanager
def _connected(settings: Ldap, dn: str, password: str) -> Iterator[_Server]:
    """A connection that is bound. Raises LdapError; and _Wrong where the server says no to somebody else's password."""
    module = _module()
    try:
        connection = module.initialize(settings.url)
        for option, value in (
            (module.OPT_PROTOCOL_VERSION, 3),
            (module.OPT_REFERRALS, module.OPT_OFF),
            (module.OPT_NETWORK_TIMEOUT, TIMEOUT),
            (module.OPT_TIMEOUT, TIMEOUT),
            (module.OPT_X_TLS_CACERTFILE, settings.ca),
            (module.OPT_X_TLS_REQUIRE_CERT, module.OPT_X_TLS_DEMAND),
            (module.OPT_X_TLS_PROTOCOL_MIN, module.OPT_X_TLS_PROTOCOL_TLS1_2),
            (module.OPT_X_TLS_NEWCTX, 0),
        ):
            connection.set_option(option, value)
        try:
            if not settings.url.startswith("ldaps:"):
                connection.start_tls_s()
            if dn:
                connection.simple_bind_s(dn, password)
            yield _Server(connection)
        finally:
            connection.unbind_ext()
    except module.LDAPError as error:
        if dn != settings.bind_dn and type(error).__name__ in _WRONG:
            raise _Wrong from None
        raise LdapError(f"{settings.url}: {_said(error)}") from None
    except ValueError as error:
        # What the C library does not take, such as a CA file that is not there.
        raise LdapError(f"{settings.url}: {type(error).__name__}: look at [ldap] in directory.toml") from None


def _said(error: Any) -> str:
    """What libldap says of an error: words of the library and of the server, and no password."""
    about = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    words = [str(about.get(each, "")).strip() for each in ("desc", "info")]
    text = ": ".join(word for word in words if word) or f"no answer ({type(error).__name__})"
    return "".join(letter if letter.isprintable() else " " for letter in text)[:300]


def _module() -> Any:
    """python3-ldap, when it is needed. The machine's ldap.conf has no say, and so none in whom to trust."""
    import os

    os.environ["LDAPNOINIT"] = "1"
    try:
        import ldap
        import ldap.controls
        import ldap.dn
        import ldap.filter
    except ImportError:
        raise LdapError("python3-ldap is not there: apt install python3-ldap") from None
    return ldap
