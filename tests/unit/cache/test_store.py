"""The cache file: its form, its rights, and what survives a crash and a full disk."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pam_totp.cache import schema, store
from pam_totp.cache.store import BUCKETS, EVENTS, Store
from pam_totp.errors import CacheError, CacheReadOnlyError
from tests.unit import places
from tests.unit.places import ME

ROSTER = [f"bucket {number}".encode() for number in range(BUCKETS)]
FACTS = {"fact": b"sealed"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir(0o700)
    schema.create(str(directory / "cache.db"), ROSTER, FACTS)
    return directory / "cache.db"


@pytest.fixture
def cache(path: Path) -> Store:
    return Store(str(path), ME)


def reason(path: Path, owner: int = ME) -> str:
    with pytest.raises(CacheError) as caught:
        Store(str(path), owner)
    assert not isinstance(caught.value, CacheReadOnlyError)
    return caught.value.reason


def content(cache: Store) -> list[object]:
    tables = ("account", "authenticator", "roster", "event", "fact")
    return [cache.execute(f"SELECT * FROM {table} ORDER BY 1") for table in tables]


# Opening


def test_the_settings_are_those_that_durability_rests_on(cache: Store) -> None:
    settings = {"journal_mode": "persist", "synchronous": 2, "secure_delete": 1, "temp_store": 2}
    settings |= {"cell_size_check": 1, "trusted_schema": 0}
    for name, value in settings.items():
        assert cache.execute(f"PRAGMA {name}") == [(value,)], name


def test_a_path_with_the_characters_of_an_address_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory#%41 b"
    path.mkdir(0o700)
    schema.create(str(path / "cache.db"), ROSTER, FACTS)
    with Store(str(path / "cache.db"), ME) as opened:
        assert opened.names() == []


def test_a_missing_cache_is_missing_and_never_made_up(tmp_path: Path) -> None:
    assert reason(tmp_path / "cache.db") == "cache-missing"
    assert reason(tmp_path / "nowhere" / "cache.db") == "cache-missing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_cache_that_is_open_to_others_is_refused(mode: int, path: Path) -> None:
    path.chmod(mode)
    assert reason(path) == "cache-unsafe"


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o710, 0o770])
def test_a_directory_that_is_open_to_others_is_refused(mode: int, path: Path) -> None:
    path.parent.chmod(mode)
    assert reason(path) == "cache-unsafe"


def test_a_cache_below_a_directory_that_others_can_write_is_refused(path: Path) -> None:
    path.parents[1].chmod(0o777)
    assert reason(path) == "cache-unsafe"


def test_somebody_elses_cache_is_refused(path: Path) -> None:
    assert reason(path, owner=places.foreign(path)) == "cache-unsafe"


@pytest.mark.parametrize("name", ["cache.db", "cache.db-journal"])
@pytest.mark.parametrize("kind", places.KINDS)
def test_a_cache_or_journal_that_is_not_a_plain_file_is_refused(kind: str, name: str, path: Path, cache: Store) -> None:
    cache.put_bucket(0, ROSTER[0])
    cache.close()
    places.replace(path.with_name(name), kind)
    assert reason(path) == "cache-unsafe"


def test_a_journal_that_is_open_to_others_is_refused(path: Path, cache: Store) -> None:
    cache.put_bucket(0, ROSTER[0])
    path.with_name("cache.db-journal").chmod(0o644)
    assert reason(path) == "cache-unsafe"


def test_a_directory_that_cannot_be_looked_at_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("posix.lstat", fail)
        assert reason(path) == "cache-unusable"


@pytest.mark.parametrize("content", [b"", b"text", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_file_that_is_no_cache_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    assert reason(path) in ("cache-version", "cache-unusable")


@pytest.mark.parametrize(("pragma", "value"), [("application_id", 1), ("user_version", 0), ("user_version", 3)])
def test_the_cache_of_another_program_or_version_is_refused(pragma: str, value: int, path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma} = {value}")
    connection.close()
    assert reason(path) == "cache-version"
    with pytest.raises(CacheError, match="newer" if value == 3 else "not a pam-totp cache"):
        Store(str(path), ME)


@pytest.mark.parametrize("size", [50, 100, 4096, 4096 * 2, 4096 * 10 + 7])
def test_a_cache_that_was_cut_off_is_refused_sooner_or_later(size: int, path: Path) -> None:
    os.truncate(path, size)

    def read() -> None:
        with Store(str(path), ME) as opened:
            if opened.damage():
                raise CacheError("SQLite itself finds it")
            content(opened)

    with pytest.raises(CacheError):
        read()


# Rows


def test_an_account_is_read_as_it_was_put(cache: Store) -> None:
    assert cache.account("alice") is None
    cache.put_account("alice", 1001, b"one")
    cache.put_account("alice", 1001, b"two")
    cache.put_account("bob", 1001, b"three")
    assert cache.account("alice") == ("alice", 1001, b"two")
    assert cache.accounts_with(1001) == [("alice", 1001, b"two"), ("bob", 1001, b"three")]
    assert cache.accounts_with(1) == []
    assert cache.names() == ["alice", "bob"]


def test_names_are_compared_byte_by_byte(cache: Store) -> None:
    for name in ("alice", "Alice", "zo\u00eb", "zoe\u0308", "%", "a_ice"):
        cache.put_account(name, 1, name.encode())
    assert cache.account("ALICE") is None
    assert cache.account("zo\u00eb") == ("zo\u00eb", 1, "zo\u00eb".encode())
    assert len(cache.names()) == 6


def test_only_the_account_that_is_there_is_updated(cache: Store) -> None:
    cache.put_account("alice", 1001, b"one")
    cache.update_ledger("alice", b"two")
    assert cache.account("alice") == ("alice", 1001, b"two")
    with pytest.raises(CacheError, match="removed meanwhile"):
        cache.update_ledger("bob", b"three")
    assert cache.names() == ["alice"]


def test_authenticators_are_read_oldest_first_and_deleted_one_by_one(cache: Store) -> None:
    rows = [(f"{number}", "active", "phone", "local", 100 - number, b"secret") for number in range(3)]
    for row in rows:
        cache.put_authenticator("alice", row)
    cache.put_authenticator("bob", ("9", "active", "phone", "local", 1, b"secret"))
    assert cache.authenticators("alice") == rows[::-1]
    cache.delete("alice", "9")
    cache.delete("alice", "1")
    assert cache.authenticators("alice") == [rows[2], rows[0]]
    cache.put_account("alice", 1001, b"")
    cache.delete("alice")
    assert (cache.account("alice"), cache.authenticators("alice")) == (None, [])
    assert len(cache.authenticators("bob")) == 1


def test_a_bucket_that_is_gone_is_nothing(cache: Store) -> None:
    cache.put_bucket(7, b"new")
    assert cache.bucket(7) == b"new"
    cache.execute("DELETE FROM roster WHERE bucket = 7")
    assert cache.bucket(7) is None


def test_text_that_is_not_utf_8_is_damage_in_a_row_and_an_error_in_a_question(cache: Store) -> None:
    with pytest.raises(CacheError):
        cache.account("zo\udceb")
    cache.execute("INSERT INTO account VALUES (CAST(X'FF' AS TEXT), 1, X'')")
    with pytest.raises(CacheError):
        cache.names()


def test_a_number_that_sqlite_cannot_hold_is_an_error_of_ours(cache: Store) -> None:
    with pytest.raises(CacheError):
        cache.put_account("alice", 2**64, b"")


def test_a_size_that_no_memory_has_is_an_error_of_ours(cache: Store) -> None:
    kept = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 28), kept[1]))
    try:
        with pytest.raises(CacheError, match="asks for more memory than there is"):
            cache.execute("SELECT length(randomblob(900000000))")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, kept)


def test_a_statement_that_fails_is_an_error_of_ours(cache: Store) -> None:
    with pytest.raises(CacheError, match="cannot be used"):
        cache.execute("SELECT * FROM nothing")


# Transactions


def test_a_transaction_is_kept_as_a_whole_or_not_at_all(path: Path, cache: Store) -> None:
    with cache.transaction():
        cache.put_account("alice", 1001, b"")

    def break_off() -> None:
        with cache.transaction():
            cache.put_account("bob", 1002, b"")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with cache.transaction():
        cache.put_account("carol", 1003, b"")
    with Store(str(path), ME) as other:
        assert other.names() == ["alice", "carol"]


def test_what_was_not_committed_is_gone_when_the_cache_is_closed(path: Path, cache: Store) -> None:
    cache.execute("BEGIN IMMEDIATE")
    cache.put_account("alice", 1001, b"")
    cache.close()
    assert Store(str(path), ME).names() == []


def test_a_second_writer_waits_and_gives_up(path: Path, cache: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.1)
    with cache.transaction(), Store(str(path), ME) as other:
        cache.put_account("alice", 1001, b"")
        assert other.names() == []
        with pytest.raises(CacheError) as caught, other.transaction():
            pass
    assert caught.value.reason == "cache-busy"


def test_a_killed_writer_leaves_the_state_before(path: Path, cache: Store) -> None:
    cache.put_account("alice", 1001, b"before")
    before = content(cache)
    cache.close()
    program = f"""
