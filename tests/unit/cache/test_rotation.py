"""Rotating the host key: everything is sealed anew, logins go on, and the old key is gone."""

from __future__ import annotations

import os
import posix
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import binding, keys, rotation, store
from pam_totp.cache.seal import Sealer
from pam_totp.cache.store import Store
from pam_totp.errors import CacheError, CacheReadOnlyError, DamageError, HostKeyError
from pam_totp.factors import invitation, recovery
from pam_totp.host import files
from pam_totp.host.users import User
from tests.unit.pretend import ALICE, BOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host


def rotate(host: Host) -> int | None:
    return rotation.rotate(host.paths, lambda _: None)


def content(host: Host) -> bytes:
    return Path(host.paths.key).read_bytes()


def of_the_directory(host: Host) -> list[str]:
    return sorted(os.listdir(os.path.dirname(host.paths.key)))


def sealed_values(host: Host) -> set[bytes]:
    connection = sqlite3.connect(host.paths.cache)
    found: set[bytes] = set()
    for table, column in (("account", "ledger"), ("authenticator", "secret"), ("roster", "entries"), ("fact", "value")):
        found |= {row[0] for row in connection.execute(f"SELECT {column} FROM {table}")}
    connection.close()
    return found


class StopError(Exception):
    """In the place of a kill."""


