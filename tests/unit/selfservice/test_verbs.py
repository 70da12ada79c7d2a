"""What users may do with their own authenticators, and what it takes."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

import pytest

from pam_totp.cache.accounts import PENDING
from pam_totp.factors import invitation, recovery
from pam_totp.host import config as configuration
from pam_totp.login.attempt import Request
from pam_totp.selfservice import verbs
from tests.unit.pretend import ALICE, BOB, STEP, Host, Visitor, code

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account
    from pam_totp.host.users import User
    from tests.unit.pretend import Answer

    Journal = list[tuple[int, str]]

pytestmark = pytest.mark.usefixtures("quick_hash")

OPEN = "self_enroll = true\n"
RULE = '[[rule]]\nusers = ["alice"]\n'


@pytest.fixture(autouse=True)
def self_enrolment(host: Host) -> None:
    """Everybody may enrol here."""
    host.configure(OPEN)


def visit(
    host: Host, act: Callable[[verbs.Visit], int], *answers: Answer | int, user: User = ALICE
) -> tuple[int, Visitor]:
    """One visit, in which exactly these answers are asked for."""
    talk = Visitor(host, *answers)
    config = configuration.load(host.paths.config, host.paths.owner)
    request = Request(user.name, verbs.SERVICE)
    result = act(verbs.Visit(user, request, config, host.paths, host.now, talk))
    talk.end()
    return result, talk


def enroll(host: Host, *answers: Answer | int, label: str = "phone", user: User = ALICE) -> tuple[int, Visitor]:
    return visit(host, lambda visit: verbs.enroll(visit, label), *answers, user=user)


def remove(host: Host, *answers: Answer, label: str | None = None) -> tuple[int, Visitor]:
    return visit(host, lambda visit: verbs.remove(visit, label), *answers)


def recovery_codes(host: Host) -> list[str]:
    """Codes that alice has written down."""
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        codes = recovery.issue(account.ledger, accounts.sealer)
        recovery.acknowledge(account.ledger, codes, accounts.sealer)
        accounts.save(account)
    return codes


def exempt(host: Host) -> None:
    host.change(lambda account: setattr(account.ledger, "exemption", [int(host.wall) + 86_400, "a test"]))


def labels(host: Host) -> list[str]:
    return sorted(each.label for each in host.account().active)


def actions(journal: Journal) -> list[str]:
    return [line for _, line in journal if " action=" in line]


# Enrolling


def test_a_first_enrolment_takes_the_first_code_and_hands_out_recovery_codes(host: Host, journal: Journal) -> None:
    result, talk = enroll(host, 0, "yes")
    assert result == 0
    assert labels(host) == ["phone"]
    assert talk.asked == []
    account = host.account()
    assert account.active[0].secret == talk.secret
    assert recovery.left(account.ledger) == 10
    assert not recovery.due(account.ledger)
    assert actions(journal) == ['pam-totp: user=alice action=self-enroll by=alice detail="label phone"']


def test_the_code_that_confirms_is_spent(host: Host) -> None:
    _, talk = enroll(host, 0, "yes")
    assert host.login("alice", host.code(talk.secret)).reason == "spent-code"
    assert host.login("alice", host.code(talk.secret, 1)).reason == "code"


def test_a_wrong_code_is_explained_and_asked_for_again(host: Host) -> None:
    result, talk = enroll(host, "nonsense", "000000", 10, -1, "yes")
    assert result == 0
    assert "A code has six digits." in talk.said
    assert "That code is wrong." in talk.said
    assert "your phone's clock is 5 min ahead" in talk.said


def test_after_five_wrong_codes_nothing_was_changed(host: Host) -> None:
    result, talk = enroll(host, *["nonsense"] * 5)
    assert result == 1
    assert talk.told == ["That was not the right code either. Nothing was changed."]
    assert host.account().empty


@pytest.mark.parametrize("answers", [(None,), ("nonsense", None)])
def test_breaking_off_changes_nothing(answers: tuple[str | None, ...], host: Host) -> None:
    result, _ = enroll(host, *answers)
    assert result == 1
    assert host.account().empty


@pytest.mark.parametrize("answers", [(None,), ("new", None), ("new", *["nonsense"] * 5)])
def test_breaking_off_keeps_a_key_that_an_administrator_made(answers: tuple[str | None, ...], host: Host) -> None:
    key = host.enroll(issued=True)
    _, talk = enroll(host, *answers)
    account = host.account()
    assert account.issued is not None
    assert account.issued.secret == key
    assert base64.b32encode(key).decode("ascii") not in talk.said.replace(" ", "")


def test_a_key_that_an_administrator_made_takes_its_code(host: Host, journal: Journal) -> None:
    key = host.enroll(issued=True)
    assert status(host).endswith("To confirm your administrator's key, or set up another: pam-totp self enroll")
    result, _ = enroll(host, host.code(key), "yes")
    assert result == 0
    assert [each.secret for each in host.account().active] == [key]
    assert actions(journal) == [
        'pam-totp: user=alice action=self-enroll by=alice detail="with the key that an administrator made"'
    ]


def test_another_key_voids_it_and_that_is_told_and_logged(host: Host, journal: Journal) -> None:
    host.enroll(issued=True)
    result, talk = enroll(host, "new", 0, "yes")
    assert result == 0
    assert [each.secret for each in host.account().authenticators] == [talk.secret]
    assert talk.told[-1].startswith("The key that your administrator had made for you is void.\n")
    assert 'detail="label phone; the key that an administrator made is void"' in actions(journal)[-1]


def test_a_further_key_voids_it_too(host: Host, journal: Journal) -> None:
    phone = host.enroll()
    host.enroll(label="tablet", issued=True)
    result, talk = enroll(host, host.code(phone), 0, "yes", label="watch")
    assert result == 0
    assert "The key that your administrator had made for you is void." in talk.said
    assert "the key that an administrator made is void" in actions(journal)[-1]


def test_guesses_at_its_code_wait_and_are_logged(host: Host, journal: Journal) -> None:
    key = host.enroll(issued=True)
    for _ in range(3):
        result, talk = enroll(host, host.wrong(key))
        assert (result, talk.told) == (1, ["That code was not accepted."])
        assert "service=self rhost=- outcome=refused reason=wrong-code" in journal[-1][1]
    _, talk = enroll(host, host.code(key))
    assert talk.told == ["Too many wrong codes. Try again in 30 s."]
    assert host.account().active == []


def test_it_is_not_removed_by_whoever_runs_as_the_user(host: Host) -> None:
    host.enroll(issued=True)
    result, talk = remove(host)
    assert (result, talk.told) == (
        1,
        ["Your administrator made this key for you: ask your administrator to remove it."],
    )
    assert host.account().issued is not None


def test_a_key_that_0_1_0_left_is_never_shown_nor_asked_for(host: Host) -> None:
    """There whoever passed the first factor was shown it."""
    pending = host.enroll(state=PENDING)
    _, first = enroll(host, None)
    _, second = enroll(host, 0, "yes")
    assert len({pending, first.secret, second.secret}) == 3
    assert [each.secret for each in host.account().authenticators] == [second.secret]


def test_recovery_codes_that_were_not_acknowledged_are_issued_anew_at_the_next_login(host: Host) -> None:
    result, talk = enroll(host, 0, None)
    assert result == 0
    assert recovery.due(host.account().ledger)
    host.later(STEP)
    assert host.login("alice", host.code(talk.secret), "yes").reason == "code"
    assert not recovery.due(host.account().ledger)


def test_a_further_authenticator_takes_a_code_of_one_there_is(host: Host, journal: Journal) -> None:
    phone = host.enroll()
    recovery_codes(host)
    result, talk = enroll(host, host.code(phone), 0, label="tablet")
    assert result == 0
    assert talk.asked == ["Verification code: "]
    assert labels(host) == ["phone", "tablet"]
    assert recovery.left(host.account().ledger) == 10
    host.later(STEP)
    assert host.login("alice", host.code(talk.secret)).reason == "code"
    host.later(STEP)
    assert host.login("alice", host.code(phone)).reason == "code"
    assert len(actions(journal)) == 1


def test_a_code_that_was_asked_for_is_spent(host: Host) -> None:
    phone = host.enroll()
    enroll(host, host.code(phone), None)
    assert host.login("alice", host.code(phone)).reason == "spent-code"


def test_who_has_no_code_adds_nothing_and_is_charged(host: Host, journal: Journal) -> None:
    phone = host.enroll()
    for answer, reason in (
        (host.wrong(phone), "wrong-code"),
        ("nonsense", "malformed-code"),
        (None, "no-answer"),
        ("aaaaa-bbbbb", "wrong-recovery-code"),
    ):
        result, talk = enroll(host, answer)
        assert result == 1
        assert talk.echoed == []
        assert f"reason={reason}" in journal[-1][1]
    assert labels(host) == ["phone"]
    assert (host.account().ledger.row, host.account().ledger.unseen) == (1, 2)
    with host.accounts() as accounts:
        assert len(accounts.events("alice", 10)) == 4


def test_wrong_codes_wait_as_at_a_login_and_hold_up_no_login(host: Host) -> None:
    phone = host.enroll()
    assert host.login("alice", host.code(phone)).reason == "code"
    host.later(STEP)
    for _ in range(3):
        enroll(host, host.wrong(phone))
    result, talk = enroll(host)
    assert result == 1
    assert talk.told == ["Too many wrong codes. Try again in 30 s."]
    assert host.login("alice", host.code(phone)).reason == "code"
    host.later(STEP)
    assert enroll(host, host.code(phone), None)[1].echoed != []


def test_wrong_codes_count_towards_the_lock(host: Host) -> None:
    host.configure("lock_after = 10\n")
    phone = host.enroll()
    for _ in range(10):
        enroll(host, host.wrong(phone))
        host.later(3600)
    assert host.account().state == "locked"
    assert enroll(host)[1].told == [
        "Too many wrong codes: this account is locked. Ask your administrator to unlock it."
    ]


@pytest.mark.parametrize("setting", [RULE + 'mfa = "skip"\n', ""])
def test_an_exemption_from_codes_at_logins_is_none_here(setting: str, host: Host) -> None:
    phone = host.enroll()
    host.configure(setting)
    if not setting:
        exempt(host)
    assert host.login("alice").verdict == "skipped"
    for _ in range(3):
        assert enroll(host, host.wrong(phone))[0] == 1
    assert enroll(host)[1].told == ["Too many wrong codes. Try again in 30 s."]


def test_a_recovery_code_will_do_also_while_waiting(host: Host) -> None:
    phone = host.enroll()
    codes = recovery_codes(host)
    for _ in range(3):
        enroll(host, host.wrong(phone))
    result, talk = enroll(host, codes[0], 0, label="new phone")
    assert result == 0
    assert "Or type a recovery code." in talk.asked[0]
    assert labels(host) == ["new phone", "phone"]
    assert recovery.left(host.account().ledger) == 9


def test_one_with_the_same_label_is_replaced_when_the_new_one_is_confirmed(host: Host) -> None:
    phone = host.enroll()
    enroll(host, host.code(phone), None)
    assert host.account().active[0].secret == phone
    host.later(STEP)
    result, talk = enroll(host, host.code(phone), 0, "yes")
    assert result == 0
    assert [each.secret for each in host.account().active] == [talk.secret]


def test_five_are_the_most_and_are_told_before_a_code_is_asked_for(host: Host) -> None:
    for label in "abcde":
        phone = host.enroll(label=label)
    result, talk = enroll(host, label="f")
    assert result == 1
    assert talk.told == ["You have 5 authenticators, which is the most: remove one first."]
    assert enroll(host, host.code(phone), 0, "yes", label="e")[0] == 0
    assert labels(host) == list("abcde")


def test_who_enrolled_elsewhere_meanwhile_is_not_enrolled_again(host: Host) -> None:
    """Somebody in the user's session began before the user did."""

    def elsewhere() -> str:
        host.enroll(label="the user's own")
        return "nonsense"

    result, talk = enroll(host, elsewhere, 0)
    assert result == 1
    assert talk.told == ["Your enrolment was changed meanwhile, from elsewhere: start again."]
    assert labels(host) == ["the user's own"]


