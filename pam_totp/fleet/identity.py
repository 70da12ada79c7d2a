"""Who this host is to its directory: what ``pam-totp join`` has made and was told. Kept sealed in the cache.

So it belongs to the host key: a rotation seals it anew, and a backup holds it. A host that is cloned with it is two
hosts with one identity, which the directory notices.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from pam_totp.cache import configured
from pam_totp.errors import DamageError, FleetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.cache.accounts import Accounts

_BYTES = ("private", "key", "box")


@dataclass(frozen=True)
class Identity:
    """What is kept.

    ``url`` is the directory's address, ``tree`` that of this host's folder; ``token`` the agent's; ``private`` opens
    what is sealed to this host, ``key`` is what the directory signs with, ``box`` its keeper's; ``ca`` the pinned CA as
    PEM, empty where the system's count; ``directory`` and ``host`` are ids; ``joined`` in seconds since the epoch.
    """

    url: str
    tree: str
    token: str = field(repr=False)
    private: bytes = field(repr=False)
    key: bytes
    box: bytes
    ca: str
    directory: str
    host: str
    name: str
    joined: int

    def encode(self) -> bytes:
        """As it is kept."""
        fields: dict[str, Any] = dict(vars(self))
        for name in _BYTES:
            fields[name] = base64.b64encode(fields[name]).decode("ascii")
        return json.dumps(fields).encode("ascii")


def load(accounts: Accounts) -> Identity | None:
    """The identity of this host; None where it has not joined. Raises DamageError."""
    if not accounts.configured.joined:
        return None
    try:
        fields = json.loads(accounts.configured.fact(configured.IDENTITY))
        for name in _BYTES:
            fields[name] = base64.b64decode(fields[name])
        return Identity(**fields)
    except (ValueError, KeyError, TypeError):
        raise DamageError("the identity of this host is not readable: restore a backup, or join anew") from None


def require(accounts: Accounts) -> Identity:
    """The identity of this host. Raises FleetError where it has not joined."""
    identity = load(accounts)
    if identity is None:
        raise FleetError("this host has joined no fleet: pam-totp join URL", "fleet-not-joined")
    return identity


@dataclass(frozen=True)
class Last:
    """The manifest that was taken last. ``applied``: all of it is in force."""

    epoch: int
    sequence: int
    digest: str
    issued: int
    expires: int
    applied: bool

    @property
    def order(self) -> tuple[int, int, str]:
        """What tree.order compares."""
        return self.epoch, self.sequence, self.digest

    def encode(self) -> bytes:
        """As it is kept."""
        return json.dumps(vars(self)).encode("ascii")


def last(accounts: Accounts) -> Last | None:
    """The manifest that was taken last; None where there was none. Raises DamageError."""
    try:
        fields = json.loads(accounts.configured.fact(configured.MANIFEST))
        return Last(**fields) if fields else None
    except (ValueError, TypeError):
        raise DamageError("which manifest was taken is not readable: restore a backup, or join anew") from None
