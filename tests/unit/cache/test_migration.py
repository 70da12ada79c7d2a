"""The cache that 0.1.0 made, before and after its migration (tests/unit/cache/data/README.md says what is in it)."""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import schema as whole
from pam_totp.cache import store
from pam_totp.cache.accounts import Account
from pam_totp.cache.store import Store
from pam_totp.errors import CacheError, CacheReadOnlyError
from pam_totp.host.users import User

if TYPE_CHECKING:
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host

DATA = Path(__file__).parent / "data"
RECOVERY_CODE = "jw8bp-9d47z"
NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "zo\u00eb"]
PEOPLE = {name: User(name, 1001 + number) for number, name in enumerate(NAMES)}


@pytest.fixture
def old(host: Host, passwd: Passwd) -> Host:
    for name, path in (("key-0.1.0", host.paths.key), ("cache-0.1.0.db.gz", host.paths.cache)):
        content = (DATA / name).read_bytes()
        os.chmod(path, 0o600)
        Path(path).write_bytes(gzip.decompress(content) if name.endswith(".gz") else content)
    os.chmod(host.paths.key, 0o400)
    for user in PEOPLE.values():
        passwd.add(user.name, user.uid)
    return host


@pytest.fixture(params=["as it was", "migrated"])
def both(old: Host, request: pytest.FixtureRequest) -> Host:
    if request.param == "migrated":
        migrate(old)
    return old


def migrate(host: Host) -> None:
    with host.accounts() as accounts:
        assert accounts.migrate(False)


def schema(host: Host) -> tuple[int, int, bool]:
    connection = sqlite3.connect(host.paths.cache)
    version, application = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id")
    )
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    connection.close()
    return version, application, "fact" in tables


def test_every_record_is_what_it_was(both: Host) -> None:
    with both.accounts() as accounts:
        found = {each.name: each for each in accounts.all() if isinstance(each, Account)}
    assert list(found) == NAMES
    assert {name: each.state for name, each in found.items()} == {
        "alice": "active",
        "bob": "pending",
        "carol": "locked",
        "dave": "none",
        "erin": "none",
        "frank": "none",
        "zo\u00eb": "active",
    }
    assert [each.label for each in found["alice"].active] == ["phone", "key fob"]
    assert found["alice"].ledger.row == 2
    assert found["dave"].ledger.exemption == [2_000_000_000, "travels"]
    assert found["erin"].ledger.grace is not None
    assert found["frank"].ledger.invitation is not None


def test_a_spent_code_is_spent_and_the_next_one_is_good(both: Host) -> None:
    secret = both.secret("alice")
    assert both.login("alice", both.code(secret)).reason == "spent-code"
    both.later(3600)
    right = both.code(secret)
    assert both.login("alice", right).reason == "code"
    assert both.login("alice", right).reason == "spent-code"


def test_pending_exempt_and_locked_stay_what_they_are(both: Host) -> None:
    assert both.login("bob").reason == "pending"
    assert both.login("dave").reason == "exempt"
    assert both.login("carol", RECOVERY_CODE, None).reason == "recovery-code"


def test_a_former_uid_has_left_nothing_to_inherit(both: Host, passwd: Passwd) -> None:
    both.configure('unenrolled = "deny"')
    passwd.add("dave", 2004)
    assert both.login("dave").reason == "not-enrolled"


def test_everything_can_be_changed(both: Host) -> None:
    both.enroll(PEOPLE["dave"])
    with both.accounts() as accounts:
        alice = accounts.get("alice")
        assert alice is not None
        accounts.rename(alice, User("alicia", 1001))
    assert both.account(User("alicia", 1001)).active
    with both.accounts() as accounts:
        assert [each for each in accounts.damage() if "older version" not in each] == []


def test_an_old_cache_is_told_by_status_until_it_is_migrated(old: Host) -> None:
    with old.accounts() as accounts:
        assert [each for each in accounts.damage() if "pam-totp migrate" in each]
    migrate(old)
    with old.accounts() as accounts:
        assert accounts.damage() == []
        assert not accounts.migrate(True)


def test_a_migrated_cache_has_the_form_of_a_new_one(old: Host) -> None:
    def form() -> object:
        connection = sqlite3.connect(old.paths.cache)
        found = sorted(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))
        connection.close()
        return found

    migrate(old)
    migrated = form()
    os.unlink(old.paths.cache)
    os.unlink(f"{old.paths.cache}-journal")
    whole.create(old.paths.cache, [], {})
    assert form() == migrated
    assert schema(old) == (2, store.APPLICATION_ID, True)


def test_a_cache_that_is_made_to_look_older_un_enrols_nobody(old: Host) -> None:
    migrate(old)
    connection = sqlite3.connect(old.paths.cache)
    connection.executescript("DROP TABLE fact; PRAGMA user_version = 1")
    connection.close()
    assert old.login("alice", None).reason == "no-answer"
    assert old.login("alice", old.code(old.secret("alice"), 1)).reason == "code"


def test_a_disk_without_room_leaves_the_cache_as_it_was_and_logins_go_on(
    old: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise CacheReadOnlyError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_fact", full)
        with old.accounts() as accounts, pytest.raises(CacheReadOnlyError):
            accounts.migrate(True)
    assert schema(old) == (1, store.APPLICATION_ID, False)
    assert old.login("alice", old.code(old.secret("alice"), 1)).reason == "code"


def test_a_migration_that_is_killed_leaves_either_form(old: Host) -> None:
    program = f"""
import os, sys
from pam_totp.cache.upkeep import Upkeep
from pam_totp.cache.store import Store
from pam_totp.host.paths import Paths
left = int(sys.argv[1])
execute = Store.execute
def killed(self, statement, *values):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
    return execute(self, statement, *values)
with Upkeep(Paths.below({old.root!r}, os.geteuid())) as accounts:
    Store.execute = killed
    accounts.migrate(True)
"""
    seen = set()
    for number in range(1, 12):
        ran = subprocess.run([sys.executable, "-c", program, str(number)], check=False, env={"PYTHONPATH": os.getcwd()})
        with old.accounts() as accounts:
            assert len(accounts.names()) == len(NAMES)
        seen.add((ran.returncode, schema(old)[0]))
    assert seen == {(-9, 1), (0, 2)}


def test_a_login_that_began_before_the_migration_ends_after_it(old: Host) -> None:
    secret = old.secret("alice")

    def meanwhile() -> str:
        migrate(old)
        return old.code(secret, 1)

    assert old.login("alice", meanwhile).reason == "code"


def test_two_that_migrate_at_once_do_it_once(old: Host) -> None:
    with old.accounts() as one, old.accounts() as other:
        assert one.migrate(True)
        assert other.migrate(False)  # it has opened the old one
        assert one.configured.known() is other.configured.known() is True


def test_a_schema_that_is_none_is_refused(old: Host) -> None:
    for number in (0, 3, -1):
        connection = sqlite3.connect(old.paths.cache)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.close()
        with pytest.raises(CacheError):
            old.accounts()


def test_what_only_run_knows_to_be_spent_stays_spent(old: Host) -> None:
    secret = old.secret("alice")
    before = old.snapshot()
    old.later(3600)
    spent = old.code(secret)
    assert old.login("alice", spent).reason == "code"
    old.put_back(before)
    # As 0.1.0 named it.
    with old.accounts() as accounts:
        names = [accounts.sealer.token("alice", use) for use in ("account", "0.1.0")]
    os.rename(*(f"{old.paths.run}/{name}" for name in names))
    migrate(old)
    assert old.login("alice", spent).reason == "spent-code"