def test_who_was_reset_meanwhile_is_not_enrolled_again(host: Host) -> None:
    phone = host.enroll()

    def reset() -> str:
        host.change(lambda account: account.authenticators.clear())
        return "nonsense"

    result, talk = enroll(host, host.code(phone), reset, 0)
    assert result == 1
    assert "changed meanwhile" in talk.said
    assert host.account().authenticators == []


def test_the_qr_code_fits_the_screen_or_is_left_out(host: Host) -> None:
    _, talk = enroll(host, None)
    assert "█" in talk.said

    def narrow(visit: verbs.Visit) -> int:
        visit.conversation.columns = 20
        return verbs.enroll(visit, "phone")

    _, talk = visit(host, narrow, None)
    assert "█" not in talk.said
    assert re.search(r"^  key  [A-Z2-7 ]+$", talk.said, re.MULTILINE)


# A first enrolment and the policy


def prompted(host: Host) -> bool:
    """Whether alice gets as far as the key."""
    _, talk = enroll(host, None)
    return "  key  " in talk.said


@pytest.mark.parametrize(
    "setting",
    [
        f'unenrolled = "skip"\n{OPEN}',
        'unenrolled = "enroll"\n',
        '[enrollment]\nperiod = "7d"\n',
        f'unenrolled = "deny"\n{RULE}unenrolled = "enroll"\n',
        f'unenrolled = "deny"\n{RULE}services = ["sshd"]\nunenrolled = "enroll"\n',
    ],
)
def test_whoever_is_free_to_enrol_at_the_prompt_is_free_here(setting: str, host: Host) -> None:
    host.configure(setting)
    assert prompted(host)


