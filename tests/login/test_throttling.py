"""Guessing: who has to wait after wrong codes, as it is seen across connections, with both variants."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.login.host import Host, Person, kinds
from tests.login.transactions import Transaction, transactions

if TYPE_CHECKING:
    from tests.lab.ssh import Result

pytestmark = pytest.mark.usefixtures("either_variant")

TOLD_FOR = 2  # seconds, in which nobody is told the same again


def seconds_left(result: Result) -> int:
    """The time that a user who has to wait is told."""
    found = re.search(r"Too many wrong codes\. Try again in (\d+) s\.", result.screen)
    assert found, result.screen
    return int(found[1])


def test_after_three_wrong_codes_the_user_is_not_asked_but_told_how_long_to_wait(host: Host) -> None:
    alice = host.person()
    for _ in range(3):
        assert kinds(alice.log_in(alice.wrong()))[-1] == "Verification code:"
    mark = host.machine.mark()
    result = alice.log_in(alice.code())
    assert not result.ok
    assert kinds(result) == host.first_prompts
    assert 0 < seconds_left(result) <= 30
    assert [line["reason"] for line in host.decisions(mark)] == ["throttled"]
    status = host.status(alice)
    assert status["failures"] == 3
    assert status["retry_at"]


def test_a_client_that_tries_again_by_itself_is_told_once(host: Host) -> None:
    """ssh tries a method three times, and sshd begins it anew each time; with a key nobody types between."""
    by_key = host.variant == "key-and-code"
    alice, bob = host.person(), host.person(enrolled=False)
    alice.fail()
    mark = host.machine.mark()
    said = {alice: "Too many wrong codes.", bob: "Ask your administrator to enrol you."}
    with host.config('unenrolled = "deny"'):
        for person, text in said.items():
            with host.machine.ssh(person.user, "-o", "NumberOfPasswordPrompts=3", key=by_key) as session:
                result = session.authenticate(password=None if by_key else person.user.password)
            assert not result.ok
            # Once, but where a busy machine takes longer than that between two tries.
            times = [record.received for record in host.machine.log(mark) if f" user={person} " in record.message]
            slow = [later - earlier for earlier, later in pairwise(times) if later - earlier > TOLD_FOR / 2]
            assert 1 <= result.screen.count(text) <= 1 + len(slow), result.screen
    reasons = [line["reason"] for line in host.decisions(mark)]
    tries = 3 if by_key else 1
    assert (reasons.count("throttled"), reasons.count("not-enrolled")) == (tries, tries)
    # Whoever comes back is told again.
    time.sleep(TOLD_FOR)
    assert seconds_left(alice.log_in())


def test_another_source_of_the_same_user_is_not_held_up(host: Host) -> None:
    alice = host.person()
    alice.fail()
    code = alice.code()
    assert not alice.log_in(code).asked_code
    assert alice.log_in(code, **alice.elsewhere()).ok
    assert not alice.log_in(alice.code(1)).asked_code


def test_another_user_of_the_same_address_is_not_held_up(host: Host) -> None:
    alice, bob = host.person(), host.person()
    alice.fail()
    assert not alice.log_in(alice.code()).asked_code
    assert bob.log_in(bob.code()).ok


def test_unlock_ends_the_wait(host: Host) -> None:
    alice = host.person()
    alice.fail()
    assert not alice.log_in(alice.code()).asked_code
    host.unlock(alice)
    assert alice.log_in(alice.code()).ok


# Somebody else with the first factor, who wants to keep the user out


def from_elsewhere(person: Person, *answers: str, wide: bool = True) -> list[str]:
    """What PAM returned to each of these answers, given with this user's first factor from other addresses."""
    auth_info = person.first_factor()
    wanted = [
        Transaction(person.name, answer, f"198.51.{number // 250}.{number % 250}" if wide else "198.51.0.7", auth_info)
        for number, answer in enumerate(answers)
    ]
    return [each.code for each in transactions(person.host.machine, *wanted)]


def test_wrong_answers_of_every_kind_from_elsewhere_do_not_keep_the_user_out_of_the_usual_source(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    with host.config("lock_after = 10"):
        assert alice.log_in(alice.code()).ok
        mix = [alice.wrong(), "aaaaa-aaaaa", "nonsense", "bbbbb-bbbbb"] * 25
        assert set(from_elsewhere(alice, *mix)) == {"PAM_AUTH_ERR"}
        assert host.status(alice)["state"] == "locked"
        assert not alice.log_in(alice.code(1), **alice.elsewhere()).asked_code
        assert alice.log_in(alice.code(1)).ok
        assert alice.log_in(codes[0]).ok
        assert host.status(alice)["state"] == "active"


def test_wrong_recovery_codes_neither_lock_nor_hold_up_a_code_from_the_app(host: Host) -> None:
    alice = host.person()
    host.recovery_codes(alice)
    with host.config("lock_after = 10"):
        assert set(from_elsewhere(alice, *["aaaaa-aaaaa"] * 40)) == {"PAM_AUTH_ERR"}
        status = host.status(alice)
        assert (status["state"], status["failures"], status["retry_at"]) == ("active", 0, None)
        assert alice.log_in(alice.code()).ok


def test_wrong_recovery_codes_make_their_source_wait_for_a_recovery_code_only(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    mark = host.machine.mark()
    from_elsewhere(alice, *["aaaaa-aaaaa"] * 7, codes[0], alice.code(), wide=False)
    reasons = [line["reason"] for line in host.decisions(mark)]
    assert reasons == ["wrong-recovery-code"] * 5 + ["throttled"] * 3 + ["code"]
    assert alice.log_in(codes[0]).ok


def test_wrong_codes_with_the_users_own_key_from_elsewhere_do_not_hold_up_the_usual_place(host: Host) -> None:
    alice = host.person()
    assert alice.log_in(alice.code()).ok
    from_elsewhere(alice, *[alice.wrong()] * 3, wide=False)
    assert from_elsewhere(alice, alice.code(1), wide=False) == ["PAM_AUTH_ERR"]
    assert alice.log_in(alice.code(1)).ok


def test_five_authenticators_leave_a_guesser_as_good_a_chance_as_one(host: Host) -> None:
    alice = host.person()
    for number in range(4):
        host.enroll(alice, label=f"another {number}")
    mark = host.machine.mark()
    from_elsewhere(alice, *[alice.wrong()] * 8)
    reasons = [line["reason"] for line in host.decisions(mark)]
    assert reasons == ["wrong-code"] * 6 + ["throttled"] * 2