@contextmanager
def stopped(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, after: int = 0) -> Iterator[None]:
    """The ``after``-th call of something, counted from 0, is never reached."""
    real, left = getattr(owner, name), [after]

    def stop(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise StopError
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(StopError):
            yield


def test_everything_is_sealed_anew_and_the_old_key_opens_nothing(host: Host) -> None:
    secret = host.enroll()
    host.enroll(BOB, state="pending")
    old, before = host.sealer(), sealed_values(host)
    assert rotate(host)
    assert of_the_directory(host) == ["key"]
    assert not sealed_values(host) & before
    for value in sealed_values(host):
        for context in (("ledger", "alice"), ("roster", "0"), ("fact", "configured")):
            with pytest.raises(DamageError):
                old.open(value, *context)
    with host.accounts() as accounts:
        assert accounts.damage() == []
        accounts.check_key()
    assert host.login("alice", host.code(secret)).reason == "code"
    assert host.login("bob").reason == "pending"


def test_the_file_holds_nothing_of_the_old_key(host: Host) -> None:
    _, key, _ = keys.parse(content(host), "key")
    rotate(host)
    assert key.hex().encode() not in content(host)
    host_id, _, naming = keys.parse(content(host), "key")
    rotate(host)
    assert (host_id, naming) == tuple(keys.parse(content(host), "key")[::2])


def test_what_is_spent_stays_spent_also_where_only_run_knows_it(host: Host) -> None:
    secret = host.enroll()
    snapshot = host.snapshot()
    spent = host.code(secret)
    assert host.login("alice", spent).reason == "code"
    host.put_back(snapshot)
    rotate(host)
    assert host.login("alice", spent).reason == "spent-code"


def test_what_is_kept_as_a_token_or_a_hash_stays_good(host: Host) -> None:
    host.enroll()
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        codes = recovery.issue(account.ledger, accounts.sealer)
        invited = invitation.issue(account, int(host.wall) + 60, accounts.sealer)
        accounts.save(account)
        tokens = [accounts.sealer.token("x", use) for use in ("account", "source", "client", "invitation")]
    rotate(host)
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        assert recovery.spend(account.ledger, codes[0].replace("-", ""), accounts.sealer)
        assert invitation.matches(account, invited, accounts.sealer)
        assert tokens == [accounts.sealer.token("x", use) for use in ("account", "source", "client", "invitation")]


def test_more_users_than_one_transaction_takes(host: Host, passwd: Passwd) -> None:
    people = [User(f"user{number:04}", 3000 + number) for number in range(250)]
    for user in people:
        passwd.add(user.name, user.uid)
        host.enroll(user)
    before = sealed_values(host)
    rotate(host)
    assert not sealed_values(host) & before
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_a_login_that_began_before_it_ends_after_it(host: Host) -> None:
    secret = host.enroll()

    def meanwhile() -> str:
        rotate(host)
        return host.code(secret)

    assert host.login("alice", meanwhile).reason == "code"


@pytest.mark.parametrize("read_before", [True, False])
def test_who_has_the_old_key_in_hand_reads_and_writes_with_the_new_one(read_before: bool, host: Host) -> None:
    host.enroll()
    with host.accounts() as accounts:
        account = accounts.find(ALICE) if read_before else None
        rotate(host)
        account = account or accounts.find(ALICE)
        account.ledger.row = 7
        assert accounts.charge(account, host.now())
        accounts.configured.note(True)
        assert accounts.configured.known()
        assert accounts.damage() == []
    new = host.sealer()
    connection = sqlite3.connect(host.paths.cache)
    (ledger,) = connection.execute("SELECT ledger FROM account").fetchone()
    connection.close()
    new.open(ledger, "ledger", "alice")
    (copy,) = [path for path in host.in_run() if not path.endswith(".lock")]
    new.open(Path(copy).read_bytes(), "ledger", "alice")


@pytest.mark.parametrize("batches", range(7))
def test_half_way_both_keys_open_and_it_goes_on_where_it_stopped(
    batches: int, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll()
    begun = [batches]

    def pause(_: float) -> None:
        begun[0] -= 1
        if begun[0] < 0:
            raise StopError

    with pytest.raises(StopError):
        rotation.rotate(host.paths, pause)
    assert of_the_directory(host) == ["key", "key.next"]
    assert host.login("alice", host.code(secret)).reason == "code"
    with host.accounts() as accounts:
        assert accounts.damage() == []
    host.enroll(BOB)
    following = Path(f"{host.paths.key}.next").read_bytes()
    rotate(host)
    assert content(host) == following
    assert host.login("alice", host.code(secret, 1)).reason == "code"
    with host.accounts() as accounts:
        assert accounts.damage() == []


@pytest.mark.parametrize(
    ("owner", "name", "after", "left"),
    [
        (posix, "rename", 0, ["key", "key.next.new"]),
        (Store, "put_fact", 0, ["key", "key.next"]),
        (os, "rename", 0, ["key", "key.next"]),
        (os, "rename", 1, ["key.former", "key.next"]),
        (files, "wipe", 0, ["key", "key.former"]),
    ],
)
def test_wherever_it_stops_logins_go_on_and_it_can_be_ended(
    owner: object, name: str, after: int, left: list[str], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll()
    with stopped(monkeypatch, owner, name, after):
        rotate(host)
    assert of_the_directory(host) == left
    assert host.login("alice", host.code(secret)).reason == "code"
    assert bool([each for each in binding.look(host.paths).problems if each.identifier == "key-unfinished"]) is (
        left != ["key", "key.next.new"]
    )
    ended = rotate(host)
    assert (ended is None) is ("key.former" in left)
    assert of_the_directory(host) == ["key"]
    assert host.login("alice", host.code(secret, 1)).reason == "code"


def test_a_damaged_cache_is_not_begun_with(host: Host) -> None:
    host.enroll()
    connection = sqlite3.connect(host.paths.cache)
    connection.execute("UPDATE account SET ledger = x'00'")
    connection.commit()
    connection.close()
    with pytest.raises(CacheError, match="damaged, so its key is not rotated"):
        rotate(host)
    assert of_the_directory(host) == ["key"]


def test_damage_on_the_way_keeps_both_keys(host: Host) -> None:
    host.enroll()
    with pytest.raises(StopError):
        rotation.rotate(host.paths, lambda _: (_ for _ in ()).throw(StopError))
    connection = sqlite3.connect(host.paths.cache)
    connection.execute("UPDATE roster SET entries = x'00' WHERE bucket = 500")
    connection.commit()
    connection.close()
    with pytest.raises(DamageError, match="both keys open"):
        rotate(host)
    assert of_the_directory(host) == ["key", "key.next"]


def test_a_full_disk_stops_it_and_it_goes_on_later(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise CacheReadOnlyError("full")

    secret = host.enroll()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_bucket", full)
        with pytest.raises(CacheReadOnlyError):
            rotate(host)
    assert host.login("alice", host.code(secret)).reason == "code"
    rotate(host)
    assert host.login("alice", host.code(secret, 1)).reason == "code"


def test_a_cache_of_the_first_schema_has_to_be_migrated_first(host: Host) -> None:
    connection = sqlite3.connect(host.paths.cache)
    connection.executescript("DROP TABLE fact; PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(CacheError, match="pam-totp migrate"):
        rotate(host)
    assert of_the_directory(host) == ["key"]


def test_two_at_once_are_one(host: Host) -> None:
    with binding.alone(host.paths), pytest.raises(CacheError, match="another process"):
        rotate(host)


def test_the_former_key_put_back_is_told(host: Host) -> None:
    secret = host.enroll()
    former = content(host)
    rotate(host)
    os.chmod(host.paths.key, 0o600)
    Path(host.paths.key).write_bytes(former)
    with host.accounts() as accounts, pytest.raises(HostKeyError, match="does not belong to this cache") as caught:
        accounts.find(ALICE)
    assert caught.value.reason == "key-wrong"
    assert host.login("alice").verdict == "unavailable"
    assert secret


def test_a_next_key_that_the_cache_never_named_is_made_anew(host: Host) -> None:
    host.enroll()
    foreign = Path(f"{host.paths.key}.next")
    foreign.write_bytes(f"pam-totp-key-2 {'00' * 16} {'11' * 32} {'22' * 32}\n".encode())
    foreign.chmod(0o400)
    host_id = keys.parse(content(host), "key")[0]
    rotate(host)
    assert keys.parse(content(host), "key")[0] == host_id
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_a_copy_of_a_user_without_a_record_is_removed(host: Host) -> None:
    host.enroll()
    host.change(lambda account: account.authenticators.clear())
    assert host.in_run()
    rotate(host)
    assert host.in_run() == [f"{host.paths.run}/key.lock"]
    host.enroll()


def test_a_fact_that_names_a_key_of_another_type_denies(host: Host) -> None:
    host.enroll()
    connection = sqlite3.connect(host.paths.cache)
    connection.execute("INSERT INTO fact VALUES (?, ?)", (store.KEY_FACT, b"\xff"))
    connection.commit()
    connection.close()
    with host.accounts() as accounts, pytest.raises(HostKeyError):
        accounts.save(accounts.find(ALICE))


def test_without_a_naming_key_a_sealer_derives_one() -> None:
    first, other = Sealer(bytes(32), "host"), Sealer(b"\1" * 32, "host")
    assert first.token("alice") != other.token("alice")
    assert Sealer(b"\1" * 32, "host", first._naming).token("alice") == first.token("alice")