@pytest.mark.parametrize(
    "setting",
    [
        'unenrolled = "deny"\n',
        f'{RULE}unenrolled = "deny"\n',
        f'{RULE}services = ["sshd"]\nunenrolled = "deny"\n',
        f'unenrolled = "deny"\n{RULE}services = ["self"]\nunenrolled = "enroll"\n',
        f'unenrolled = "deny"\n{RULE}networks = ["0.0.0.0/0", "::/0"]\nunenrolled = "enroll"\n',
        f'unenrolled = "deny"\n{RULE}keys = ["any"]\nunenrolled = "enroll"\n',
        f'unenrolled = "enroll"\n{RULE}networks = ["192.0.2.0/24"]\nunenrolled = "deny"\n',
        f'unenrolled = "enroll"\n{RULE}keys = ["any"]\nunenrolled = "deny"\n',
        f'unenrolled = "deny"\n{RULE}mfa = "skip"\n',
    ],
)
def test_whoever_is_denied_at_the_prompt_is_denied_here(setting: str, host: Host, journal: Journal) -> None:
    host.configure(setting)
    result, talk = enroll(host)
    assert result == 1
    assert talk.told == [
        "A verification code is required here and not set up for you. Ask your administrator to enrol you."
    ]
    assert "service=self rhost=- outcome=refused reason=not-enrolled" in journal[-1][1]
    assert host.account().state == "none"


