"""The roster: what is listed, and that nothing of it can go unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import keys, store
from pam_totp.cache import roster as module
from pam_totp.cache.roster import Roster
from pam_totp.cache.store import Store
from pam_totp.errors import DamageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.pretend import Host


@pytest.fixture
def opened(host: Host) -> Iterator[Store]:
    with Store(host.paths.cache, host.paths.owner) as opened:
        yield opened


@pytest.fixture
def roster(host: Host, opened: Store) -> Roster:
    return Roster(opened, host.sealer())


def test_nobody_is_listed_at_first(roster: Roster) -> None:
    assert roster.entry("alice") is None
    assert roster.names(1001) == set()
    assert roster.everything() == (set(), {}, [])


def test_a_record_is_listed_by_name_and_by_uid(roster: Roster) -> None:
    roster.put("alice", 1001, "1=active")
    roster.put("alias", 1001, "")
    assert roster.entry("alice") == (1001, "1=active")
    assert roster.entry("alias") == (1001, "")
    assert roster.names(1001) == {"alice", "alias"}
    assert roster.everything() == ({"alice", "alias"}, {1001: {"alice", "alias"}}, [])


def test_a_record_whose_uid_changes_leaves_nothing_under_the_former_one(roster: Roster) -> None:
    roster.put("alice", 1001, "1=active")
    roster.put("alice", 1005, "1=active")
    assert roster.everything() == ({"alice"}, {1005: {"alice"}}, [])


def test_a_record_that_is_removed_leaves_others_of_its_uid(roster: Roster) -> None:
    roster.put("alice", 1001, "")
    roster.put("alias", 1001, "")
    roster.remove("alice")
    roster.remove("nobody")
    assert roster.everything() == ({"alias"}, {1001: {"alias"}}, [])


def test_a_name_is_listed_byte_by_byte(roster: Roster) -> None:
    roster.put("zo\u00eb", 1001, "")
    assert roster.entry("zoe\u0308") is roster.entry("ZO\u00cb") is roster.entry("zo") is None


def test_a_bucket_is_not_written_where_nothing_in_it_changes(
    roster: Roster, opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster.put("alice", 1001, "1=pending")
    written: list[int] = []
    monkeypatch.setattr(opened, "put_bucket", lambda number, _: written.append(number))
    roster.put("alice", 1001, "1=active")
    assert written == [module.bucket_of("n:alice")]


def test_a_bucket_that_is_gone_or_of_another_place_is_damage(roster: Roster, opened: Store) -> None:
    roster.put("alice", 1001, "")
    number = module.bucket_of("n:alice")
    opened.execute("UPDATE roster SET entries = (SELECT entries FROM roster WHERE bucket = 0) WHERE bucket = ?", number)
    for damaged in (True, False):
        with pytest.raises(DamageError):
            roster.entry("alice")
        assert f"roster bucket {number} does not open" in roster.everything()[2]
        if damaged:
            opened.execute("DELETE FROM roster WHERE bucket = ?", number)


def test_another_key_opens_no_bucket(host: Host, opened: Store, roster: Roster) -> None:
    assert roster.opens()
    keys.create(f"{host.paths.key}.other")
    assert not Roster(opened, keys.load(f"{host.paths.key}.other", host.paths.owner)).opens()


def test_an_empty_roster_has_every_bucket(host: Host) -> None:
    assert len(module.empty(host.sealer())) == store.BUCKETS
