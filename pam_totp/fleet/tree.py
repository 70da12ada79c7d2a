"""The formats of what a directory publishes for one host. Pure: nothing is read or written, and time is handed in.

A host's folder of the tree holds ``manifest`` and ``objects/HASH``. The manifest is signed by the directory (Ed25519)
and names every object by its hash (BLAKE2b-256); an object is a record of one person, or the policy, sealed to the host
(a sealed box of libsodium: X25519, XSalsa20-Poly1305). Many records are in one file, a bundle, which has the hash of
their hashes for its name: then the manifest names what has changed since, and stays small however many people there
are. So a tree may lie anywhere: who can write there can withhold, but neither forge, mix, cut short, nor read.

What is read may come from anybody. Each text has one valid spelling (sorted keys, no spaces): what does not come out
the same when it is written again is refused, and so is what is not understood, because it could be a restriction.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from nacl import exceptions, public, signing, utils

from pam_totp.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MANIFEST_LIMIT = 8 << 20
OBJECT_LIMIT = 16 << 10
BUNDLE_LIMIT = 64 << 20
TREE_LIMIT = 512 << 20  # of all objects of a host together
TOKEN_LIMIT = 4096
MOST_AUTHENTICATORS = 16
MOST_CODES = 20
MOST_BREAK_GLASS = 64
SECRET_BYTES = range(20, 65)
LONGEST_LABEL = 32
LONGEST_NAME = 256
UNENROLLED = ("skip", "deny", "enroll", "invite")
_FORMAT = 1
_MARK = "pam-totp-manifest 1 "
_SIGNED = b"pam-totp manifest 1\n"
_TOKEN_MARK = "ptj1."  # noqa: S105  # what every token begins with
_PAD = 64
_LARGEST = 1 << 53  # of a number, which every reader of JSON holds exactly
_HEXADECIMAL = frozenset("0123456789abcdef")
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32

Unenrolled = Literal["skip", "deny", "enroll", "invite"]
Order = Literal["same", "next", "epoch"]


@dataclass(frozen=True)
class Manifest:
    """What is in force on one host. ``issued`` and ``expires`` in seconds since the epoch; hashes as 64 digits.

    The records in force are those of the ``bundle`` but the ``dropped``, and ``records``, which are files of their own.
    ``sequence`` grows with each manifest of an ``epoch``. An epoch begins after a directory's backup was restored:
    ``previous_epoch_closed`` says at which sequence of the epoch before, None where that is not known.
    """

    directory: str
    host: str
    epoch: int
    sequence: int
    issued: int
    expires: int
    policy: str | None
    records: tuple[str, ...]
    bundle: str | None = None
    dropped: tuple[str, ...] = ()
    previous_epoch_closed: int | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that it needs."""
        return tuple(name for name in (self.policy, self.bundle, *self.records) if name is not None)

    def in_force(self, bundled: Iterable[str]) -> set[str]:
        """The hashes of the records in force, where these are in its bundle. Raises FleetError."""
        names, dropped = set(bundled), set(self.dropped)
        if not dropped <= names or not names.isdisjoint(self.records):
            raise _refused("records", "the manifest contradicts its bundle")
        return names - dropped | set(self.records)


@dataclass(frozen=True)
class Authenticator:
    """One authenticator of a record; ``created`` in seconds since the epoch."""

    identifier: str
    label: str
    created: int
    secret: bytes = field(repr=False)
    state: Literal["active"] = "active"


@dataclass(frozen=True)
class Recovery:
    """Recovery codes as the ledger keeps them: the salt, and the hashes of those that are still good."""

    salt: str = field(repr=False)
    hashes: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Record:
    """One person who may use the host, by login name; without authenticators while the person is not enrolled.

    Times in seconds since the epoch. ``forget_before``: what clients were remembered before is forgotten.
    """

    name: str
    authenticators: tuple[Authenticator, ...] = ()
    recovery: Recovery | None = None
    locked: bool = False
    exempt_until: int | None = None
    deadline: int | None = None
    must_enroll: bool = False
    forget_before: int | None = None


@dataclass(frozen=True)
class Policy:
    """The policy of the host's group. ``max_offline`` in seconds; None: no limit."""

    unenrolled: Unenrolled = "skip"
    enrolment_days: int = 7
    max_offline: int | None = None
    break_glass: tuple[str, ...] = ()
    claims: bool = True
    mfa: bool = True