@pytest.mark.parametrize(
    "setting",
    [
        "",
        'unenrolled = "skip"\n',
        'self_enroll = false\nunenrolled = "enroll"\n',
        'self_enroll = false\n[enrollment]\nperiod = "7d"\n',
    ],
)
def test_where_the_policy_lets_nobody_enrol_no_program_of_the_user_does(
    setting: str, host: Host, journal: Journal
) -> None:
    host.configure(setting)
    result, talk = enroll(host)
    assert result == 1
    assert talk.told == ["Setting up an authenticator by yourself is not open to you here. Ask your administrator."]
    assert "reason=self-enroll-off" in journal[-1][1]
    phone = host.enroll()
    assert enroll(host, host.code(phone), 0, "yes", label="tablet")[0] == 0  # whoever has a code is its owner


def test_an_enrolment_that_began_before_it_was_forbidden_takes_no_code(host: Host) -> None:
    def forbid() -> str:
        host.configure("self_enroll = false\n")
        return "123456"

    result, talk = enroll(host, forbid)
    assert (result, talk.told) == (1, ["Your enrolment was changed meanwhile, from elsewhere: start again."])


def test_an_exemption_does_not_say_that_anybody_may_enrol(host: Host) -> None:
    host.configure('unenrolled = "deny"\n')
    exempt(host)
    assert host.login("alice").reason == "exempt"
    assert enroll(host)[0] == 1


