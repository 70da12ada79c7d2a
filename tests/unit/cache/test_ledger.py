"""Waits, the lock, marks and drift, without any file."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pam_totp.cache import ledger as rules
from pam_totp.cache.ledger import Ledger, Mark
from pam_totp.errors import DamageError
from pam_totp.host.clock import Moment

DAY = 86_400
WALL = 1_700_000_000


def at(seconds: float, boot: str = "boot", wall: float | None = None) -> Moment:
    """So many seconds after the boot; the wall clock goes along unless it is set."""
    return Moment(WALL + seconds if wall is None else wall, boot, seconds)


def fields(ledger: Ledger) -> dict[str, object]:
    return dict(json.loads(ledger.encode()))


def failed(times: int, source: str = "net:192.0.2.7", ledger: Ledger | None = None, start: float = 0) -> Ledger:
    """A ledger after failures an hour apart, the last at ``start`` plus the hours."""
    ledger = ledger or Ledger()
    for number in range(times):
        ledger.fail(source, "192.0.2.7", at(start + 3600 * number), 100)
    return ledger


# Whatever a ledger has been through, by its own methods
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "fail_recovery", "succeed", "spend", "unlock"]),
        st.sampled_from(["net:192.0.2.7", "net:2001:db8::/64", "key:00ff", "net:"]),
        st.text(max_size=20),
        st.floats(0, 2**34, allow_nan=False),
        st.floats(0, 2**34, allow_nan=False),
    ),
    max_size=60,
)


def lived(events: list[tuple[str, str, str, float, float]]) -> Ledger:
    ledger = Ledger()
    for event, source, text, wall, uptime in events:
        now = Moment(wall, "boot" if uptime > 2**20 else "other boot", uptime)
        if event == "fail":
            ledger.fail(source, text, now, 10)
        elif event == "fail_recovery":
            ledger.fail_recovery(source, text, now)
        elif event == "succeed":
            ledger.succeed(source, now)
        elif event == "spend":
            ledger.mark(text).spend(int(wall // 30) + len(text) % 3 - 1, int(wall // 30), 10)
        else:
            ledger.unlock(int(wall // 30), 1)
    return ledger


@given(EVENTS)
def test_what_is_kept_is_what_is_read(events: list[tuple[str, str, str, float, float]]) -> None:
    ledger = lived(events)
    content = ledger.encode()
    again = Ledger.decode(content)
    assert fields(again) == fields(ledger)
    assert again.encode() == content


@given(EVENTS)
def test_a_wait_is_whole_seconds_and_never_longer_than_a_day(
    events: list[tuple[str, str, str, float, float]],
) -> None:
    ledger = lived(events)
    now = Moment(2.0**33, "boot", 2.0**33)
    for source in ("net:192.0.2.7", "key:00ff", "never seen"):
        assert 0 <= ledger.wait(source, now) <= ledger.longest_wait(now) <= DAY
        assert 0 <= ledger.recovery_wait(source, now) <= rules.RECOVERY_PERIOD


def test_most_changes_keep_the_size() -> None:
    ledger = Ledger()
    before = len(ledger.encode())
    ledger.mark("00112233aabbccdd").spend(WALL // 30, WALL // 30, 10)
    ledger.succeed("net:192.0.2.7", at(0))
    assert len(ledger.encode()) == before
    assert before % 512 == 0


@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
@example(b"")
@example(b"{}")
@example(b"[]")
@example(b"\xff")
def test_what_was_never_written_is_damage(content: bytes) -> None:
    with pytest.raises(DamageError):
        Ledger.decode(content)


@pytest.mark.parametrize("key", list(fields(Ledger())))
def test_a_ledger_without_one_of_its_parts_is_damage(key: str) -> None:
    content = fields(Ledger())
    del content[key]
    with pytest.raises(DamageError):
        Ledger.decode(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("recovery", {"salt": "00", "hashes": [], "shown": True}),
        ("recovery", {"salt": "0" * 32, "hashes": ["x"], "shown": True}),
        ("exemption", [1 << 64, "for ever"]),
        ("grace", [[1, 2, 3], 0]),
        ("invitation", ["a code", 1]),
        ("recent_recovery", [[1, "net:"]]),
        ("enrolled", "long ago"),
        ("remembered", {"a": 5}),
    ],
)
def test_what_is_noted_only_of_some_is_damage_in_another_form(key: str, value: object) -> None:
    with pytest.raises(DamageError):
        Ledger.decode(json.dumps(fields(Ledger()) | {key: value}).encode())


@pytest.mark.parametrize("marks", [5, [], {"a": 5}, {"a": [1, 2, 3, 4]}, {"a": None}])
def test_marks_of_another_form_are_damage(marks: object) -> None:
    with pytest.raises(DamageError):
        Ledger.decode(json.dumps(fields(Ledger()) | {"marks": marks}).encode())


# Waiting


@pytest.mark.parametrize(
    ("failures", "wait"),
    [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 30),
        (4, 60),
        (5, 120),
        (6, 240),
        (7, 480),
        (8, 960),
        (9, 1920),
        (10, 3600),
        (23, 3600),
    ],
)
def test_three_wrong_codes_are_free_then_the_wait_doubles_up_to_an_hour(failures: int, wait: int) -> None:
    ledger = failed(failures)
    last = 3600 * (failures - 1)
    assert ledger.wait("net:192.0.2.7", at(last)) == wait
    assert ledger.wait("net:192.0.2.7", at(last + wait - 1)) == min(wait, 1)
    assert ledger.wait("net:192.0.2.7", at(last + wait)) == 0


def test_a_row_of_any_length_waits_an_hour() -> None:
    ledger = Ledger()
    for number in range(2000):
        ledger.fail("key:00", "", at(DAY * number), 1000)
    assert ledger.wait("key:00", at(DAY * 1999)) == 3600


def test_another_source_does_not_wait() -> None:
    assert failed(5).wait("net:198.51.100.9", at(3600 * 4)) == 0


def test_a_success_ends_the_row_of_its_source_only() -> None:
    ledger = failed(4)
    ledger = failed(4, "key:00", ledger)
    ledger.succeed("key:00", at(3600 * 3))
    assert ledger.wait("key:00", at(3600 * 3)) == 0
    assert ledger.wait("net:192.0.2.7", at(3600 * 3)) == 60
    assert (ledger.row, ledger.unseen, ledger.unseen_from) == (0, 0, "")


def test_setting_the_clock_forward_ends_no_wait() -> None:
    assert failed(3).wait("net:192.0.2.7", at(7200 + 10, wall=WALL + 10 * DAY)) == 20


def test_setting_the_clock_back_prolongs_no_wait() -> None:
    ledger = failed(3)
    assert ledger.wait("net:192.0.2.7", at(7200 + 10, wall=0)) == 20
    assert ledger.wait("net:192.0.2.7", at(7200 + 30, wall=0)) == 0


def test_a_boot_ends_no_wait_before_its_time() -> None:
    ledger = failed(3)
    assert ledger.wait("net:192.0.2.7", at(12, "next boot", WALL + 7200 + 20)) == 10
    assert ledger.wait("net:192.0.2.7", at(12, "next boot", WALL + 7200 + 30)) == 0


def test_a_boot_with_the_clock_set_back_waits_at_most_once_more() -> None:
    ledger = failed(3)
    assert ledger.wait("net:192.0.2.7", at(0, "next boot", 0)) == 30
    assert ledger.wait("net:192.0.2.7", at(29.5, "next boot", 0)) == 1
    assert ledger.wait("net:192.0.2.7", at(30, "next boot", 0)) == 0


def crowd(count: int, ledger: Ledger | None = None) -> Ledger:
    """One wrong code a minute, each from another address."""
    ledger = ledger or Ledger()
    for number in range(count):
        ledger.fail(f"net:203.0.113.{number}", "", at(60 * number), 1000)
    return ledger


def test_a_day_has_room_for_24_wrong_codes_from_all_sources_together() -> None:
    assert crowd(23).wait("net:new", at(60 * 23)) == 0
    ledger = crowd(24)
    assert ledger.wait("net:new", at(60 * 23)) == ledger.day_wait(at(60 * 23)) == DAY - 60 * 23
    assert ledger.wait("net:new", at(DAY - 1)) == 1
    assert ledger.wait("net:new", at(DAY)) == 0


def test_the_day_begins_anew_with_each_wrong_code_that_is_a_day_old() -> None:
    ledger = crowd(24)
    ledger.fail("net:new", "", at(DAY), 1000)
    assert ledger.wait("net:newer", at(DAY)) == 60


def test_a_source_of_a_recent_success_is_not_held_up_by_others() -> None:
    ledger = Ledger()
    ledger.succeed("key:00", at(0))
    crowd(40, ledger)
    assert ledger.wait("key:00", at(60 * 40)) == 0
    assert ledger.wait("net:new", at(60 * 40)) > 0


def test_a_source_is_trusted_for_thirty_days() -> None:
    ledger = Ledger()
    ledger.succeed("key:00", at(0))
    start = 30 * DAY - 60
    for number in range(24):
        ledger.fail(f"net:203.0.113.{number}", "", at(start), 1000)
    assert ledger.wait("key:00", at(start)) == 0
    assert ledger.wait("key:00", at(start + 60)) > 0


def test_a_trusted_source_waits_for_its_own_wrong_codes() -> None:
    ledger = Ledger()
    ledger.succeed("key:00", at(0))
    assert failed(3, "key:00", ledger).wait("key:00", at(7200)) == 30


def test_the_longest_wait_is_that_of_the_source_that_waits_longest() -> None:
    ledger = failed(3)
    assert failed(5, "key:00", ledger).longest_wait(at(4 * 3600)) == 120
    assert Ledger().longest_wait(at(0)) == 0


def test_the_latest_sources_and_failures_are_kept_and_no_more() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.fail(f"net:{number}", "", at(number), 2000)
        ledger.succeed(f"key:{number}", at(number))
    kept = [f"{kind}:{number}" for kind in ("net", "key") for number in range(1000 - rules.MOST_SOURCES, 1000)]
    assert set(ledger.sources) == set(kept)
    assert len(ledger.recent) == rules.MOST_RECENT
    ledger.fail("net:late", "", at(999 + DAY), 2000)
    assert len(ledger.recent) == 1


def test_each_usual_source_has_its_days_measure_however_many_others_are_guessed_from() -> None:
    ledger = Ledger()
    sources = [f"net:{number}" for number in range(rules.MOST_SOURCES)]
    evaluated = dict.fromkeys([*sources, "net:new"], 0)
    # Whoever guesses waits as long as it takes; and the user's logins end the waits, but not the day's measure.
    for minute in range(0, 1440, 10):
        for source in evaluated:
            if source in sources:
                ledger.succeed(source, at(60 * minute))
            if not ledger.wait(source, at(60 * minute)):
                ledger.fail(source, "", at(60 * minute), 10_000)
                evaluated[source] += 1
    assert max(evaluated.values()) == rules.FAILURES_A_DAY
    for source in sources:
        ledger.fail_recovery(source, "", at(0))
    for _ in range(4):
        for source in sources:
            ledger.fail_recovery(source, "", at(1))
    assert all(ledger.recovery_wait(source, at(2)) for source in sources)


def test_strangers_displace_each_other_and_not_a_source_the_user_comes_from() -> None:
    ledger = Ledger()
    ledger.succeed("key:00", at(0))
    for number in range(1, 100):
        ledger.fail(f"net:{number}", "", at(number), 1000)
    assert set(ledger.sources) == {"key:00", *(f"net:{number}" for number in range(100 - rules.MOST_SOURCES, 100))}


def test_of_strangers_those_that_failed_last_are_kept() -> None:
    ledger = Ledger()
    for number in range(rules.MOST_SOURCES):
        ledger.fail(f"net:{number}", "", at(number), 1000)
    ledger.fail("net:0", "", at(100), 1000)
    ledger.fail("net:new", "", at(101), 1000)
    assert {"net:0", "net:new"} < set(ledger.sources)
    assert "net:1" not in ledger.sources


def test_a_source_is_forgotten_when_nothing_of_it_matters_any_more() -> None:
    ledger = failed(2, "net:failed")
    ledger.succeed("net:succeeded", at(0))
    ledger.succeed("net:other", at(29 * DAY))
    assert set(ledger.sources) == {"net:succeeded", "net:other"}
    ledger.succeed("net:other", at(31 * DAY))
    assert set(ledger.sources) == {"net:other"}


# Wrong recovery codes


def test_a_source_has_five_wrong_recovery_codes_in_ten_minutes() -> None:
    ledger = Ledger()
    for number in range(5):
        assert ledger.recovery_wait("net:192.0.2.7", at(60 * number)) == 0
        ledger.fail_recovery("net:192.0.2.7", "", at(60 * number))
    assert ledger.recovery_wait("net:192.0.2.7", at(240)) == 360
    assert ledger.recovery_wait("net:192.0.2.7", at(599)) == 1
    assert ledger.recovery_wait("net:192.0.2.7", at(600)) == 0
    assert ledger.recovery_wait("net:new", at(240)) == 0
    assert (ledger.row, ledger.sources, ledger.recent, ledger.unseen) == (0, {}, [], 5)


def test_all_sources_together_have_twenty_but_for_those_that_the_user_comes_from() -> None:
    ledger = Ledger()
    ledger.succeed("net:usual", at(0))
    for number in range(20):
        ledger.fail_recovery(f"net:{number}", "", at(number))
    assert ledger.recovery_wait("net:new", at(20)) == 580
    assert ledger.recovery_wait("net:usual", at(20)) == 0
    for _ in range(5):
        ledger.fail_recovery("net:usual", "", at(20))
    assert ledger.recovery_wait("net:usual", at(20)) == 600


def test_few_wrong_recovery_codes_are_kept_and_unlocking_forgets_them() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.fail_recovery(f"net:{number}", "", at(number / 10))
    assert len(ledger.recent_recovery) == rules.MOST_RECENT
    ledger.fail_recovery("net:late", "", at(10_000))
    assert len(ledger.recent_recovery) == 1
    ledger.unlock(0, 1)
    assert (ledger.recent_recovery, ledger.unseen) == ([], 1001)


@pytest.mark.parametrize("window", range(11))
@pytest.mark.parametrize("authenticators", range(1, 6))
def test_a_day_of_guesses_hits_less_than_once_in_ten_thousand(authenticators: int, window: int) -> None:
    guesses = rules.guesses_a_day(authenticators, window)
    assert 1 <= guesses <= rules.FAILURES_A_DAY
    chance = guesses * authenticators * (2 * window + 1) / 1_000_000
    assert chance < 1e-4 or (guesses, authenticators, window) == (1, 5, 10)


# The lock


def test_the_lock_comes_with_the_last_failure_in_a_row_and_stays() -> None:
    ledger = Ledger()
    for number in range(9):
        ledger.fail(f"net:{number}", "", at(number), 10)
    assert not ledger.locked
    ledger.fail("net:9", "", at(9), 10)
    assert ledger.locked
    ledger.succeed("net:9", at(10))
    ledger.fail("net:9", "", at(9), 1000)
    assert ledger.locked


def test_the_lock_holds_for_strangers_and_for_a_trusted_source_that_has_earned_it() -> None:
    ledger = Ledger()
    ledger.succeed("net:usual", at(0))
    crowd(10, ledger)
    for number in range(10):
        ledger.fail("net:usual", "", at(number), 10)
        assert ledger.locked
        assert ledger.locks_out("net:usual", at(number), 10) == (number == 9)
    assert ledger.locks_out("net:new", at(10), 10)
    assert ledger.locks_out("net:203.0.113.1", at(10), 10)


def test_a_stranger_locks_nothing_as_long_as_the_user_logs_in() -> None:
    ledger = Ledger()
    for number in range(20):
        ledger.fail("net:192.0.2.7", "", at(3600 * number), 10)
        ledger.succeed("net:usual", at(3600 * number))
    assert not ledger.locked
    assert ledger.sources["net:192.0.2.7"][0] == 20


def test_a_source_is_trusted_by_a_login_from_it_only() -> None:
    ledger = failed(3)
    assert not ledger.trusts("net:192.0.2.7", at(0))
    assert not ledger.trusts("net:new", at(0))
    ledger.succeed("net:192.0.2.7", at(0))
    assert ledger.trusts("net:192.0.2.7", at(30 * DAY - 1))
    assert not ledger.trusts("net:192.0.2.7", at(30 * DAY))


def test_wrong_codes_are_counted_for_the_user_to_see() -> None:
    ledger = failed(2)
    ledger.fail("net:198.51.100.9", "198.51.100.9", at(9000), 100)
    assert (ledger.row, ledger.unseen, ledger.unseen_from) == (3, 3, "198.51.100.9")
    assert ledger.last_success is None
    ledger.succeed("net:new", at(10_000))
    assert ledger.last_success == WALL + 10_000


def test_unlocking_clears_all_but_what_is_spent_and_who_is_trusted() -> None:
    ledger = crowd(30)
    ledger.succeed("key:00", at(2000))
    failed(12, "key:00", ledger)
    ledger.locked = True
    ledger.mark("a").step = 500
    ledger.unlock(1000, 1)
    now = at(12 * 3600)
    assert (ledger.locked, ledger.row, ledger.longest_wait(now)) == (False, 0, 0)
    assert ledger.mark("a").step == 500
    crowd(24, ledger)
    assert ledger.wait("key:00", at(60 * 24)) == 0


@pytest.mark.parametrize(("mark", "drift", "after"), [(999, 0, 999), (1001, 0, 1001), (5000, 0, 1001), (5000, -2, 999)])
def test_unlocking_lowers_a_mark_in_the_future_to_what_could_be_accepted_now(mark: int, drift: int, after: int) -> None:
    ledger = Ledger()
    ledger.marks["a"] = Mark(mark, drift)
    ledger.unlock(1000, 1)
    assert (ledger.mark("a").step, ledger.mark("a").drift) == (after, drift)


# Marks


def learned(*offsets: int, limit: int = 10, mark: Mark | None = None) -> Mark:
    """A mark after logins whose codes were so many steps off."""
    mark = mark or Mark()
    for number, offset in enumerate(offsets, start=1):
        mark.spend(100 * number + offset, 100 * number, limit)
    return mark


@pytest.mark.parametrize(
    ("offsets", "drift"),
    [
        ((0, 0, 0, 0), 0),
        ((1,), 0),
        ((1, 1), 0),
        ((1, 1, 1), 1),
        ((-1, -1, -1), -1),
        ((1, 1, 0, 1), 0),
        ((1, 1, -1, 1, 1), 0),
        ((1, 1, 1, 2, 2), 1),
        ((1, 1, 1, 2, 2, 2), 2),
        ((1, 1, 1, 0, 0, 0), 0),
        ((2, 2, 2), 1),
    ],
)
def test_drift_is_learned_from_three_logins_in_a_row_that_lean_the_same_way(
    offsets: tuple[int, ...], drift: int
) -> None:
    assert learned(*offsets).drift == drift


@pytest.mark.parametrize(("direction", "limit"), [(1, 4), (-1, 4), (1, 0), (-1, 0)])
def test_drift_stays_within_its_bounds(direction: int, limit: int) -> None:
    mark = Mark()
    for number in range(1, 100):
        mark.spend(1000 * number + mark.drift + direction, 1000 * number, limit)
    assert mark.drift == direction * limit


def test_the_mark_is_the_highest_step_that_was_spent() -> None:
    mark = Mark()
    assert mark.step == -1
    for step in (7, 9, 3):
        mark.spend(step, 8, 10)
    assert mark.step == 9


def test_a_merge_takes_the_newer_ledger_and_the_higher_marks() -> None:
    older, newer = failed(2), failed(5)
    older.seq, newer.seq = 4, 5
    older.marks = {"a": Mark(10, 3), "b": Mark(1), "c": Mark(5)}
    newer.marks = {"a": Mark(8, 1), "b": Mark(2)}
    merged = [
        fields(Ledger.decode(one.encode()).merge(Ledger.decode(other.encode())))
        for one, other in ((older, newer), (newer, older))
    ]
    assert merged[0] == merged[1]
    assert merged[0]["row"] == 5
    assert merged[0]["marks"] == {"a": [10, 1, 0], "b": [2, 0, 0], "c": [5, 0, 0]}


def test_the_marks_of_the_authenticators_that_are_left_are_kept() -> None:
    ledger = Ledger()
    for number in range(20):
        ledger.mark(f"{number:02}").step = number
    ledger.forget_marks({"00", "01"})
    assert {"00", "01"} < set(ledger.marks)
    assert sorted(ledger.marks)[2:] == [f"{number:02}" for number in range(12, 20)]


def test_a_reset_forgets_all_but_what_is_spent_and_what_was_granted() -> None:
    ledger = failed(7)
    ledger.exemption, ledger.grace, ledger.invitation = [5, "travels"], [at(0).stamp(), 0], ["token", 5]
    ledger.remember("client", 60, at(0))
    ledger.seq, ledger.enrolled = 9, 5
    ledger.fail_recovery("net:", "", at(0))
    ledger.mark("a").step = 77
    cleared = ledger.cleared()
    assert (cleared.seq, cleared.row, cleared.sources, cleared.recent) == (9, 0, {}, [])
    assert cleared.mark("a").step == 77
    assert (cleared.exemption, cleared.grace) == (ledger.exemption, ledger.grace)
    assert (cleared.invitation, cleared.recovery, cleared.remembered) == (None, None, {})
    assert (cleared.recent_recovery, cleared.enrolled) == ([], None)


# Exemptions, deadlines, remembered clients


def test_an_exemption_holds_until_its_end() -> None:
    ledger = Ledger()
    assert not ledger.exempt(at(0))
    ledger.exemption = [WALL + 10, "travels"]
    assert ledger.exempt(at(9.9))
    assert not ledger.exempt(at(10))


def test_a_deadline_runs_from_its_beginning_whatever_is_done_to_the_clock() -> None:
    ledger = Ledger()
    assert ledger.grace_left(at(0), 100) == 100
    ledger.grace = [at(0).stamp(), 5]
    assert [ledger.grace_left(at(seconds), 100) for seconds in (0, 60, 104, 105, 1000)] == [105, 45, 1, 0, 0]
    assert ledger.grace_left(at(60, wall=WALL - DAY), 100) == 45


def test_a_client_is_remembered_for_the_shorter_of_what_was_and_what_is_allowed() -> None:
    ledger = Ledger()
    ledger.remember("client", 100, at(0))
    assert [ledger.remembers("client", 50, at(seconds)) for seconds in (0, 49, 50)] == [True, True, False]
    assert [ledger.remembers("client", 500, at(seconds)) for seconds in (99, 100)] == [True, False]
    assert not ledger.remembers("client", 0, at(0))
    assert not ledger.remembers("other", 50, at(0))
    assert not ledger.remembers("client", 50, at(1, "next boot"))


def test_the_clients_that_logged_in_last_are_remembered_until_their_time_is_over() -> None:
    ledger = Ledger()
    for number in range(20):
        ledger.remember(f"client {number}", 1000, at(number))
    assert list(ledger.remembered) == [f"client {number}" for number in range(20 - rules.MOST_REMEMBERED, 20)]
    ledger.remember("client 4", 1000, at(20))
    assert list(ledger.remembered)[-2:] == ["client 19", "client 4"]
    ledger.remember("another", 1000, at(1010))
    assert list(ledger.remembered) == [*(f"client {number}" for number in range(11, 20)), "client 4", "another"]


def test_who_has_just_logged_in_is_known_by_the_source_for_a_minute() -> None:
    ledger = Ledger()
    assert ledger.latest_success("net:a") is None
    ledger.succeed("net:a", at(0))
    assert [ledger.just_succeeded("net:a", at(seconds)) for seconds in (-1, 0, 59, 60)] == [False, True, True, False]
    assert ledger.latest_success("net:a") == WALL
    assert not ledger.just_succeeded("net:b", at(0))
    ledger.succeed("net:b", at(1))
    assert ledger.latest_success("net:a") is None


def test_a_failure_that_is_not_noted_is_charged_all_the_same() -> None:
    ledger = Ledger()
    ledger.fail("net:a", "192.0.2.7", at(0), 100, note=False)
    assert (ledger.row, len(ledger.recent), ledger.unseen, ledger.unseen_from) == (1, 1, 0, "")
