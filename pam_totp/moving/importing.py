"""Putting entries of a foreign file into the cache: whose they are, what is in the way, and all of them or none."""

from __future__ import annotations

import os
import resource
from contextlib import ExitStack

from pam_totp.cache.accounts import ACTIVE, MOST_AUTHENTICATORS, Authenticator
from pam_totp.errors import CacheError, NameServiceError
from pam_totp.factors import enroll, otp
from pam_totp.host import users
from pam_totp.host.users import User
from pam_totp.moving.entries import Refused, shown

# Beside one file for the lock of each user.
_OTHER_FILES = 64
# google-authenticator makes up to 10 for a user.
MOST_SCRATCH = 10
NEW, FURTHER, UPDATED, THERE = "new", "further", "updated", "there already"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pam_totp.cache.accounts import Account, Accounts
    from pam_totp.host.config import Config
    from pam_totp.moving.entries import Entry

    Progress = Callable[[str, int, int], None]


class Row:
    """What becomes of one entry, which is the authenticator ``label`` of ``name``.

    ``result`` is NEW, FURTHER (the user has others), UPDATED or THERE.
    """

    __slots__ = ("entry", "label", "name", "result")

    def __init__(self, entry: Entry, name: str, label: str, result: str) -> None:
        self.entry = entry
        self.name = name
        self.label = label
        self.result = result


class Plan:
    """What an import would do: the rows, the refusals, and the accounts as they would be afterwards, by name."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.refused: list[Refused] = []
        self.changed: dict[str, Account] = {}


class Owners:
    """Who the users of entries are on this host."""

    def __init__(self) -> None:
        """Ask NSS for all users at once: one by one, ten thousand of a plain file take longer than everything else."""
        self._known: dict[str, User] = {}
        for name, uid, _, _ in users.everybody():
            self._known.setdefault(name, User(name, uid))

    def of(self, entry: Entry) -> User | None:
        """The user of an entry; None where NSS knows none of the names. Raises NameServiceError."""
        for name in entry.names:
            if name not in self._known:
                # A directory service may list none of its users; and NSS may spell the name in another way.
                user = users.find(name)
                if user is None:
                    continue
                self._known[name] = user
            return self._known[name]
        return None


def plan(
    accounts: Accounts,
    found: Sequence[Entry | Refused],
    owners: Owners,
    config: Config,
    label: str,
    now: int,
    progress: Progress,
) -> Plan:
    """What importing these entries would do. ``now`` in seconds since the epoch. Raises CacheError, HostKeyError."""
    result = Plan()
    seen: dict[str, Account] = {}
    for place, each in enumerate(found):
        progress("read", place, len(found))
        if isinstance(each, Refused):
            result.refused.append(each)
            continue
        who = shown(each.names[0])
        try:
            user = owners.of(each)
            if user is None:
                result.refused.append(Refused(each.where, who, "no such user on this host"))
                continue
            who = user.name
            account = seen.get(user.name) or accounts.find(user)
        except (CacheError, NameServiceError) as error:
            result.refused.append(Refused(each.where, who, str(error)))
            continue
        seen[user.name] = account
        if account.name != user.name:
            reason = f"it is another name of {account.name}, whose codes count for both"
            result.refused.append(Refused(each.where, who, reason))
            continue
        row = _put(account, each, label, config, now)
        if isinstance(row, Refused):
            result.refused.append(row)
            continue
        result.rows.append(row)
        if row.result != THERE:
            result.changed[account.name] = account
    return result


def carry_out(accounts: Accounts, prepare: Callable[[], Plan], names: Iterable[str], skip: bool) -> Plan:
    """Import, with the locks of all ``names`` held: everything in one transaction, or nothing.

    Nothing is written where something is refused, unless it is to be skipped. Raises CacheError, LockTimeoutError.
    """
    wanted = sorted(set(names))
    with ExitStack() as locks:
        _allow_files(len(wanted))
        for name in wanted:
            locks.enter_context(accounts.lock(name))
        # Read under the locks: what is written is what nobody else changes meanwhile.
        result = prepare()
        if result.changed and (skip or not result.refused):
            accounts.save_all(list(result.changed.values()))
    return result


def _put(account: Account, entry: Entry, label: str, config: Config, now: int) -> Row | Refused:
    """Put an entry into an account as it would be."""
    for each in account.authenticators:
        if each.secret == entry.secret:
            if each.state != ACTIVE:
                reason = f"this key is pending here: run pam-totp confirm {account.name}"
                return Refused(entry.where, account.name, reason)
            return Row(entry, account.name, each.label, _caught_up(account, each.identifier, entry, config, now))
    if len(account.active) >= MOST_AUTHENTICATORS:
        return Refused(entry.where, account.name, f"{MOST_AUTHENTICATORS} authenticators are the most")
    chosen = _free_label(account, label or _usable(entry.label))
    authenticator = Authenticator(os.urandom(8).hex(), ACTIVE, chosen, "local", now, entry.secret)
    first = not account.active
    ledger = account.ledger
    ledger.enrolled = now if account.enrolled is None else account.enrolled
    # The pending one comes last, so that a key begun here can still be confirmed.
    account.authenticators = [*account.active, authenticator, *([account.pending] if account.pending else [])]
    ledger.invitation = ledger.grace = None
    mark = ledger.mark(authenticator.identifier)
    mark.drift = max(-config.max_drift, min(config.max_drift, entry.drift))
    mark.step = _spent(entry, mark.drift, config, now)
    ledger.scratch = list(dict.fromkeys([*ledger.scratch, *(entry.scratch or ())]))[:MOST_SCRATCH]
    if first:
        # Strangers may have guessed at a pending key; they do not lock out who begins now.
        ledger.unlock(otp.step_at(now), config.window)
    return Row(entry, account.name, chosen, NEW if first else FURTHER)


def _caught_up(account: Account, identifier: str, entry: Entry, config: Config, now: int) -> str:
    """Take over what was spent there since an earlier import: UPDATED, or THERE where that is nothing.

    Only ever less works afterwards than before.
    """
    mark = account.ledger.mark(identifier)
    step = max(mark.step, _spent(entry, mark.drift, config, now))
    scratch = [each for each in account.ledger.scratch if entry.scratch is None or each in entry.scratch]
    if (step, scratch) == (mark.step, account.ledger.scratch):
        return THERE
    mark.step, account.ledger.scratch = step, scratch
    return UPDATED


def _spent(entry: Entry, drift: int, config: Config, now: int) -> int:
    # A step in the future was spent by a wrong clock: the user is not to wait until then.
    return min(entry.step, otp.step_at(now) + drift + config.window)


def _usable(label: str) -> str:
    """A label of the foreign file, if it can be one here."""
    fits = 0 < len(label) <= enroll.LONGEST_LABEL - 3 and label.isprintable() and ":" not in label
    return label if fits else enroll.DEFAULT_LABEL


def _free_label(account: Account, label: str) -> str:
    taken = {each.label for each in account.authenticators}
    numbered = (f"{label}-{number}" for number in range(2, MOST_AUTHENTICATORS + 3))
    return next(each for each in (label, *numbered) if each not in taken)


def _allow_files(count: int) -> None:
    """Allow this process to hold so many locks at once. Raises CacheError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_FILES
    if needed <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
    except (OSError, ValueError):
        raise CacheError(
            f"{count} users at once need {needed} open files, and {hard} are allowed: import fewer, or raise ulimit -n",
            "lock-timeout",
        ) from None