def test_after_the_deadline_what_comes_then_holds(host: Host) -> None:
    host.configure('[enrollment]\nperiod = "1d"\nafter = "deny"\n')
    assert host.login("alice").reason == "grace"
    assert prompted(host)
    host.later(2 * 86_400)
    assert enroll(host)[0] == 1


def test_who_needs_an_invitation_is_asked_for_it_and_it_works_once(host: Host, journal: Journal) -> None:
    host.configure('unenrolled = "invite"\n')
    result, talk = enroll(host)
    assert result == 1
    assert "Ask your administrator for an invitation" in talk.told[0]
    issued = invite(host)
    result, talk = enroll(host, "aaaaa-bbbbb")
    assert (result, talk.told) == (1, ["That invitation was not accepted."])
    assert "reason=wrong-invitation" in journal[-1][1]
    result, talk = enroll(host, issued, None)
    assert "  key  " in talk.said
    result, talk = enroll(host, issued, 0, "yes")
    assert result == 0
    assert talk.asked[0].endswith("Invitation code: ")
    host.change(lambda account: account.authenticators.clear())
    assert enroll(host)[0] == 1


def test_an_invitation_is_asked_for_during_an_exemption_too(host: Host) -> None:
    host.configure('unenrolled = "invite"\n')
    issued = invite(host)
    exempt(host)
    assert enroll(host, issued, 0, "yes")[0] == 0


def test_guessing_invitations_has_to_wait(host: Host) -> None:
    host.configure('unenrolled = "invite"\n')
    invite(host)
    for _ in range(5):
        enroll(host, "aaaaa-bbbbb")
    assert enroll(host)[1].told == ["Too many wrong codes. Try again in 10 min."]


def invite(host: Host) -> str:
    with host.accounts() as accounts:
        account = accounts.find(ALICE)
        issued = invitation.issue(account, int(host.wall) + 3600, accounts.sealer)
        accounts.save(account)
    return issued


# Recovery codes


def issue(host: Host, *answers: Answer) -> tuple[int, Visitor]:
    return visit(host, verbs.issue_recovery_codes, *answers)


def shown_codes(talk: Visitor) -> list[str]:
    return re.findall(r"\b[a-z2-9]{5}-[a-z2-9]{5}\b", talk.said)


def test_new_recovery_codes_take_a_code_and_void_the_old(host: Host, journal: Journal) -> None:
    phone = host.enroll()
    result, first = issue(host, host.code(phone), "yes")
    assert result == 0
    assert len(shown_codes(first)) == 10
    host.later(STEP)
    _, second = issue(host, host.code(phone), "yes")
    assert ("void" in first.said, "10 earlier recovery codes are void now." in second.told) == (False, True)
    assert host.login("alice", shown_codes(first)[0]).reason == "wrong-recovery-code"
    assert host.login("alice", shown_codes(second)[0]).reason == "recovery-code"
    assert actions(journal) == ['pam-totp: user=alice action=self-recovery by=alice detail="10 new codes"'] * 2


def test_recovery_codes_are_not_issued_for_a_wrong_code_or_for_nobody(host: Host) -> None:
    assert issue(host)[1].told == ["You have no authenticator yet. Set one up first: pam-totp self enroll"]
    phone = host.enroll()
    result, talk = issue(host, host.wrong(phone))
    assert result == 1
    assert shown_codes(talk) == []
    assert host.account().ledger.recovery is None


