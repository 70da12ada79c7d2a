"""Enrolling at the prompt, and recovery codes: handed out, acknowledged, issued anew."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import ACTIVE, PENDING, Accounts
from pam_totp.cache.seal import Sealer
from pam_totp.cache.volatile import Volatile
from pam_totp.errors import CacheReadOnlyError
from pam_totp.factors import recovery
from pam_totp.factors.invitation import issue
from pam_totp.host import sshd
from pam_totp.host.config import Arguments
from pam_totp.login import login
from tests.unit.pretend import ALICE, ELSEWHERE, HERE, STEP, Host, Visitor
from tests.unit.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pam_totp.login.attempt import Outcome
    from tests.unit.conftest import Disk
    from tests.unit.pretend import Answer

pytestmark = pytest.mark.usefixtures("quick_hash")

DAY = 86_400
ENTER = "yes"


@pytest.fixture(autouse=True)
def enroll_at_the_prompt(host: Host) -> None:
    """Whoever is not enrolled has to, here and now."""
    host.configure('unenrolled = "enroll"\n')


def log_in(host: Host, *answers: Answer | int, rhost: str = HERE) -> tuple[Outcome, Visitor]:
    """A login of alice, in which exactly these answers are asked for."""
    talk = Visitor(host, *answers)
    request = login.Request("alice", "sshd", rhost)
    outcome = login.attempt(request, Arguments([]), host.paths, host.now, talk)
    talk.end()
    return outcome, talk


def states(host: Host) -> list[str]:
    return [each.state for each in host.account().authenticators]


def codes_in(talk: Visitor) -> list[str]:
    return re.findall(r"\b[a-z2-9]{5}-[a-z2-9]{5}\b", talk.said)


def shown(host: Host) -> bool:
    kept = host.account().ledger.recovery
    assert kept is not None
    return bool(kept["shown"])


# Enrolling


def test_who_is_not_enrolled_enrols_with_the_first_code_and_gets_in(host: Host) -> None:
    outcome, talk = log_in(host, 0, ENTER)
    assert (outcome.verdict, outcome.reason) == ("accepted", "enrolled")
    assert talk.asked == []  # nothing in it is secret to who types it: it is echoed
    assert states(host) == [ACTIVE]
    host.later(STEP)
    assert log_in(host, host.code(talk.secret))[0].reason == "code"


def test_the_confirming_code_is_spent(host: Host) -> None:
    _, talk = log_in(host, 0, ENTER)
    assert log_in(host, host.code(talk.secret))[0].reason == "spent-code"


@pytest.mark.parametrize("style", ["auto", "utf8", "ascii"])
def test_the_qr_code_holds_the_key_that_is_also_shown_as_text(style: str, host: Host, tmp_path: Path) -> None:
    host.configure(f'unenrolled = "enroll"\nqr = "{style}"\n')
    _, talk = log_in_wide(host)
    first = talk.echoed[0]
    lines = [line for line in first.split("\n") if line and set(line) <= set(" #█▀▄")]
    assert not first.startswith(lines[0])  # the client puts its own words before the first line
    uri = scan("\n".join(lines), tmp_path)
    assert base64.b32encode(talk.secret).decode("ascii") in uri
    assert first.endswith("Code from the app: ")


def log_in_wide(host: Host) -> tuple[Outcome, Visitor]:
    """On a terminal that is wide enough for everything, and broken off."""
    talk = Visitor(host, None)
    talk.columns = 200
    return login.attempt(login.Request("alice"), Arguments([]), host.paths, host.now, talk), talk


def test_a_picture_that_would_wrap_is_left_out(host: Host) -> None:
    talk = Visitor(host, None)
    talk.columns = 30
    login.attempt(login.Request("alice"), Arguments([]), host.paths, host.now, talk)
    assert "30 columns" in talk.said
    assert "█" not in talk.said
    assert talk.secret


def test_without_a_picture_the_key_is_typed(host: Host) -> None:
    host.configure('unenrolled = "enroll"\nqr = "none"\n')
    _, talk = log_in(host, None)
    assert "Type this key into an authenticator app:" in talk.said
    assert "█" not in talk.said


def test_a_wrong_code_is_explained_and_asked_for_again(host: Host) -> None:
    outcome, talk = log_in(host, "nonsense", 500, 3, -3, 1, ENTER)
    assert outcome.reason == "enrolled"
    told = [prompt.partition("\n")[0] for prompt in talk.echoed[1:5]]
    assert told == [
        "A code has six digits.",
        "That code is wrong. Take the one the app shows now.",
        "That code is right, but your phone's clock is 90 s ahead: set it.",
        "That code is right, but your phone's clock is 90 s behind: set it.",
    ]


@pytest.mark.parametrize("answers", [(None,), ("nonsense", None), ("000",) * 5])
def test_a_key_that_is_not_confirmed_is_void_and_the_next_login_shows_another(
    answers: tuple[str | None, ...], host: Host
) -> None:
    outcome, first = log_in(host, *answers)
    if answers[-1] is None:
        assert (outcome.verdict, outcome.detail) == ("no-answer", "enrolment not finished")
    else:
        assert (outcome.verdict, outcome.reason) == ("refused", "not-confirmed")
        assert "This key is void: delete it from the app" in outcome.message
    assert "If the connection breaks before\nthat, delete the key from the app" in first.said
    assert host.account().empty  # nothing of the key, and no guess at anything
    outcome, second = log_in(host, 0, ENTER)
    assert outcome.reason == "enrolled"
    assert second.secret != first.secret


def test_somebody_who_has_seen_a_key_has_none_of_the_owners_codes(host: Host) -> None:
    _, thief = log_in(host, None, rhost=ELSEWHERE)
    _, owner = log_in(host, 0, ENTER)
    host.later(STEP)
    assert log_in(host, host.code(thief.secret), rhost=ELSEWHERE)[0].reason == "wrong-code"
    assert log_in(host, host.code(owner.secret))[0].reason == "code"


def owner_enrols(host: Host) -> None:
    log_in(host, 0, ENTER)


def administrator_enrols(host: Host) -> None:
    host.enroll(ALICE, "other")


def administrator_makes_a_key(host: Host) -> None:
    host.enroll(ALICE, "other", issued=True)


def policy_is_closed(host: Host) -> None:
    host.configure('unenrolled = "deny"\n')


def owner_enrols_by_code(host: Host) -> None:
    issued = host.account().issued
    assert issued is not None
    log_in(host, host.code(issued.secret), ENTER)


def policy_wants_an_invitation(host: Host) -> None:
    host.configure('unenrolled = "invite"\n')


@pytest.mark.parametrize(
    "event",
    [
        owner_enrols,
        administrator_enrols,
        administrator_makes_a_key,
        policy_is_closed,
        policy_wants_an_invitation,
    ],
)
def test_what_changes_while_a_key_is_scanned_leaves_it_void(event: Callable[[Host], None], host: Host) -> None:
    after: list[list[str]] = []

    def meanwhile() -> str:
        event(host)
        after.append(sorted(each.identifier for each in host.account().authenticators))
        return host.code(talk.secret)

    talk = Visitor(host, meanwhile)
    outcome = login.attempt(login.Request("alice", "sshd", ELSEWHERE), Arguments([]), host.paths, host.now, talk)
    assert (outcome.verdict, outcome.reason) == ("refused", "changed-meanwhile")
    assert outcome.message == "Your enrolment was changed meanwhile, from elsewhere: start again."
    assert sorted(each.identifier for each in host.account().authenticators) == after[0]


def test_on_a_full_disk_nobody_enrols(host: Host, disk: Disk) -> None:
    disk.full = True
    outcome, talk = log_in(host)
    assert (outcome.verdict, outcome.reason) == ("unavailable", "cache-not-writable")
    assert talk.said == outcome.message != ""


def test_a_disk_that_fills_while_the_user_types_activates_nothing(host: Host, disk: Disk) -> None:
    def fill() -> str:
        disk.full = True
        return host.code(talk.secret)

    talk = Visitor(host, fill)
    outcome = login.attempt(login.Request("alice"), Arguments([]), host.paths, host.now, talk)
    assert outcome.verdict == "unavailable"
    disk.full = False
    assert host.account().empty


# A key that an administrator made


def test_it_is_never_shown_and_its_code_enrols(host: Host) -> None:
    key = host.enroll(issued=True)
    outcome, talk = log_in(host, host.code(key), ENTER)
    assert (outcome.verdict, outcome.reason) == ("accepted", "enrolled")
    assert outcome.detail == "with the key that an administrator made"
    assert "  key  " not in talk.said
    assert base64.b32encode(key).decode("ascii") not in talk.said.replace(" ", "")
    assert len(codes_in(talk)) == 10
    assert log_in(host, host.code(key))[0].reason == "spent-code"
    host.later(STEP)
    assert log_in(host, host.code(key))[0].reason == "code"


@pytest.mark.parametrize("answers", [(None,), ("new", None), (" NEW ", "nonsense", None), ("new", *["000"] * 5)])
def test_who_looks_and_hangs_up_voids_nothing(answers: tuple[str | None, ...], host: Host) -> None:
    key = host.enroll(issued=True)
    log_in(host, *answers)
    assert log_in(host, host.code(key), ENTER)[0].reason == "enrolled"


def test_another_key_voids_it_with_its_first_right_code(host: Host) -> None:
    key = host.enroll(issued=True)
    outcome, talk = log_in(host, "new", "nonsense", 0, ENTER)
    assert (outcome.reason, outcome.detail) == ("enrolled", "the key that an administrator made is void")
    assert outcome.message == "The key that your administrator had made for you is void."
    assert [each.secret for each in host.account().authenticators] == [talk.secret]
    host.later(STEP)
    assert log_in(host, host.code(key))[0].reason == "wrong-code"


def test_what_is_no_code_of_it_is_refused_and_no_guess(host: Host) -> None:
    host.enroll(issued=True)
    for answer in ("", "news", "aaaaa-aaaaa", "12345"):
        assert log_in(host, answer)[0].reason == "malformed-code"
    assert host.account().ledger.row == 0


def test_guesses_at_its_code_wait_as_at_a_login_and_the_owner_is_told(host: Host) -> None:
    key = host.enroll(issued=True)
    for number in range(1, 4):
        outcome, _ = log_in(host, host.wrong(key), rhost=ELSEWHERE)
        assert (outcome.verdict, outcome.reason) == ("refused", "wrong-code")
        assert f"{number} wrong in a row" in outcome.detail
    outcome, talk = log_in(host, host.code(key), rhost=ELSEWHERE)
    assert (outcome.verdict, outcome.reason) == ("refused", "throttled")
    assert talk.echoed == [
        "Too many wrong codes. Try again in 30 s.\nOr type new, and set up an app with another key: "
    ]
    outcome, _ = log_in(host, host.code(key), ENTER)
    assert outcome.reason == "enrolled"
    assert outcome.message == f"There were 3 wrong codes since your last login, the last from {ELSEWHERE}."


def test_a_code_of_it_from_another_time_is_a_guess_and_tells_nothing(host: Host) -> None:
    key = host.enroll(issued=True)
    outcome, _ = log_in(host, host.code(key, 5))
    assert (outcome.reason, outcome.message) == ("code-of-another-time", "That code was not accepted.")
    assert "right but 150 s ahead" in outcome.detail
    assert host.account().ledger.row == 1


def test_a_days_guesses_are_used_up_for_strangers_and_another_key_stays_open(host: Host) -> None:
    host.configure('unenrolled = "enroll"\nlock_after = 24\n')
    key = host.enroll(issued=True)
    for number in range(24):
        log_in(host, host.wrong(key), rhost=f"203.0.113.{number}")
    assert log_in(host, host.code(key))[0].reason == "locked"
    outcome, talk = log_in(host, "new", 0, ENTER)
    assert outcome.reason == "enrolled"
    assert "There were 24 wrong codes" in outcome.message
    host.later(STEP)
    assert log_in(host, host.code(talk.secret))[0].reason == "code"


def test_a_code_that_comes_after_the_day_was_used_up_is_not_looked_at(host: Host) -> None:
    key = host.enroll(issued=True)

    def meanwhile() -> str:
        for _ in range(3):
            log_in(host, host.wrong(key))
        return host.code(key)

    assert log_in(host, meanwhile)[0].reason == "throttled"


def test_a_wide_window_allows_fewer_guesses(host: Host) -> None:
    host.configure('unenrolled = "enroll"\nwindow = 10\n')
    key = host.enroll(issued=True)
    for number in range(4):
        assert log_in(host, host.wrong(key), rhost=f"203.0.113.{number}")[0].reason == "wrong-code"
    assert log_in(host, host.code(key))[0].reason == "throttled"


@pytest.mark.parametrize(
    "event", [owner_enrols_by_code, administrator_enrols, administrator_makes_a_key, policy_is_closed]
)
def test_what_changes_while_its_code_is_typed_lets_nobody_in(event: Callable[[Host], None], host: Host) -> None:
    key = host.enroll(issued=True)

    def meanwhile() -> str:
        event(host)
        return host.code(key, 1)

    assert log_in(host, meanwhile, rhost=ELSEWHERE)[0].reason == "changed-meanwhile"


def test_a_key_that_0_1_0_has_shown_is_neither_shown_nor_asked_for(host: Host) -> None:
    key = host.enroll(state=PENDING)
    outcome, talk = log_in(host, 0, ENTER)
    assert outcome.reason == "enrolled"
    assert talk.secret != key
    assert [each.secret for each in host.account().authenticators] == [talk.secret]


# Invitations


@pytest.fixture
def invitation(host: Host) -> str:
    """A code that lets alice enrol within an hour."""
    host.configure('unenrolled = "invite"\nlock_after = 10\n')
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        code = issue(account, int(host.wall) + 3600, accounts.sealer)
        accounts.save(account)
    return code


def test_an_invitation_lets_enrol_once(invitation: str, host: Host) -> None:
    outcome, talk = log_in(host, invitation.upper(), 0, ENTER)
    assert outcome.reason == "enrolled"
    assert invitation not in talk.said
    assert host.account().ledger.invitation is None


def test_an_invitation_is_asked_for_without_echo_and_lasts_until_the_enrolment_is_finished(
    invitation: str, host: Host
) -> None:
    _, talk = log_in(host, invitation, None)
    assert len(talk.asked) == 1
    assert talk.asked[0].endswith("Invitation code: ")
    assert log_in(host, invitation, 0, ENTER)[0].reason == "enrolled"


def test_without_an_invitation_nobody_enrols(host: Host) -> None:
    host.configure('unenrolled = "invite"\n')
    outcome, talk = log_in(host)
    assert (outcome.verdict, outcome.reason) == ("refused", "not-invited")
    assert "Ask your administrator for an invitation" in outcome.message
    assert "pam-totp invite alice" in outcome.detail
    assert talk.asked == []


def test_an_invitation_that_is_over_is_none(invitation: str, host: Host) -> None:
    host.later(3600)
    assert log_in(host)[0].reason == "not-invited"


def test_an_invitation_that_ends_while_it_is_typed_is_none(invitation: str, host: Host) -> None:
    def type_slowly() -> str:
        host.later(3600)
        return invitation

    assert log_in(host, type_slowly)[0].reason == "changed-meanwhile"


def test_wrong_invitations_wait_at_their_own_source_and_lock_nothing(invitation: str, host: Host) -> None:
    for number in range(40):
        for _ in range(5):
            assert log_in(host, "aaaaa-aaaaa", rhost=f"203.0.113.{number}")[0].reason == "wrong-invitation"
        assert log_in(host, rhost=f"203.0.113.{number}")[0].reason == "throttled"
    ledger = host.account().ledger
    assert (ledger.row, ledger.locked, ledger.recent) == (0, False, [])
    outcome, _ = log_in(host, invitation, 0, ENTER)
    assert outcome.reason == "enrolled"
    assert "There were 200 wrong codes since your last login, the last from 203.0.113.39." in outcome.message


def test_who_has_shown_the_right_one_is_not_held_up_at_the_same_source(invitation: str, host: Host) -> None:
    def meanwhile() -> str:
        for _ in range(5):
            log_in(host, "aaaaa-aaaaa")
        return host.code(talk.secret)

    talk = Visitor(host, invitation, meanwhile, ENTER)
    outcome = login.attempt(login.Request("alice", "sshd", HERE), Arguments([]), host.paths, host.now, talk)
    assert outcome.reason == "enrolled"


def test_a_right_one_that_comes_after_five_wrong_ones_is_not_looked_at(invitation: str, host: Host) -> None:
    def meanwhile() -> str:
        for _ in range(5):
            log_in(host, "aaaaa-aaaaa")
        return invitation

    assert log_in(host, meanwhile)[0].reason == "throttled"


def another_invitation(host: Host) -> None:
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        issue(account, int(host.wall) + 3600, accounts.sealer)
        accounts.save(account)


def its_end(host: Host) -> None:
    host.later(3600)


def a_laxer_policy(host: Host) -> None:
    host.configure('unenrolled = "enroll"\n')


@pytest.mark.parametrize("event", [another_invitation, its_end, policy_is_closed, a_laxer_policy])
def test_an_invitation_must_hold_when_the_first_code_comes(
    event: Callable[[Host], None], invitation: str, host: Host
) -> None:
    def meanwhile() -> str:
        event(host)
        return host.code(talk.secret)

    talk = Visitor(host, invitation, meanwhile)
    outcome = login.attempt(login.Request("alice", "sshd", HERE), Arguments([]), host.paths, host.now, talk)
    assert outcome.reason == "changed-meanwhile"
    assert host.account().authenticators == []


def test_an_invitation_comes_before_the_code_of_an_administrators_key(invitation: str, host: Host) -> None:
    key = host.enroll(issued=True)
    assert log_in(host, host.code(key))[0].reason == "malformed-invitation"
    assert log_in(host, invitation, host.code(key), ENTER)[0].reason == "enrolled"


def test_two_conversations_with_one_invitation_enrol_once(invitation: str, host: Host) -> None:
    def meanwhile() -> str:
        assert log_in(host, invitation, 0, ENTER)[0].reason == "enrolled"
        return host.code(talk.secret)

    talk = Visitor(host, invitation, meanwhile)
    outcome = login.attempt(login.Request("alice", "sshd", ELSEWHERE), Arguments([]), host.paths, host.now, talk)
    assert outcome.reason == "changed-meanwhile"
    assert len(host.account().active) == 1


def test_what_has_not_the_form_of_an_invitation_is_no_guess(invitation: str, host: Host) -> None:
    for answer in ("", "123456", "correct horse"):
        assert log_in(host, answer)[0].reason == "malformed-invitation"
    assert host.account().ledger.row == 0


def test_no_answer_to_the_question_for_an_invitation_ends_the_attempt(invitation: str, host: Host) -> None:
    assert log_in(host, None)[0].verdict == "no-answer"


# Recovery codes


def test_recovery_codes_are_shown_with_the_enrolment_and_acknowledged(host: Host) -> None:
    _, talk = log_in(host, 0, ENTER)
    codes = codes_in(talk)
    assert len(set(codes)) == recovery.COUNT
    assert shown(host)
    outcome, later = log_in(host, codes[0])
    assert (outcome.reason, outcome.message) == ("recovery-code", "9 recovery codes are left.")
    assert codes_in(later) == []


@pytest.mark.parametrize("answers", [(None,), ("x", None), ("stored password",) * 5])
def test_codes_that_were_not_acknowledged_are_issued_anew_at_the_next_login(
    answers: tuple[str | None, ...], host: Host
) -> None:
    outcome, talk = log_in(host, 0, *answers)
    assert outcome.reason == "enrolled"
    assert not shown(host)
    first = codes_in(talk)[:10]
    host.later(STEP)
    outcome, again = log_in(host, host.code(talk.secret), ENTER)
    assert outcome.reason == "code"
    second = codes_in(again)
    assert len(second) == 10
    assert set(first).isdisjoint(second)
    assert shown(host)
    assert log_in(host, first[0], rhost=ELSEWHERE)[0].reason == "wrong-recovery-code"
    assert log_in(host, second[0], rhost=ELSEWHERE)[0].reason == "recovery-code"


def test_an_answer_other_than_yes_is_asked_again(host: Host) -> None:
    _, talk = log_in(host, 0, "stored password", "", " Yes ")
    assert talk.echoed[-1] == "Once you have written them down, type yes: "
    assert shown(host)


def unacknowledged(host: Host) -> bytes:
    """alice is enrolled and has not seen her recovery codes."""
    _, talk = log_in(host, 0, None)
    host.later(STEP)
    return talk.secret


def test_a_login_does_not_depend_on_new_recovery_codes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = unacknowledged(host)

    def fail(*_: object) -> list[str]:
        raise CacheReadOnlyError("full")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "issue", fail)
        assert log_in(host, host.code(secret))[0].reason == "code"
    host.later(STEP)
    assert len(codes_in(log_in(host, host.code(secret), ENTER)[1])) == 10


def test_an_acknowledgement_that_cannot_be_written_costs_no_login(host: Host, disk: Disk) -> None:
    secret = unacknowledged(host)

    def fill() -> str:
        disk.full = True
        return ENTER

    assert log_in(host, host.code(secret), fill)[0].reason == "code"
    disk.full = False
    assert not shown(host)


def test_codes_that_were_replaced_while_they_were_read_are_said_to_be_void(host: Host) -> None:
    secret = unacknowledged(host)

    def replaced() -> str:
        with host.accounts() as accounts:
            account = accounts.find(ALICE)
            recovery.issue(account.ledger, accounts.sealer)
            accounts.save(account)
        return ENTER

    outcome, talk = log_in(host, host.code(secret), replaced)
    assert outcome.reason == "code"
    assert talk.told == ["Other recovery codes were issued meanwhile: these are void."]
    assert not shown(host)


def test_who_is_removed_while_logging_in_gets_no_recovery_codes(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = unacknowledged(host)
    charge = Accounts.charge

    def charge_and_remove(this: Accounts, *arguments: object, **named: object) -> bool:
        done = charge(this, *arguments, **named)  # type: ignore[arg-type]  # passed on as it came
        host.change(lambda account: account.authenticators.clear())
        return done

    monkeypatch.setattr(Accounts, "charge", charge_and_remove)
    outcome, talk = log_in(host, host.code(secret))
    assert (outcome.reason, codes_in(talk)) == ("code", [])


@pytest.fixture
def codes(host: Host) -> list[str]:
    """Recovery codes that alice has written down."""
    _, talk = log_in(host, 0, ENTER)
    host.later(STEP)
    return codes_in(talk)


def test_a_recovery_code_works_once(codes: list[str], host: Host) -> None:
    assert log_in(host, codes[0])[0].reason == "recovery-code"
    assert host.account().ledger.last_success == int(host.wall)
    outcome, _ = log_in(host, codes[0])
    assert (outcome.verdict, outcome.reason) == ("refused", "wrong-recovery-code")


def test_a_recovery_code_is_taken_while_waiting_and_ends_the_wait(codes: list[str], host: Host) -> None:
    host.fail(3)
    outcome, talk = log_in(host, codes[0])
    assert outcome.reason == "recovery-code"
    assert outcome.message.startswith(f"There were 3 wrong codes since your last login, the last from {HERE}.\n")
    assert talk.asked == ["Too many wrong codes. Try again in 30 s. Or type a recovery code.\nRecovery code: "]
    assert log_in(host, host.code(host.secret("alice")))[0].reason == "code"


def test_a_recovery_code_is_taken_while_locked_and_ends_the_lock(codes: list[str], host: Host) -> None:
    host.configure("lock_after = 10\n")
    for number in range(10):
        host.fail(1, rhost=f"203.0.113.{number}")
    outcome, talk = log_in(host, codes[0], rhost=ELSEWHERE)
    assert outcome.reason == "recovery-code"
    assert talk.asked == ["Too many wrong codes: this account is locked. Or type a recovery code.\nRecovery code: "]
    assert host.account().state == "active"


def test_while_waiting_a_code_from_the_app_is_not_looked_at(codes: list[str], host: Host) -> None:
    host.fail(3)
    outcome, _ = log_in(host, host.code(host.secret("alice")))
    assert (outcome.verdict, outcome.reason) == ("refused", "throttled")


def test_a_wrong_recovery_code_locks_nothing_and_the_user_is_told_of_it(codes: list[str], host: Host) -> None:
    host.configure("lock_after = 10\n")
    for number in range(20):
        assert log_in(host, "aaaaa-aaaaa", rhost=f"203.0.113.{number}")[0].reason == "wrong-recovery-code"
    ledger = host.account().ledger
    assert (ledger.row, ledger.locked, ledger.longest_wait(host.now())) == (0, False, 0)
    told = log_in(host, codes[0])[0].message
    assert "There were 20 wrong codes since your last login, the last from 203.0.113.19." in told


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a slow hash is computed of."""
    seen: list[str] = []
    slow_hash = Sealer.slow_hash

    def noted(this: Sealer, text: str, salt: bytes) -> bytes:
        seen.append(text)
        return slow_hash(this, text, salt)

    monkeypatch.setattr(Sealer, "slow_hash", noted)
    return seen


