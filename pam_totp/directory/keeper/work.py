"""What the keeper does for those who ask it. No request yields a key, or a secret that was shown before.

A request that is refused raises KeeperError, whose text says why.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pam_totp.cache import ledger as ledgers
from pam_totp.cache.ledger import Ledger
from pam_totp.cache.seal import Sealer
from pam_totp.errors import DamageError, KeeperError, PamTotpError
from pam_totp.factors import otp, recovery
from pam_totp.fleet import tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.directory.keeper.keys import Keys
    from pam_totp.directory.keeper.state import Counters, Host, State
    from pam_totp.host.clock import Moment

    Fields = dict[str, Any]

WINDOW = 1
MAX_DRIFT = 10
LOCK_AFTER = 100
# As many wrong codes as a taken-over web process has against one person, whatever ledger it hands over: until one is
# right by chance takes years. It is more than the ledger lets strangers have, or they would keep the owner out.
# Recovery codes are not counted: nobody guesses 50 bits. And as many new secrets and recovery codes as it can make, for
# one person and for all.
CHECKS = (100, 86_400.0)
NEW = (20, 3600.0)
NEW_OF_ALL = (2000, 3600.0)
MOST_COUNTED = 100_000
# How many numbers a publication may leave out, as passes that were killed do. The numbers must not run out.
MOST_SKIPPED = 1 << 20
# How far what is signed may be from the keeper's own clock, and how long it may live, in seconds.
MOST_APART = 3600
LONGEST_LIFE = 366 * 86_400
# What one request to publish is for, where it is for several hosts: some tenths of a second.
MOST_HOSTS = 200
MOST_RECORDS = 20_000
# How long another keeper's word for a host that has joined is good, in seconds: as long as its first manifest. One that
# was kept aside brings no host to a keeper that has never heard of it, nor of its end.
VOUCHED_FOR = 7 * 86_400


@dataclass(frozen=True)
class _Common:
    """What a request to publish says for all of its hosts. ``record`` opens one by its number, once for all."""

    counters: Counters
    sequence: int
    issued: int
    expires: int
    record: Callable[[int], tree.Record]
    policy: tree.Policy | None


class Limits:
    """How often something was asked for lately, by the person that it is about."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], list[float]] = {}

    def take(self, verb: str, person: str, limit: tuple[int, float], now: float) -> None:
        """Count a request. ``limit``: so many in so many seconds; ``now`` in seconds since the boot."""
        most, period = limit
        young = [each for each in self._asked.pop((verb, person), []) if now - each < period]
        if len(young) >= most:
            self._asked[verb, person] = young
            text = f"too many requests {verb}: wait, and look at the keeper's log for who asked so often"
            raise KeeperError(text, "too-many")
        while len(self._asked) >= MOST_COUNTED:
            del self._asked[next(iter(self._asked))]
        self._asked[verb, person] = [*young, now]

    def give_back(self, verb: str, person: str) -> None:
        """Do not count the latest one."""
        asked = self._asked.get((verb, person))
        if asked:
            asked.pop()


