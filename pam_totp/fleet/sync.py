"""One pass: take what is published for this host, and merge it into the cache.

First everything is looked at: signature, order, each object. Only then anything is changed, one user at a time, each in
a transaction of its own and under the lock that logins take; so logins go on, and a pass that is killed goes on with
the next one. What cannot be used changes nothing: the state that was good last stays in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from pam_totp.cache import configured
from pam_totp.cache.accounts import DIRECTORY, Account, Accounts
from pam_totp.errors import CacheError, CacheReadOnlyError, DamageError, FleetError, LockTimeoutError, NameServiceError
from pam_totp.fleet import identity as identities
from pam_totp.fleet import merge, tree
from pam_totp.fleet.identity import Identity, Last
from pam_totp.host import users
from pam_totp.login import central

LOCK = "/fleet"  # no user's name
# Of records that wait for NSS to know their name, how many it is asked about in one pass: finding nobody takes some ms.
_ASKED_AGAIN = 50
_DIGITS = 64  # of a hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet
    from typing import Any

    from pam_totp.fleet.sources import Source
    from pam_totp.fleet.tree import Manifest, Order, Policy, Record
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


@dataclass
class Result:
    """What a pass did. ``order`` is how the manifest followed the last one; None: it is the one that is in force.

    ``problems``: what has to wait for another pass, in words.
    """

    order: Order | None = None
    last: Last | None = None
    merged: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    bound: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def run(paths: Paths, source: Source, now: Moment, window: int, *, again: bool = True) -> Result:
    """One pass. ``window`` is the host's, in steps.

    ``again``: look once more at a manifest that was taken, where something of it had to wait.

    Raises FleetError where what is published cannot be had or used, and CacheError (LockTimeoutError where another pass
    goes on): nothing is changed then, or what was begun goes on with the next pass.
    """
    with Accounts(paths, gives_way=True) as accounts:
        identity = identities.require(accounts)
        last = identities.last(accounts)
        if last is None or (again and not last.applied) or not _readable(accounts):
            source.etag = ""
        content = source.manifest()
        try:
            lock = accounts.lock(LOCK)
        except LockTimeoutError:
            raise LockTimeoutError("another pass goes on: try again later") from None
        with lock:
            return _Pass(accounts, identity, source, now, window).run(content)


class _Pass:
    """A pass under its lock. ``_fleets`` is what each account knows of the directory, by the account's name."""

    def __init__(self, accounts: Accounts, identity: Identity, source: Source, now: Moment, window: int) -> None:
        self._accounts = accounts
        self._identity = identity
        self._source = source
        self._now = now
        self._window = window
        self._result = Result()
        self._fleets: dict[str, dict[str, Any]] = {}
        self._places: dict[str, str] = {}  # the directory's name of a user -> the account's

    def run(self, content: bytes | None) -> Result:
        # Read under the lock: another pass may have been quicker.
        last = self._result.last = identities.last(self._accounts)
        digest = "" if content is None else tree.digest(content)
        in_force = last is not None and last.applied and last.digest == digest and _readable(self._accounts)
        if content is None or in_force:
            self._bind()
            return self._result
        manifest = tree.open_manifest(content, self._identity.key)
        order = tree.order(
            manifest, digest, self._identity.directory, self._identity.host, None if last is None else last.order
        )
        records, policy, listed = self._look(manifest)
        taken = Last(manifest.epoch, manifest.sequence, digest, manifest.issued, manifest.expires, applied=False)
        # From here on no earlier manifest is taken, also if this pass is killed.
        self._accounts.configured.put(manifest=taken.encode())
        # Taken away before anything new is merged: an authenticator may have gone from one user to another.
        self._revoke(listed, {record.name for record in records.values()})
        for each, record in records.items():
            self._try(record.name, partial(self._merge, each, record))
        self._bind()
        fields = None if policy is None else vars(policy) | {"break_glass": list(policy.break_glass)}
        done = replace(taken, applied=not self._result.problems)
        self._accounts.configured.put(
            policy=central.encode(fields, manifest.issued, self._now.stamp()), manifest=done.encode()
        )
        self._result.order = order
        self._result.last = done
        return self._result

    def _look(self, manifest: Manifest) -> tuple[dict[str, Record], Policy | None, set[str]]:
        """Look at everything that the manifest names, and change nothing that is in force.

        Returns the records that are not merged yet, by their hash, the policy, and the hashes of all records. Raises
        FleetError.
        """
        for account in self._accounts.all():
            if isinstance(account, CacheError):
                self._result.problems.append(str(account))
            elif account.ledger.fleet is not None:
                self._fleets[account.name] = account.ledger.fleet
                self._places[account.ledger.fleet["name"]] = account.name
        merged = {fleet["record"]: fleet for fleet in self._fleets.values() if not fleet["revoked"]}
        records: dict[str, Record] = {}
        held: list[str] = []
        names: list[str] = []
        listed, bundled = self._listed(manifest, merged.keys())
        for digest in listed & merged.keys():
            held += merged[digest]["held"]
            names.append(merged[digest]["name"])
        for digest, content in self._fetched(sorted(listed - merged.keys()), bundled):
            records[digest] = tree.open_record(content, self._identity.host, self._identity.private)
        policy = None
        if manifest.policy is not None:
            policy = tree.open_policy(self._object(manifest.policy), self._identity.host, self._identity.private)
        held += [each.identifier for record in records.values() for each in record.authenticators]
        names += [record.name for record in records.values()]
        if len(set(names)) < len(names) or len(set(held)) < len(held):
            raise FleetError("two records have one name, or two authenticators have one id", "fleet-records")
        for record in records.values():
            self._require_no_clash(record)
        return records, policy, listed

    def _listed(self, manifest: Manifest, merged: AbstractSet[str]) -> tuple[set[str], dict[str, bytes]]:
        """The hashes of all records in force, and the bundle's objects where it had to be fetched. Raises FleetError.

        What was in the last bundle is kept, so that the next change costs no more than itself.
        """
        if manifest.bundle is None:
            return manifest.in_force(()), {}
        kept = self._kept(manifest.bundle)
        if kept is not None and kept - set(manifest.dropped) <= merged:
            return manifest.in_force(kept), {}
        bundled = tree.unbundle(self._source.thing(manifest.bundle, tree.BUNDLE_LIMIT), manifest.bundle)
        listed = manifest.in_force(bundled)
        self._accounts.configured.put(bundle=bytes.fromhex("".join(bundled)))
        return listed, bundled

    def _kept(self, name: str) -> set[str] | None:
        """The hashes of what is in the bundle of that name; None where another is kept, or none."""
        try:
            content = self._accounts.configured.fact(configured.BUNDLE).hex()
        except DamageError:
            return None
        names = {content[start : start + _DIGITS] for start in range(0, len(content), _DIGITS)}
        return names if tree.bundle_name(names) == name else None

    def _fetched(self, names: list[str], bundled: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Objects of records, each the one of its name. Raises FleetError."""
        total = sum(map(len, bundled.values()))
        for name in names:
            found = bundled.pop(name, b"")
            if not found:
                found = self._object(name)
                total += len(found)
            if total > tree.TREE_LIMIT:
                raise FleetError("the tree is larger than any host's", "fleet-size")
            yield name, found

    def _object(self, name: str) -> bytes:
        content = self._source.thing(name)
        tree.check_object(content, name)
        return content

    def _require_no_clash(self, record: Record) -> None:
        """Make sure that no authenticator takes the place of one of this host's own. Raises FleetError."""
        for each in record.authenticators:
            owner = self._accounts.owner_of(each.identifier)
            if owner is None or owner[1] == DIRECTORY:
                continue
            try:
                account = self._accounts.get(owner[0])
            except CacheError:
                account = None
            own = account.authenticators if account is not None else []
            # What was handed up comes back under its id, for the same user.
            same = any((one.identifier, one.secret) == (each.identifier, each.secret) for one in own)
            if not same or self._place(record)[0] != owner[0]:
                raise FleetError(
                    f"the directory has given {record.name} the id of an authenticator of this host's own",
                    "fleet-records",
                )

    def _try(self, name: str, change: Callable[[], object]) -> None:
        """Change one account; what stands in the way there is no reason to leave the others as they are.

        Raises CacheReadOnlyError: a full disk stands in everybody's way.
        """
        try:
            change()
        except CacheReadOnlyError:
            raise
        except (CacheError, LockTimeoutError) as error:
            self._result.problems.append(f"{name}: {error}")

    def _revoke(self, listed: set[str], named: set[str]) -> None:
        """Take away who is not listed any more."""
        for name, fleet in self._fleets.items():
            if fleet["revoked"] or fleet["record"] in listed or fleet["name"] in named:
                continue
            self._try(name, partial(self._revoke_one, name))

    def _revoke_one(self, name: str) -> None:
        with self._accounts.lock(name):
            account = self._accounts.get(name)
            if account is not None and merge.revoke(account):
                self._accounts.save(account)
                self._fleets[name] = account.ledger.fleet or {}
                self._result.revoked.append(name)

    def _merge(self, digest: str, record: Record) -> None:
        name, uid = self._place(record)
        known = self._fleets.get(name)
        if known and not known["revoked"] and known["name"] != record.name:
            both = f"{record.name} and {known['name']}"
            raise CacheError(f"{both} are one user here: take one of the two out of the directory")
        for each in record.authenticators:
            self._free(each.identifier, name)
        with self._accounts.lock(name):
            account = self._accounts.record(name, uid)
            if account.uid < 0 <= uid and _directory_only(account):
                account.uid = uid
            merge.merge(account, record, digest, self._now, self._window)
            self._accounts.save(account)
        self._fleets[name] = account.ledger.fleet or {}
        self._places[record.name] = name
        self._result.merged.append(name)

    def _place(self, record: Record) -> tuple[str, int]:
        """Under which name a record is kept, and its uid.

        That is where it is already, else the name as NSS spells it, or, while NSS knows nobody, as it came.
        """
        place = self._places.get(record.name)
        try:
            user = users.find(record.name)
        except NameServiceError:
            user = None
        if user is None:
            return place or record.name, users.without_account(place or record.name).uid
        return place or user.name, user.uid

    def _free(self, identifier: str, name: str) -> None:
        """Take an authenticator of the directory's from whoever had it before."""
        owner = self._accounts.owner_of(identifier)
        if owner is None or owner[0] == name:
            return
        with self._accounts.lock(owner[0]):
            account = self._accounts.get(owner[0])
            if account is not None:
                account.authenticators = [each for each in account.authenticators if each.identifier != identifier]
                self._accounts.save(account)

    def _bind(self) -> None:
        """Ask NSS again about records that it did not know the name of."""
        unbound = self._accounts.unbound()
        start = int(self._now.uptime) % max(1, len(unbound))
        for name in (unbound[start:] + unbound[:start])[:_ASKED_AGAIN]:
            self._try(name, partial(self._bind_one, name))

    def _bind_one(self, name: str) -> None:
        try:
            user = users.find(name)
        except NameServiceError:
            return
        if user is None:
            return
        with self._accounts.lock(name):
            account = self._accounts.get(name)
            if account is None or account.ledger.fleet is None or account.uid >= 0 or not _directory_only(account):
                return
            account.uid = user.uid
            self._accounts.save(account)
        self._result.bound.append(name)


def _readable(accounts: Accounts) -> bool:
    """Whether the policy that was taken opens; what does not is taken again."""
    try:
        central.load(accounts)
    except DamageError:
        return False
    return True


def _directory_only(account: Account) -> bool:
    """Whether nothing of the account was made here: then it was for the name, and never for another uid."""
    return all(each.source == DIRECTORY for each in account.authenticators)
