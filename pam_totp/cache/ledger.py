"""What an account has been charged with: spent steps, learned drift, wrong codes, waits, the lock.

Pure: time comes in as a Moment, nothing is read or written. The limits are those of the design, section 3: NIST
800-63B's 100 failures in a row, and per source a wait that doubles. As section 5.2.2 there advises, a source that the
user has logged in from lately is not held up by what other sources do.

A recovery code has 50 bits: nobody guesses one, but each try costs a slow hash. So wrong ones are limited by source and
for all sources together, and count neither towards the lock nor towards a wait for a TOTP code.
"""

from __future__ import annotations

# JSON by the C functions that the json module is made of: importing it compiles expressions that a login never uses.
from _json import encode_basestring_ascii, make_encoder, make_scanner

from pam_totp.errors import DamageError

FREE_FAILURES = 3
FIRST_WAIT = 30
LONGEST_WAIT = 3600
DAY = 86_400
FAILURES_A_DAY = 24
# Of the million codes there are, how many may be tried in a day: a guess hits with less than 1 in 10,000.
_CODES_A_DAY = 99
TRUSTED_FOR = 30 * DAY
MOST_SOURCES = 32
# As many as may be young at once: no other source's failures take away what one that is trusted has used up.
MOST_RECENT = FAILURES_A_DAY * (MOST_SOURCES + 1)
RECOVERY_PERIOD = 600
RECOVERY_FAILURES = 5
# A slow hash takes 30 ms: all strangers together have 0.1 % of a processor.
RECOVERY_FAILURES_OF_ALL = 20
LEAN_TO_LEARN = 3
REPEATED_WITHIN = 60  # seconds after a login, in which its user may type the same code again
MOST_OLD_MARKS = 8
MOST_REMEMBERED = 16
_PAD = 512
_HEXADECIMAL = frozenset("0123456789abcdef")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pam_totp.host.clock import Moment, Stamp

    Check = Callable[[Any], bool]


