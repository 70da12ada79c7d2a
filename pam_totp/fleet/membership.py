"""Joining a fleet, and leaving it."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.errors import CacheError, FleetError, UsageError
from pam_totp.fleet import identity as identities
from pam_totp.fleet import merge, sync, tree, web
from pam_totp.fleet.identity import Identity
from pam_totp.login import central

SECONDS = 20.0
LONGEST_NAME = 253

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.fleet.tree import JoinToken
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


def host_name() -> str:
    """The name that this host joins under."""
    return socket.getfqdn()


def join(paths: Paths, url: str, token: JoinToken, name: str, now: Moment) -> Identity:
    """Join the fleet of the directory at ``url``. Logins are as before until the first manifest has come.

    Raises UsageError where this host has joined already, FleetError, or CacheError.
    """
    web.split(url)
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise UsageError(f"{name[:80]!r} cannot be a host's name: give another one with --name")
    with Accounts(paths) as accounts:
        if accounts.configured.joined:
            raise UsageError("this host has joined a fleet already: see pam-totp fleet, or pam-totp leave first")
        if accounts.configured.known() is None:
            raise CacheError("the cache is of an older version: run pam-totp migrate", "cache-version")
    ca = web.fetch_ca(url, token.ca, SECONDS) if token.ca else ""
    private, public = tree.new_box_key()
    # Made here and told to nobody: who asks again in this host's place, as where an answer is lost, learns nothing.
    bearer = secrets.token_urlsafe(32)
    key = base64.b64encode(public).decode("ascii")
    server = web.Web(url, ca)
    try:
        asked = {"token": token.secret, "name": name, "key": key, "bearer": hashlib.sha256(bearer.encode()).hexdigest()}
        answer = server.post("/api/v1/join", asked, SECONDS)
    finally:
        server.close()
    fields = answer.fields() if answer.status < 500 else {}
    if answer.status != 200:
        raise FleetError(_refusal(answer.status, fields), "fleet-join-refused")
    identity = _identity(fields, url, ca, token, private, bearer, name, now)
    with Accounts(paths) as accounts:
        accounts.configured.join(
            identity=identity.encode(), manifest=b"null", policy=central.encode(None, int(now.wall), None)
        )
    return identity


def leave(paths: Paths) -> str:
    """Leave: the directory's authenticators become the host's own, and the host's configuration alone decides.

    Returns why the directory could not be told, empty where it was. Who was revoked or locked stays refused; who was
    never known to NSS goes. Raises FleetError where this host has not joined, or CacheError: then leave again.
    """
    with Accounts(paths) as accounts:
        identity = identities.require(accounts)
    problem = _tell(identity)
    with Accounts(paths) as accounts, accounts.lock(sync.LOCK):
        for name in accounts.names():
            with accounts.lock(name):
                try:
                    account = accounts.get(name)
                except CacheError:
                    continue  # damaged: it refuses as it did
                if account is None or account.ledger.fleet is None:
                    continue
                if account.uid < 0:
                    account = Account(account.name, account.uid, [], account.ledger.heir())
                else:
                    merge.leave(account)
                accounts.save(account)
        accounts.configured.leave()
    return problem


def _tell(identity: Identity) -> str:
    server = web.Web(identity.url, identity.ca, identity.token)
    try:
        answer = server.post("/api/v1/leave", {}, SECONDS)
        return "" if answer.status in (200, 204) else f"it answers {answer.status}"
    except FleetError as error:
        return str(error)
    finally:
        server.close()


def _identity(
    fields: dict[str, object], url: str, ca: str, token: JoinToken, private: bytes, bearer: str, name: str, now: Moment
) -> Identity:
    """Who the directory says that this host is. Raises FleetError."""
    host, box, where = (str(fields.get(each, "")) for each in ("host", "box", "tree"))
    try:
        keeper = base64.b64decode(box, validate=True)
    except ValueError:
        keeper = b""
    if not (tree.is_identifier(host) and len(keeper) == 32):
        raise FleetError("the directory's answer is not understood: is this its address?", "fleet-answer")
    if fields.get("directory") != token.directory:
        raise FleetError("this is not the directory that the token is for", "fleet-directory")
    web.split(where)
    return Identity(
        url.rstrip("/"),
        where.rstrip("/"),
        bearer,
        private,
        token.key,
        keeper,
        ca,
        token.directory,
        host,
        name,
        int(now.wall),
    )


def _refusal(status: int, fields: dict[str, object]) -> str:
    """Why the directory has refused, in its words as far as they can be shown."""
    words = [str(fields[each])[:200] for each in ("error", "next") if isinstance(fields.get(each), str)]
    shown = ": ".join("".join(sign if sign.isprintable() else "?" for sign in word) for word in words)
    return f"the directory refuses ({status}){f': {shown}' if shown else ''}; ask for a new token"