@dataclass(frozen=True)
class Enrolment:
    """What a host hands up of an enrolment at its prompt, sealed to the directory's keeper."""

    host: str
    name: str
    identifier: str
    label: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class JoinToken:
    """With it a host joins once. ``ca``: SHA-256 of the CA certificate (DER), empty where the system's CAs count."""

    directory: str
    key: bytes
    ca: str
    secret: str = field(repr=False)


# Keys


def new_signing_key() -> tuple[bytes, bytes]:
    """A new seed (32 bytes, secret) that signs manifests, and its public key."""
    key = signing.SigningKey.generate()
    return bytes(key), bytes(key.verify_key)


def new_box_key() -> tuple[bytes, bytes]:
    """A new private key (32 bytes) that opens sealed boxes, and its public key."""
    key = public.PrivateKey.generate()
    return bytes(key), bytes(key.public_key)


def public_box_key(private: bytes) -> bytes:
    """The public key of a private one."""
    return bytes(public.PrivateKey(private).public_key)


def is_identifier(text: str) -> bool:
    """Whether this could be such an id."""
    return bool(_identifier(text))


def public_signing_key(seed: bytes) -> bytes:
    """The public key of a seed that signs manifests."""
    return bytes(signing.SigningKey(seed).verify_key)


def new_identifier() -> str:
    """A new id of a directory, a host, an authenticator or an event: 32 random hexadecimal digits."""
    return utils.random(16).hex()


# Manifests


def sign_manifest(manifest: Manifest, seed: bytes) -> bytes:
    """The content of the file ``manifest``. Raises FleetError where no host would take it."""
    fields = {name: value for name, value in vars(manifest).items() if name != "previous_epoch_closed"}
    fields |= {"records": list(manifest.records), "dropped": list(manifest.dropped)}
    if manifest.previous_epoch_closed is not None:
        fields["previous_epoch_closed"] = manifest.previous_epoch_closed
    payload = _encoded(fields)
    signature = signing.SigningKey(seed).sign(_SIGNED + payload).signature
    content = f"{_MARK}{_base64url(signature)}\n".encode("ascii") + payload
    read_manifest(content)
    return content


def open_manifest(content: bytes, key: bytes) -> Manifest:
    """The manifest in a file, if it is signed by the owner of this public key. Raises FleetError."""
    _require_size(content)
    head, _, payload = content.partition(b"\n")
    if not head.startswith(_MARK.encode("ascii")):
        raise _refused("format", "this is not a manifest that this pam-totp reads: upgrade it")
    signature = _from_base64url(head[len(_MARK) :].decode("ascii", "replace"), _SIGNATURE_BYTES)
    if signature is None:
        raise _refused("signature", "the manifest's signature is malformed")
    try:
        signing.VerifyKey(key).verify(_SIGNED + payload, signature)
    except (exceptions.CryptoError, ValueError, TypeError):
        raise _refused("signature", "the manifest is not signed by the directory that this host joined") from None
    return read_manifest(content)


def read_manifest(content: bytes) -> Manifest:
    """The manifest in a file, whoever has signed it. Raises FleetError."""
    _require_size(content)
    fields = _decoded(content.partition(b"\n")[2], "manifest")
    _require(fields, "manifest", _MANIFEST, {"previous_epoch_closed": _natural})
    records, dropped = fields["records"], fields["dropped"]
    if any(earlier >= later for names in (records, dropped) for earlier, later in pairwise(names)):
        raise _refused("records", "the manifest's records are not in order, or one is named twice")
    files = [name for name in (fields["policy"], fields["bundle"], *records) if name is not None]
    without = fields["bundle"] is None and dropped
    if without or len({*files, *dropped}) < len(files) + len(dropped) or fields["issued"] > fields["expires"]:
        raise _refused("content", "the manifest contradicts itself")
    return Manifest(**fields | {"records": tuple(records), "dropped": tuple(dropped)})


def _require_size(content: bytes) -> None:
    if len(content) > MANIFEST_LIMIT:
        raise _refused("size", f"the manifest is larger than {MANIFEST_LIMIT} bytes")


def order(manifest: Manifest, digest: str, directory: str, host: str, last: tuple[int, int, str] | None) -> Order:
    """How a manifest, whose file has this ``digest``, follows the last one: its epoch, sequence and digest.

    "same": it is that one; "next": a later one of the epoch; "epoch": the first of a later epoch, also for a host that
    has none yet. Raises FleetError for another directory's or host's, and for one that would take the host back.
    """
    if manifest.directory != directory:
        raise _refused("directory", "the manifest is another directory's")
    if manifest.host != host:
        raise _refused("host", "the manifest is another host's")
    if last is None or manifest.epoch > last[0]:
        return "epoch"
    if manifest.epoch < last[0]:
        raise _refused("epoch", f"the manifest is of epoch {manifest.epoch}, and {last[0]} has begun")
    if manifest.sequence < last[1]:
        raise _refused("sequence", f"the manifest is number {manifest.sequence}, and {last[1]} was seen (a replay?)")
    if manifest.sequence > last[1]:
        return "next"
    if digest != last[2]:
        raise _refused("sequence", f"there are two manifests of number {manifest.sequence}")
    return "same"


