"""Records in the wrong place, and an older cache in the place of the newer."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

from pam_totp import cli
from pam_totp.cache import keys
from pam_totp.cache.roster import bucket_of
from tests.faults.inside import host
from tests.faults.inside.holder import login, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE, KEY = host.PATHS.cache, host.PATHS.key
OTHER_HOST = "/run/lab/other-host.db"


def _sql(*statements: str) -> None:
    connection = sqlite3.connect(CACHE, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def _exchange(table: str, column: str) -> None:
    _sql(
        f"CREATE TEMP TABLE kept AS SELECT name, {column} AS value FROM {table} WHERE name IN ('alice', 'bob')",
        f"UPDATE {table} SET {column} = (SELECT value FROM kept WHERE kept.name != {table}.name)"
        " WHERE name IN ('alice', 'bob')",
    )


def _exchange_names() -> None:
    for table in ("account", "authenticator"):
        for old, new in (("alice", "x"), ("bob", "alice"), ("x", "bob")):
            _sql(f"UPDATE {table} SET name = '{new}' WHERE name = '{old}'")


def _exchange_buckets() -> None:
    one, other = bucket_of("n:alice"), bucket_of("n:bob")
    _sql(
        f"CREATE TEMP TABLE kept AS SELECT * FROM roster WHERE bucket IN ({one}, {other})",
        "UPDATE roster SET entries = (SELECT entries FROM kept WHERE kept.bucket != roster.bucket)"
        f" WHERE bucket IN ({one}, {other})",
    )


def _from_the_other_host() -> None:
    _sql(
        f"ATTACH '{OTHER_HOST}' AS other",
        "UPDATE account SET ledger = (SELECT ledger FROM other.account WHERE name = 'alice') WHERE name = 'alice'",
        "DELETE FROM authenticator WHERE name = 'alice'",
        "INSERT INTO authenticator SELECT * FROM other.authenticator WHERE name = 'alice'",
    )


def _whole_other_host() -> None:
    with open(OTHER_HOST, "rb") as file:
        content = file.read()
    with open(CACHE, "wb") as file:
        file.write(content)


def _other_key() -> None:
    os.unlink(KEY)
    keys.create(KEY)


def _other_copy() -> None:
    copies = sorted(name for name in os.listdir(host.PATHS.run) if len(name) == 32)
    if len(copies) != 2:
        raise AssertionError(copies)
    one, other = (os.path.join(host.PATHS.run, name) for name in copies)
    os.rename(one, one + ".x")
    os.rename(other, one)
    os.rename(one + ".x", other)


SWAPS: dict[str, Callable[[], None]] = {
    "secrets of two users exchanged": lambda: _exchange("authenticator", "secret"),
    "ledgers of two users exchanged": lambda: _exchange("account", "ledger"),
    "ids of two users exchanged": lambda: _exchange("account", "uid"),
    "labels moved": lambda: _sql("UPDATE authenticator SET label = 'tablet' WHERE name = 'alice'"),
    "names of two users exchanged": _exchange_names,
    "roster buckets exchanged": _exchange_buckets,
    "a record of another host": _from_the_other_host,
    "the cache of another host": _whole_other_host,
    "another key": _other_key,
    "copies in /run exchanged": _other_copy,
}


def swaps() -> dict[str, object]:
    """Each record in a wrong place: denied, and named by status."""
    _make_other_host()
    secrets = {name: host.enrolled(name) for name in ("alice", "bob")}
    for name, secret in secrets.items():
        host.attempt(name, host.code(secret, host.step_now()))
    kept = host.keep()
    problems = []
    for what, swap in SWAPS.items():
        host.put_back(kept)
        swap()
        got = login("alice", host.code(secrets["alice"], host.step_now() + 1))
        if got != host.AUTHINFO_UNAVAIL:
            problems.append(f"{what}: {verdict(got)}")
        if not host.damage() and "/run" not in what:
            problems.append(f"{what}: status finds nothing")
    host.put_back(kept)
    return {"cases": len(SWAPS), "problems": problems}


def _make_other_host() -> None:
    kept = host.keep()
    os.unlink(KEY)
    os.unlink(CACHE)
    if cli.main(["init", "--anew"]) != 0:
        raise AssertionError
    host.enrolled("alice")
    shutil.move(CACHE, OTHER_HOST)
    host.put_back(kept)


def older() -> dict[str, object]:
    """An older cache put back on this boot: nothing spent since works again, and no failure is forgotten."""
    problems = []
    secret = host.enrolled("alice")
    codes = host.issued("alice")
    with open(CACHE, "rb") as file:
        old = file.read()
    step = host.step_now()

    def put_old() -> None:
        with open(CACHE, "wb") as file:
            file.write(old)

    def expect(answer: str, wanted: int, what: str, source: str) -> None:
        got = login("alice", answer, f"rhost={source}")
        if got != wanted:
            problems.append(f"{what}: {verdict(got)} instead of {verdict(wanted)}")

    expect(host.code(secret, step), host.SUCCESS, "a code", "192.0.2.1")
    put_old()
    expect(host.code(secret, step), host.AUTH_ERR, "the same code, in an older cache", "192.0.2.1")
    put_old()
    expect(codes[0], host.SUCCESS, "a recovery code", "192.0.2.1")
    put_old()
    expect(codes[0], host.AUTH_ERR, "the same recovery code, in an older cache", "192.0.2.2")
    for _ in range(3):
        put_old()
        expect(host.wrong(secret, step), host.AUTH_ERR, "a wrong code", "192.0.2.3")
    put_old()
    expect(host.code(secret, step + 1), host.AUTH_ERR, "in a wait that the older cache has not", "192.0.2.3")
    put_old()
    expect(host.code(secret, step + 1), host.SUCCESS, "a right code from elsewhere", "192.0.2.4")
    # Enrolled anew since: the older cache does not bring the former secret back, and does not un-enrol either.
    second = host.enrolled_again("alice")
    expect(host.code(second, step + 1), host.SUCCESS, "a code of the new secret", "192.0.2.5")
    put_old()
    expect(host.code(secret, step + 1), host.AUTHINFO_UNAVAIL, "a spent code of the former secret", "192.0.2.5")
    expect(host.code(second, step + 1), host.AUTHINFO_UNAVAIL, "a spent code of the new secret", "192.0.2.5")
    return {"cases": 6, "pam": 12, "problems": problems}
