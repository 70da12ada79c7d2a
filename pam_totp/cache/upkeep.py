"""What root does to keep the accounts of a host whole: check, repair, move, migrate and copy them. No login does."""

from __future__ import annotations

from pam_totp.cache import configured, schema, store
from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cache.ledger import Ledger
from pam_totp.errors import CacheError, HostKeyError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pam_totp.cache.seal import Sealer
    from pam_totp.host.users import User


class Upkeep(Accounts):
    """All accounts of a host, and what keeps them whole. Raises CacheError (or a child) as ``Accounts`` does."""

    def unreadable(self, name: str) -> Account:
        """The stand-in for a record that does not open: without authenticators, ready to be saved as removed.

        Its uid is the one in the roster, which is sealed; the row's may be what was damaged. What ``/run`` still knows
        to be spent stays spent, should a backup of the record be restored.
        """
        entry = self._roster.entry(name)
        row = self._store.account(name)
        uid = entry[0] if entry is not None else row[1] if row else 0
        try:
            ledger = self._remembered(name, uid, Ledger()).cleared()
        except CacheError:
            ledger = Ledger()
        account = Account(name, uid, [], ledger)
        account.complete = False
        return account

    def check_key(self) -> None:
        """Make sure that the key belongs to the cache. Raises HostKeyError."""
        if not self._roster.opens():
            raise HostKeyError(
                "the host key does not belong to this cache: restore both from the same backup", "key-wrong"
            )

    def migrate(self, present: bool) -> bool:
        """Bring the cache to this version; False where there is nothing to do. ``present``: there is a configuration.

        Raises CacheReadOnlyError where there is no room for it: what there is stays good.
        """
        if self._store.schema == store.SCHEMA_VERSION:
            return False
        # Since schema 2 the copies in /run have other names.
        copies = self._volatile.tokens()
        for name in self.names() if copies else ():
            former = self.sealer.token(name, "0.1.0")
            if former in copies and self._volatile.read(former) is not None:
                self._volatile.rename(former, self.sealer.token(name))
        schema.migrate(self._store, configured.facts(self.sealer, present))
        return True

    def remember(self, account: Account) -> None:
        """Have ``/run`` know what the record knows, for the day an older cache is put back. Call with the lock held."""
        self._remember(account.name, self._next_ledger(account))

    def reseal_copies(self, former: Sealer, names: Iterable[str]) -> None:
        """Have this key open the copies in ``/run`` that were made under another host key. Raises CacheError."""
        for name in names:
            content = self._volatile.read(former.token(name))
            if content is not None:
                ledger = Ledger.decode(former.open(content, "ledger", name))
                self._remember(name, self.sealer.seal(ledger.encode(), "ledger", name))

    def copy(self, path: str) -> None:
        """Write a copy of the cache as of one moment to a new file. Raises CacheError, or OSError."""
        schema.copy(self._paths.cache, path)

    def rename(self, account: Account, user: User) -> Account:
        """Move a record to another name of the same uid, in one transaction, and return it as it is there.

        What is spent stays spent, also in what ``/run`` keeps for the former name: an older cache may be put back.
        Call with the locks of both names held.

        Raises UsageError where the new name has authenticators of its own.
        """
        there = self.get(user.name)
        if there is not None and there.authenticators:
            raise UsageError(
                f"{user.name} has authenticators of its own: remove one of the two records first, "
                f"with pam-totp reset {user.name} or pam-totp reset {account.name}"
            )
        former = Account(account.name, account.uid, [], account.ledger.heir())
        former.complete = False
        moved = Account(user.name, account.uid, account.authenticators, account.ledger)
        for known in (self._copy(user.name), there and there.ledger):
            if known:
                moved.ledger.take_marks(known)
        with self._store.transaction():
            sealed_former = self._write(former)
            sealed = self._write(moved)
        self._remember(user.name, sealed)
        self._remember(account.name, sealed_former)
        return moved

    def adopt(self, account: Account, user: User) -> None:
        """Give a record to the uid that its user has now. Call with the lock of its name held.

        Raises UsageError where that uid is enrolled under another name.
        """
        with self._store.snapshot():
            others = [self._open(row) for row in self._store.accounts_with(user.uid) if row[0] != account.name]
        enrolled = [other.name for other in others if other.active]
        if enrolled:
            raise UsageError(
                f"uid {user.uid} is enrolled as {enrolled[0]}: remove one of the two records first, "
                f"with pam-totp reset {account.name} or pam-totp reset {enrolled[0]}"
            )
        account.uid = user.uid
        self.save(account)

    def damage(self) -> list[str]:
        """Everything that is wrong with the cache, in words; empty where nothing is. Reads the whole file."""
        names, uids, wrong = self._roster.everything()
        found = [*self._store.damage(), *wrong]
        for each in self.all():
            if isinstance(each, CacheError):
                found.append(str(each))
            elif each.name not in uids.get(each.uid, set()):
                found.append(f"the roster does not list {each.name} under uid {each.uid}")
        try:
            if self.configured.known() is None:
                found.append("nothing, but the cache is of an older version: run pam-totp migrate")
        except CacheError:
            found.append("whether there is a configuration is not known: run pam-totp config check")
        missing = sorted(names.union(*uids.values()) - set(self._store.names()))
        found.extend(f"the record of {name} is gone, though the roster lists it" for name in missing)
        return found