class Keeper:
    """The keys, and the requests. ``clock`` is the time; nothing here reads another one."""

    def __init__(self, keys: Keys, state: State, clock: Callable[[], Moment]) -> None:
        self._keys = keys
        self._state = state
        self._clock = clock
        self._sealer = Sealer(keys.seal, keys.directory)
        self._limits = Limits()

    def answer(self, fields: Fields, *, root: bool) -> Fields:
        """The answer to a request; ``root``: root itself asks. Raises PamTotpError."""
        verb = fields.get("verb")
        does = self.VERBS.get(verb) if isinstance(verb, str) else None
        if does is None:
            raise KeeperError("there is no such request")
        if verb in ("epoch", "token") and not root:
            # Who took over the web process must not be able to add a host, or to go back in time.
            raise KeeperError(f"{verb} is for root alone: run pam-totp-directory {verb} on this machine")
        try:
            answer: Fields = does(self, fields, root)
        except (LookupError, TypeError, ValueError, AttributeError):
            # What the values are, nobody is told.
            raise KeeperError(f"the request {verb} is malformed") from None
        return answer

    def _status(self, _: Fields, __: bool) -> Fields:
        counters = self._state.counters()
        return {"directory": self._keys.directory, "epoch": counters.epoch, "sequence": counters.sequence}

    def _epoch(self, _: Fields, __: bool) -> Fields:
        counters = self._state.begin_epoch()
        voucher = self._vouched([counters.epoch, counters.closed], "epoch")
        return {"epoch": counters.epoch, "sequence": counters.sequence, "voucher": voucher}

    # Other keepers with the same keys

    def _hear(self, fields: Fields, _: bool) -> Fields:
        """What others have done, as the database has it. The answer: for which hosts nothing is signed here.

        The database may leave out, and repeat. It cannot invent: an epoch, or a host that is not known here, is taken
        with another keeper's voucher alone. Nor can it take back: who is revoked here stays so, and numbers only grow.
        """
        counters, now, asked, strange = self._state.counters(), int(self._clock().wall), fields["hosts"], []
        if len(asked) > MOST_HOSTS:
            raise KeeperError(f"a request is for at most {MOST_HOSTS} hosts")
        reached = min(int(fields["sequence"]), counters.sequence + MOST_SKIPPED)
        epoch, closed = self._voucher(fields["epoch"], "epoch") or (counters.epoch, counters.closed)
        with self._state.change():
            self._state.catch_up(epoch, closed, max(reached, closed or 0))
            for each in asked:
                ident = _text(each["host"])
                host = self._state.host(ident) or self._introduced(ident, each["voucher"], now)
                if host is not None and each["revoked"]:
                    self._state.revoke_host(ident, now)
                elif host is None or host.revoked is not None:
                    strange.append(ident)
        return {"strange": strange}

    def _introduced(self, ident: str, voucher: object, now: int) -> Host | None:
        """A host that has joined with another keeper lately, known here from now on."""
        name, key, joined = self._voucher(voucher, "host", ident) or ("", "", 0)
        if not now - VOUCHED_FOR < joined <= now + MOST_APART:
            return None
        self._state.add_host(ident, name, _bytes(key), joined)
        return self._state.host(ident)

    def _vouched(self, said: list[Any], *about: str) -> str:
        """A voucher: what only keepers with these keys can make, and open."""
        return _base64(self._sealer.seal(json.dumps(said).encode("ascii"), *about))

    def _voucher(self, voucher: object, *about: str) -> list[Any] | None:
        """What a voucher says; None where it is none, or is about something else."""
        try:
            said: list[Any] = json.loads(self._sealer.open(_bytes(voucher), *about))
        except DamageError:
            return None
        return said

    # People

    def _new(self, fields: Fields, root: bool) -> Fields:
        """A new secret: sealed, and once as text."""
        person = _person(fields["person"])
        self._make("new", person, root)
        secret = os.urandom(otp.SECRET_BYTES)
        return self._sealed(tree.new_identifier(), person, secret) | {
            "key": base64.b32encode(secret).decode("ascii").rstrip("=")
        }

    def _recovery(self, fields: Fields, root: bool) -> Fields:
        """Ten new recovery codes, and what is kept of them."""
        self._make("recovery", _person(fields["person"]), root)
        ledger = Ledger()
        codes = recovery.issue(ledger, self._sealer)
        if ledger.recovery is None:
            raise AssertionError
        return {"codes": codes, "salt": ledger.recovery["salt"], "hashes": ledger.recovery["hashes"]}

    def _make(self, verb: str, person: str, root: bool) -> None:
        if not root:
            now = self._clock().uptime
            self._limits.take(verb, "", NEW_OF_ALL, now)
            self._limits.take(verb, person, NEW, now)

    def _open_event(self, fields: Fields, root: bool) -> Fields:
        """What a host handed up of an enrolment there, sealed for the database."""
        host = self._state.host(_text(fields["host"]))
        if host is None or host.revoked is not None:
            raise KeeperError("this host has not joined")
        self._make("open_event", _person(fields["person"]), root)
        found = tree.open_enrolment(_bytes(fields["sealed"]), host.ident, self._keys.box)
        return self._sealed(found.identifier, _person(fields["person"]), found.secret) | {
            "name": found.name,
            "label": found.label,
        }

    def _check(self, fields: Fields, _: bool) -> Fields:
        """Whether a code or a recovery code is right and unspent; the ledger has the charge, whichever it is.

        The verdicts: accepted, refused, spent (right, and used before), wait (with the seconds), locked, malformed.
        """
        person, now = _person(fields["person"]), self._clock()
        ledger = Ledger.decode(_bytes(fields["ledger"])) if fields["ledger"] else Ledger()
        source, answer = _text(fields["source"]), _text(fields["code"])
        authenticators = [
            (_text(ident), self._opened(_text(ident), person, sealed)) for ident, sealed in fields["authenticators"]
        ]
        code, spare = otp.parse(answer), recovery.parse(answer)
        if code is None and spare is None:
            return {"verdict": "malformed"}
        if code is not None:
            if ledger.locks_out(source, now, LOCK_AFTER):
                return {"verdict": "locked"}
            wait = ledger.wait(source, now, ledgers.guesses_a_day(len(authenticators), WINDOW))
        else:
            wait = ledger.recovery_wait(source, now)
        if wait:
            return {"verdict": "wait", "seconds": wait}
        if code is not None:
            # Charged before it is looked at. A right one takes its own charge back, and no other: it may be of an
            # authenticator that the web process has made for itself.
            self._limits.take("check", person, CHECKS, now.uptime)
        found, used = self._spend(ledger, authenticators, code, spare, fields["recovery"], now)
        if found is None and code is not None:
            ledger.fail(source, source, now, LOCK_AFTER)
        elif found is None:
            ledger.fail_recovery(source, source, now)
        else:
            ledger.succeed(source, now)
            if code is not None:
                self._limits.give_back("check", person)
        ledger.seq += 1
        ledger.forget_marks({ident for ident, _ in authenticators})
        verdict: Fields = {"verdict": "spent" if used else "refused"}
        if found is not None:
            verdict = {"verdict": "accepted", **found}
        return verdict | {"ledger": _base64(ledger.encode())}

    def _spend(
        self,
        ledger: Ledger,
        authenticators: list[tuple[str, bytes]],
        code: str | None,
        spare: str | None,
        kept: Fields | None,
        now: Moment,
    ) -> tuple[Fields | None, bool]:
        """What the answer is good for, spent in the ledger; None: for nothing. And whether the code was used before."""
        if code is None:
            if kept is None or spare is None:
                return None, False
            ledger.recovery = {"salt": _text(kept["salt"]), "hashes": list(kept["hashes"]), "shown": True}
            right = recovery.spend(ledger, spare, self._sealer)
            left = ledger.recovery["hashes"]
            (spent,) = set(kept["hashes"]) - set(left) or {""}
            ledger.recovery = None
            return {"recovery": spent, "hashes": left} if right else None, False
        now_step, used = otp.step_at(now.wall), False
        found: Fields | None = None
        for ident, secret in authenticators:
            mark = ledger.mark(ident)
            middle = now_step + mark.drift
            step = otp.matching_step(secret, code, range(middle - WINDOW, middle + WINDOW + 1))
            # Every authenticator is looked at, whichever matches.
            if step is not None and step > mark.step and found is None:
                mark.spend(step, now_step, MAX_DRIFT)
                found = {"authenticator": ident, "step": step}
            elif step is not None:
                used = True
        return found, used

    # Hosts

    def _token(self, fields: Fields, _: bool) -> Fields:
        """Let a host join with this token: one with a name, or any number until it ends."""
        secret, host, expires = _text(fields["secret"]), _text(fields["host"]), int(fields["expires"])
        self._state.add_token(secret, host, expires, int(self._clock().wall))
        return {}

    def _join(self, fields: Fields, _: bool) -> Fields:
        """A host joins. The same one may ask again with its token, because the answer may have been lost."""
        secret, name, key = _text(fields["secret"]), _text(fields["name"]), _bytes(fields["key"])
        now = int(self._clock().wall)
        if len(key) != 32 or not name:
            raise ValueError
        token = self._state.token(secret)
        if token is None or token.expires <= now:
            raise KeeperError("this token is not known, or its time is over: ask for a new one", "join-token")
        if token.host not in ("", name):
            raise KeeperError(
                "this token is for another host name: join with --name NAME, or ask for a new one", "join-token"
            )
        known = self._state.host_with_key(key)
        if known is not None:
            again = token.host == "" or token.used == known.ident
            if known.revoked is not None or known.name != name or not again:
                raise KeeperError("this key has joined before: join with a new one", "join-token")
            return self._joined(known.ident) | {"again": True}
        if token.host and token.used is not None:
            raise KeeperError("this token was used before: ask for a new one", "join-token")
        ident = tree.new_identifier()
        with self._state.change():
            self._state.add_host(ident, name, key, now)
            self._state.use_token(secret, ident)
        return self._joined(ident) | {"again": False}

    def _joined(self, ident: str) -> Fields:
        host = self._state.host(ident)
        if host is None:
            raise AssertionError
        return {"host": ident, "voucher": self._vouched([host.name, _base64(host.key), host.joined], "host", ident)}

    def _revoke(self, fields: Fields, _: bool) -> Fields:
        return {"revoked": self._state.revoke_host(_text(fields["host"]), int(self._clock().wall))}

    def _publish(self, fields: Fields, root: bool) -> Fields:
        """Seal what has changed for some hosts, and sign their manifests: one commit for all of them.

        ``records`` and ``policy`` are what is to be sealed anew. Of each host, ``fresh`` are the numbers of its records
        in there; ``keep`` are the hashes of what stays: files of their own, beside the ``bundle`` but the ``dropped``.
        Where ``bundle`` is True, all of that becomes a new bundle. What cannot be done for one holds up no other.
        """
        sequence, counters, asked = int(fields["sequence"]), self._state.counters(), fields["hosts"]
        weight = sum(len(each["fresh"]) + len(each["keep"]) for each in asked)
        if len(asked) > 1 and (len(asked) > MOST_HOSTS or weight > MOST_RECORDS):
            # Others wait for their turn, among them somebody who types a code.
            raise KeeperError(f"a request is for at most {MOST_HOSTS} hosts, and {MOST_RECORDS} records of theirs")
        if sequence < counters.sequence:
            raise KeeperError(
                "the database is older than what was signed: it was restored from a backup. Run pam-totp-directory "
                "epoch, which says what to look at",
                "database-older",
            )
        if sequence > counters.sequence + MOST_SKIPPED and not root:
            raise KeeperError(
                "this number is too far from the last one that was signed: find out who asked for it. If the keeper "
                "was restored from an old backup, run pam-totp-directory publish as root",
                "number",
            )
        issued, expires = int(fields["issued"]), int(fields["expires"])
        if abs(issued - self._clock().wall) > MOST_APART or expires - issued > LONGEST_LIFE:
            # One that is signed for later, by somebody who may ask for a while, would be good when that is over.
            raise KeeperError("this is not of now by the keeper's clock, or would live for too long", "clock")
        common = _Common(
            counters,
            sequence,
            issued,
            expires,
            lru_cache(None)(lambda number: self._record(fields["records"][number])),
            None if fields["policy"] is None else _policy(fields["policy"]),
        )
        answers = []
        with self._state.change():
            for each in asked:
                try:
                    answers.append(self._for_host(each, common))
                except PamTotpError as error:
                    answers.append(said(error))
        return {"epoch": counters.epoch, "hosts": answers}

    def _for_host(self, fields: Fields, common: _Common) -> Fields:
        host = self._state.host(_text(fields["host"]))
        if host is None or host.revoked is not None:
            raise KeeperError("this host has not joined, or was revoked", "host-unknown")
        if common.sequence == host.sequence:
            raise KeeperError("this was signed before, and the answer was lost: ask with the next number", "lost")
        records = [
            tree.seal_record(common.record(_natural(number)), host.ident, host.key) for number in fields["fresh"]
        ]
        policy, sealed = fields["keep_policy"], None
        if policy is None and common.policy is not None:
            sealed = tree.seal_policy(common.policy, host.ident, host.key)
            policy = tree.digest(sealed)
        names = sorted({*(tree.digest(each) for each in records), *fields["keep"]})
        bundle, dropped = fields["bundle"], sorted(map(_text, fields["dropped"]))
        if bundle is True:
            bundle, dropped, names = tree.bundle_name(names) if names else None, [], []
        elif bundle is not None:
            _text(bundle)
        manifest = tree.Manifest(
            directory=self._keys.directory,
            host=host.ident,
            epoch=common.counters.epoch,
            sequence=common.sequence,
            issued=common.issued,
            expires=common.expires,
            policy=policy,
            records=tuple(names),
            bundle=bundle,
            dropped=tuple(dropped),
            previous_epoch_closed=common.counters.closed,
        )
        content = tree.sign_manifest(manifest, self._keys.signing)
        self._state.signed(host.ident, common.counters.epoch, common.sequence)
        return {
            "manifest": _base64(content),
            "records": [_base64(each) for each in records],
            "policy": None if sealed is None else _base64(sealed),
        }

    def _record(self, fields: Fields) -> tree.Record:
        person = _person(fields["person"])
        authenticators = tuple(
            tree.Authenticator(
                _text(each["id"]), each["label"], each["created"], self._opened(each["id"], person, each["sealed"])
            )
            for each in fields["authenticators"]
        )
        kept = fields["recovery"]
        return tree.Record(
            name=fields["name"],
            authenticators=authenticators,
            recovery=None if kept is None else tree.Recovery(kept["salt"], tuple(kept["hashes"])),
            locked=fields["locked"],
            exempt_until=fields["exempt_until"],
            deadline=fields["deadline"],
            must_enroll=fields["must_enroll"],
            forget_before=fields["forget_before"],
        )

    # Secrets as the database has them

    def _sealed(self, ident: str, person: str, secret: bytes) -> Fields:
        return {"id": ident, "sealed": _base64(self._sealer.seal(secret, "authenticator", ident, person))}

    def _opened(self, ident: str, person: str, sealed: str) -> bytes:
        try:
            return self._sealer.open(_bytes(sealed), "authenticator", ident, person)
        except DamageError:
            raise KeeperError(
                "an authenticator of the database does not open: it is another person's, or the database and the "
                "keeper's keys are of different backups",
                "damaged",
            ) from None

    VERBS: dict[str, Any] = {  # noqa: RUF012  # never changed
        "status": _status,
        "epoch": _epoch,
        "hear": _hear,
        "new": _new,
        "recovery": _recovery,
        "open_event": _open_event,
        "check": _check,
        "token": _token,
        "join": _join,
        "revoke": _revoke,
        "publish": _publish,
    }


def said(error: PamTotpError) -> dict[str, str]:
    """An error as an answer."""
    return {"error": str(error), "reason": error.reason}


def _policy(fields: dict[str, Any]) -> tree.Policy:
    return tree.Policy(**fields | {"break_glass": tuple(fields["break_glass"])})


def _person(value: object) -> str:
    if type(value) is not int:
        raise TypeError
    return str(value)


def _natural(value: object) -> int:
    # A negative one would count from the end.
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _bytes(value: object) -> bytes:
    return base64.b64decode(_text(value), validate=True)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
