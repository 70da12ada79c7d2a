"""Accounts as they are kept: sealed rows, each of them on the roster, and the copy of the ledger in ``/run``.

The one place where sealing and storing meet. What a decision depends on is either sealed or checked against something
sealed, because SQLite has no checksums and a plain byte can rot or be edited.
"""

from __future__ import annotations

from pam_totp.cache import configured, keys, store
from pam_totp.cache.ledger import Ledger
from pam_totp.cache.roster import Roster, disagreement
from pam_totp.cache.volatile import Volatile
from pam_totp.errors import CacheError, CacheReadOnlyError, ChargeError, DamageError
from pam_totp.host.users import User, find

PENDING = "pending"
ACTIVE = "active"
LOCAL = "local"
DIRECTORY = "directory"
MOST_AUTHENTICATORS = 5
# Long enough for every code to run out that could have been spent while /run was another.
FALLBACK_CLOSED_SECONDS = 300

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Any, Self

    from pam_totp.cache.seal import Sealer
    from pam_totp.cache.volatile import Lock
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


class Authenticator:
    """One device or app. ``created`` in seconds since the epoch; ``source`` is "local" or "directory"."""

    __slots__ = ("created", "identifier", "label", "secret", "source", "state")

    def __init__(self, identifier: str, state: str, label: str, source: str, created: int, secret: bytes) -> None:
        self.identifier = identifier
        self.state = state
        self.label = label
        self.source = source
        self.created = created
        self.secret = secret

    def __repr__(self) -> str:
        return f"Authenticator({self.label!r}, {self.state})"


