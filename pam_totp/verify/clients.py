"""Who may ask the verify service: one file for each client below ``/etc/pam-totp/verify``, root's and closed to others.

A client shows a token, of which the file holds a hash, or is known by its uid on the UNIX socket. The files are read
for each request: a client that is removed is gone at once.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from hashlib import sha256

from pam_totp.errors import ConfigError, UsageError
from pam_totp.host import files

VERSION = 1
IDENTITIES = ("nss", "record")
_LIMIT = 1 << 14
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_SERVICES = 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.host.paths import Paths


class Client:
    """A program that may ask.

    services   what the policy and the log call its logins; the first is what a request means that names none
    identity   "nss": users are those whom the name service knows; "record": those who have a record, under exactly
               that name, with or without a Unix account
    may_know   whether it is told who is not asked for a code, and why somebody is refused; else a code is always
               wanted, and all refusals look alike
    uid        who it runs as, where it is known by that; None where it shows a token
    digest     SHA-256 of the token, in hexadecimal; empty where it has none
    """

    __slots__ = ("digest", "identity", "may_know", "name", "services", "uid")

    def __init__(
        self, name: str, services: list[str], identity: str = "nss", may_know: bool = False, uid: int | None = None
    ) -> None:
        self.name = name
        self.services = services
        self.identity = identity
        self.may_know = may_know
        self.uid = uid
        self.digest = ""

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "version": VERSION,
            "services": self.services,
            "identity": self.identity,
            "may_know": self.may_know,
            "uid": self.uid,
            "token_sha256": self.digest,
        }


def check(name: str, services: list[str]) -> None:
    """Make sure that these can be the names of a client and of its services. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a client: up to 32 of a-z, 0-9 and -, a letter first")
    if not 0 < len(services) <= _MOST_SERVICES or not all(map(_SERVICE.fullmatch, services)):
        raise UsageError(f"a client has 1 to {_MOST_SERVICES} services, whose names are like those in /etc/pam.d")


def add(client: Client, paths: Paths) -> str:
    """Keep a new client. Returns its token, which is kept nowhere; empty for a client that is known by its uid.

    Raises UsageError where there is one of that name, or of that uid, ConfigError or OSError.
    """
    check(client.name, client.services)
    others = [each for each in everybody(paths) if isinstance(each, Client)]
    if client.uid is not None and (other := next((each for each in others if each.uid == client.uid), None)):
        raise UsageError(f"uid {client.uid} is the client {other.name} already: remove that one first")
    token = "" if client.uid is not None else give_token(client)
    make_directory(paths)
    try:
        files.write_new(path_of(client.name, paths), content(client), 0o600)
    except FileExistsError:
        raise UsageError(f"there is a client {client.name} already: remove it first, or take another name") from None
    return token


def give_token(client: Client) -> str:
    """Have a client be known by a new token, which is returned and kept nowhere."""
    # The name in front tells which file to look in; it never has a dot.
    token = f"{client.name}.{secrets.token_urlsafe(32)}"
    client.digest = _digest(token)
    return token


def content(client: Client) -> bytes:
    """What the file of a client holds."""
    return json.dumps(client.plain(), indent=1).encode("ascii")


def remove(name: str, paths: Paths) -> bool:
    """Forget a client; False where there is none of that name. Raises OSError."""
    if not _NAME.fullmatch(name):
        return False
    try:
        os.unlink(path_of(name, paths))
    except FileNotFoundError:
        return False
    files.sync_directory(_directory(paths))
    return True


def everybody(paths: Paths) -> list[Client | ConfigError]:
    """All clients by name; in the place of one whose file cannot be used, the error. Raises ConfigError."""
    found: list[Client | ConfigError] = []
    try:
        names = sorted(os.listdir(_directory(paths)))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{_directory(paths)} cannot be read: {error.strerror}") from None
    for name in names:
        try:
            client = load(name.removesuffix(".json"), paths)
        except ConfigError as error:
            found.append(error)
        else:
            found += [client] if client is not None else []
    return found


def with_token(token: str, paths: Paths) -> Client | None:
    """The client that shows this token; None where there is none. Raises ConfigError."""
    client = load(token.partition(".")[0], paths)
    digest = client.digest if client is not None else ""
    # The same work whether there is such a client or not.
    right = hmac.compare_digest(digest or "-" * 64, _digest(token))
    return client if right else None


def with_uid(uid: int, paths: Paths) -> Client | None:
    """The client that runs as this uid; None where there is none. Raises ConfigError."""
    return next((each for each in everybody(paths) if isinstance(each, Client) and each.uid == uid), None)


def load(name: str, paths: Paths) -> Client | None:
    """The client of a name; None where there is none. Raises ConfigError for a file that cannot be used."""
    if not _NAME.fullmatch(name):
        return None
    path = path_of(name, paths)
    try:
        files.check_parents(path, paths.owner)
        fields = json.loads(files.read(path, paths.owner, _LIMIT))
        client = Client(name, fields["services"], fields["identity"], fields["may_know"], fields["uid"])
        client.digest = fields["token_sha256"]
        check(name, client.services)
        good = (
            fields.keys() == client.plain().keys()
            and fields["version"] == VERSION
            and type(client.services) is list
            and client.identity in IDENTITIES
            and type(client.may_know) is bool
            and (client.uid is None or (type(client.uid) is int and client.uid >= 0))
            and (_DIGEST.fullmatch(client.digest) if client.uid is None else client.digest == "")
        )
    except FileNotFoundError:
        return None
    except files.UnsafeFileError as error:
        raise ConfigError(f"the client {name} is not safe: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError):
        good = False
    if not good:
        raise ConfigError(f"{path} is not understood: remove the client and add it again")
    return client


def make_directory(paths: Paths) -> None:
    """Have the place of the clients' files. Raises OSError."""
    os.makedirs(_directory(paths), mode=0o700, exist_ok=True)


def _directory(paths: Paths) -> str:
    return f"{os.path.dirname(paths.config)}/verify"


def path_of(name: str, paths: Paths) -> str:
    """The file of a client."""
    return f"{_directory(paths)}/{name}.json"


def _digest(token: str) -> str:
    # 256 random bits: nothing slower is needed.
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