# Bundles: records in one file, in the order of their hashes, each after its length in four bytes.


def bundle(objects: Mapping[str, bytes]) -> bytes:
    """These objects, by their hashes, as one file."""
    return b"".join(len(objects[name]).to_bytes(4, "big") + objects[name] for name in sorted(objects))


def bundle_name(names: Iterable[str]) -> str:
    """The name of a bundle of the objects with these hashes."""
    return digest(b"bundle\n" + "".join(sorted(names)).encode("ascii"))


def unbundle(content: bytes, name: str) -> dict[str, bytes]:
    """The objects in the bundle of that name, by their hashes. Raises FleetError where it is another one."""
    if len(content) > BUNDLE_LIMIT:
        raise _refused("size", f"the bundle is larger than {BUNDLE_LIMIT} bytes")
    found, start = {}, 0
    while start < len(content):
        size = int.from_bytes(content[start : start + 4], "big")
        each = content[start + 4 : start + 4 + size]
        if not 0 < size <= OBJECT_LIMIT or len(each) != size:
            raise _refused("format", "the bundle is cut short, or has something too large in it")
        found[digest(each)] = each
        start += 4 + size
    if bundle_name(found) != name:
        raise _refused("hash", f"the bundle {name} has another content than the manifest says")
    return found


# Objects


def digest(content: bytes) -> str:
    """The name of an object, and what a manifest's file is told by: BLAKE2b-256 in 64 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def check_object(content: bytes, name: str) -> None:
    """Make sure that this is the object of that name. Raises FleetError."""
    if len(content) > OBJECT_LIMIT:
        raise _refused("size", f"the object {name} is larger than {OBJECT_LIMIT} bytes")
    if digest(content) != name:
        raise _refused("hash", f"the object {name} has another content than the manifest says")


def seal_record(record: Record, host: str, key: bytes) -> bytes:
    """A record as an object for a host with this public key. Raises FleetError where no host would take it."""
    fields = vars(record) | {
        "authenticators": [
            {
                "id": each.identifier,
                "label": each.label,
                "created": each.created,
                "secret": base64.b64encode(each.secret).decode("ascii"),
                "state": each.state,
            }
            for each in record.authenticators
        ],
        "recovery": record.recovery and {"salt": record.recovery.salt, "hashes": list(record.recovery.hashes)},
    }
    _record(fields)
    return _sealed("record", fields, host, key)


def open_record(content: bytes, host: str, private: bytes) -> Record:
    """The record in an object. Raises FleetError."""
    return _record(_opened("record", content, host, private))


def seal_policy(policy: Policy, host: str, key: bytes) -> bytes:
    """The policy as an object for a host with this public key. Raises FleetError where no host would take it."""
    fields = vars(policy) | {"break_glass": list(policy.break_glass)}
    _policy(fields)
    return _sealed("policy", fields, host, key)


def open_policy(content: bytes, host: str, private: bytes) -> Policy:
    """The policy in an object. Raises FleetError."""
    return _policy(_opened("policy", content, host, private))


def check_together(records: list[Record]) -> None:
    """Make sure that no two records of a manifest share a name or an authenticator. Raises FleetError."""
    names = [each.name for each in records]
    if len(set(names)) < len(names):
        raise _refused("records", "two records have one name")
    identifiers = [each.identifier for record in records for each in record.authenticators]
    if len(set(identifiers)) < len(identifiers):
        raise _refused("records", "two authenticators have one id")


# What a host hands up


def seal_enrolment(enrolment: Enrolment, key: bytes) -> bytes:
    """An enrolment, sealed to the keeper's public key. Raises FleetError where it would not be taken."""
    fields = {
        "name": enrolment.name,
        "id": enrolment.identifier,
        "label": enrolment.label,
        "secret": base64.b64encode(enrolment.secret).decode("ascii"),
    }
    _enrolment(fields, enrolment.host)
    return _sealed("enrolment", fields, enrolment.host, key)


