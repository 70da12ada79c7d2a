"""Records, the roster that proves absence, and the copy in /run."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import accounts as module
from pam_totp.cache import store
from pam_totp.cache.accounts import ACTIVE, PENDING, Account, Accounts, Authenticator
from pam_totp.cache.ledger import Ledger
from pam_totp.cache.roster import Roster
from pam_totp.cache.store import BUCKETS, Store
from pam_totp.cache.volatile import Volatile
from pam_totp.errors import (
    CacheError,
    CacheReadOnlyError,
    ChargeError,
    DamageError,
    HostKeyError,
    NameServiceError,
    UsageError,
)
from pam_totp.factors import enroll, recovery
from pam_totp.factors.enroll import fresh
from pam_totp.host import users
from pam_totp.host.users import User
from tests.unit.pretend import ALICE, BOB, Host

if TYPE_CHECKING:
    from tests.unit.conftest import Disk, Passwd

ALIAS = User("alias", ALICE.uid)


def sql(host: Host, statement: str, *values: object) -> list[tuple[object, ...]]:
    """What somebody with the sqlite3 tool can do."""
    connection = sqlite3.connect(host.paths.cache)
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def without_types(host: Host) -> None:
    """Let SQLite take what it would refuse, as a rotted byte does."""
    connection = sqlite3.connect(host.paths.cache)
    connection.executescript("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '')")
    connection.close()


def refused(host: Host, user: User = ALICE, kind: type[Exception] = DamageError) -> str:
    with pytest.raises(kind) as caught:
        host.account(user)
    return str(caught.value)


# What is saved is found


def test_a_cache_that_does_not_open_leaves_nothing_open_that_others_would_give_way_to(host: Host) -> None:
    before = os.listdir("/proc/self/fd")
    os.rename(host.paths.cache, f"{host.paths.cache}.away")
    with pytest.raises(CacheError):
        Accounts(host.paths)
    assert os.listdir("/proc/self/fd") == before
    os.rename(f"{host.paths.cache}.away", host.paths.cache)
    with Accounts(host.paths), Accounts(host.paths, gives_way=True):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_a_record_is_found_as_it_was_saved(host: Host) -> None:
    secret = host.enroll()
    host.enroll(ALICE, "key fob", PENDING)
    found = host.account()
    assert (found.name, found.uid, found.note, found.state) == ("alice", 1001, "", "active")
    phone, fob = found.authenticators
    assert (phone.label, phone.state, phone.source, phone.secret, phone.created) == (
        "phone",
        ACTIVE,
        "local",
        secret,
        int(host.wall),
    )
    assert found.active == [phone]
    assert found.pending is fob


def test_who_was_never_enrolled_has_no_record(host: Host) -> None:
    host.enroll(BOB)
    account = host.account(ALICE)
    assert (account.state, account.authenticators, account.note, account.empty) == ("none", [], "", True)
    with host.accounts() as accounts:
        assert accounts.get("alice") is None
        assert accounts.names() == ["bob"]


def test_the_states_are_none_pending_active_and_locked() -> None:
    ledger = Ledger()
    pending, active = (Authenticator("1", state, "phone", "local", 0, b"") for state in (PENDING, ACTIVE))
    assert [Account("alice", 1, each, ledger).state for each in ([], [pending], [active, pending])] == [
        "none",
        "pending",
        "active",
    ]
    ledger.locked = True
    assert [Account("alice", 1, each, ledger).state for each in ([], [pending], [active])] == [
        "none",
        "pending",
        "locked",
    ]


def test_no_secret_is_shown(host: Host) -> None:
    secret = host.enroll()
    [phone] = host.account().authenticators
    assert repr(phone) == "Authenticator('phone', active)"
    assert secret.hex() not in repr(phone)


def test_no_secret_and_no_ledger_is_in_the_file_in_the_clear(host: Host) -> None:
    secret = host.enroll()
    host.fail(3)
    for path in (
        host.paths.cache,
        f"{host.paths.cache}-journal",
        *host.in_run(),
    ):
        with open(path, "rb") as file:
            content = file.read()
        assert secret not in content
        assert b'"row"' not in content
        assert "192.0.2.7" not in content.decode("latin-1")


def test_a_saved_change_replaces_what_was_there(host: Host) -> None:
    host.enroll(ALICE, "one")
    host.enroll(ALICE, "two")

    def change(account: Account) -> None:
        del account.authenticators[0]
        account.authenticators[0].state = PENDING

    host.change(change)
    [left] = host.account().authenticators
    assert (left.label, left.state) == ("two", PENDING)
    assert len(sql(host, "SELECT * FROM authenticator")) == 1


def test_a_record_without_anything_in_it_is_removed(host: Host) -> None:
    host.enroll()
    host.enroll(BOB)
    host.change(lambda account: account.authenticators.clear())
    assert host.account().empty
    assert sql(host, "SELECT name FROM account") == [("bob",)]
    assert sql(host, "SELECT name FROM authenticator") == [("bob",)]
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_many_accounts_do_not_get_into_each_others_way(host: Host) -> None:
    people = [User(f"user{number}", 2000 + number // 2) for number in range(60)]
    with host.accounts() as accounts:
        for person in people:
            account = Account(person.name, person.uid, [fresh("phone", 1)], Ledger())
            accounts.save(account)
    for person in people[::3]:
        with host.accounts() as accounts:
            accounts.save(Account(person.name, person.uid, [], Ledger()))
    with host.accounts() as accounts:
        assert accounts.names() == sorted(person.name for number, person in enumerate(people) if number % 3)
        assert accounts.damage() == []
        assert len(list(accounts.all())) == 40
        for number, person in enumerate(people):
            assert (accounts.get(person.name) is not None) == bool(number % 3)


# Who is the user?


def test_an_alias_of_a_uid_is_as_enrolled_as_its_owner(host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alias", ALICE.uid)
    account = host.account(ALIAS)
    assert (account.name, account.note) == ("alice", "alias of alice")
    assert len(account.active) == 1


def put(host: Host, user: User, state: str) -> None:
    """A record of exactly this name."""
    with host.accounts() as accounts:
        new = Authenticator(user.name, state, "phone", "local", 1, bytes(20))
        accounts.save(Account(user.name, user.uid, [new], Ledger()))


def test_an_active_record_of_its_own_comes_before_that_of_another_name(host: Host, passwd: Passwd) -> None:
    passwd.add("alias", ALICE.uid)
    put(host, ALIAS, ACTIVE)
    put(host, ALICE, ACTIVE)
    assert host.account(ALIAS).name == "alias"
    assert host.account(ALICE).name == "alice"


def test_a_pending_record_of_its_own_hides_no_active_one_of_another_name(host: Host, passwd: Passwd) -> None:
    passwd.add("alias", ALICE.uid)
    put(host, ALIAS, PENDING)
    assert host.account(ALIAS).name == "alias"
    put(host, ALICE, ACTIVE)
    assert host.account(ALIAS).name == "alice"
    assert host.account(ALICE).name == "alice"


def name_changed(host: Host, user: User) -> str:
    with pytest.raises(CacheError) as caught:
        host.account(user)
    assert caught.value.reason == "name-changed"
    return str(caught.value)


@pytest.mark.parametrize("now", [None, 1005])
def test_an_active_record_whose_name_the_uid_has_no_longer_is_refused(
    now: int | None, host: Host, passwd: Passwd
) -> None:
    host.enroll()
    del passwd["alice"]
    if now is not None:
        passwd.add("alice", now)
    said = name_changed(host, User("newcomer", ALICE.uid))
    assert "pam-totp rename alice newcomer" in said
    assert "pam-totp reset alice" in said


def test_a_pending_record_or_an_exemption_of_its_own_opens_no_way_around_that(host: Host, passwd: Passwd) -> None:
    newcomer = User("newcomer", ALICE.uid)
    put(host, newcomer, PENDING)
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 1000, "travels"]), newcomer)
    put(host, ALICE, ACTIVE)
    del passwd["alice"]
    name_changed(host, newcomer)


def test_a_name_that_nss_still_takes_in_another_spelling_is_an_alias(host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alice", ALICE.uid, spelled="alice@example.org")
    passwd.add("alice@example.org", ALICE.uid)
    assert host.account(User("alice@example.org", ALICE.uid)).name == "alice"


def test_a_record_of_a_name_that_is_gone_hides_none_of_a_name_that_is_there(host: Host, passwd: Passwd) -> None:
    passwd.add("alias", ALICE.uid)
    put(host, ALICE, ACTIVE)
    put(host, ALIAS, ACTIVE)
    del passwd["alice"]
    assert host.account(User("third", ALICE.uid)).name == "alias"


def test_a_record_that_is_not_active_refuses_nobody_and_nobody_asks_nss_for_its_owner(
    host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def find(name: str) -> User | None:
        asked.append(name)
        return users.find(name)

    monkeypatch.setattr(module, "find", find)
    passwd.add("alias", ALICE.uid)
    put(host, ALICE, PENDING)
    account = host.account(ALIAS)
    assert (account.name, account.authenticators) == ("alias", [])
    assert account.note == "inactive record of alice with the same uid"
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 1000, "travels"]), ALIAS)
    assert host.account(User("third", ALICE.uid)).note == "inactive record of alias, alice with the same uid"
    assert asked == []


# A record is renamed


def renamed(host: Host, new: User, old: str = "alice") -> Account:
    with host.accounts() as accounts:
        account = accounts.get(old)
        assert account is not None
        return accounts.rename(account, new)


ALICIA = User("alicia", ALICE.uid)


def test_a_renamed_record_is_there_as_a_whole_and_nothing_is_left_behind(host: Host, passwd: Passwd) -> None:
    secret = host.enroll()
    host.enroll(ALICE, "key fob", PENDING)
    host.enroll(BOB)
    assert host.login("alice", host.code(secret)).reason == "code"
    host.fail(2)
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 1000, "travels"]))
    before = host.account()
    renamed(host, ALICIA)
    del passwd["alice"]
    after = host.account(ALICIA)
    assert (after.name, after.uid, after.note) == ("alicia", 1001, "")
    assert [(each.label, each.state, each.secret) for each in after.authenticators] == [
        (each.label, each.state, each.secret) for each in before.authenticators
    ]
    assert (after.ledger.row, after.ledger.exemption) == (2, before.ledger.exemption)
    with host.accounts() as accounts:
        assert accounts.names() == ["alicia", "bob"]
        assert accounts.damage() == []
        assert accounts.get("alice") is None


@pytest.mark.parametrize("boot", [False, True])
def test_what_was_spent_stays_spent_under_the_new_name(boot: bool, host: Host, passwd: Passwd) -> None:
    secret = host.enroll()
    code = host.code(secret)
    assert host.login("alice", code).reason == "code"
    renamed(host, ALICIA)
    passwd.add("alicia", ALICE.uid)
    if boot:
        shutil.rmtree(host.paths.run)
    assert host.login("alicia", code).reason == "spent-code"
    assert host.login("alicia", host.code(secret, 1)).reason == "code"


def test_what_was_spent_stays_spent_where_a_cache_from_before_is_put_back(host: Host, passwd: Passwd) -> None:
    secret = host.enroll()
    before = host.snapshot()
    code = host.code(secret)
    assert host.login("alice", code).reason == "code"
    renamed(host, ALICIA)
    host.put_back(before)
    assert host.login("alice", code).reason == "spent-code"
    renamed(host, ALICIA)
    passwd.add("alicia", ALICE.uid)
    assert host.login("alicia", code).reason == "spent-code"


def test_a_record_that_is_renamed_there_and_back_is_what_it_was(host: Host) -> None:
    secret = host.enroll()
    host.fail(3)
    renamed(host, ALICIA)
    renamed(host, ALICE, "alicia")
    account = host.account()
    assert (account.ledger.row, account.active[0].secret) == (3, secret)
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_a_name_with_authenticators_of_its_own_takes_no_other_record(host: Host) -> None:
    host.enroll()
    put(host, ALICIA, PENDING)
    before = host.snapshot()
    with pytest.raises(UsageError, match="authenticators of its own"):
        renamed(host, ALICIA)
    assert host.snapshot() == before


def test_what_was_granted_to_a_former_owner_of_the_new_name_is_not_taken_over(host: Host) -> None:
    former = User("alicia", 1009)
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 1000, "travels"]), former)
    host.enroll()
    renamed(host, ALICIA)
    assert host.account(ALICIA).ledger.exemption is None
    with host.accounts() as accounts:
        assert accounts.damage() == []


def test_a_renaming_that_fails_changes_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = host.enroll()
    written: list[object] = []

    def fail_the_second_time(*_: object) -> None:
        written.append(_)
        if len(written) > 1:
            raise CacheReadOnlyError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Roster, "put", fail_the_second_time)
        patch.setattr(Roster, "remove", fail_the_second_time)
        with pytest.raises(CacheReadOnlyError):
            renamed(host, ALICIA)
    assert host.account().active[0].secret == secret
    with host.accounts() as accounts:
        assert accounts.damage() == []


# Another user of the same name


def grant(account: Account) -> None:
    account.ledger.exemption = [2_000_000_000, "travels"]
    account.ledger.grace = [[1_000_000_000, "", 0], 0]


def test_a_new_uid_inherits_what_is_spent_and_nothing_else(host: Host) -> None:
    secret = host.enroll()
    assert host.login("alice", host.code(secret)).reason == "code"
    host.fail(3)
    host.change(grant)
    host.change(lambda account: account.authenticators.clear())
    ledger = host.account(User("alice", 1005)).ledger
    assert (ledger.exemption, ledger.grace, ledger.row, ledger.recent, ledger.last_success) == (None, None, 0, [], None)
    assert [mark.step for mark in ledger.marks.values()] == [int(host.wall // 30)]


def test_a_copy_in_run_is_its_owners_alone(host: Host, disk: Disk) -> None:
    disk.full = True
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        grant(account)
        accounts.save_or_remember(account)
    assert host.account().ledger.grace is not None
    account = host.account(User("alice", 1005))
    assert (account.ledger.exemption, account.ledger.grace) == (None, None)
    account.ledger.exemption = [1, "anew"]
    disk.full = False
    with host.accounts() as accounts:
        accounts.save(account)
    assert host.account(User("alice", 1005)).ledger.exemption == [1, "anew"]
    assert host.account(ALICE).ledger.exemption is None


def test_a_copy_in_run_that_the_former_version_wrote_counts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enroll()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "uid", property(lambda _: None, lambda *_: None), raising=False)
        host.fail(3)
    assert host.account().ledger.row == 3


def test_a_ledger_of_another_uid_in_a_row_is_damage(host: Host) -> None:
    host.change(grant)
    [(ledger,)] = sql(host, "SELECT ledger FROM account")
    other = User("alice", 1005)
    host.change(grant, other)
    sql(host, "UPDATE account SET ledger = ?", ledger)
    refused(host, other)


def test_a_name_with_another_uid_is_refused(host: Host) -> None:
    host.enroll()
    with pytest.raises(CacheError, match=r"enrolled with uid 1001 and now has 1005.*reset alice") as caught:
        host.account(User("alice", 1005))
    assert caught.value.reason == "uid-changed"


def test_a_name_with_another_uid_and_nothing_enrolled_begins_anew(host: Host) -> None:
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 1000, "travels"]))
    account = host.account(User("alice", 1005))
    assert (account.uid, account.authenticators, account.note) == (1005, [], "the uid changed")
    account.ledger.exemption = [int(host.wall) + 1000, "anew"]
    with host.accounts() as accounts:
        accounts.save(account)
        assert accounts.damage() == []
    assert host.account(User("alice", 1005)).note == ""
    assert host.account(User("newcomer", 1001)).note == ""  # nothing is left under the former uid


def test_where_nss_does_not_answer_nobody_counts_as_stale(
    host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll()
    del passwd["alice"]

    def fail(_: str) -> None:
        raise NameServiceError("NSS could not look up 'alice'")

    monkeypatch.setattr(module, "find", fail)
    refused(host, User("newcomer", ALICE.uid), NameServiceError)


def test_nss_may_take_its_time_and_keeps_nobody_from_writing(
    host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll()
    secret = host.enroll(BOB)
    passwd.add("alias", ALICE.uid)

    def slow(name: str) -> User | None:
        assert host.login("bob", host.code(secret)).reason == "code"
        return users.find(name)

    monkeypatch.setattr("pam_totp.cache.store.BUSY_SECONDS", 0.1)
    monkeypatch.setattr(module, "find", slow)
    assert host.account(ALIAS).name == "alice"


def test_spelling_is_nothing_that_un_enrols(host: Host) -> None:
    host.enroll(User("zo\u00eb", 1003))
    for name in ("Zo\u00eb", "zoe\u0308", "zoe"):
        with host.accounts() as accounts:
            assert accounts.get(name) is None
        assert host.account(User(name, 1004)).authenticators == []
    assert host.account(User("zo\u00eb", 1003)).active


# Damage


def test_no_cell_and_no_row_of_a_record_can_be_changed_unnoticed(host: Host) -> None:
    host.enroll(ALICE, "one")
    host.enroll(ALICE, "two", PENDING)
    host.enroll(BOB)
    whole = host.snapshot()
    changes: list[tuple[str, tuple[object, ...]]] = [
        ("DELETE FROM account", ()),
        ("DELETE FROM account WHERE name = 'alice'", ()),
        ("DELETE FROM authenticator WHERE name = 'alice'", ()),
        ("DELETE FROM authenticator", ()),
        ("DELETE FROM roster", ()),
        ("UPDATE roster SET bucket = bucket + 1000", ()),
        ("UPDATE roster SET entries = zeroblob(100)", ()),
        ("UPDATE account SET ledger = (SELECT ledger FROM account WHERE name = 'bob')", ()),
        ("UPDATE authenticator SET secret = (SELECT secret FROM authenticator WHERE name = 'bob')", ()),
        (
            "INSERT INTO authenticator SELECT 'x', 'alice', state, label, source, 1, secret FROM authenticator LIMIT 1",
            (),
        ),
    ]
    for table, key in (("account", "name"), ("authenticator", "id")):
        columns = [str(row[1]) for row in sql(host, f"PRAGMA table_info({table})")]
        for row in sql(host, f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE name = 'alice'"):
            if table == "authenticator":
                changes.append((f"DELETE FROM {table} WHERE {key} = ?", (row[0],)))
            for column, value in zip(columns, row[1:], strict=True):
                changes += [
                    (f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (other, row[0])) for other in others(value)
                ]
    assert len(changes) > 60
    for statement, values in changes:
        sql(host, statement, *values)
        refused(host)
        with host.accounts() as accounts:
            assert accounts.damage() != [], statement
        host.put_back(whole)
    assert host.account().active


def others(value: object) -> list[object]:
    """Values that are near to one that is stored."""
    if isinstance(value, int):
        return [value + 1, -value, 0]
    if isinstance(value, str):
        return [value + "x", value[:-1], value.upper() if value.upper() != value else "X", ""]
    assert isinstance(value, bytes)
    flipped = [value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :] for place in range(0, len(value), 97)]
    return [b"", value[:-1], value + b"\0", *flipped]


def test_a_row_of_another_user_in_the_place_of_ones_own_does_not_open(host: Host) -> None:
    host.enroll()
    host.enroll(BOB)
    for table in ("account", "authenticator"):
        sql(host, f"UPDATE {table} SET name = 'carol' WHERE name = 'alice'")
        sql(host, f"UPDATE {table} SET name = 'alice' WHERE name = 'bob'")
        sql(host, f"UPDATE {table} SET name = 'bob' WHERE name = 'carol'")
    refused(host, ALICE)
    refused(host, BOB)


def test_a_record_of_another_host_does_not_open(host: Host, tmp_path: object) -> None:
    host.enroll()
    other = Host(f"{tmp_path}/other")
    other.put_back(host.snapshot())
    refused(other)


def test_an_older_state_of_one_authenticator_is_noticed(host: Host) -> None:
    host.enroll(ALICE, "phone", PENDING)
    pending = sql(host, "SELECT * FROM authenticator")
    host.change(lambda account: setattr(account.authenticators[0], "state", ACTIVE))
    sql(host, "DELETE FROM authenticator")
    sql(host, "INSERT INTO authenticator VALUES (?, ?, ?, ?, ?, ?, ?)", *pending[0])
    assert "disagree" in refused(host)


def test_damage_of_one_user_is_no_other_users_damage(host: Host) -> None:
    host.enroll()
    host.enroll(BOB)
    sql(host, "UPDATE account SET ledger = X'00' WHERE name = 'alice'")
    refused(host)
    assert host.account(BOB).active
    with host.accounts() as accounts:
        names = [each.name if isinstance(each, Account) else type(each).__name__ for each in accounts.all()]
        assert names == ["DamageError", "bob"]
        [found] = accounts.damage()
        assert "record of alice" in found


def test_a_damaged_copy_in_run_is_refused(host: Host) -> None:
    host.enroll()
    [copy] = host.in_run()
    with open(copy, "r+b") as file:
        file.seek(40)
        file.write(b"\0\0\0")
    refused(host)


def test_the_copy_of_another_user_in_run_is_refused(host: Host) -> None:
    host.enroll()
    [alices] = host.in_run()
    host.enroll(BOB)
    [bobs] = [path for path in host.in_run() if path != alices]
    shutil.copyfile(bobs, alices)
    refused(host)


def test_every_bucket_that_does_not_open_is_told(host: Host) -> None:
    host.enroll()
    sql(host, "UPDATE roster SET entries = X'01' WHERE bucket IN (3, 4)")
    with host.accounts() as accounts:
        assert {"roster bucket 3 does not open", "roster bucket 4 does not open"} <= set(accounts.damage())


def test_a_key_that_belongs_to_the_cache_is_told_from_one_that_does_not(host: Host, tmp_path: object) -> None:
    with host.accounts() as accounts:
        accounts.check_key()
        sql(host, "UPDATE roster SET entries = X'01' WHERE bucket < 511")
        accounts.check_key()
    other = Host(f"{tmp_path}/other")
    shutil.copyfile(other.paths.key, f"{host.paths.key}.new")
    os.chmod(f"{host.paths.key}.new", 0o400)
    os.rename(f"{host.paths.key}.new", host.paths.key)
    with host.accounts() as accounts, pytest.raises(HostKeyError) as caught:
        accounts.check_key()
    assert caught.value.reason == "key-wrong"
    assert sql(host, "SELECT count(*) FROM roster") == [(BUCKETS,)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE account SET ledger = X'00' WHERE name = 'alice'",
        "UPDATE account SET uid = 1005 WHERE name = 'alice'",
        "UPDATE authenticator SET secret = X'00' WHERE name = 'alice'",
        "DELETE FROM authenticator WHERE name = 'alice'",
        "DELETE FROM account WHERE name = 'alice'",
    ],
)
def test_a_damaged_record_can_be_removed_and_leaves_nothing_behind(change: str, host: Host) -> None:
    host.enroll()
    host.enroll(BOB)
    sql(host, change)
    refused(host)
    with host.accounts() as accounts:
        accounts.save(accounts.unreadable("alice"))
        assert accounts.damage() == []
        assert accounts.get("alice") is None
    assert host.account().empty
    assert host.account(User("other", 1005)).empty
    assert host.account(BOB).active


def test_what_was_spent_stays_spent_when_a_damaged_record_is_removed_and_restored(host: Host) -> None:
    secret = host.enroll()
    backup = host.snapshot()
    code = host.code(secret)
    assert host.login("alice", code).reason == "code"
    sql(host, "UPDATE account SET ledger = X'00' WHERE name = 'alice'")
    with host.accounts() as accounts:
        accounts.save(accounts.unreadable("alice"))
    host.put_back(backup)
    assert host.login("alice", code).reason == "spent-code"


# An older cache that is put back in the same boot


def test_an_authenticator_that_was_removed_stays_removed_when_an_older_cache_is_put_back(host: Host) -> None:
    lost, kept = host.enroll(label="lost"), host.enroll(label="kept")
    backup = host.snapshot()
    host.change(lambda account: enroll.remove(account, "lost"))
    host.put_back(backup)
    assert [each.label for each in host.account().active] == ["kept"]
    assert host.login("alice", host.code(lost)).reason == "wrong-code"
    outcome = host.login("alice", host.code(kept))
    assert (outcome.reason, outcome.detail) == (
        "code",
        "an older cache was put back: what was removed since then stays removed",
    )
    # What is written then is whole again.
    with host.accounts() as accounts:
        accounts.save(accounts.find(ALICE))
        assert accounts.damage() == []
    assert host.account().note == ""


def test_a_spent_recovery_code_stays_spent_when_an_older_cache_is_put_back(host: Host, quick_hash: None) -> None:
    host.enroll()
    codes: list[str] = []
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        codes += recovery.issue(account.ledger, accounts.sealer)
        recovery.acknowledge(account.ledger, codes, accounts.sealer)
        accounts.save(account)
    backup = host.snapshot()
    assert host.login("alice", codes[0]).reason == "recovery-code"
    host.put_back(backup)
    assert host.login("alice", codes[0]).reason == "wrong-recovery-code"
    assert host.login("alice", codes[1]).reason == "recovery-code"


@pytest.mark.parametrize("anew", [True, False])
def test_a_user_whose_authenticators_were_all_removed_is_refused_when_an_older_cache_is_put_back(
    host: Host, anew: bool
) -> None:
    lost = host.enroll(label="lost")
    backup = host.snapshot()
    host.change(lambda account: enroll.remove(account, None))
    new = host.enroll(label="new") if anew else lost
    host.put_back(backup)
    for secret in (lost, new):
        outcome = host.login("alice")
        assert (outcome.verdict, outcome.reason) == ("unavailable", "cache-damaged")
        assert secret.hex() not in outcome.detail
    assert "run pam-totp reset alice" in host.login("alice").detail
    with host.accounts() as accounts:
        accounts.save(accounts.unreadable("alice"))
    again = host.enroll(label="again")
    assert host.login("alice", host.code(again)).reason == "code"


def test_a_record_of_an_older_version_does_not_say_what_it_holds(host: Host) -> None:
    secret = host.enroll()
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        account.complete = False
        accounts.save(account)
    assert host.account().ledger.holds is None
    assert host.login("alice", host.code(secret)).reason == "code"


# Charging


def charged(host: Host, failures: int = 1) -> bool:
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        for _ in range(failures):
            account.ledger.fail("net:192.0.2.7", "192.0.2.7", host.now(), 100)
        return accounts.charge(account, host.now())


def test_a_charge_survives_a_boot(host: Host) -> None:
    host.enroll()
    assert charged(host)
    host.reboot()
    assert host.account().ledger.row == 1


def test_a_charge_that_the_cache_does_not_take_is_kept_until_the_next_boot(host: Host, disk: Disk) -> None:
    host.enroll()
    disk.full = True
    assert not charged(host)
    assert not charged(host)
    assert host.account().ledger.row == 2
    host.reboot()
    assert host.account().ledger.row == 0


def test_a_charge_kept_in_run_reaches_the_cache_with_the_next_one(host: Host, disk: Disk) -> None:
    host.enroll()
    disk.full = True
    assert not charged(host)
    disk.full = False
    assert charged(host)
    host.reboot()
    assert host.account().ledger.row == 2


def test_a_charge_that_run_does_not_take_is_kept_by_the_cache(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enroll()
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    assert charged(host)
    assert host.account().ledger.row == 1


def test_a_charge_that_nothing_takes_is_an_error(host: Host, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enroll()
    disk.full = True
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    with pytest.raises(ChargeError) as caught:
        charged(host)
    assert caught.value.reason == "not-chargeable"


@pytest.mark.parametrize(("uptime", "closed"), [(0, True), (299.9, True), (300, False)])
def test_right_after_a_boot_a_charge_must_be_durable(uptime: float, closed: bool, host: Host, disk: Disk) -> None:
    host.enroll()
    host.uptime = uptime
    assert charged(host)
    disk.full = True
    if closed:
        with pytest.raises(ChargeError) as caught:
            charged(host)
        assert caught.value.reason == "fallback-closed"
    else:
        assert not charged(host)


@pytest.mark.parametrize("what", ["directory", "files"])
def test_after_a_wipe_of_run_a_charge_must_be_durable(what: str, host: Host, disk: Disk) -> None:
    host.enroll()
    if what == "directory":
        shutil.rmtree(host.paths.run)
    else:
        for name in os.listdir(host.paths.run):
            os.unlink(f"{host.paths.run}/{name}")
    disk.full = True
    for pause in (0, 299):
        host.later(pause)
        with pytest.raises(ChargeError) as caught:
            charged(host)
        assert caught.value.reason == "fallback-closed"
    host.later(1)
    assert not charged(host)


def test_setting_the_clock_forward_does_not_open_the_fallback(host: Host, disk: Disk) -> None:
    host.enroll()
    shutil.rmtree(host.paths.run)
    assert charged(host)
    host.wall += 100_000
    disk.full = True
    with pytest.raises(ChargeError):
        charged(host)


def test_a_run_that_outlives_a_boot_is_as_old_as_the_boot(host: Host, disk: Disk) -> None:
    host.enroll()
    host.boot_id, host.uptime = "another", 299
    disk.full = True
    with pytest.raises(ChargeError):
        charged(host)
    host.later(1)
    assert not charged(host)


def test_a_note_that_is_half_written_is_written_again(host: Host, disk: Disk) -> None:
    host.enroll()
    for content in ("", "1700000010", f"x {host.boot_id} 0", "\udcff \udcff \udcff"):
        with open(f"{host.paths.run}/made", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
        disk.full = True
        with pytest.raises(ChargeError):
            charged(host)
        host.later(300)
        assert not charged(host)


def test_a_durable_charge_is_one_of_the_cache_or_none(host: Host, disk: Disk) -> None:
    host.enroll()
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        account.ledger.succeed("net:192.0.2.7", host.now())
        assert accounts.charge(account, host.now(), durably=True)
        disk.full = True
        with pytest.raises(ChargeError, match="durable record"):
            accounts.charge(account, host.now(), durably=True)


def test_a_record_that_was_removed_meanwhile_is_not_charged(host: Host) -> None:
    host.enroll()
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        sql(host, "DELETE FROM account")
        with pytest.raises(CacheError, match="removed meanwhile"):
            accounts.charge(account, host.now())


def test_the_newer_of_cache_and_run_counts(host: Host) -> None:
    host.enroll()
    before = host.snapshot()
    charged(host, 5)
    host.put_back(before)
    assert host.account().ledger.row == 5
    shutil.rmtree(host.paths.run)
    assert host.account().ledger.row == 0


def test_a_save_that_run_does_not_take_leaves_no_older_copy_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enroll()
    assert len(host.in_run()) == 1
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    host.change(lambda account: account.ledger.unlock(0, 1))
    assert host.in_run() == []


def test_what_cannot_be_saved_is_remembered_in_run(host: Host, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def save() -> None:
        with host.accounts() as accounts:
            account = accounts.find(ALICE)
            account.ledger.grace = [host.now().stamp(), 0]
            accounts.save_or_remember(account)

    disk.full = True
    save()
    assert host.account().ledger.grace is not None
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    with pytest.raises(ChargeError):
        save()


def test_a_save_that_fails_changes_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enroll()
    before = (
        sql(host, "SELECT * FROM account"),
        sql(host, "SELECT * FROM authenticator"),
        sql(host, "SELECT * FROM roster"),
    )

    def fail(*_: object) -> None:
        raise CacheReadOnlyError("full")

    monkeypatch.setattr(Store, "put_bucket", fail)
    with pytest.raises(CacheReadOnlyError):
        host.change(lambda account: account.authenticators.clear())
    after = (
        sql(host, "SELECT * FROM account"),
        sql(host, "SELECT * FROM authenticator"),
        sql(host, "SELECT * FROM roster"),
    )
    assert after == before
    assert host.account().active


def test_the_marks_of_a_removed_record_are_known_until_the_next_boot(host: Host) -> None:
    secret = host.enroll()
    [phone] = host.account().authenticators
    host.login("alice", host.code(secret))
    host.change(lambda account: account.authenticators.clear())
    assert host.account().ledger.marks[phone.identifier].step == int(host.wall // 30)
    host.reboot()
    assert host.account().ledger.marks == {}


def test_a_record_does_not_grow_with_every_enrolment(host: Host) -> None:
    for number in range(30):
        secret = host.enroll(ALICE, f"phone {number}")
        assert host.login("alice", host.code(secret)).reason == "code"
        host.change(lambda account: account.authenticators.clear())
    assert len(host.account().ledger.marks) <= 9


# Locks, tokens, opening


def test_each_account_has_a_lock_of_its_own(host: Host) -> None:
    with host.accounts() as accounts, accounts.lock("alice"), accounts.lock("bob"):
        assert len(host.in_run()) == 2


def test_names_lead_to_no_other_path(host: Host) -> None:
    with host.accounts() as accounts:
        for name in ("../../etc/passwd", "a/b", "a\x00b", "", "x" * 10_000):
            with accounts.lock(name):
                pass
    assert all(len(os.path.basename(path)) == len("0" * 32 + ".lock") for path in host.in_run())
    assert sorted(os.listdir(os.path.dirname(host.paths.run))) == ["pam-totp"]


def test_a_cache_is_not_left_open_where_run_cannot_be_used(host: Host) -> None:
    os.makedirs(host.paths.run, exist_ok=True)
    os.chmod(host.paths.run, 0o777)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(CacheError):
            Accounts(host.paths)
    assert os.listdir("/proc/self/fd") == before


def test_events_are_told_of_whom_they_are_about(host: Host) -> None:
    with host.accounts() as accounts:
        accounts.record_event(5, "alice", "outcome=refused")
        assert accounts.events("alice", 3) == [(5, "outcome=refused")]
        assert accounts.events("bob", 3) == []


def test_a_record_that_should_be_there_is_listed_even_if_it_is_gone(host: Host) -> None:
    host.enroll()
    sql(host, "DELETE FROM account")
    with host.accounts() as accounts:
        assert accounts.listed("alice")
        assert not any(accounts.listed(name) for name in ("bob", "", "alice\t", "\udcff"))


def test_a_record_that_is_moved_to_another_uid_does_not_go_unnoticed_there(host: Host) -> None:
    host.enroll(BOB)
    sql(host, "UPDATE account SET uid = 1001")
    assert "records of uid 1001 and the roster disagree" in refused(host, ALICE)
    refused(host, BOB)


def test_a_pending_record_of_another_name_enrols_nobody(host: Host, passwd: Passwd) -> None:
    host.enroll(ALICE, state=PENDING)
    passwd.add("alias", ALICE.uid)
    assert host.account(ALIAS).authenticators == []


def test_a_damaged_record_can_be_removed_where_the_copy_in_run_is_damaged_too(host: Host) -> None:
    host.enroll()
    [copy] = host.in_run()
    with open(copy, "r+b") as file:
        file.write(b"\0\0\0")
    with host.accounts() as accounts:
        accounts.save(accounts.unreadable("alice"))
        assert accounts.damage() == []
    assert host.account().empty


def test_a_record_that_goes_while_all_are_listed_is_passed_over(host: Host) -> None:
    host.enroll(ALICE)
    host.enroll(BOB)
    with host.accounts() as accounts:
        listed = accounts.all()
        first = next(listed)
        host.change(lambda account: account.authenticators.clear(), BOB)
        assert isinstance(first, Account)
        assert list(listed) == []


@pytest.mark.parametrize(
    "content", [b"\xff", b"n:alice\n", b"n:alice\t1001 \t\n", b"n:alice\t1001", b"n:alice\t\xff\nu:1001\talice\n"]
)
def test_a_roster_of_another_form_is_damage(content: bytes, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUCKETS", 1)
    host.enroll()
    sql(host, "UPDATE roster SET entries = ? WHERE bucket = 0", host.sealer().seal(content, "roster", "0"))
    refused(host)
    with host.accounts() as accounts:
        assert any(each.startswith("roster bucket 0 ") for each in accounts.damage())
        with pytest.raises(DamageError):
            accounts.save(accounts.unreadable("alice"))


def test_a_roster_without_a_uid_is_damage(host: Host) -> None:
    host.enroll()
    with host.accounts() as accounts:
        accounts._roster._change("n:alice", lambda _: "nobody knows")
        with pytest.raises(DamageError):
            accounts.unreadable("alice")
    refused(host)


@pytest.mark.parametrize(
    "change",
    [
        "account SET name = CAST(name AS BLOB)",
        "account SET uid = 'x'",
        "account SET uid = 1001.5",
        "account SET ledger = 'x'",
        "authenticator SET id = CAST(id AS BLOB)",
        "authenticator SET state = CAST(state AS BLOB)",
        "authenticator SET created = 'x'",
        "authenticator SET secret = 'x'",
    ],
)
def test_a_value_of_another_type_is_damage_that_a_reset_mends(change: str, host: Host) -> None:
    host.enroll()
    without_types(host)
    sql(host, f"UPDATE {change}")
    refused(host)
    with host.accounts() as accounts:
        assert accounts.damage()
        accounts.save(accounts.unreadable("alice"))
        assert accounts.get("alice") is None


def test_an_event_of_another_type_is_not_told(host: Host) -> None:
    with host.accounts() as accounts:
        for time in range(3):
            accounts.record_event(time, "alice", f"line {time}")
    without_types(host)
    sql(host, "UPDATE event SET time = 'x' WHERE time = 1")
    sql(host, "UPDATE event SET line = X'00' WHERE time = 2")
    with host.accounts() as accounts:
        assert accounts.events("alice", 5) == [(0, "line 0")]


def test_a_roster_that_does_not_list_a_uid_is_damage(host: Host) -> None:
    host.enroll()
    with host.accounts() as accounts:
        accounts._roster._change("u:1001", lambda _: None)
        assert accounts.damage() == ["the roster does not list alice under uid 1001"]


# Several records


def test_several_records_are_written_together_or_not_at_all(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with host.accounts() as accounts:
        both = [accounts.find(user) for user in (ALICE, BOB)]
        for each in both:
            each.ledger.deadline = 7
        put = Store.put_account

        def fail(this: Store, name: str, uid: int, ledger: bytes) -> None:
            if name == "bob":
                raise CacheReadOnlyError("full")
            put(this, name, uid, ledger)

        monkeypatch.setattr(Store, "put_account", fail)
        with pytest.raises(CacheReadOnlyError):
            accounts.save_all(both)
        assert accounts.names() == []
        assert host.in_run() == []
        monkeypatch.setattr(Store, "put_account", put)
        accounts.save_all(both)
        assert accounts.names() == ["alice", "bob"]
        assert len(host.in_run()) == 2