def test_a_source_that_tries_recovery_codes_waits_and_costs_no_slow_hash(
    codes: list[str], host: Host, hashed: list[str]
) -> None:
    for _ in range(5):
        assert log_in(host, "aaaaa-aaaaa", rhost=ELSEWHERE)[0].reason == "wrong-recovery-code"
    for answer in (codes[0], "aaaaa-aaaaa"):
        outcome, talk = log_in(host, answer, rhost=ELSEWHERE)
        assert (outcome.reason, outcome.message) == ("throttled", "Too many wrong codes. Try again in 10 min.")
        assert talk.asked == ["Verification code: "]
    assert len(hashed) == 5
    assert log_in(host, host.code(host.secret("alice")), rhost=ELSEWHERE)[0].reason == "code"
    host.later(600)
    assert log_in(host, codes[0], rhost=ELSEWHERE)[0].reason == "recovery-code"


def test_a_thousand_sources_together_cost_few_slow_hashes_and_the_usual_one_does_not_wait(
    codes: list[str], host: Host, hashed: list[str]
) -> None:
    reasons = [log_in(host, "aaaaa-aaaaa", rhost=f"203.0.{each >> 8}.{each & 255}")[0].reason for each in range(1000)]
    assert reasons == ["wrong-recovery-code"] * 20 + ["throttled"] * 980
    assert len(hashed) == 20
    assert log_in(host, codes[0])[0].reason == "recovery-code"


