"""One attempt after another on a real cache: the table of what each situation returns, and everything behind it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache import accounts as accounts_module
from pam_totp.cache.accounts import PENDING
from pam_totp.cache.volatile import Volatile
from pam_totp.errors import CacheError, NameServiceError
from pam_totp.factors import recovery
from pam_totp.factors.otp import SECRET_BYTES
from pam_totp.host.config import Arguments
from pam_totp.host.users import User
from pam_totp.login import login
from pam_totp.login.attempt import Outcome
from tests.unit.pretend import ALICE, BOB, ELSEWHERE, HERE, STEP, Host, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account
    from tests.unit.conftest import Disk, Passwd

NOT_ACCEPTED = "That code was not accepted."
USED_ALREADY = "That code was used already: wait for the next one."
OUT_OF_ORDER = "Verification codes cannot be checked here now: tell your administrator."
KEY = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQq\n"
DAY = 86_400


def result(outcome: Outcome) -> tuple[str, str]:
    return outcome.verdict, outcome.reason


ACCEPTED = ("accepted", "code")
SPENT = ("refused", "spent-code")
WRONG = ("refused", "wrong-code")
THROTTLED = ("refused", "throttled")
MALFORMED = ("refused", "malformed-code")


# Who is asked, and who gets in


def test_a_right_code_is_accepted(host: Host) -> None:
    secret = host.enroll()
    outcome = host.login("alice", host.code(secret))
    assert result(outcome) == ACCEPTED
    assert (outcome.account, outcome.message, outcome.detail) == ("alice", "", "")


def test_the_prompt_is_that_of_the_configuration_and_does_not_echo(host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))
    assert (host.talk.asked, host.talk.echoed) == (["Verification code: "], [])
    host.configure('prompt = "Prüfcode: "\n')
    host.login("alice", host.wrong(secret))
    assert (host.talk.asked, host.talk.echoed) == (["Prüfcode: "], [])


def test_a_code_may_be_typed_with_a_space(host: Host) -> None:
    code = host.code(host.enroll())
    assert result(host.login("alice", f"{code[:3]} {code[3:]}")) == ACCEPTED


def test_who_is_not_enrolled_is_not_asked(host: Host) -> None:
    host.enroll(BOB)
    outcome = host.login("alice")
    assert result(outcome) == ("skipped", "not-enrolled")
    assert (outcome.account, outcome.message) == ("alice", "")


def test_who_has_not_confirmed_is_not_asked(host: Host) -> None:
    host.enroll(ALICE, state=PENDING)
    assert result(host.login("alice")) == ("skipped", "pending")


def test_who_has_an_active_authenticator_is_asked_whatever_is_pending_beside_it(host: Host) -> None:
    secret = host.enroll()
    pending = host.enroll(ALICE, "new phone", PENDING)
    assert result(host.login("alice", host.code(pending))) == WRONG
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


@pytest.mark.parametrize(("state", "reason"), [(None, "not-enrolled"), (PENDING, "pending")])
def test_who_is_not_enrolled_is_refused_where_policy_denies_and_told_what_to_do(
    state: str | None, reason: str, host: Host
) -> None:
    host.configure('unenrolled = "deny"\n')
    if state is not None:
        host.enroll(ALICE, state=state)
    outcome = host.login("alice")
    assert result(outcome) == ("refused", reason)
    assert "Ask your administrator" in outcome.message
    assert "pam-totp enroll alice" in outcome.detail


def test_who_is_exempt_is_not_asked_until_the_exemption_ends(host: Host) -> None:
    secret = host.enroll()
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 3600, "lost phone"]))
    outcome = host.login("alice")
    assert result(outcome) == ("skipped", "exempt")
    assert "lost phone" in outcome.detail
    host.later(3600)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_a_user_unknown_to_nss_is_not_asked_and_leaves_no_state(host: Host) -> None:
    shutil.rmtree(host.paths.run, ignore_errors=True)
    before = host.snapshot()
    for name in ("mallory", "", "../alice", "alice\n", "a" * 5000, "\udcff"):
        outcome = host.login(name)
        assert result(outcome) == ("unknown-user", "unknown-user")
        assert (outcome.account, outcome.message) == ("", "")
    assert host.snapshot() == before
    assert not os.path.exists(host.paths.run)


@pytest.mark.parametrize("user", ["alice", "bob", "mallory"])
@pytest.mark.parametrize("auth_info", ["", "\n", "publickey\n", "password\n", "publickey ssh-ed25519\n"])
def test_where_a_key_is_demanded_nobody_passes_without_one(user: str, auth_info: str, host: Host) -> None:
    host.enroll()
    host.configure("this is not TOML")  # it is refused before anything else is looked at
    outcome = host.login(user, auth_info=auth_info, arguments=("first_factor=publickey",))
    assert result(outcome) == ("refused", "no-public-key")
    assert "AuthenticationMethods" in outcome.detail


def test_where_a_key_is_demanded_and_passed_everything_is_as_usual(host: Host) -> None:
    secret = host.enroll()
    demanded = ("first_factor=publickey",)
    assert result(host.login("alice", host.code(secret), auth_info=KEY, arguments=demanded)) == ACCEPTED
    assert result(host.login("alice", host.code(secret), auth_info=KEY, arguments=demanded)) == SPENT
    assert result(host.login("bob", auth_info=KEY, arguments=demanded)) == ("skipped", "not-enrolled")


@pytest.mark.parametrize("way", ["skip", "deny"])
def test_a_conversation_without_an_answer_ends_the_attempt_and_charges_nothing(way: str, host: Host) -> None:
    host.enroll()
    host.configure(f'unenrolled = "{way}"\n')
    before = host.snapshot()
    for _ in range(5):
        assert result(host.login("alice", None)) == ("no-answer", "no-answer")
    assert host.snapshot() == before


# Codes


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_the_codes_of_the_steps_beside_are_accepted(steps: int, host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret, steps))) == ACCEPTED


@pytest.mark.parametrize(
    ("steps", "detail"),
    [
        (-2, "right but 60 s behind"),
        (2, "right but 60 s ahead"),
        (20, "right but 600 s ahead"),
        (-20, "right but 600 s behind"),
        (21, ""),
        (-21, ""),
    ],
)
def test_the_codes_of_other_steps_are_refused_and_the_administrator_is_told_how_far_off_they_were(
    steps: int, detail: str, host: Host
) -> None:
    secret = host.enroll()
    outcome = host.login("alice", host.code(secret, steps))
    assert result(outcome) == ("refused", "code-of-another-time" if detail else "wrong-code")
    assert detail in outcome.detail
    assert outcome.message == NOT_ACCEPTED


@pytest.mark.parametrize("window", [0, 3, 10])
def test_the_window_is_that_of_the_configuration(window: int, host: Host) -> None:
    secret = host.enroll()
    host.configure(f"window = {window}\nmax_drift = 0\n")
    for steps in (-window, window):
        assert result(host.login("alice", host.code(secret, steps))) == ACCEPTED
        host.later(30 * STEP)
    for steps in (-window - 1, window + 1):
        assert host.login("alice", host.code(secret, steps)).verdict == "refused"


def test_a_code_is_refused_the_second_time(host: Host) -> None:
    secret = host.enroll()
    code = host.code(secret)
    assert result(host.login("alice", code)) == ACCEPTED
    outcome = host.login("alice", code, rhost=ELSEWHERE)
    assert result(outcome) == SPENT
    assert outcome.message == NOT_ACCEPTED
    host.later(STEP)
    assert result(host.login("alice", code)) == SPENT


def test_the_users_own_code_again_is_said_to_be_used_and_is_no_guess_for_a_minute(host: Host) -> None:
    secret = host.enroll()
    code = host.code(secret)
    assert result(host.login("alice", code)) == ACCEPTED
    host.later(59)
    outcome = host.login("alice", code)
    assert (result(outcome), outcome.message) == (SPENT, USED_ALREADY)
    assert (host.account().ledger.row, host.account().ledger.recent, host.account().ledger.unseen) == (0, [], 0)
    host.later(1)
    outcome = host.login("alice", code)
    assert (result(outcome), outcome.message) == (SPENT, USED_ALREADY)
    assert (host.account().ledger.row, len(host.account().ledger.recent), host.account().ledger.unseen) == (1, 1, 0)
    outcome = host.login("alice", host.code(secret))
    assert (result(outcome), outcome.message) == (ACCEPTED, "")


@pytest.mark.parametrize("rhost", [ELSEWHERE, ""], ids=["elsewhere", "unknown"])
def test_a_replay_from_another_source_is_told_nothing_and_charged(rhost: str, host: Host) -> None:
    secret = host.enroll()
    code = host.code(secret)
    assert result(host.login("alice", code)) == ACCEPTED
    outcome = host.login("alice", code, rhost=rhost)
    assert (result(outcome), outcome.message) == (SPENT, NOT_ACCEPTED)
    assert (host.account().ledger.row, host.account().ledger.unseen) == (1, 1)


def test_where_the_latest_login_came_from_elsewhere_its_code_is_not_said_to_be_used(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    host.later(STEP)
    assert result(host.login("alice", host.code(secret), rhost=ELSEWHERE)) == ACCEPTED
    outcome = host.login("alice", host.code(secret))
    assert (result(outcome), outcome.message) == (SPENT, NOT_ACCEPTED)
    assert host.account().ledger.row == 1


def test_a_code_before_that_of_the_login_is_told_nothing_and_charged(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    outcome = host.login("alice", host.code(secret, -1))
    assert (result(outcome), outcome.message) == (SPENT, NOT_ACCEPTED)
    assert host.account().ledger.row == 1


def test_another_authenticators_code_that_was_used_elsewhere_is_not_said_to_be_used(host: Host) -> None:
    phone, fob = host.enroll(ALICE, "phone"), host.enroll(ALICE, "fob")
    seen = host.code(fob)
    assert result(host.login("alice", seen, rhost=ELSEWHERE)) == ACCEPTED
    host.later(4 * STEP)
    assert result(host.login("alice", host.code(phone))) == ACCEPTED
    outcome = host.login("alice", seen)
    assert (result(outcome), outcome.message) == (SPENT, NOT_ACCEPTED)


def test_a_clock_that_is_set_back_makes_no_repeated_code_free(host: Host) -> None:
    code = host.code(host.enroll())
    assert result(host.login("alice", code)) == ACCEPTED
    host.wall -= 10
    assert result(host.login("alice", code)) == SPENT
    assert host.account().ledger.row == 1


def test_a_code_of_an_earlier_step_is_refused_after_a_later_one(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret, 1))) == ACCEPTED
    for steps in (0, -1):
        assert result(host.login("alice", host.code(secret, steps))) == SPENT


def test_the_confirming_code_of_an_authenticator_says_nothing_about_another_one(host: Host) -> None:
    phone, fob = host.enroll(ALICE, "phone"), host.enroll(ALICE, "fob")
    assert result(host.login("alice", host.code(phone))) == ACCEPTED
    assert result(host.login("alice", host.code(phone))) == SPENT
    assert result(host.login("alice", host.code(fob))) == ACCEPTED
    assert result(host.login("alice", host.code(fob))) == SPENT


def test_the_code_of_another_user_is_wrong(host: Host) -> None:
    host.enroll(ALICE)
    assert result(host.login("alice", host.code(host.enroll(BOB)))) == WRONG


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ("\b\n\r\x7fIN", "AllowUsers"),
        ("\b\n\r\x7fINCORRECT\b\n\r", "AllowUsers"),
        ("\b\n\r\x7fno", ""),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_where_sshd_kept_the_answer_back_the_log_names_the_setting(answer: str, detail: str, host: Host) -> None:
    host.enroll()
    outcome = host.login("alice", answer)
    assert result(outcome) == MALFORMED
    assert (detail in outcome.detail) if detail else not outcome.detail


def test_for_root_that_setting_is_permit_root_login(host: Host, passwd: Passwd) -> None:
    passwd.add("root", 0)
    host.enroll(User("root", 0))
    outcome = host.login("root", "\b\n\r\x7fIN")
    assert result(outcome) == MALFORMED
    assert "PermitRootLogin is not yes" in outcome.detail


@pytest.mark.parametrize(
    "answer",
    ["", "12345", "1234567", "12 3456", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666", "x" * 10_000, "\x00"],
)
def test_what_has_not_the_form_of_a_code_is_refused_like_a_wrong_one_but_is_no_guess(answer: str, host: Host) -> None:
    secret = host.enroll()
    for _ in range(5):
        outcome = host.login("alice", answer)
        assert result(outcome) == MALFORMED
        assert outcome.message == NOT_ACCEPTED
    assert host.account().ledger.row == 0
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    assert host.talk.told == []


def test_one_message_is_told_whatever_was_wrong_with_the_code(host: Host) -> None:
    secret = host.enroll()
    host.login("alice", host.code(secret))
    host.later(STEP)
    told = set()
    for answer in (host.wrong(secret), host.code(secret, -1), host.code(secret, 5), "nonsense", ""):
        told.add(host.login("alice", answer, rhost=answer or "empty").message)
    assert told == {NOT_ACCEPTED}


# Drift


def drift(host: Host) -> int:
    """What is learned of alice's only authenticator."""
    return sum(mark.drift for mark in host.account().ledger.marks.values())