class Account:
    """One user's record; without authenticators where there is proven to be none.

    ``name`` is the record's own, which an alias of the uid shares. ``note`` is for the log. ``complete`` is false where
    it does not have all authenticators that the user has: nothing is then said to be removed. ``bound``: it came from
    the directory, and NSS has said just now whose uid it is of; the row is not written yet.
    """

    __slots__ = ("authenticators", "bound", "complete", "ledger", "name", "note", "uid")

    def __init__(
        self, name: str, uid: int, authenticators: list[Authenticator], ledger: Ledger, note: str = ""
    ) -> None:
        self.name = name
        self.uid = uid
        self.authenticators = authenticators
        self.ledger = ledger
        self.note = note
        self.complete = True
        self.bound = False

    @property
    def active(self) -> list[Authenticator]:
        """The authenticators whose codes count."""
        return [authenticator for authenticator in self.authenticators if authenticator.state == ACTIVE]

    @property
    def pending(self) -> Authenticator | None:
        """The authenticator that waits for its first code."""
        return next((each for each in self.authenticators if each.state == PENDING), None)

    @property
    def issued(self) -> Authenticator | None:
        """The pending authenticator that an administrator made.

        One of 0.1.0 is not known to be such: there every first factor was shown the pending key.
        """
        pending = self.pending
        return pending if pending is not None and pending.identifier == self.ledger.issued else None

    @property
    def enrolled(self) -> int | None:
        """When the first authenticator was made, since the epoch, even if others replaced it; None: none is active."""
        first = [self.ledger.enrolled] if self.ledger.enrolled is not None else []
        return min([*first, *(each.created for each in self.active)]) if self.active else None

    @property
    def state(self) -> str:
        """none, pending, active or locked."""
        if not self.active:
            return PENDING if self.authenticators else "none"
        return "locked" if self.ledger.locked else ACTIVE

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep about this user."""
        ledger = self.ledger
        granted = ledger.exemption or ledger.grace or ledger.deadline is not None or ledger.invitation
        return not (self.authenticators or granted or ledger.fleet)

    @property
    def held_back(self) -> bool:
        """Whether the directory says something of the user that must not be lost under another name of the uid."""
        fleet = self.ledger.fleet
        return fleet is not None and (fleet["locked"] or fleet["revoked"] or fleet["must"])


class Accounts:
    """All accounts of a host. Use as a context manager; never keep one across a prompt.

    Every method raises CacheError (or a child) when something is missing, damaged or unsafe. ``sealer`` is the host
    key's, for what else is kept in sealed form or as a keyed hash; ``configured`` knows of the configuration file.
    """

    def __init__(self, paths: Paths, patience: float = store.BUSY_SECONDS, gives_way: bool = False) -> None:
        """Load the key and open the cache, waiting for another's write to it for ``patience`` seconds at most.

        Who has much to do to many accounts ``gives_way``: before each of them it lets those finish who have the cache
        open, a login for one. SQLite knows no queue: they would hardly ever find it unlocked.

        Raises HostKeyError or CacheError.
        """
        self._paths = paths
        self.sealer: Sealer = keys.find(paths)
        self._volatile = Volatile(paths.run, paths.owner)
        self._gives_way = gives_way
        self._entered = None if gives_way else self._volatile.enter()  # before anything waits for the cache
        try:
            self._store = store.Store(paths.cache, paths.owner, patience)
        except BaseException:
            self._leave()
            raise
        # A rotation may go on meanwhile. Its new key is there before the cache names it, and what is written after
        # that is sealed with it: so it is looked for where something does not open, and before something is written.
        self.sealer.renew = self._store.begun = self._renew
        self._roster = Roster(self._store, self.sealer)
        self.configured = configured.Configured(self._store, self.sealer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
        self._leave()

    def _leave(self) -> None:
        if self._entered is not None:
            self._entered.__exit__(None, None, None)

    def _renew(self) -> bool:
        """Take the key that the cache names, if it is another than the one that seals. Raises HostKeyError."""
        current = self._store.key_id()
        if current in (None, self.sealer.key_id):
            return False
        self.sealer.become(keys.find(self._paths, current))
        return True

    def lock(self, name: str) -> Lock:
        """The lock of one account, to hold from reading it until its change is committed. Raises LockTimeoutError."""
        if self._gives_way:
            self._volatile.give_way()
        return self._volatile.lock(self.sealer.token(name))

    def find(self, user: User) -> Account:
        """The account of a user (design, section 3, "who is the user?").

        Raises DamageError when rows and roster disagree or something does not open, CacheError with reason
        "uid-changed" when the record was made for another uid and "name-changed" when the uid is enrolled under a name
        that is no longer its own, NameServiceError when NSS must be asked and fails.
        """
        # Rows and roster of one moment: between two reads an enrolment would look like damage.
        with self._store.snapshot():
            account, others = self._look_up(user)
        if account is not None and account.active:
            return account
        # A record that counts for nothing yet must not hide another name's that does. NSS is asked outside the
        # snapshot: it may take its time, in which nobody could write.
        active = [other for other in others if other.active or other.held_back]
        for other in active:
            owner = find(other.name)
            if owner is not None and owner.uid == user.uid:
                other.note = f"alias of {other.name}"
                return other
        if active:
            # Renamed, or spelled in another way now: still enrolled. Or the uid was given to somebody else, which
            # only an administrator can tell.
            former = active[0].name
            raise CacheError(
                f"uid {user.uid} is enrolled as {former}, which is not its name any more: if {user.name} is the same "
                f"person, run pam-totp rename {former} {user.name}; if not, run pam-totp reset {former}",
                "name-changed",
            )
        return self._without_record(user, account, others)

    def _look_up(self, user: User) -> tuple[Account | None, list[Account]]:
        """The record of this name; and, unless that one is active, those of the same uid under other names."""
        row = self._store.account(user.name)
        account = None if row is None else self._open(row)
        if account is None and self._roster.entry(user.name) is not None:
            raise disagreement(user.name)
        if self.configured.joined and user.uid >= 0:
            account = self._bound(user, account)
        if account is not None and (account.authenticators or account.ledger.fleet) and account.uid != user.uid:
            raise CacheError(
                f"{user.name} was enrolled with uid {account.uid} and now has {user.uid}: "
                f"if this is the same person, run pam-totp adopt {user.name}; if not, run pam-totp reset {user.name}",
                "uid-changed",
            )
        if account is not None and account.active:
            return account, []
        rows = self._store.accounts_with(user.uid)
        if {row[0] for row in rows} != self._roster.names(user.uid):
            raise disagreement(f"uid {user.uid}")
        return account, [self._open(row) for row in rows if row[0] != user.name]

    def _bound(self, user: User, account: Account | None) -> Account | None:
        """The record that the directory has sent for this name before NSS knew it, now with the user's uid.

        Raises CacheError with reason "fleet-unbound" where there is one that may be this user's and is not certain to
        be: who is not known to be somebody else must not be taken for somebody without a record.
        """
        if account is None:
            unbound = self._store.unbound()
            row = self._store.account(user.asked) if user.asked in unbound else None
            if row is not None:
                account = self._open(row)
            elif any(_short(name) in (_short(user.name), _short(user.asked)) for name in unbound):
                raise CacheError(
                    f"the directory has sent a record for a spelling of {user.name} that NSS did not know then: "
                    "run pam-totp sync, which asks NSS again",
                    "fleet-unbound",
                )
        directory = account is not None and all(each.source == DIRECTORY for each in account.authenticators)
        if account is not None and account.uid < 0 and account.ledger.fleet and directory:
            account.uid = user.uid
            account.bound = True
        return account

    def _without_record(self, user: User, account: Account | None, others: list[Account]) -> Account:
        if account is not None and account.uid == user.uid:
            return account
        if account is not None:
            # Nothing was enrolled: what is noted there was about the name's former owner.
            return Account(user.name, user.uid, [], account.ledger.heir(), "the uid changed")
        names = ", ".join(other.name for other in others)
        note = f"inactive record of {names} with the same uid" if names else ""
        return Account(user.name, user.uid, [], self._remembered(user.name, user.uid, Ledger()), note)

    def get(self, name: str) -> Account | None:
        """The record under exactly this name, whatever NSS says; None where it is proven that there is none."""
        with self._store.snapshot():
            row = self._store.account(name)
            if row is not None:
                return self._open(row)
            if self._roster.entry(name) is not None:
                raise disagreement(name)
            return None

    def record(self, name: str, uid: int) -> Account:
        """The record under exactly this name, or a new one, which is not written yet and knows what ``/run`` knows."""
        return self.get(name) or Account(name, uid, [], self._remembered(name, uid, Ledger()))

    def owner_of(self, identifier: str) -> tuple[str, str] | None:
        """Whose authenticator has this id, and its source; None where there is none. Raises CacheError."""
        row = self._store.authenticator(identifier)
        return None if row is None else _typed(row, str, str)

    def made_here(self) -> list[tuple[str, str, int]]:
        """Id, name and time of making of all active authenticators that were made on this host. Raises CacheError."""
        return [_typed(row, str, str, int) for row in self._store.local_authenticators()]

    def unbound(self) -> list[str]:
        """The names of records that hold no account's uid. Raises CacheError."""
        return self._store.unbound()

    def listed(self, name: str) -> bool:
        """Whether there should be a record of this name, even if it is gone."""
        return self._roster.entry(name) is not None

    def names(self) -> list[str]:
        """All names that have a record, in order; damaged ones too."""
        return self._store.names()

    def all(self) -> Iterator[Account | CacheError]:
        """Every record in the order of names; in the place of a damaged one, its error."""
        for name in self.names():
            if self._gives_way:
                self._volatile.give_way()
            try:
                account = self.get(name)
            except CacheError as error:
                yield error
            else:
                if account is not None:
                    yield account

    def charge(self, account: Account, now: Moment, durably: bool = False) -> bool:
        """Record the account's ledger: in ``/run``, then durably in the cache. Call with the lock held.

        True when it is durable; False when the cache is full or read-only and ``/run`` has it, which suffices for a
        TOTP code until the next boot.

        Raises ChargeError when it is recorded nowhere; when it is recorded only in ``/run``, and that is new (after a
        boot, the restart of a container, or a wipe) and does not know what was spent before; and with ``durably``, as a
        recovery code needs it, when the cache takes no write.
        """
        if durably or account.bound:
            try:
                self.save(account)
            except CacheReadOnlyError as error:
                what = "a recovery code" if durably else "the first login of a user"
                raise ChargeError(f"{error}; {what} needs a durable record") from None
            return True
        sealed = self._next_ledger(account)
        age = self._volatile.age(now)
        token, key_id = self.sealer.token(account.name), self.sealer.key_id
        in_run = self._volatile.write(token, sealed)
        try:
            with self._store.transaction():
                if self.sealer.key_id != key_id:  # rotated just now
                    sealed = self.sealer.seal(account.ledger.encode(), "ledger", account.name)
                    in_run = self._volatile.write(token, sealed)
                self._store.update_ledger(account.name, sealed)
        except CacheReadOnlyError as error:
            if not in_run:
                raise ChargeError(f"{error}; and /run/pam-totp takes no writes either") from None
            if age < FALLBACK_CLOSED_SECONDS:
                raise ChargeError(
                    f"{error}; logins without it begin {FALLBACK_CLOSED_SECONDS} s after a boot, "
                    "and after /run/pam-totp was made",
                    "fallback-closed",
                ) from None
            return False
        return True

    def save_or_remember(self, account: Account) -> None:
        """Like ``save``; where the cache takes no write, ``/run`` keeps the ledger. Call with the lock held.

        Raises ChargeError when neither does.
        """
        try:
            self.save(account)
        except CacheReadOnlyError as error:
            if not self._volatile.write(self.sealer.token(account.name), self._next_ledger(account)):
                raise ChargeError(f"{error}; and /run/pam-totp takes no writes either") from None

    def save(self, account: Account) -> None:
        """Write the whole record, authenticators and roster included, in one transaction. Call with the lock held.

        An account with nothing to keep is removed.
        """
        self.save_all([account])

    def save_all(self, accounts: Sequence[Account]) -> None:
        """Write several whole records in one transaction: all of them or none. Call with the locks of all held."""
        with self._store.transaction():
            written = [(account.name, self._write(account)) for account in accounts]
        for name, sealed in written:
            self._remember(name, sealed)

    def _write(self, account: Account) -> bytes:
        """Write a record, in a transaction; returns its sealed ledger."""
        kept = {authenticator.identifier for authenticator in account.authenticators}
        account.ledger.forget_marks(kept)
        sealed = self._next_ledger(account)
        for row in self._store.authenticators(account.name):
            if row[0] not in kept:
                self._store.delete(account.name, row[0])
        if not account.empty:
            self._store.put_account(account.name, account.uid, sealed)
            for authenticator in account.authenticators:
                self._store.put_authenticator(account.name, self._sealed_row(account, authenticator))
            self._roster.put(account.name, *_entry(account))
        else:
            self._store.delete(account.name)
            self._roster.remove(account.name)
        return sealed

    def _remember(self, name: str, sealed: bytes) -> None:
        # Marks stay known until the next boot even when the record is gone: an older cache put back in its place
        # must not make a spent code work again.
        token = self.sealer.token(name)
        if not self._volatile.write(token, sealed):
            self._volatile.forget(token)

    def record_event(self, time: int, name: str, line: str, size: int = 0) -> None:
        """Note a refusal in the ring of events (0: of the usual size). Raises CacheError; no decision depends on it."""
        self._store.record_event(time, name, line, size)

    def events(self, name: str | None, most: int = -1) -> list[tuple[int, str]]:
        """The latest refusals (seconds since the epoch, line) of a user, or of everybody (None), newest first."""
        return self._store.events(name, most)

    def _open(self, row: tuple[Any, ...]) -> Account:
        name = row[0]
        authenticators = []
        try:
            name, uid, sealed_ledger = _typed(row, str, int, bytes)
            ledger = Ledger.decode(self.sealer.open(sealed_ledger, "ledger", name))
            for each in self._store.authenticators(name):
                secret = self.sealer.open(each[-1], *secret_context(name, uid, each))
                identifier, state, label, source, created, _ = each
                authenticators.append(Authenticator(identifier, state, label, source, created, secret))
            if ledger.uid not in (None, uid):
                raise DamageError("its ledger is another uid's: restore a backup, or reset the user")
            ledger = self._remembered(name, uid, ledger)
        except DamageError as error:
            raise DamageError(f"the record of {name} is damaged: {error}") from None
        account = Account(name, uid, authenticators, ledger)
        if self._roster.entry(name) != _entry(account):
            raise disagreement(name)
        self._require_latest(account)
        return account

    def _require_latest(self, account: Account) -> None:
        """Make sure that an older cache, put back in this boot, neither revives what was removed nor un-enrols anybody.

        The ledger may be the copy in ``/run``, which is newer. Raises DamageError.
        """
        if account.ledger.holds is None:
            return
        held = set(account.ledger.holds.split())
        active = {each.identifier for each in account.active}
        if not held <= active or (active and not held):
            raise DamageError(
                f"the record of {account.name} is older than what was enrolled or removed in this boot: an older cache "
                f"was put back; run pam-totp reset {account.name}, and enrol again"
            )
        kept = [each for each in account.authenticators if each.state != ACTIVE or each.identifier in held]
        if len(kept) < len(account.authenticators):
            account.authenticators = kept
            account.note = "an older cache was put back: what was removed since then stays removed"

    def _remembered(self, name: str, uid: int, ledger: Ledger) -> Ledger:
        """A ledger merged with the copy in ``/run``; of a copy that another uid left under the name, with its marks."""
        copy = self._copy(name)
        if copy is not None and copy.uid in (None, uid):
            return ledger.merge(copy)
        if copy is not None:
            ledger.take_marks(copy)
        return ledger

    def _copy(self, name: str) -> Ledger | None:
        content = self._volatile.read(self.sealer.token(name))
        return None if content is None else Ledger.decode(self.sealer.open(content, "ledger", name))

    def _next_ledger(self, account: Account) -> bytes:
        account.ledger.seq += 1
        account.ledger.uid = account.uid
        identifiers = sorted(each.identifier for each in account.active)
        account.ledger.holds = " ".join(identifiers) if account.complete else None
        return self.sealer.seal(account.ledger.encode(), "ledger", account.name)

    def _sealed_row(self, account: Account, each: Authenticator) -> tuple[object, ...]:
        row = (each.identifier, each.state, each.label, each.source, each.created)
        sealed = self.sealer.seal(each.secret, *secret_context(account.name, account.uid, (*row, b"")))
        return *row, sealed


def _short(name: str) -> str:
    """A name as name services tell two spellings of it apart from others: without case and domain."""
    return name.casefold().rpartition("\\")[2].partition("@")[0]


def secret_context(name: str, uid: int, row: tuple[Any, ...]) -> tuple[str, ...]:
    """What a secret is bound to: the account, and all of its row but itself. Raises DamageError."""
    identifier, state, label, source, created, _ = _typed(row, str, str, str, str, int, bytes)
    return "secret", name, str(uid), identifier, state, label, source, str(created)


def _typed(row: tuple[Any, ...], *types: type) -> tuple[Any, ...]:
    # The schema's types hold for what SQLite writes, not for what has rotted since.
    if tuple(map(type, row)) != types:
        raise DamageError("a row holds a value of another type than it should: restore a backup, or reset the user")
    return row


def _entry(account: Account) -> tuple[int, str]:
    # Which authenticators there are, and in which state: a row that is missing or left over is damage.
    return account.uid, " ".join(sorted(f"{each.identifier}={each.state}" for each in account.authenticators))