def test_a_recovery_code_that_cannot_be_spent_for_good_is_refused(codes: list[str], host: Host, disk: Disk) -> None:
    disk.full = True
    outcome, _ = log_in(host, codes[0])
    assert (outcome.verdict, outcome.reason) == ("unavailable", "not-chargeable")
    disk.full = False
    assert log_in(host, codes[0])[0].reason == "recovery-code"


def test_the_user_is_told_when_few_codes_are_left(codes: list[str], host: Host) -> None:
    told = [log_in(host, code)[0].message for code in codes]
    assert told[5] == "4 recovery codes are left."
    assert told[6] == "3 recovery codes are left. Ask your administrator for new ones."
    assert told[8] == "1 recovery code is left. Ask your administrator for new ones."
    assert told[9] == "0 recovery codes are left. Ask your administrator for new ones."
    host.fail(3)
    assert log_in(host)[0].reason == "throttled"  # no code is left to ask for


def test_the_self_service_is_named_where_there_is_one(codes: list[str], host: Host) -> None:
    with open(host.paths.socket, "w", encoding="ascii"):
        pass
    for code in codes[:6]:
        log_in(host, code)
    assert log_in(host, codes[6])[0].message.endswith("New ones: pam-totp self recovery")


def test_two_logins_with_the_same_recovery_code_are_one(codes: list[str], host: Host) -> None:
    inner: list[str] = []

    def type_slowly() -> str:
        inner.append(log_in(host, codes[0])[0].reason)
        return codes[0]

    assert log_in(host, type_slowly)[0].reason == "wrong-recovery-code"
    assert inner == ["recovery-code"]