def open_enrolment(content: bytes, host: str, private: bytes) -> Enrolment:
    """What a host has handed up. ``host`` is the one that did: another's is refused. Raises FleetError."""
    return _enrolment(_opened("enrolment", content, host, private), host)


# Join tokens


def token_text(token: JoinToken) -> str:
    """A join token as one line."""
    fields = {
        "d": token.directory,
        "k": base64.b64encode(token.key).decode("ascii"),
        "c": token.ca,
        "t": token.secret,
    }
    text = _TOKEN_MARK + _base64url(_encoded(fields))
    parse_token(text)
    return text


def parse_token(text: str) -> JoinToken:
    """The join token in a line. Raises FleetError, which shows nothing of it."""
    wrong = FleetError(
        "this is not a join token: it is one line, begins with ptj1. and is shown once",
        "bad-token",
    )
    text = text.strip()
    content = _from_base64url(text[len(_TOKEN_MARK) :]) if text.startswith(_TOKEN_MARK) else None
    if content is None or len(text) > TOKEN_LIMIT:
        raise wrong
    try:
        fields = _decoded(content, "token")
        _require(fields, "token", {"d": _identifier, "k": _is_key, "c": _or_empty(_hash), "t": _is_token})
    except FleetError:
        raise wrong from None
    return JoinToken(fields["d"], base64.b64decode(fields["k"]), fields["c"], fields["t"])


# Reading and writing


def _refused(check: str, message: str) -> FleetError:
    return FleetError(message, f"fleet-{check}")