@pytest.mark.parametrize("direction", [1, -1])
def test_drift_is_learned_slowly_and_moves_the_window(direction: int, host: Host) -> None:
    secret = host.enroll()
    for _ in range(3):
        assert drift(host) == 0
        assert result(host.login("alice", host.code(secret, direction))) == ACCEPTED
        host.later(3600)
    assert drift(host) == direction
    assert result(host.login("alice", host.code(secret, 2 * direction))) == ACCEPTED
    host.later(3600)
    assert result(host.login("alice", host.code(secret, -direction))) == ("refused", "code-of-another-time")


def test_drift_is_bounded_by_the_configuration(host: Host) -> None:
    secret = host.enroll()
    host.configure("max_drift = 2\n")
    for _ in range(20):
        assert result(host.login("alice", host.code(secret, drift(host) + 1))) == ACCEPTED
        host.later(3600)
    assert drift(host) == 2
    assert result(host.login("alice", host.code(secret, 4))) == ("refused", "code-of-another-time")


def test_a_bound_that_is_lowered_holds_for_what_was_learned_before(host: Host) -> None:
    secret = host.enroll()
    for _ in range(12):
        assert result(host.login("alice", host.code(secret, drift(host) + 1))) == ACCEPTED
        host.later(3600)
    assert drift(host) == 4
    host.configure("max_drift = 1\n")
    assert result(host.login("alice", host.code(secret, 3))) == ("refused", "code-of-another-time")
    assert result(host.login("alice", host.code(secret, 2))) == ACCEPTED