def test_recovery_codes_are_not_issued_for_who_was_reset_meanwhile(host: Host) -> None:
    phone = host.enroll()

    def act(visit: verbs.Visit) -> int:
        # Between the code and the issue, which is as long as it takes to tell something.
        def tell(text: str) -> None:
            del text
            host.change(lambda account: account.authenticators.clear())

        visit.conversation.tell = tell  # type: ignore[method-assign]  # for this one visit
        return verbs.issue_recovery_codes(visit)

    host.login("alice", host.wrong(phone))
    result, talk = visit(host, act, host.code(phone))
    assert result == 1
    assert shown_codes(talk) == []


# Removing


def test_one_of_several_is_removed_with_a_code(host: Host, journal: Journal) -> None:
    phone, tablet = host.enroll(), host.enroll(label="tablet")
    result, talk = remove(host, host.code(phone), label="tablet")
    assert (result, talk.told) == (0, ["The authenticator 'tablet' is removed."])
    assert labels(host) == ["phone"]
    assert actions(journal) == ['pam-totp: user=alice action=self-remove by=alice detail="label tablet"']
    assert host.login("alice", host.code(tablet)).reason == "wrong-code"


def test_nothing_is_removed_for_a_wrong_code(host: Host) -> None:
    phone = host.enroll()
    host.enroll(label="tablet")
    assert remove(host, host.wrong(phone), label="tablet")[0] == 1
    assert labels(host) == ["phone", "tablet"]


def test_which_one_must_be_said_where_there_are_several(host: Host) -> None:
    assert remove(host)[1].told == ["You have no authenticator."]
    host.enroll()
    host.enroll(label="tablet")
    for label in (None, "watch"):
        assert remove(host, label=label)[1].told == ["Say which one, with --label: phone, tablet"]
    assert labels(host) == ["phone", "tablet"]


def test_the_last_one_can_be_removed_where_no_login_needs_one(host: Host) -> None:
    phone = host.enroll()
    result, talk = remove(host, host.code(phone))
    assert result == 0
    assert "you are not asked for a code any more" in talk.said
    assert host.account().state == "none"
    assert host.login("alice").reason == "not-enrolled"


@pytest.mark.parametrize(
    "setting",
    [
        'unenrolled = "deny"\n',
        'unenrolled = "enroll"\n',
        'unenrolled = "invite"\n',
        '[enrollment]\nperiod = "7d"\n',
        f'{RULE}unenrolled = "deny"\n',
        f'{RULE}networks = ["192.0.2.0/24"]\nunenrolled = "enroll"\n',
        f'{RULE}services = ["cockpit"]\nunenrolled = "deny"\n',
        f'{RULE}keys = ["any"]\nunenrolled = "deny"\n',
        f'unenrolled = "deny"\n{RULE}networks = ["192.0.2.0/24"]\nmfa = "skip"\n',
    ],
)
def test_the_last_one_stays_where_some_login_needs_one(setting: str, host: Host) -> None:
    host.configure(setting)
    phone = host.enroll()
    host.enroll(label="tablet")
    assert remove(host, host.code(phone), label="tablet")[0] == 0
    result, talk = remove(host)
    assert result == 1
    assert talk.told[0].startswith("This is your last authenticator, and logins need one here.")
    assert labels(host) == ["phone"]


@pytest.mark.parametrize(
    "setting",
    [
        f'unenrolled = "deny"\n{RULE}unenrolled = "skip"\n',
        f'unenrolled = "deny"\n{RULE}mfa = "skip"\n',
        '[[rule]]\nusers = ["bob"]\nunenrolled = "deny"\n',
        '[[rule]]\nenrolled_within = "30d"\nunenrolled = "deny"\n',
    ],
)
def test_rules_that_concern_somebody_else_or_let_everything_through_keep_nothing(setting: str, host: Host) -> None:
    host.configure(setting)
    phone = host.enroll()
    assert remove(host, host.code(phone))[0] == 0


def test_the_last_one_stays_when_the_others_went_meanwhile(host: Host) -> None:
    host.configure('unenrolled = "enroll"\n')
    phone = host.enroll()
    host.enroll(label="tablet")

    def only_the_phone(account: Account) -> None:
        account.authenticators = [each for each in account.authenticators if each.label == "phone"]

    def elsewhere() -> str:
        host.change(only_the_phone)
        return host.code(phone)

    result, talk = remove(host, elsewhere, label="phone")
    assert result == 1
    assert "changed meanwhile" in talk.said
    assert labels(host) == ["phone"]