def _encoded(fields: dict[str, Any]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode(
            "utf-8"
        )
    except (ValueError, TypeError):
        raise _refused("content", "this cannot be written as JSON in UTF-8") from None


def _decoded(content: bytes, what: str) -> dict[str, Any]:
    """An object of JSON in its one spelling."""
    try:
        fields = json.loads(content.decode("utf-8"))
        again = _encoded(fields)
    except (ValueError, RecursionError, FleetError):
        raise _refused("format", f"the {what} is not JSON in UTF-8") from None
    if not isinstance(fields, dict) or again != content:
        raise _refused("format", f"the {what} is not spelled as it has to be")
    return fields


def _sealed(kind: str, fields: dict[str, Any], host: str, key: bytes) -> bytes:
    content = _encoded({"kind": kind, "format": _FORMAT, "host": host, **fields})
    padded = content + b"\x80"
    padded += bytes(-len(padded) % _PAD)
    sealed = bytes(public.SealedBox(public.PublicKey(key)).encrypt(padded))
    if len(sealed) > OBJECT_LIMIT:
        raise _refused("size", f"a {kind} would be larger than {OBJECT_LIMIT} bytes")
    return sealed


def _opened(kind: str, content: bytes, host: str, private: bytes) -> dict[str, Any]:
    if len(content) > OBJECT_LIMIT:
        raise _refused("size", f"a {kind} is larger than {OBJECT_LIMIT} bytes")
    try:
        padded = bytes(public.SealedBox(public.PrivateKey(private)).decrypt(content))
    except (exceptions.CryptoError, ValueError, TypeError):
        raise _refused("seal", f"a {kind} does not open with the key of this host") from None
    plain = padded.rstrip(b"\0")
    if len(padded) % _PAD or not plain.endswith(b"\x80") or len(padded) - len(plain) >= _PAD:
        raise _refused("format", f"a {kind} is not padded as it has to be")
    fields = _decoded(plain[:-1], kind)
    if fields.pop("kind", None) != kind or _is_not_one(fields.pop("format", None)):
        raise _refused("kind", f"this is not a {kind} that this version of pam-totp reads")
    if fields.pop("host", None) != host:
        raise _refused("host", f"a {kind} is another host's")
    return fields


def _is_not_one(value: object) -> bool:
    return type(value) is not int or value != _FORMAT


def _require(fields: dict[str, Any], what: str, form: dict[str, Any], optional: dict[str, Any] | None = None) -> None:
    """Make sure that the fields are these, each of its form. Raises FleetError."""
    optional = optional or {}
    if not form.keys() <= fields.keys() <= form.keys() | optional.keys():
        raise _refused("content", f"the {what} has not the fields that it has to have")
    for name, value in fields.items():
        if not (form.get(name) or optional[name])(value):
            raise _refused("content", f"the {what}'s {name} is not what it has to be")


def _record(fields: dict[str, Any]) -> Record:
    _require(fields, "record", _RECORD)
    authenticators = []
    for each in fields["authenticators"]:
        _require(each, "authenticator", _AUTHENTICATOR)
        secret = base64.b64decode(each["secret"])
        authenticators.append(Authenticator(each["id"], each["label"], each["created"], secret))
    recovery = fields["recovery"]
    if recovery is not None:
        _require(recovery, "record", _RECOVERY)
        recovery = Recovery(recovery["salt"], tuple(recovery["hashes"]))
    return Record(**fields | {"authenticators": tuple(authenticators), "recovery": recovery})


def _policy(fields: dict[str, Any]) -> Policy:
    _require(fields, "policy", _POLICY)
    return Policy(**fields | {"break_glass": tuple(fields["break_glass"])})


def _enrolment(fields: dict[str, Any], host: str) -> Enrolment:
    _require(fields, "enrolment", _ENROLMENT)
    return Enrolment(host, fields["name"], fields["id"], fields["label"], base64.b64decode(fields["secret"]))


# What the parts are


def _natural(value: object) -> bool:
    # bool is an int to Python.
    return type(value) is int and 0 <= value < _LARGEST


def _positive(value: object) -> bool:
    return _natural(value) and value != 0


def _between(low: int, high: int) -> Any:
    return lambda value: type(value) is int and low <= value <= high


def _flag(value: object) -> bool:
    return type(value) is bool


def _digits(count: int) -> Any:
    return lambda value: isinstance(value, str) and len(value) == count and _HEXADECIMAL.issuperset(value)


def _or_none(holds: Any) -> Any:
    return lambda value: value is None or holds(value)


def _or_empty(holds: Any) -> Any:
    return lambda value: value == "" or holds(value)


def _each(holds: Any, most: int) -> Any:
    return lambda value: type(value) is list and len(value) <= most and all(map(holds, value))


def _table(value: object) -> bool:
    return type(value) is dict


def _name(value: object) -> bool:
    # What a passwd entry can have (host.users.possible).
    if not isinstance(value, str) or not value.isprintable() or ":" in value or "/" in value:
        return False
    try:
        return 0 < len(value.encode("utf-8")) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


def _label(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_LABEL and value.isprintable() and ":" not in value


def _base64_of(value: object) -> bytes | None:
    """The bytes that this spells in base64, in its one spelling; None where it does not."""
    if not isinstance(value, str):
        return None
    try:
        content = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return None
    return content if base64.b64encode(content).decode("ascii") == value else None


def _is_secret(value: object) -> bool:
    content = _base64_of(value)
    return content is not None and len(content) in SECRET_BYTES


def _is_key(value: object) -> bool:
    content = _base64_of(value)
    return content is not None and len(content) == _KEY_BYTES


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _from_base64url(value, _KEY_BYTES) is not None


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _from_base64url(text: str, size: int | None = None) -> bytes | None:
    """The bytes that this spells, in its one spelling without padding; None where it does not."""
    if not text.isascii():
        return None
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return content if _base64url(content) == text and size in (None, len(content)) else None


_identifier = _digits(32)
_hash = _digits(64)
_MANIFEST: dict[str, Any] = {
    "directory": _identifier,
    "host": _identifier,
    "epoch": _positive,
    "sequence": _positive,
    "issued": _natural,
    "expires": _natural,
    "policy": _or_none(_hash),
    "bundle": _or_none(_hash),
    "dropped": _each(_hash, MANIFEST_LIMIT),
    "records": _each(_hash, MANIFEST_LIMIT),
}
_RECORD: dict[str, Any] = {
    "name": _name,
    "authenticators": _each(_table, MOST_AUTHENTICATORS),
    "recovery": _or_none(_table),
    "locked": _flag,
    "exempt_until": _or_none(_natural),
    "deadline": _or_none(_natural),
    "must_enroll": _flag,
    "forget_before": _or_none(_natural),
}
_AUTHENTICATOR: dict[str, Any] = {
    "id": _identifier,
    "label": _label,
    "created": _natural,
    "secret": _is_secret,
    "state": lambda value: value == "active",
}
_RECOVERY: dict[str, Any] = {"salt": _identifier, "hashes": _each(_identifier, MOST_CODES)}
_POLICY: dict[str, Any] = {
    "unenrolled": lambda value: isinstance(value, str) and value in UNENROLLED,
    "enrolment_days": _between(1, 365),
    "max_offline": _or_none(_between(60, 10 * 365 * 86_400)),
    "break_glass": _each(_name, MOST_BREAK_GLASS),
    "claims": _flag,
    "mfa": _flag,
}
_ENROLMENT: dict[str, Any] = {"name": _name, "id": _identifier, "label": _label, "secret": _is_secret}
