"""A cache file that is not what was written: cut, flipped, mutated, edited with another program."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pam_totp import cli
from pam_totp.cache import store
from pam_totp.host.clock import Moment
from tests.faults.inside import host
from tests.faults.inside.holder import login, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pam_totp.login.attempt import Outcome

    Result = dict[str, object]

CACHE = host.PATHS.cache
NAMES = ("alice", "bob")


class Judge:
    """Says what is wrong with logins when the cache holds some bytes. alice and bob are enrolled, carol pending."""

    def __init__(self) -> None:
        self.secrets = {name: host.enrolled(name) for name in NAMES}
        host.enrolled("carol", pending=True)
        self.step = host.step_now()
        self.wrong = {name: host.wrong(secret, self.step) for name, secret in self.secrets.items()}
        self.judged = 0
        self.accepted = 0
        with open(CACHE, "rb") as file:
            self.content = file.read()

    def problems(self, content: bytes, what: str, name: str = "") -> list[str]:
        """Never in with a wrong or a spent code, never unasked; whatever denies a right code is named by status."""
        found: list[str] = []
        self.judged += 1
        name = name or NAMES[self.judged % 2]
        secret = self.secrets[name]
        put(content)
        for answer, kind in ((self.wrong[name], "wrong"), (host.code(secret, self.step - 1), "spent")):
            outcome = self._attempt(name, answer)
            if host.let_in(outcome):
                found.append(f"{what}: {name} gets in with a {kind} code: {outcome.reason}")
        outcome = self._attempt(name, host.code(secret, self.step + 1))
        self.accepted += outcome.verdict == "accepted"
        if outcome.verdict == "skipped":
            found.append(f"{what}: {name} is not asked: {outcome.reason}")
        if outcome.verdict != "accepted":
            put(content)
            if not host.damage():
                found.append(f"{what}: {name} is denied ({outcome.reason}) and status finds nothing")
        return found

    def _attempt(self, name: str, answer: str) -> Outcome:
        moment = Moment(self.step * host.STEP + 1.0, "boot", 5000.0)
        return host.attempt(name, answer, moment=moment, rhost=f"192.0.2.{self.judged % 200}")

    def result(self, problems: list[str]) -> Result:
        """What the caller is told."""
        return {"cases": self.judged, "accepted": self.accepted, "problems": problems[:50], "size": len(self.content)}


def put(content: bytes) -> None:
    """Let the cache be these bytes, without a journal and with nothing in /run."""
    for directory in host.DIRECTORIES[1:]:
        for file in os.listdir(directory):
            os.unlink(os.path.join(directory, file))
    with open(CACHE, "wb") as opened:
        opened.write(content)
    os.chmod(CACHE, 0o600)


@contextmanager
def judging(small: bool = False) -> Iterator[Judge]:
    """A judge; everything is put back at the end.

    `small`: of a cache with few roster buckets and events and small pages, so that all of it can be tried.
    """
    kept = host.keep()
    buckets, events = store.BUCKETS, store.EVENTS
    try:
        if small:
            store.BUCKETS, store.EVENTS = 4, 2
            os.unlink(host.PATHS.key)
            os.unlink(CACHE)
            if cli.main(["init", "--anew"]) != 0:
                raise AssertionError
        judge = Judge()
        if small:
            connection = sqlite3.connect(CACHE, isolation_level=None)
            connection.executescript("PRAGMA page_size = 1024; VACUUM;")
            connection.close()
            with open(CACHE, "rb") as file:
                judge.content = file.read()
        yield judge
    finally:
        store.BUCKETS, store.EVENTS = buckets, events
        host.put_back(kept)


def truncations() -> Result:
    """Every length at a border of a page, and one byte to either side of it."""
    with judging() as judge:
        problems = []
        for border in range(0, len(judge.content), 4096):
            for size in {max(0, border - 1), border, border + 1}:
                problems += judge.problems(judge.content[:size], f"cut to {size} bytes")
        return judge.result(problems)


def flips(every: int, start: int) -> Result:
    """Each `every`-th bit of a small cache flipped, from `start` on."""
    with judging(small=True) as judge:
        problems = []
        for bit in range(start, 8 * len(judge.content), every):
            content = bytearray(judge.content)
            content[bit >> 3] ^= 1 << (bit & 7)
            problems += judge.problems(bytes(content), f"bit {bit & 7} of byte {bit >> 3}")
        return judge.result(problems)


def mutations(count: int, seed: int) -> Result:
    """Random bytes, runs, zeros and pages in random places of the cache."""
    # Reproducible on purpose: a failure names the seed and the number.
    source = random.Random(seed)
    with judging() as judge:
        problems = []
        for number in range(count):
            problems += judge.problems(_mutated(judge.content, source), f"mutation {number} of seed {seed}")
        return judge.result(problems)


def _mutated(content: bytes, source: random.Random) -> bytes:
    mutated = bytearray(content)
    for _ in range(source.choice((1, 1, 1, 2, 8))):
        start = source.randrange(len(mutated))
        kind = source.randrange(5)
        size = min(source.choice((1, 4, 64, 512, 4096)), len(mutated) - start)
        if kind == 0:
            mutated[start] = source.randrange(256)
        elif kind == 1:
            mutated[start : start + size] = source.randbytes(size)
        elif kind == 2:
            mutated[start : start + size] = bytes(size)
        elif kind == 3:
            one, other = (4096 * source.randrange(len(mutated) // 4096) for _ in range(2))
            mutated[one : one + 4096] = mutated[other : other + 4096]
        else:
            # The first bytes of pages and of the file say how the rest is read.
            at = source.choice((0, 4096 * source.randrange(len(mutated) // 4096))) + source.randrange(112)
            mutated[at] ^= 1 << source.randrange(8)
    return bytes(mutated)


COLUMNS = "name, state, label, source, created, secret"
BOTH = "UPDATE {} SET name = 'mallory' WHERE name = 'alice';"
# What somebody can do with the sqlite3 tool. Each must be denied for alice, and named by status.
EDITS = (
    "DELETE FROM account",
    "DELETE FROM account WHERE name = 'alice'",
    "DELETE FROM authenticator",
    "DELETE FROM authenticator WHERE name = 'alice'",
    "DELETE FROM account WHERE name = 'alice'; DELETE FROM authenticator WHERE name = 'alice'",
    "DELETE FROM account; DELETE FROM authenticator; DELETE FROM roster",
    "DELETE FROM roster",
    "UPDATE account SET name = 'mallory' WHERE name = 'alice'",
    "UPDATE account SET name = 'ALICE' WHERE name = 'alice'",
    BOTH.format("account") + BOTH.format("authenticator"),
    "UPDATE authenticator SET name = 'bob' WHERE name = 'alice'",
    "UPDATE account SET uid = uid + 1 WHERE name = 'alice'",
    "UPDATE account SET ledger = x'' WHERE name = 'alice'",
    "UPDATE account SET ledger = (SELECT ledger FROM account WHERE name = 'bob') WHERE name = 'alice'",
    "UPDATE authenticator SET state = 'pending' WHERE name = 'alice'",
    "UPDATE authenticator SET state = 'none' WHERE name = 'alice'",
    "UPDATE authenticator SET label = 'other' WHERE name = 'alice'",
    "UPDATE authenticator SET source = 'directory' WHERE name = 'alice'",
    "UPDATE authenticator SET created = created + 1 WHERE name = 'alice'",
    "UPDATE authenticator SET id = '0000000000000000' WHERE name = 'alice'",
    "UPDATE authenticator SET secret = x'00' WHERE name = 'alice'",
    "UPDATE authenticator SET secret = (SELECT secret FROM authenticator WHERE name = 'bob') WHERE name = 'alice'",
    f"INSERT INTO authenticator SELECT 'aa', {COLUMNS} FROM authenticator WHERE name = 'alice'",
    "UPDATE roster SET entries = (SELECT entries FROM roster WHERE bucket = 0)",
    "UPDATE roster SET entries = x''",
    "UPDATE roster SET bucket = 1000 + bucket",
    "DROP TABLE roster",
    "DROP TABLE account",
    "DROP TABLE authenticator",
    "ALTER TABLE account RENAME TO accounts",
    "ALTER TABLE account RENAME COLUMN uid TO id",
    "ALTER TABLE authenticator RENAME TO authenticators",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 99",
    "PRAGMA application_id = 0",
)


def edits() -> Result:
    """Rows deleted, renamed and changed with the sqlite3 tool; judged in this process and through pam_python."""
    with judging() as judge:
        problems = []
        for edit in EDITS:
            put(judge.content)
            subprocess.run(["sqlite3", CACHE, edit], check=True, stdout=subprocess.DEVNULL)
            with open(CACHE, "rb") as file:
                content = file.read()
            problems += judge.problems(content, edit, "alice")
            put(content)
            got = login("alice", host.code(judge.secrets["alice"], host.step_now() + 1))
            if got != host.AUTHINFO_UNAVAIL:
                problems.append(f"{edit}: {verdict(got)}")
            if not host.damage():
                problems.append(f"{edit}: status finds nothing")
        return {**judge.result(problems), "cases": len(EDITS)}


def through_pam(count: int, seed: int) -> Result:
    """Mutations and flips met by the real module: with a wrong code nobody gets in, and nobody goes unasked."""
    source = random.Random(seed)
    with judging() as judge:
        problems = []
        seen: dict[str, int] = {}
        for number in range(count):
            content = bytearray(_mutated(judge.content, source))
            put(bytes(content))
            got = login("alice", judge.wrong["alice"])
            seen[verdict(got)] = seen.get(verdict(got), 0) + 1
            if got not in (host.AUTH_ERR, host.AUTHINFO_UNAVAIL):
                problems.append(f"mutation {number} of seed {seed}: {verdict(got)}")
        return {"cases": count, "seen": seen, "problems": problems}