def guesses_a_day(authenticators: int, window: int) -> int:
    """How many wrong codes a day are evaluated, for so many authenticators and a window in steps: 1 to 24.

    Each guess is compared with every authenticator and step, and so hits as often more easily. The chance of a whole
    day's guesses stays below 1 in 10,000; but for five authenticators with a window of 10, where one guess has 1.05.
    """
    return max(1, min(FAILURES_A_DAY, _CODES_A_DAY // max(1, authenticators * (2 * window + 1))))


class Mark:
    """What is known of one authenticator: the high-water mark of its spent steps, and its clock's drift in steps."""

    __slots__ = ("drift", "lean", "step")

    def __init__(self, step: int = -1, drift: int = 0, lean: int = 0) -> None:
        self.step = step
        self.drift = drift
        self.lean = lean

    def spend(self, step: int, now_step: int, max_drift: int) -> None:
        """Note an accepted step, and learn the drift slowly.

        Only several logins in a row that all lean the same way move the drift, by one step: a code typed at the last
        moment leans once and proves nothing. The drift stays within +-``max_drift``.
        """
        self.step = max(self.step, step)
        offset = step - now_step - self.drift
        direction = (offset > 0) - (offset < 0)
        self.lean = self.lean + direction if direction and self.lean * direction >= 0 else direction
        if abs(self.lean) >= LEAN_TO_LEARN:
            self.drift = min(max_drift, max(-max_drift, self.drift + direction))
            self.lean = 0


class Ledger:
    """The changing part of one account. ``seq`` grows with every change, so the newer of two copies is known."""

    def __init__(self) -> None:
        self.seq = 0
        self.uid: int | None = None  # whose it is; None where pam-totp 0.1.0 wrote it
        self.holds: str | None = None  # the active authenticators, with blanks; None where an older version wrote it
        self.marks: dict[str, Mark] = {}
        self.row = 0  # failures since the last success, from everywhere
        self.locked = False
        self.recent: list[Stamp] = []  # [stamp, source] of the latest failures, oldest first
        self.sources: dict[str, Stamp] = {}  # source -> [failures in a row, stamp of the last or None, success or None]
        self.unseen = 0  # wrong codes the user has not been told of
        self.unseen_from = ""
        self.last_success: int | None = None
        self.recent_recovery: list[Stamp] = []  # [stamp, source] of the latest wrong recovery codes, oldest first
        self.enrolled: int | None = None  # when the first authenticator was made, since the epoch, if others came after
        self.recovery: dict[str, Any] | None = None  # the salt, the hashes still good, and whether they were shown
        self.scratch: list[str] = []  # one-time codes of eight digits, imported; sealed like the secrets beside them
        self.exemption: Stamp | None = None  # [end in seconds since the epoch, reason]
        self.grace: Stamp | None = None  # [stamp of the first login that policy applied to, extra seconds]
        self.deadline: int | None = None  # the user's own date, since the epoch; 0: over
        self.invitation: Stamp | None = None  # [token of the code, end in seconds since the epoch]
        self.issued: str | None = None  # the pending authenticator that an administrator made, never shown at a login
        self.remembered: dict[str, Stamp] = {}  # token of a client -> [stamp of its login, seconds]
        self.fleet: dict[str, Any] | None = None  # what the directory says of the user (_FLEET); None: it never did

    @classmethod
    def decode(cls, content: bytes) -> Ledger:
        """Read what ``encode`` wrote. Raises DamageError."""
        ledger = cls()
        try:
            fields = parsed(content)
            if not all(holds(fields[name]) for name, holds in _FORM.items()):
                raise ValueError
            ledger.seq = fields["seq"]
            ledger.marks = {key: Mark(*values) for key, values in fields["marks"].items()}
            ledger.row = fields["row"]
            ledger.locked = fields["locked"]
            ledger.recent = fields["recent"]
            ledger.sources = fields["sources"]
            ledger.unseen, ledger.unseen_from = fields["unseen"]
            ledger.last_success = fields["last_success"]
            for name, holds in _OPTIONAL.items():
                if name in fields:
                    if not holds(fields[name]):
                        raise ValueError
                    setattr(ledger, name, fields[name])
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
            raise DamageError("an account's ledger is not readable: reset the user or restore a backup") from None
        return ledger

    def encode(self) -> bytes:
        """As bytes, padded: most changes then keep the row's size, so a full disk can still take them."""
        fields = {
            "seq": self.seq,
            "marks": {key: [mark.step, mark.drift, mark.lean] for key, mark in self.marks.items()},
            "row": self.row,
            "locked": self.locked,
            "recent": self.recent,
            "sources": self.sources,
            "unseen": [self.unseen, self.unseen_from],
            "last_success": self.last_success,
        }
        fields |= {name: value for name in _OPTIONAL if (value := getattr(self, name)) not in (None, [], {})}
        content = "".join(_write_json(fields, 0)).encode("ascii")
        return content + b" " * (-len(content) % _PAD)

    def merge(self, other: Ledger) -> Ledger:
        """The newer of two copies, with the higher of the two marks of every authenticator."""
        newer, older = (other, self) if other.seq > self.seq else (self, other)
        newer.take_marks(older)
        return newer

    def take_marks(self, other: Ledger) -> None:
        """What is spent there is spent here; and from the next change on this one is the newer of the two."""
        for key, mark in other.marks.items():
            known = self.marks.setdefault(key, mark)
            known.step = max(known.step, mark.step)
        self.seq = max(self.seq, other.seq)

    def heir(self) -> Ledger:
        """A ledger for another user of the same name: what is spent stays spent, and nothing else is inherited."""
        ledger = Ledger()
        ledger.seq = self.seq
        ledger.marks = dict(self.marks)
        return ledger

    def mark(self, authenticator: str) -> Mark:
        """The mark of an authenticator, new where there is none yet."""
        return self.marks.setdefault(authenticator, Mark())

    def forget_marks(self, kept: set[str]) -> None:
        """Drop the marks of authenticators that are gone, but for the latest few."""
        gone = sorted(set(self.marks) - kept, key=lambda key: self.marks[key].step)
        for key in gone[:-MOST_OLD_MARKS]:
            del self.marks[key]

    def cleared(self) -> Ledger:
        """A ledger for the same user after a reset: what is spent, and what an administrator has granted."""
        ledger = self.heir()
        ledger.exemption = self.exemption
        ledger.grace = self.grace
        ledger.deadline = self.deadline
        ledger.fleet = self.fleet
        return ledger

    def fail(self, source: str, address: str, now: Moment, lock_after: int, note: bool = True) -> None:
        """Charge a wrong code to the account and to the source it came from; the user is told of it later (``note``).

        ``lock_after`` in a row lock the account: from all sources together since the last login from anywhere, or from
        one that is trusted since the last login from it.
        """
        row, _, success = self.sources.get(source, [0, None, None])
        alone = row + 1 if self.trusts(source, now) else 0
        self.sources[source] = [row + 1, now.stamp(), success]
        young = [each for each in self.recent if now.since(each[0]) < DAY]
        self.recent = [*young, [now.stamp(), source]][-MOST_RECENT:]
        self.row += 1
        self.locked = self.locked or max(self.row, alone) >= lock_after
        if note:
            self._note_failure(address)
        self._forget_old_sources(now)

    def fail_recovery(self, source: str, address: str, now: Moment) -> None:
        """Charge a wrong recovery or invitation code to its source. It holds up no TOTP code and locks nothing."""
        young = [each for each in self.recent_recovery if now.since(each[0]) < RECOVERY_PERIOD]
        self.recent_recovery = [*young, [now.stamp(), source]][-MOST_RECENT:]
        self._note_failure(address)

    def _note_failure(self, address: str) -> None:
        self.unseen += 1
        self.unseen_from = address

    def succeed(self, source: str, now: Moment) -> None:
        """Note a login. What other sources owe stays."""
        self.sources[source] = [0, None, int(now.wall)]
        self.row = 0
        self.unseen = 0
        self.unseen_from = ""
        self.last_success = int(now.wall)
        self._forget_old_sources(now)

    def latest_success(self, source: str) -> int | None:
        """When the latest login of all was, in seconds since the epoch, if it came from this source; else None."""
        success = self.sources[source][2] if source in self.sources else None
        return success if success == self.last_success else None

    def just_succeeded(self, source: str, now: Moment) -> bool:
        """Whether the latest login of all came from this source, within the last ``REPEATED_WITHIN`` seconds."""
        success = self.latest_success(source)
        return success is not None and 0 <= int(now.wall) - success < REPEATED_WITHIN

    def exempt(self, now: Moment) -> bool:
        """Whether an exemption holds now: an administrator's of this host, or the directory's."""
        until = None if self.fleet is None else self.fleet["exempt"]
        return (self.exemption is not None and now.wall < self.exemption[0]) or (until is not None and now.wall < until)

    def grace_left(self, now: Moment, period: int, until: int | None = None) -> int:
        """Whole seconds until the deadline for enrolling; 0 when it is over.

        That is the user's own date; else ``until``, the date for everybody, since the epoch; else the end of a period
        in seconds, which begins with the user's first login.
        """
        date = until if self.deadline is None else self.deadline
        if date is not None:
            return max(0, _ceil(date - now.wall))
        if self.grace is None:
            return period
        start, extra = self.grace
        return max(0, _ceil(period + extra - now.since(start)))

    def remember(self, token: str, seconds: int, now: Moment) -> None:
        """Do not ask this client again for so many seconds of this boot."""
        kept = {key: value for key, value in self.remembered.items() if key != token and now.since(value[0]) < value[1]}
        kept[token] = [now.stamp(), seconds]  # the last one, so it is the last to be forgotten
        self.remembered = dict(list(kept.items())[-MOST_REMEMBERED:])

    def remembers(self, token: str, seconds: int, now: Moment) -> bool:
        """Whether this client is remembered now; ``seconds`` is what policy allows today, perhaps less than then."""
        entry = self.remembered.get(token)
        return entry is not None and entry[0][1] == now.boot_id and now.since(entry[0]) < min(entry[1], seconds)

    def unlock(self, now_step: int, window: int) -> None:
        """Clear failures, waits and the lock; the success of a source is kept.

        A mark in the future (the clock was wrong) is lowered to the latest step that could be accepted now: below
        that nothing is forgotten, so no spent code works again.
        """
        self.row = 0
        self.locked = False
        self.recent = self.recent_recovery = []
        self.sources = {source: [0, None, entry[2]] for source, entry in self.sources.items() if entry[2] is not None}
        for mark in self.marks.values():
            mark.step = min(mark.step, now_step + mark.drift + window)

    def trusts(self, source: str, now: Moment) -> bool:
        """Whether the user has logged in from this source lately: it answers for its own failures only."""
        success = self.sources[source][2] if source in self.sources else None
        return success is not None and now.wall - success < TRUSTED_FOR

    def locks_out(self, source: str, now: Moment, lock_after: int) -> bool:
        """Whether the lock holds for this source: for a trusted one, where its own failures alone have come to it."""
        return self.locked and not (self.trusts(source, now) and self.sources[source][0] < lock_after)

    def wait(self, source: str, now: Moment, a_day: int = FAILURES_A_DAY) -> int:
        """Whole seconds until a code from this source is looked at again, with ``a_day`` guesses; 0 when it is now."""
        row, last, _ = self.sources.get(source, [0, None, None])
        remaining = 0.0
        if last is not None and row >= FREE_FAILURES:
            remaining = _pause(row) - now.since(last)
        return max(0, _ceil(remaining), self.day_wait(now, a_day, source if self.trusts(source, now) else None))

    def day_wait(self, now: Moment, a_day: int = FAILURES_A_DAY, only: str | None = None) -> int:
        """Whole seconds until the day's failures, from everywhere or ``only`` one source, leave room for another."""
        return _until_room(self.recent, only, a_day, DAY, now)

    def recovery_wait(self, source: str, now: Moment) -> int:
        """Whole seconds until a recovery code from this source is looked at again; 0 when it is now."""
        wait = self.invitation_wait(source, now)
        if self.trusts(source, now):
            return wait
        return max(wait, _until_room(self.recent_recovery, None, RECOVERY_FAILURES_OF_ALL, RECOVERY_PERIOD, now))

    def invitation_wait(self, source: str, now: Moment) -> int:
        """The same for an invitation code, which costs no slow hash: no source is held up by another one."""
        return _until_room(self.recent_recovery, source, RECOVERY_FAILURES, RECOVERY_PERIOD, now)

    def longest_wait(self, now: Moment, a_day: int = FAILURES_A_DAY) -> int:
        """Whole seconds until no source has to wait any more."""
        return max([self.day_wait(now, a_day), *(self.wait(source, now, a_day) for source in self.sources)])

    def _forget_old_sources(self, now: Moment) -> None:
        def matters(entry: Stamp) -> bool:
            _, last, success = entry
            return (last is not None and now.since(last) < DAY) or (
                success is not None and now.wall - success < TRUSTED_FOR
            )

        kept = {source: entry for source, entry in self.sources.items() if matters(entry)}
        # The newest of each kind stay: strangers, however many, displace no source that the user comes from. Forgetting
        # a stranger opens nothing, because the day's limit holds for all of them together.
        for known in (True, False):
            alike = [source for source, entry in kept.items() if (entry[2] is not None) == known]
            alike.sort(key=lambda source: max(_wall(kept[source][1]), kept[source][2] or 0))
            for source in alike[:-MOST_SOURCES]:
                del kept[source]
        self.sources = kept


# What the parts of a ledger are. One of another form has to be damage here: whoever met it later would not know.


def _number(value: object) -> bool:
    # bool is an int to Python. More than 64 bits are no time and no count, and too much for a float.
    return type(value) is int and abs(value) < 1 << 63


def _text(value: object) -> bool:
    return type(value) is str


def _flag(value: object) -> bool:
    return type(value) is bool


def _token(value: object) -> bool:
    # What Sealer.token and slow_hash make, and a salt: 16 bytes.
    return isinstance(value, str) and len(value) == 32 and _HEXADECIMAL.issuperset(value)


def _or_none(holds: Check) -> Check:
    return lambda value: value is None or holds(value)


def _row(*checks: Check) -> Check:
    return lambda value: (
        type(value) is list
        and len(value) == len(checks)
        and all(holds(each) for holds, each in zip(checks, value, strict=True))
    )


def _each(holds: Check) -> Check:
    return lambda value: type(value) is list and all(map(holds, value))


def _table(holds: Check) -> Check:
    return lambda value: type(value) is dict and all(map(holds, value.values()))


def _recovery(value: Any) -> bool:
    return _token(value["salt"]) and _each(_token)(value["hashes"]) and _flag(value["shown"])


def _hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and _HEXADECIMAL.issuperset(value)


def _fleet(value: Any) -> bool:
    return type(value) is dict and value.keys() == _FLEET.keys() and all(_FLEET[name](value[name]) for name in _FLEET)


def _eight_digits(value: object) -> bool:
    return isinstance(value, str) and len(value) == 8 and value.isascii() and value.isdigit()


_stamp = _row(_number, _text, _number)
_FORM: dict[str, Check] = {
    "seq": _number,
    "marks": _table(_row(_number, _number, _number)),
    "row": _number,
    "locked": _flag,
    "recent": _each(_row(_stamp, _text)),
    "sources": _table(_row(_number, _or_none(_stamp), _or_none(_number))),
    "unseen": _row(_number, _text),
    "last_success": _or_none(_number),
}
_OPTIONAL: dict[str, Check] = {
    "uid": _number,
    "holds": _text,
    "recent_recovery": _each(_row(_stamp, _text)),
    "enrolled": _number,
    "recovery": _recovery,
    "scratch": _each(_eight_digits),
    "exemption": _row(_number, _text),
    "grace": _row(_stamp, _number),
    "deadline": _number,
    "invitation": _row(_token, _number),
    "issued": _text,
    "remembered": _table(_row(_stamp, _number)),
    "fleet": _fleet,
}
# What a directory says of a user: the login name that it knows; the hash of the record that was merged last; the ids of
# the authenticators in it; the salt of its recovery codes, their hashes, and those that were used here; and whether the
# user is locked everywhere, is asked from when on (seconds since the epoch) or has to enrol by when, or at once. One
# whom it does not list any more is revoked.
_FLEET: dict[str, Check] = {
    "name": _text,
    "record": _hash,
    "held": _each(_token),
    "salt": lambda value: value == "" or _token(value),
    "codes": _each(_token),
    "spent": _each(_token),
    "locked": _flag,
    "exempt": _or_none(_number),
    "deadline": _or_none(_number),
    "must": _flag,
    "revoked": _flag,
}


class _Plain:
    """What the scanner wants to be told: JSON with nothing special."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_read_json = make_scanner(_Plain)  # type: ignore[arg-type]  # any object with these attributes
_write_json = make_encoder(
    None,
    None,  # type: ignore[arg-type]  # never called: a ledger holds what JSON knows
    encode_basestring_ascii,
    None,
    ":",
    ",",
    False,
    False,
    False,
)


def parsed(content: bytes) -> Any:
    """What JSON in ASCII says, read as a ledger is. Raises ValueError, StopIteration or RecursionError."""
    return _read_json(content.decode("ascii"), 0)[0]


def _until_room(failures: list[Stamp], only: str | None, most: int, period: int, now: Moment) -> int:
    # Whole seconds until less than ``most`` of the failures, of one source or of all, are younger than the period.
    young = [stamp for stamp, source in failures if only in (None, source) and now.since(stamp) < period]
    return 0 if len(young) < most else max(1, _ceil(period - now.since(young[-most])))


def _pause(row: int) -> int:
    # The exponent is capped before the power is taken: a long row must not build a huge number.
    return min(LONGEST_WAIT, FIRST_WAIT << min(row - FREE_FAILURES, 10))


def _wall(stamp: Stamp | None) -> int:
    return int(stamp[0]) if stamp else 0


def _ceil(seconds: float) -> int:
    return -int(-seconds // 1)
