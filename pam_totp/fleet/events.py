"""What a host hands up to the directory: enrolments, what was removed or spent here, and how logins ended.

The first three are told from the cache itself, so none is lost, whatever is killed; an event has the same id each time
it is told, so it may be handed up twice. How logins ended is kept in a file until it is taken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex

from pam_totp.cache.accounts import Account
from pam_totp.errors import CacheError
from pam_totp.fleet import merge, tree
from pam_totp.host import files

MOST = 500  # in one request
QUEUE_LIMIT = 4 << 20
_ID_DIGITS = 32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pam_totp.cache.accounts import Accounts
    from pam_totp.fleet.identity import Identity

    Event = dict[str, Any]


def enrolments(accounts: Accounts, identity: Identity, taken: Iterable[str], now: int) -> list[Event]:
    """Whoever of the fleet has enrolled on this host since it joined, sealed to the keeper. Raises CacheError.

    What root had enrolled before stays the host's own, and so does what the directory does not know a user for.
    """
    known = set(taken)
    found = []
    for identifier, name, created in accounts.made_here():
        event = _identified(identity, "enrolled", identifier, created, name)
        if created < identity.joined or len(identifier) != _ID_DIGITS or event["id"] in known:
            continue
        account = accounts.get(name)
        fleet = None if account is None else account.ledger.fleet
        authenticator = (
            next((each for each in account.active if each.identifier == identifier), None) if account else None
        )
        if fleet is None or fleet["revoked"] or authenticator is None:
            continue
        enrolment = tree.Enrolment(identity.host, fleet["name"], identifier, authenticator.label, authenticator.secret)
        sealed = tree.seal_enrolment(enrolment, identity.box)
        event |= {
            "name": fleet["name"],
            "time": min(created, now),
            "authenticator": identifier,
            "sealed": base64.b64encode(sealed).decode("ascii"),
        }
        found.append(event)
    return found


def changes(accounts: Accounts, identity: Identity, taken: Iterable[str], now: int) -> list[Event]:
    """What of the directory's was removed or spent on this host, as far as it does not know. Reads every account."""
    known = set(taken)
    found = []
    for account in accounts.all():
        if isinstance(account, Account):
            found += [event for event in of_account(account, identity, now) if event["id"] not in known]
    return found


def of_account(account: Account, identity: Identity, now: int) -> list[Event]:
    """The same of one account."""
    fleet = account.ledger.fleet
    if fleet is None:
        return []
    removed = [
        _identified(identity, "removed", each, now, fleet["name"]) | {"authenticator": each}
        for each in merge.removed_here(account)
    ]
    spent = [
        _identified(identity, "recovery-spent", each, now, fleet["name"]) | {"recovery": each}
        for each in merge.spent_here(account)
    ]
    return [*removed, *spent]


def of_login(line: str, name: str, now: int) -> Event | None:
    """How a login ended, told by its line in the log (docs/log.md); None where it is no such line."""
    try:
        fields = dict(word.split("=", 1) for word in shlex.split(line))
        verdict, reason, service = fields["outcome"], fields["reason"], fields.get("service", "")
    except (ValueError, KeyError):
        return None
    kind = "login" if verdict in ("accepted", "skipped") else "refused"
    return new(kind, now, name) | {"service": service[:64], "reason": reason[:64]}


def _identified(identity: Identity, kind: str, what: str, now: int, name: str) -> Event:
    digest = hashlib.blake2b(f"{identity.host}\0{kind}\0{what}".encode("ascii"), digest_size=16)
    return _event(digest.hexdigest(), kind, now, name)


def new(kind: str, now: int, name: str) -> Event:
    """An event with an id of its own."""
    return _event(tree.new_identifier(), kind, now, name)


def _event(identifier: str, kind: str, now: int, name: str) -> Event:
    return {"id": identifier, "time": now, "kind": kind, "name": name, "service": "", "reason": ""}


class Queue:
    """Events that wait for the directory to take them, a line each, in a file of root's. Not for several processes.

    Bounded: where the directory stays away the oldest are dropped, and their number is told.
    """

    def __init__(self, path: str, owner: int) -> None:
        self._path = path
        self._owner = owner
        self.dropped = 0

    def add(self, event: Event) -> bool:
        """Keep an event. False where the disk takes no write."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            if os.path.exists(self._path) and os.path.getsize(self._path) > QUEUE_LIMIT:
                waiting = self.waiting()
                self._write(waiting[len(waiting) // 2 :])
                self.dropped += len(waiting) // 2
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                # A line that a killed agent, or a full disk, left half written ends here.
                line = json.dumps(event).encode("ascii")
                os.write(descriptor, b"\n" + line + b"\n")
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True

    def waiting(self) -> list[Event]:
        """All that wait, oldest first. What is not readable is passed over. Raises CacheError."""
        try:
            content = files.read(self._path, self._owner, QUEUE_LIMIT * 2)
        except FileNotFoundError:
            return []
        except (files.UnsafeFileError, OSError) as error:
            raise CacheError(f"the events that wait for the directory cannot be read: {error}") from None
        found = []
        for line in content.split(b"\n"):
            try:
                event = json.loads(line) if line else None
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and isinstance(event.get("id"), str):
                found.append(event)
        return found

    def take(self, taken: set[str]) -> None:
        """Forget what the directory has taken; on a full disk, later. Raises CacheError."""
        waiting = self.waiting()
        left = [event for event in waiting if event["id"] not in taken]
        if len(left) == len(waiting):
            return
        try:
            self._write(left)
        except OSError:
            pass

    def _write(self, events: list[Event]) -> None:
        content = "".join(f"{json.dumps(event)}\n" for event in events).encode("ascii")
        files.replace(self._path, content, 0o600)
