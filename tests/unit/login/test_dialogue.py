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
from pam_totp.host.config import Arguments
from pam_totp.login import login
from tests.unit.pretend import ALICE, ELSEWHERE, HERE, STEP, Host, Visitor
from tests.unit.scan import scan

if TYPE_CHECKING:
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


def test_five_wrong_codes_end_the_login_and_the_same_key_is_shown_at_the_next(host: Host) -> None:
    outcome, first = log_in(host, *["000"] * 5)
    assert (outcome.verdict, outcome.reason) == ("refused", "not-confirmed")
    assert "the same key will be shown" in outcome.message
    assert host.account().ledger.row == 0  # no guess at anything
    outcome, second = log_in(host, 0, ENTER)
    assert outcome.reason == "enrolled"
    assert second.secret == first.secret


def test_breaking_off_leaves_the_key_pending_and_it_is_shown_again(host: Host) -> None:
    outcome, first = log_in(host, None)
    assert (outcome.verdict, outcome.detail) == ("no-answer", "enrolment not finished")
    assert states(host) == [PENDING]
    assert log_in(host, None)[1].secret == first.secret


def test_a_key_that_was_shown_too_long_ago_is_replaced(host: Host) -> None:
    host.configure('unenrolled = "enroll"\n[enrollment]\npending = "1h"\n')
    first = log_in(host, None)[1].secret
    host.later(3599)
    assert log_in(host, None)[1].secret == first
    host.later(1)
    second = log_in(host, None)[1].secret
    assert second != first
    host.wall -= 10 * DAY  # made in the future: the clock was wrong when it was made
    assert log_in(host, None)[1].secret != second


def test_a_key_that_is_removed_or_replaced_while_the_user_types_is_not_activated(host: Host) -> None:
    def reset() -> str:
        host.change(lambda account: account.authenticators.clear())
        return "123456"

    outcome, _ = log_in(host, reset)
    assert (outcome.verdict, outcome.reason) == ("refused", "changed-meanwhile")

    def replace() -> str:
        host.change(lambda account: account.authenticators.clear())
        return host.code(host.enroll(ALICE, "other", PENDING))

    outcome, _ = log_in(host, replace)
    assert (outcome.verdict, outcome.reason) == ("refused", "changed-meanwhile")
    assert states(host) == [PENDING]


def test_on_a_full_disk_nobody_enrols(host: Host, disk: Disk) -> None:
    disk.full = True
    outcome, talk = log_in(host)
    assert (outcome.verdict, outcome.reason) == ("unavailable", "cache-not-writable")
    assert talk.said == ""


def test_a_disk_that_fills_while_the_user_types_activates_nothing(host: Host, disk: Disk) -> None:
    def fill() -> str:
        disk.full = True
        pending = host.account().pending
        assert pending is not None
        return host.code(pending.secret)

    outcome, _ = log_in(host, fill)
    assert outcome.verdict == "unavailable"
    disk.full = False
    assert states(host) == [PENDING]


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


def test_wrong_invitations_are_charged_and_lead_to_waiting_and_to_the_lock(invitation: str, host: Host) -> None:
    for number in range(1, 4):
        outcome, _ = log_in(host, "aaaaa-aaaaa")
        assert (outcome.reason, outcome.detail) == ("wrong-invitation", f"{number} wrong in a row")
    assert log_in(host)[0].reason == "throttled"
    assert log_in(host, invitation, None, rhost=ELSEWHERE)[0].reason == "no-answer"
    for number in range(7):
        log_in(host, "aaaaa-aaaaa", rhost=f"203.0.113.{number}")
    assert log_in(host, rhost=ELSEWHERE)[0].reason == "locked"


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