def test_an_older_cache_put_back_makes_no_spent_recovery_code_work_again(codes: list[str], host: Host) -> None:
    older = host.snapshot()
    assert log_in(host, codes[0])[0].reason == "recovery-code"
    host.put_back(older)
    assert log_in(host, codes[0])[0].reason == "wrong-recovery-code"


def test_a_lock_that_is_held_too_long_costs_no_login_its_verdict(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = unacknowledged(host)
    monkeypatch.setattr(Volatile.lock, "__defaults__", (0.05,))
    held = []

    def hold() -> str:
        with host.accounts() as accounts:
            held.append(accounts.lock("alice"))
        return ENTER

    assert log_in(host, host.code(secret), hold)[0].reason == "code"
    held[0].__exit__(None, None, None)
    assert not shown(host)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("port 22\nlogingracetime 120", "and scan the new one.\nYou have 2 min in all, from when you connected.\n\n"),
        ("logingracetime 45", "You have 45 s in all"),
        *((text, "") for text in ("logingracetime 0", "logingracetime soon", "port 22")),
    ],
)
def test_the_prompt_says_how_long_there_is(
    settings: str, words: str, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "sshd"
    program.write_text(f"#!/bin/sh\ncat <<END\n{settings}\nEND\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setattr(sshd, "PROGRAM", str(program))
    monkeypatch.setattr(sshd, "_RUN", str(tmp_path))
    host.configure('unenrolled = "enroll"\n')
    visitor = Visitor(host, None)
    login.attempt(login.Request("alice", "sshd", HERE), Arguments([]), host.paths, host.now, visitor)
    assert words in visitor.said
    assert ("in all" in visitor.said) == bool(words)