import os
from pam_totp.cache.store import Store
cache = Store({str(path)!r}, {ME})
cache.execute("PRAGMA cache_size = 1")
cache.execute("BEGIN IMMEDIATE")
cache.update_ledger("alice", b"after")
cache.execute("UPDATE roster SET entries = zeroblob(9000)")
os.kill(os.getpid(), 9)
"""
    as_it_was = path.read_bytes()
    subprocess.run([sys.executable, "-c", program], check=False, env={"PYTHONPATH": os.getcwd()})
    assert path.read_bytes() != as_it_was  # half of it had already reached the file
    with Store(str(path), ME) as opened:
        assert content(opened) == before
        assert opened.damage() == []


def fill(cache: Store) -> None:
    """From now on this connection finds the disk full."""
    [(pages,)] = cache.execute("PRAGMA page_count")
    cache.execute(f"PRAGMA max_page_count = {pages}")
    while cache.execute("PRAGMA freelist_count") != [(0,)]:
        cache.execute("INSERT INTO event VALUES (abs(random()), 0, 0, '', ?)", " " * 5000)


def test_a_full_disk_takes_an_update_in_place_and_refuses_growth_without_a_change(cache: Store) -> None:
    cache.put_account("alice", 1001, bytes(512))
    fill(cache)
    cache.update_ledger("alice", bytes([1]) * 512)
    before = content(cache)

    def grow() -> None:
        with cache.transaction():
            cache.update_ledger("alice", bytes([2]) * 512)
            cache.put_account("bob", 1002, bytes(100_000))

    with pytest.raises(CacheReadOnlyError, match="free space") as caught:
        grow()
    assert caught.value.reason == "cache-not-writable"
    assert content(cache) == before
    assert cache.account("alice") == ("alice", 1001, bytes([1]) * 512)


def test_a_cache_that_is_only_for_reading_is_told_from_a_broken_one(cache: Store) -> None:
    cache.put_account("alice", 1001, b"")
    cache.execute("PRAGMA query_only = ON")
    with pytest.raises(CacheReadOnlyError):
        cache.update_ledger("alice", b"new")
    assert cache.names() == ["alice"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, "cache-not-writable"),
        (sqlite3.SQLITE_READONLY, "cache-not-writable"),
        (sqlite3.SQLITE_READONLY_ROLLBACK, "cache-hot-journal"),
        (sqlite3.SQLITE_READONLY_RECOVERY, "cache-hot-journal"),
        (sqlite3.SQLITE_BUSY, "cache-busy"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "cache-busy"),
        (sqlite3.SQLITE_LOCKED, "cache-busy"),
        (sqlite3.SQLITE_CORRUPT, "cache-unusable"),
        (sqlite3.SQLITE_NOTADB, "cache-unusable"),
        (sqlite3.SQLITE_IOERR_READ, "cache-unusable"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "cache-unusable"),
        (sqlite3.SQLITE_READONLY_CANTLOCK, "cache-unusable"),
        (None, "cache-unusable"),
    ],
)
def test_each_failure_of_sqlite_has_its_reason(
    code: int | None, reason: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("a message of SQLite's, which is shown to nobody")
        if code is not None:
            error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_SOMETHING"
        raise error

    monkeypatch.setattr("pam_totp.cache.store.sqlite3.connect", fail)
    with pytest.raises(CacheError) as caught:
        Store(str(path), ME)
    assert caught.value.reason == reason
    assert "shown to nobody" not in str(caught.value)


def test_a_commit_that_fails_leaves_nothing_behind(cache: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Store.execute

    def fail(this: Store, statement: str, *values: object) -> list[tuple[object, ...]]:
        if statement == "COMMIT":
            raise CacheReadOnlyError("full")
        return execute(this, statement, *values)

    monkeypatch.setattr(Store, "execute", fail)
    with pytest.raises(CacheReadOnlyError), cache.transaction():
        cache.put_account("alice", 1001, b"")
    monkeypatch.undo()
    assert cache.names() == []
    with cache.transaction():
        cache.put_account("bob", 1002, b"")
    assert cache.names() == ["bob"]


# Events


def test_the_latest_events_are_told_newest_first(cache: Store) -> None:
    for number in range(10):
        cache.record_event(number, "alice" if number % 2 else "bob", f"line {number}")
    assert cache.events("alice", 3) == [(9, "line 9"), (7, "line 7"), (5, "line 5")]
    assert cache.events("carol", 3) == []


def test_the_ring_of_events_never_grows(path: Path, cache: Store) -> None:
    size = path.stat().st_size
    for number in range(EVENTS + 20):
        cache.record_event(number, "alice", "x" * 120)
    assert cache.execute("SELECT count(*) FROM event") == [(EVENTS,)]
    assert [time for time, _ in cache.events("alice", 1000)] == list(range(EVENTS + 19, 19, -1))
    assert path.stat().st_size <= size + 4096 * 4


def test_the_ring_can_have_another_size(cache: Store) -> None:
    for number in range(60):
        cache.record_event(number, "alice", "x", 40)
    assert [time for time, _ in cache.events("alice")] == list(range(59, 19, -1))
    # Larger, it loses nothing more; smaller, it keeps the latest.
    for number in range(60, 80):
        cache.record_event(number, "alice", "x", 100)
    assert [time for time, _ in cache.events("alice")][:21] == list(range(79, 58, -1))
    for number in range(80, 160):
        cache.record_event(number, "alice", "x", 100)
    assert [time for time, _ in cache.events("alice")] == list(range(159, 59, -1))
    for number in range(160, 180):
        cache.record_event(number, "alice", "x", 16)
    assert [time for time, _ in cache.events("alice")] == list(range(179, 163, -1))


def test_nothing_that_was_deleted_stays_in_a_free_page(path: Path, cache: Store) -> None:
    cache.put_authenticator("alice", ("1", "active", "phone", "local", 1, b"a sealed secret" * 100))
    assert b"a sealed secret" in path.read_bytes()
    cache.delete("alice")
    assert b"a sealed secret" not in path.read_bytes()


def test_a_cache_that_cannot_be_read_after_all_is_closed_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> object:
        raise CacheError("the disk is on fire")

    monkeypatch.setattr(Store, "execute", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CacheError):
        Store(str(path), ME)
    assert os.listdir("/proc/self/fd") == before


# What SQLite's C module needs to start

# As the helper starts: nothing is imported that it could come by.
LEAN = """
import sys
{before}
from pam_totp.cache import schema, store
print(*sorted({{"functools", "collections", "sqlite3"}} & set(sys.modules)))
connection = store.sqlite3.connect(":memory:")
# Twice as many statements as are kept, each of them used again
print(sum(connection.execute(f"SELECT {{number % 256}}").fetchone()[0] for number in range(512)))
import functools
print(functools.__name__, functools.reduce(lambda one, other: one + other, [1, 2]))
"""
# What a later Python may ask for, at its start or when it opens a file
OTHER_WISHES = """
import types
class Wishes:
    def find_spec(name, path=None, target=None):
        if name == "_sqlite3":
            from functools import lru_cache, partial, wraps
            assert lru_cache(maxsize=1)(len)("two") == lru_cache(len)("two") == partial(len, "two")() == 3
            assert wraps is __import__("functools").wraps
sys.meta_path.insert(0, Wishes)
"""
OTHER_CACHE = """
import _functools
def other(function, size, typed, info, made_by=_functools._lru_cache_wrapper):
    if info is tuple:
        raise TypeError
    return made_by(function, size, typed, info)
_functools._lru_cache_wrapper = other
"""
NO_CACHE = "import _functools; del _functools._lru_cache_wrapper"


@pytest.mark.parametrize(
    ("before", "loaded"),
    [
        ("", ""),
        ("import functools", "collections functools"),
        (OTHER_WISHES, "collections functools"),
        (OTHER_CACHE, ""),
        (NO_CACHE, ""),
    ],
)
def test_sqlite_starts_without_functools_and_has_it_where_it_wants_more_of_it(before: str, loaded: str) -> None:
    assert started(before) == [loaded, str(sum(range(256)) * 2), "functools 3"]


def started(before: str) -> list[str]:
    path = f"import sys; sys.path[:0] = {[str(Path(store.__file__).parents[2])]!r}\n"
    command = [sys.executable, "-I", "-S", "-E", "-s", "-P", "-B", "-c", path + LEAN.format(before=before)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