# Deadlines, rules, remembered clients


def test_a_deadline_begins_with_the_first_login_and_ends_in_what_comes_after(host: Host) -> None:
    host.configure('[enrollment]\nperiod = "2d"\nafter = "deny"\n')
    outcome = host.login("alice")
    assert result(outcome) == ("skipped", "grace")
    assert outcome.message == "A verification code will be required here: set it up within 2 days."
    assert outcome.detail == "2 days left"
    host.later(DAY)
    assert host.login("alice").detail == "24 h left"
    host.later(DAY)
    assert result(host.login("alice")) == ("refused", "not-enrolled")
    assert result(host.login("bob")) == ("skipped", "grace")


def test_a_deadline_is_begun_once(host: Host, disk: Disk) -> None:
    host.configure('[enrollment]\nperiod = "2d"\n')
    disk.full = True
    assert result(host.login("alice")) == ("skipped", "grace")
    disk.full = False
    host.later(3600)
    assert host.login("alice").detail == "47 h left"


def test_two_first_logins_begin_one_deadline(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.configure('[enrollment]\nperiod = "2d"\n')
    lock = accounts_module.Accounts.lock

    def slowly(this: accounts_module.Accounts, name: str) -> object:
        monkeypatch.setattr(accounts_module.Accounts, "lock", lock)
        host.login("alice")
        host.later(3600)
        return lock(this, name)

    monkeypatch.setattr(accounts_module.Accounts, "lock", slowly)
    host.login("alice")
    assert host.login("alice").detail == "47 h left"


def test_where_a_deadline_can_be_recorded_nowhere_nobody_gets_in(
    host: Host, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.configure('[enrollment]\nperiod = "2d"\n')
    disk.full = True
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    assert result(host.login("alice")) == ("unavailable", "not-chargeable")


def test_the_self_service_is_named_where_there_is_one(host: Host) -> None:
    host.configure('[enrollment]\nperiod = "2d"\n')
    with open(host.paths.socket, "w", encoding="ascii"):
        pass
    assert host.login("alice").message.endswith("set it up within 2 days, with: pam-totp self enroll")


def test_the_first_rule_that_matches_decides(host: Host) -> None:
    secret = host.enroll()
    host.configure(
        '[[rule]]\nnetworks = ["192.0.2.0/24"]\nmfa = "skip"\n[[rule]]\nusers = ["bob"]\nunenrolled = "deny"\n'
    )
    outcome = host.login("alice", rhost="192.0.2.7")
    assert (result(outcome), outcome.detail) == (("skipped", "rule"), "rule 1")
    assert result(host.login("alice", host.code(secret), rhost=ELSEWHERE)) == ACCEPTED
    assert result(host.login("bob", rhost=ELSEWHERE)) == ("refused", "not-enrolled")


def test_a_client_is_remembered_by_its_key_and_address_for_as_long_as_configured(host: Host) -> None:
    secret = host.enroll()
    host.configure('remember = "12h"\n')
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED
    assert result(host.login("alice", auth_info=KEY)) == ("skipped", "remembered")
    host.later(STEP)
    assert result(host.login("alice", host.code(secret), auth_info=KEY, rhost=ELSEWHERE)) == ACCEPTED
    assert result(host.login("alice", "nonsense")) == MALFORMED  # without the key
    host.later(12 * 3600)
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED


def test_a_client_whose_code_was_wrong_is_not_remembered(host: Host) -> None:
    secret = host.enroll()
    host.configure('remember = "12h"\n')
    assert result(host.login("alice", host.wrong(secret), auth_info=KEY)) == WRONG
    assert host.account().ledger.remembered == {}
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED


def test_a_client_of_which_the_address_is_not_known_is_not_remembered(host: Host) -> None:
    secret = host.enroll()
    host.configure('remember = "12h"\n')
    assert result(host.login("alice", host.code(secret), auth_info=KEY, rhost="")) == ACCEPTED
    assert host.account().ledger.remembered == {}


def test_nobody_is_remembered_where_that_is_not_configured(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED
    assert host.account().ledger.remembered == {}


def test_a_boot_forgets_who_was_remembered(host: Host) -> None:
    secret = host.enroll()
    host.configure('remember = "12h"\n')
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED
    host.reboot()
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED


# Waiting


def test_three_wrong_codes_are_free_and_then_there_is_a_wait_without_a_prompt(host: Host) -> None:
    secret = host.enroll()
    host.fail(3)
    outcome = host.login("alice")
    assert result(outcome) == THROTTLED
    assert (outcome.message, outcome.detail) == ("Too many wrong codes. Try again in 30 s.", "30 s left")
    host.later(29)
    assert host.login("alice").detail == "1 s left"
    host.later(1)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_the_wait_doubles_up_to_an_hour(host: Host) -> None:
    host.enroll()
    host.fail(2)
    for wait in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600):
        host.fail(1)
        assert host.login("alice").detail == f"{wait} s left"
        host.later(wait)


def test_an_attempt_while_waiting_is_not_looked_at_and_prolongs_nothing(host: Host) -> None:
    host.enroll()
    host.fail(3)
    for _ in range(10):
        assert result(host.login("alice")) == THROTTLED
        host.later(1)
    assert host.login("alice").detail == "20 s left"


def test_a_wait_that_began_while_the_user_typed_holds(host: Host) -> None:
    secret = host.enroll()

    def type_slowly() -> str:
        host.fail(3)
        return host.code(secret)

    assert result(host.login("alice", type_slowly)) == THROTTLED
    assert result(host.login("alice", host.code(secret), rhost=ELSEWHERE)) == ACCEPTED


def test_another_source_of_the_same_user_does_not_wait(host: Host) -> None:
    secret = host.enroll()
    host.fail(3, rhost=HERE)
    assert result(host.login("alice", rhost=HERE)) == THROTTLED
    assert result(host.login("alice", host.code(secret), rhost=ELSEWHERE)) == ACCEPTED
    assert result(host.login("alice", rhost=HERE)) == THROTTLED  # a success elsewhere ends no row here


def test_a_source_is_a_key_together_with_its_address(host: Host) -> None:
    host.enroll()
    host.fail(3, auth_info=KEY)
    assert result(host.login("alice", auth_info=KEY)) == THROTTLED
    assert result(host.login("alice", "nonsense", auth_info=KEY, rhost=ELSEWHERE)) == MALFORMED
    assert result(host.login("alice", "nonsense", rhost=HERE)) == MALFORMED


def test_a_stolen_key_is_not_trusted_where_its_owner_was_not(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED
    for number in range(24):
        host.fail(1, auth_info=KEY, rhost=f"203.0.113.{number}")
    assert result(host.login("alice", auth_info=KEY, rhost=ELSEWHERE)) == THROTTLED
    host.later(STEP)
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED


def test_what_0_1_0_trusted_a_key_alone_for_is_trusted_no_more(host: Host) -> None:
    secret = host.enroll()
    host.change(lambda account: account.ledger.succeed(f"key:{host.sealer().token(KEY)}", host.now()))
    for number in range(24):
        host.fail(1, rhost=f"203.0.113.{number}")
    assert result(host.login("alice", auth_info=KEY)) == THROTTLED
    host.later(DAY)
    assert result(host.login("alice", host.code(secret), auth_info=KEY)) == ACCEPTED


def test_a_source_is_a_64_network_of_ipv6(host: Host) -> None:
    host.enroll()
    for number in range(3):
        host.fail(1, rhost=f"2001:db8::{number}")
    assert result(host.login("alice", rhost="2001:db8::ffff:1")) == THROTTLED
    assert result(host.login("alice", "nonsense", rhost="2001:db8:0:1::1")) == MALFORMED


def test_other_users_do_not_wait(host: Host) -> None:
    host.enroll(ALICE)
    secret = host.enroll(BOB)
    host.fail(3)
    assert result(host.login("bob", host.code(secret))) == ACCEPTED


def test_a_day_has_room_for_24_wrong_codes_and_a_source_that_is_known_is_not_held_up(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret), rhost=HERE)) == ACCEPTED
    for number in range(24):
        host.fail(1, rhost=f"203.0.113.{number}")
    outcome = host.login("alice", rhost="203.0.113.99")
    assert result(outcome) == THROTTLED
    assert outcome.message == "Too many wrong codes. Try again in 24 h."
    host.later(STEP)
    assert result(host.login("alice", host.code(secret), rhost=HERE)) == ACCEPTED
    host.later(DAY - STEP)
    assert result(host.login("alice", host.code(secret), rhost="203.0.113.99")) == ACCEPTED


def test_a_known_source_is_known_for_thirty_days(host: Host) -> None:
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    host.later(30 * DAY - 1)
    for number in range(24):
        host.fail(1, rhost=f"203.0.113.{number}")
    assert result(host.login("alice", "nonsense")) == MALFORMED
    host.later(1)
    assert result(host.login("alice")) == THROTTLED


@pytest.mark.parametrize("jump", [3600, 365 * DAY, -3600, -365 * DAY])
def test_setting_the_clock_shortens_and_prolongs_no_wait(jump: float, host: Host) -> None:
    secret = host.enroll()
    host.fail(3)
    host.wall += jump
    assert host.login("alice").detail == "30 s left"
    host.later(30)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_a_boot_shortens_no_wait(host: Host) -> None:
    secret = host.enroll()
    host.fail(7, apart=3600)
    host.fail(1)
    host.reboot(uptime=60)
    assert host.login("alice").detail == f"{960 - 60} s left"
    host.later(900)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_a_boot_with_the_clock_set_forward_ends_a_wait_no_earlier_than_the_boot_took(host: Host) -> None:
    secret = host.enroll()
    host.fail(3)
    host.reboot(uptime=5)
    host.wall -= 1000  # the clock was set back as well
    assert host.login("alice").detail == "25 s left"
    host.later(25)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


# The lock


def test_many_wrong_codes_in_a_row_lock_the_account_until_it_is_unlocked(host: Host) -> None:
    secret = host.enroll()
    host.configure("lock_after = 10\n")
    for number in range(10):
        host.fail(1, rhost=f"203.0.113.{number}")
    host.later(DAY * 50)
    for rhost in (HERE, ELSEWHERE):
        outcome = host.login("alice", rhost=rhost)
        assert result(outcome) == ("refused", "locked")
        assert "locked" in outcome.message
        assert "administrator" in outcome.message
        assert outcome.detail == "pam-totp unlock alice ends it"
    host.change(lambda account: account.ledger.unlock(int(host.wall // STEP), 1))
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_a_hundred_wrong_codes_in_a_row_lock_by_default_and_no_fewer(host: Host) -> None:
    secret = host.enroll()
    for _ in range(9):
        host.fail(11, apart=3600)
        host.later(DAY)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED  # ends the row
    for _ in range(9):
        host.fail(11, apart=3600)
        host.later(DAY)
    host.fail(1)
    host.later(DAY)
    assert result(host.login("alice")) == ("refused", "locked")


def test_a_lock_by_strangers_does_not_hold_where_the_user_has_logged_in_lately(host: Host) -> None:
    secret = host.enroll()
    host.configure("lock_after = 10\n")
    assert result(host.login("alice", host.code(secret), rhost=HERE)) == ACCEPTED
    for number in range(10):
        host.fail(1, rhost=f"203.0.113.{number}")
    assert result(host.login("alice", rhost=ELSEWHERE)) == ("refused", "locked")
    host.later(STEP)
    outcome = host.login("alice", host.code(secret), rhost=HERE)
    assert result(outcome) == ACCEPTED
    assert outcome.message == (
        "There were 10 wrong codes since your last login, the last from 203.0.113.9.\n"
        "Too many wrong codes: this account is locked for logins from elsewhere. Tell your administrator."
    )
    assert outcome.detail == "locked for other sources: pam-totp unlock alice ends it"
    assert result(host.login("alice", rhost=ELSEWHERE)) == ("refused", "locked")
    host.later(30 * DAY)
    assert result(host.login("alice", rhost=HERE)) == ("refused", "locked")


def test_the_wrong_codes_of_a_trusted_source_lock_it_too(host: Host) -> None:
    secret = host.enroll()
    host.configure("lock_after = 10\n")
    assert result(host.login("alice", host.code(secret), rhost=HERE)) == ACCEPTED
    host.fail(5, rhost=HERE, apart=3600)
    assert result(host.login("alice", host.code(secret), rhost=ELSEWHERE)) == ACCEPTED  # ends no row of another's
    host.fail(5, rhost=HERE, apart=3600)
    assert result(host.login("alice", rhost=HERE)) == ("refused", "locked")
    assert result(host.login("alice", host.code(secret), rhost=ELSEWHERE)) == ACCEPTED


def test_a_locked_account_is_not_charged_any_more(host: Host) -> None:
    host.enroll()
    host.configure("lock_after = 10\n")
    host.fail(10, apart=3600)
    before = host.snapshot()
    for _ in range(3):
        assert result(host.login("alice")) == ("refused", "locked")
    assert host.snapshot() == before


# What the user is told


def test_the_user_is_told_once_how_many_wrong_codes_there_were_and_from_where(host: Host) -> None:
    secret = host.enroll()
    host.fail(1, rhost=HERE)
    assert host.login("alice", host.code(secret)).message == (
        f"There was 1 wrong code since your last login, the last from {HERE}."
    )
    host.later(STEP)
    host.fail(1, rhost=HERE)
    host.fail(2, rhost="")
    host.later(STEP)
    assert host.login("alice", host.code(secret)).message == "There were 3 wrong codes since your last login."
    host.later(STEP)
    assert host.login("alice", host.code(secret)).message == ""


def test_the_administrator_is_told_how_many_were_wrong_in_a_row(host: Host) -> None:
    secret = host.enroll()
    for number in (1, 2):
        assert host.login("alice", host.wrong(secret)).detail == f"{number} wrong in a row"
    outcome = host.login("alice", host.code(secret, 3))
    assert outcome.detail == "phone: right but 90 s ahead, check the clocks; 3 wrong in a row"


# Whose record it is


def test_an_alias_of_a_uid_is_asked_for_its_owners_code_and_shares_what_is_spent(host: Host, passwd: Passwd) -> None:
    secret = host.enroll()
    passwd.add("alias", ALICE.uid)
    outcome = host.login("alias", host.code(secret))
    assert (result(outcome), outcome.account, outcome.detail) == (ACCEPTED, "alice", "alias of alice")
    assert result(host.login("alice", host.code(secret))) == SPENT
    host.fail(3)
    assert result(host.login("alias")) == THROTTLED


def test_the_spelling_that_nss_knows_counts(host: Host, passwd: Passwd) -> None:
    secret = host.enroll()
    passwd.add("Alice", ALICE.uid, spelled="alice")
    assert result(host.login("Alice", host.code(secret))) == ACCEPTED
    assert result(host.login("alice", host.code(secret))) == SPENT


def test_a_name_with_another_uid_is_refused_until_it_is_reset(host: Host, passwd: Passwd) -> None:
    host.enroll()
    passwd.add("alice", 1005)
    outcome = host.login("alice")
    assert result(outcome) == ("unavailable", "uid-changed")
    assert "pam-totp adopt alice" in outcome.detail


def test_a_uid_that_is_enrolled_under_a_name_that_is_gone_is_refused_until_that_is_mended(
    host: Host, passwd: Passwd
) -> None:
    host.enroll()
    del passwd["alice"]
    passwd.add("newcomer", ALICE.uid)
    outcome = host.login("newcomer")
    assert result(outcome) == ("unavailable", "name-changed")
    assert outcome.account == "newcomer"
    with host.accounts() as accounts:
        account = accounts.get("alice")
        assert account is not None
        account.authenticators.clear()
        accounts.save(account)
    assert result(host.login("newcomer")) == ("skipped", "not-enrolled")


def test_where_nss_does_not_answer_nobody_counts_as_renamed(
    host: Host, passwd: Passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise NameServiceError("NSS could not look up 'alice' (error 110): check the name service")

    host.enroll()
    del passwd["alice"]
    passwd.add("newcomer", ALICE.uid)
    monkeypatch.setattr(accounts_module, "find", fail)
    assert result(host.login("newcomer")) == ("unavailable", "nss-unavailable")


# Faults


def remove(path: str) -> None:
    os.unlink(path)


def replace(path: str, content: bytes) -> None:
    mode = os.stat(path).st_mode & 0o777
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)


def open_to_others(host: Host) -> None:
    host.configure("# nothing")
    os.chmod(host.paths.config, 0o666)


OTHER_KEY = b"pam-totp-key-1 " + b"00" * 16 + b" " + b"11" * 32 + b"\n"
FAULTS: dict[str, tuple[Callable[[Host], object], str]] = {
    "cache missing": (lambda host: remove(host.paths.cache), "cache-missing"),
    "cache empty": (lambda host: replace(host.paths.cache, b""), "cache-version"),
    "cache malformed": (
        lambda host: replace(host.paths.cache, b"SQLite format 3\0" + b"\xff" * 5000),
        "cache-unusable",
    ),
    "cache open to others": (lambda host: os.chmod(host.paths.cache, 0o644), "cache-unsafe"),
    "cache directory open": (lambda host: os.chmod(os.path.dirname(host.paths.cache), 0o755), "cache-unsafe"),
    "cache of another key": (lambda host: replace(host.paths.key, OTHER_KEY), "cache-damaged"),
    "key missing": (lambda host: remove(host.paths.key), "key-missing"),
    "key short": (lambda host: replace(host.paths.key, OTHER_KEY[:-9]), "key-unusable"),
    "key open to others": (lambda host: os.chmod(host.paths.key, 0o440), "key-unusable"),
    "run open to others": (lambda host: os.chmod(host.paths.run, 0o755), "run-unusable"),
    "config malformed": (lambda host: host.configure("window = "), "bad-config"),
    "config unknown key": (lambda host: host.configure("windows = 1"), "bad-config"),
    "config open to others": (open_to_others, "bad-config"),
}


@pytest.mark.parametrize("user", [ALICE, BOB], ids=["enrolled", "not enrolled"])
@pytest.mark.parametrize("fault", FAULTS)
def test_with_a_fault_nobody_gets_in_and_nobody_is_asked_and_then_nothing_is_lost(
    fault: str, user: User, host: Host, tmp_path: object
) -> None:
    secret = host.enroll()
    shutil.copytree(host.root, f"{tmp_path}.whole", copy_function=shutil.copy2)
    try:
        act, reason = FAULTS[fault]
        act(host)
        outcome = host.login(user.name)
        assert result(outcome) == ("misconfigured" if reason == "bad-config" else "unavailable", reason)
        assert outcome.message == OUT_OF_ORDER
        shutil.rmtree(host.root)
        shutil.copytree(f"{tmp_path}.whole", host.root, copy_function=shutil.copy2)
        answers = [host.code(secret)] if user is ALICE else []
        assert host.login(user.name, *answers).verdict in ("accepted", "skipped")
    finally:
        shutil.rmtree(f"{tmp_path}.whole")


@pytest.mark.parametrize("fault", [fault for fault, (_, reason) in FAULTS.items() if reason != "bad-config"])
def test_a_fault_that_comes_while_the_user_types_is_a_fault(fault: str, host: Host) -> None:
    secret = host.enroll()
    act, reason = FAULTS[fault]

    def break_it() -> str:
        act(host)
        return host.code(secret)

    assert result(host.login("alice", break_it)) == ("unavailable", reason)


def test_a_record_that_is_removed_while_the_user_types_lets_nobody_in(host: Host) -> None:
    secret = host.enroll()

    def type_slowly() -> str:
        host.change(lambda account: account.authenticators.clear())
        return host.code(secret)

    outcome = host.login("alice", type_slowly)
    assert (result(outcome), outcome.message) == (("refused", "changed-meanwhile"), NOT_ACCEPTED)
    assert result(host.login("alice")) == ("skipped", "not-enrolled")


def test_an_authenticator_that_is_replaced_while_the_user_types_counts_no_more(host: Host) -> None:
    old = host.enroll()

    def type_slowly() -> str:
        host.change(lambda account: account.authenticators.clear())
        host.enroll(ALICE, "new phone")
        return host.code(old)

    assert result(host.login("alice", type_slowly)) == WRONG


def test_a_record_of_another_name_that_takes_over_while_the_user_types_is_not_evaluated_without_its_lock(
    host: Host, passwd: Passwd
) -> None:
    alias = User("alias", ALICE.uid)
    passwd.add("alias", ALICE.uid)
    host.enroll()

    def type_slowly() -> str:
        host.change(lambda account: account.authenticators.clear())
        return host.code(host.enroll(alias))

    assert result(host.login("alias", type_slowly)) == ("refused", "changed-meanwhile")
    assert result(host.login("alias", host.code(host.secret("alias")))) == ACCEPTED


def test_a_cache_that_is_replaced_while_the_user_types_is_the_one_that_counts(host: Host) -> None:
    secret = host.enroll()
    empty = Host(f"{host.root}/other").snapshot()

    def type_slowly() -> str:
        host.put_back(empty)
        return host.code(secret)

    assert result(host.login("alice", type_slowly)) == ("unavailable", "cache-damaged")


def test_an_older_cache_put_back_makes_no_spent_code_work_again(host: Host) -> None:
    secret = host.enroll()
    older = host.snapshot()
    code = host.code(secret)
    assert result(host.login("alice", code)) == ACCEPTED
    host.put_back(older)
    assert result(host.login("alice", code)) == SPENT
    host.put_back(older)
    host.fail(3)
    host.put_back(older)
    assert result(host.login("alice")) == THROTTLED  # and no failure is forgotten


def test_a_code_that_is_spent_while_the_user_types_it_is_refused(host: Host) -> None:
    secret = host.enroll()
    code = host.code(secret)
    inner: list[Outcome] = []

    def type_slowly() -> str:
        inner.append(host.login("alice", code))
        return code

    assert result(host.login("alice", type_slowly)) == SPENT
    assert result(inner[0]) == ACCEPTED


def test_of_many_logins_with_the_same_code_exactly_one_gets_in(host: Host) -> None:
    code = host.code(host.enroll())
    with multiprocessing.get_context("fork").Pool(8) as pool:
        outcomes = pool.starmap(_log_in, [(host, code)] * 24, chunksize=1)
        # They end by themselves: leaving the pool sends signals, and waits for ever for one that misses its own.
        pool.close()
        pool.join()
    assert outcomes.count("code") == 1
    assert set(outcomes) <= {"code", "spent-code", "throttled"}


def _log_in(host: Host, code: str) -> str:
    from pam_totp.host.config import Arguments
    from pam_totp.login import login

    class Talk(login.Conversation):
        def ask(self, prompt: str, echo: bool = False) -> str | None:
            return code

        def tell(self, text: str) -> None:
            pass

    request = login.Request("alice", "sshd", HERE)
    return login.attempt(request, Arguments([]), host.paths, host.now, Talk()).reason


def test_a_lock_that_is_held_too_long_lets_nobody_in(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = host.enroll()
    monkeypatch.setattr(Volatile.lock, "__defaults__", (0.05,))
    with host.accounts() as accounts, accounts.lock("alice"):
        assert result(host.login("alice", host.code(secret))) == ("unavailable", "lock-timeout")
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


# Nothing can be written


def test_on_a_full_disk_a_code_works_once_and_wrong_ones_count(host: Host, disk: Disk) -> None:
    secret = host.enroll()
    disk.full = True
    outcome = host.login("alice", host.code(secret))
    assert result(outcome) == ACCEPTED
    assert "recorded in /run/pam-totp only" in outcome.detail
    assert result(host.login("alice", host.code(secret))) == SPENT
    host.fail(3)
    assert result(host.login("alice")) == THROTTLED


def test_what_was_charged_on_a_full_disk_holds_when_there_is_space_again(host: Host, disk: Disk) -> None:
    secret = host.enroll()
    disk.full = True
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    disk.full = False
    assert result(host.login("alice", host.code(secret))) == SPENT
    host.reboot()  # that charge was durable, and with it what /run knew
    host.wall -= 600
    assert result(host.login("alice", host.code(secret))) == SPENT


@pytest.mark.parametrize("uptime", [0, 10, 299])
def test_right_after_a_boot_nobody_gets_in_on_a_full_disk(uptime: float, host: Host, disk: Disk) -> None:
    secret = host.enroll()
    host.reboot(uptime)
    disk.full = True
    assert result(host.login("alice", host.code(secret))) == ("unavailable", "fallback-closed")
    host.later(300 + STEP)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_who_is_not_asked_needs_no_space(host: Host, disk: Disk) -> None:
    disk.full = True
    assert result(host.login("bob")) == ("skipped", "not-enrolled")


@pytest.mark.parametrize("right", [True, False])
def test_an_attempt_that_can_be_charged_nowhere_lets_nobody_in_and_tells_nothing(
    right: bool, host: Host, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll()
    disk.full = True
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    outcome = host.login("alice", host.code(secret) if right else host.wrong(secret))
    assert (result(outcome), outcome.message) == (("unavailable", "not-chargeable"), OUT_OF_ORDER)


def test_where_only_run_takes_no_writes_the_cache_suffices(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = host.enroll()
    monkeypatch.setattr(Volatile, "write", lambda *_: False)
    outcome = host.login("alice", host.code(secret))
    assert (result(outcome), outcome.detail) == (ACCEPTED, "")
    assert result(host.login("alice", host.code(secret))) == SPENT


def test_nobody_gets_in_before_the_charge_is_made(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = host.enroll()
    charge = accounts_module.Accounts.charge

    def fail(*_: object, **__: object) -> bool:
        raise CacheError("the disk is on fire")

    monkeypatch.setattr(accounts_module.Accounts, "charge", fail)
    assert result(host.login("alice", host.code(secret))) == ("unavailable", "cache-unusable")
    monkeypatch.setattr(accounts_module.Accounts, "charge", charge)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


# The clock


@pytest.mark.parametrize("jump", [1, 30, 90, 3600, 365 * DAY])
def test_setting_the_clock_back_makes_no_spent_code_work_again(jump: float, host: Host) -> None:
    secret = host.enroll()
    code = host.code(secret)
    assert result(host.login("alice", code)) == ACCEPTED
    host.wall -= jump
    outcome = host.login("alice", host.code(secret))
    assert result(outcome) == SPENT  # a step below the mark, though that code was never used
    host.wall += jump
    assert result(host.login("alice", code)) == SPENT
    host.later(2 * STEP)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


@pytest.mark.parametrize("wall", [0.0, 15.0, 2.0**31 - 1, 2.0**31 + 100, 2.0**33])
def test_a_clock_at_the_ends_of_time_works(wall: float, host: Host) -> None:
    host.wall = wall
    secret = host.enroll()
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    assert result(host.login("alice", host.code(secret))) == SPENT
    host.later(STEP)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_a_mark_in_the_future_is_lowered_by_unlock_and_what_is_spent_stays_spent(host: Host) -> None:
    secret = host.enroll()
    host.wall += DAY
    assert result(host.login("alice", host.code(secret))) == ACCEPTED
    host.wall -= DAY
    assert result(host.login("alice", host.code(secret))) == SPENT
    host.change(lambda account: account.ledger.unlock(int(host.wall // STEP), 1))
    for steps in (-1, 0, 1):
        assert result(host.login("alice", host.code(secret, steps), rhost=str(steps))) == SPENT
    host.later(2 * STEP)
    assert result(host.login("alice", host.code(secret))) == ACCEPTED


def test_secrets_are_as_long_as_rfc_4226_wants_them() -> None:
    assert SECRET_BYTES * 8 == 160


def test_what_was_refused_without_a_question_is_told_once_in_a_moment(host: Host) -> None:
    host.enroll(ALICE)
    host.fail(3, rhost=HERE)

    def told(rhost: str = HERE, *, record: bool = True) -> bool:
        outcome = host.login("alice", rhost=rhost)
        assert result(outcome) == THROTTLED
        if record:  # as the hooks do
            with host.accounts() as accounts:
                line = f"user=alice service=sshd rhost={rhost} outcome=refused reason=throttled detail=x"
                accounts.record_event(int(host.wall), "alice", line)
        return outcome.message != ""

    assert [told(record=False), told(record=False)] == [True, True]  # nothing is kept of it
    assert [told(), told(), told()] == [True, False, False]
    host.later(2)
    assert told()
    # From elsewhere it is another one.
    host.fail(3, rhost=ELSEWHERE)
    assert [told(ELSEWHERE), told(ELSEWHERE)] == [True, False]


def test_where_it_cannot_be_read_what_was_told_before_it_is_told_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll(ALICE)
    host.fail(3, rhost=HERE)

    def broken(*_: object) -> list[tuple[int, str]]:
        raise CacheError("the cache cannot be read")

    monkeypatch.setattr(accounts_module.Accounts, "events", broken)
    outcome = host.login("alice")
    assert (result(outcome), outcome.message != "") == (THROTTLED, True)


def test_a_refusal_is_kept_even_if_the_configuration_is_broken(host: Host) -> None:
    host.configure("no = such setting")
    outcome = host.login("alice")
    assert (outcome.verdict, outcome.account) == ("misconfigured", "")
    login.keep(Outcome("refused", "wrong-code", account="alice"), "a line", host.paths, host.now)
    with host.accounts() as accounts:
        assert accounts.events("alice") == [(int(host.wall), "a line")]


@pytest.mark.parametrize("unenrolled", ["enroll", "invite"])
def test_nobody_enrols_where_only_one_question_can_be_asked(unenrolled: str, host: Host) -> None:
    host.configure(f'unenrolled = "{unenrolled}"')
    if unenrolled == "invite":
        host.change(lambda account: setattr(account.ledger, "invitation", ["00" * 16, int(host.wall) + 3600]))
    conversation = Script()
    conversation.interactive = False
    request = login.Request("alice", "vpn", HERE)
    outcome = login.attempt(request, Arguments([]), host.paths, host.now, conversation)
    assert result(outcome) == ("refused", "not-enrolled")
    assert conversation.told == [outcome.message]


# Scratch codes, as they are imported


SCRATCH = ["52449723", "11133056"]


@pytest.fixture
def scratch(host: Host) -> list[str]:
    """Alice has an authenticator and two scratch codes."""
    host.enroll()
    host.change(lambda account: setattr(account.ledger, "scratch", list(SCRATCH)))
    return list(SCRATCH)


def test_a_scratch_code_lets_in_once(host: Host, scratch: list[str]) -> None:
    outcome = host.login("alice", scratch[0])
    assert (result(outcome), outcome.detail) == (("accepted", "scratch-code"), "1 left")
    assert result(host.login("alice", scratch[0])) == WRONG
    assert result(host.login("alice", f" {scratch[1]} ")) == ("accepted", "scratch-code")
    assert result(host.login("alice", scratch[1])) == MALFORMED


def test_a_spent_scratch_code_stays_spent_when_an_older_cache_is_put_back(host: Host, scratch: list[str]) -> None:
    older = host.snapshot()
    assert host.login("alice", scratch[0]).verdict == "accepted"
    host.put_back(older)
    assert result(host.login("alice", scratch[0])) == WRONG


def test_a_wrong_scratch_code_is_charged_as_a_wrong_code(host: Host, scratch: list[str]) -> None:
    for wrong in ("99999999", "52449724", "11133055"):
        assert result(host.login("alice", wrong)) == WRONG
    assert host.account().ledger.row == 3
    assert result(host.login("alice")) == THROTTLED
    host.later(31)
    assert host.login("alice", scratch[0]).verdict == "accepted"


def test_a_scratch_code_is_not_looked_at_in_a_wait_that_began_at_the_prompt(host: Host, scratch: list[str]) -> None:
    def guess(account: Account) -> None:
        for _ in range(24):
            account.ledger.fail("elsewhere", "", host.now(), 100)

    def meanwhile() -> str:
        host.change(guess)
        return scratch[0]

    assert result(host.login("alice", meanwhile)) == THROTTLED
    assert host.account().ledger.scratch == SCRATCH


def test_a_scratch_code_needs_a_durable_record(host: Host, scratch: list[str], disk: Disk) -> None:
    host.later(3600)
    disk.full = True
    assert host.login("alice", scratch[0]).verdict == "unavailable"
    disk.full = False
    assert host.login("alice", scratch[0]).verdict == "accepted"


@pytest.mark.parametrize("answer", ["02449723", "5244972", "524497231", "5244972x", "5244 9723", "52449723" * 2])
def test_what_has_not_the_form_of_a_scratch_code_is_no_guess(answer: str, host: Host, scratch: list[str]) -> None:
    assert result(host.login("alice", answer)) == MALFORMED
    assert host.account().ledger.row == 0


def test_eight_digits_are_no_code_of_who_has_no_scratch_codes(host: Host) -> None:
    host.enroll()
    assert result(host.login("alice", SCRATCH[0])) == MALFORMED


def test_recovery_codes_and_a_reset_end_scratch_codes(host: Host, scratch: list[str], quick_hash: None) -> None:
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        recovery.issue(account.ledger, accounts.sealer)
        assert account.ledger.scratch == []
        accounts.save(account)
    assert host.account().ledger.cleared().scratch == []