def test_what_was_never_confirmed_is_removed_without_a_code(host: Host) -> None:
    host.enroll(state=PENDING)
    assert remove(host)[0] == 0
    assert host.account().authenticators == []


def test_removing_and_enrolling_again_makes_no_spent_code_good(host: Host) -> None:
    phone = host.enroll()
    spent = host.code(phone)
    remove(host, spent)
    host.enroll()
    assert host.login("alice", spent).reason == "spent-code"


# Status


def status(host: Host, as_json: bool = False, user: User = ALICE) -> str:
    result, talk = visit(host, lambda visit: verbs.status(visit, as_json), user=user)
    assert result == 0
    [text] = talk.told
    return text


def test_the_status_tells_what_there_is_and_no_secret(host: Host) -> None:
    phone = host.enroll()
    host.enroll(label="tablet", state=PENDING)
    host.fail(3)
    text = status(host)
    assert "alice: active" in text
    assert "  phone  (active, since 2023-11-14 22:13 UTC)" in text
    assert "  tablet  (pending, " in text
    assert "recovery codes left: 0" in text
    assert "wrong codes since then: 3" in text
    assert code(phone, 0) not in text


def test_the_status_of_one_user_tells_nothing_of_another(host: Host) -> None:
    host.enroll()
    assert status(host, user=BOB) == "bob: none\nTo set up an authenticator app: pam-totp self enroll"


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("", "is not open to you here. Ask your administrator."),
        (OPEN, "To set up an authenticator app: pam-totp self enroll"),
        ('[enrollment]\nperiod = "7d"\n', "To set up an authenticator app, within 7 days: pam-totp self enroll"),
        ('unenrolled = "deny"\n', "Ask your administrator to enrol you."),
        ('unenrolled = "invite"\n', "Ask your administrator for an invitation to set it up."),
    ],
)
def test_the_status_says_how_to_begin(setting: str, advice: str, host: Host) -> None:
    host.configure(setting)
    assert status(host).endswith(advice)


def test_the_status_says_that_an_invitation_is_needed(host: Host) -> None:
    host.configure('unenrolled = "invite"\n')
    invite(host)
    assert status(host).endswith("To set up an authenticator app, with your invitation: pam-totp self enroll")


def test_the_status_says_when_in_utc_and_who_is_locked(host: Host) -> None:
    phone = host.enroll()
    assert "no code was accepted yet" in status(host)
    host.login("alice", host.code(phone))
    assert "last accepted code: 2023-11-14 22:13 UTC" in status(host)
    host.configure("lock_after = 10\n")
    host.fail(10, apart=3600)
    assert status(host).endswith("locked after too many wrong codes: ask your administrator to unlock it")


def test_the_status_for_programs_is_one_document(host: Host) -> None:
    host.enroll()
    found = json.loads(status(host, as_json=True))
    assert (found["user"], found["state"], found["recovery_codes"]) == ("alice", "active", 0)
    assert [each["label"] for each in found["authenticators"]] == ["phone"]


def test_the_status_asks_for_nothing_and_changes_nothing(host: Host, journal: Journal) -> None:
    host.enroll()
    before = host.snapshot()
    status(host)
    assert host.snapshot() == before
    assert journal == []


# All


def test_no_secret_and_no_code_is_logged(host: Host, journal: Journal) -> None:
    _, talk = enroll(host, 0, "yes")
    host.later(STEP)
    _, other = issue(host, host.code(talk.secret), "yes")
    host.later(STEP)
    remove(host, host.code(talk.secret))
    text = "\n".join(line for _, line in journal)
    confidential = [*shown_codes(talk), *shown_codes(other), *(host.code(talk.secret, steps) for steps in range(-5, 1))]
    assert len(confidential) == 26
    assert not [word for word in confidential if word in text]
    assert talk.secret.hex() not in text
