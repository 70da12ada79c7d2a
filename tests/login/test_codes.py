"""Which codes count at the login, when, and how they may be typed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.login.host import Host, kinds, spelled, steady

pytestmark = pytest.mark.usefixtures("key_and_code")

CODE = "Verification code:"


def test_the_code_is_not_shown_while_it_is_typed(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    result = alice.log_in(code)
    assert result.ok
    assert code not in result.screen


def test_the_code_of_another_user_is_refused(host: Host) -> None:
    alice, bob = host.person(), host.person()
    assert not alice.log_in(bob.code()).ok
    assert bob.log_in(bob.code()).ok


def test_the_code_that_confirmed_the_enrolment_is_refused(host: Host) -> None:
    steady(10)
    alice = host.person()
    assert not alice.log_in(alice.code(-1)).ok
    assert alice.log_in(alice.code()).ok


def test_the_code_of_the_previous_step_is_accepted(host: Host) -> None:
    alice = host.person(spent=-2)
    assert alice.log_in(alice.code(-1)).ok


def test_the_code_of_the_next_step_is_accepted_and_spends_the_ones_before(host: Host) -> None:
    alice = host.person()
    current = alice.code()
    assert alice.log_in(alice.code(1)).ok
    assert not alice.log_in(current).ok


@pytest.mark.parametrize(("steps", "detail"), [(-2, "60 s behind"), (2, "60 s ahead")])
def test_a_code_of_two_steps_off_is_refused_and_the_log_says_by_how_much(host: Host, steps: int, detail: str) -> None:
    alice = host.person(spent=-3)
    mark = host.machine.mark()
    assert not alice.log_in(alice.code(steps)).ok
    (line,) = host.decisions(mark)
    assert line["reason"] == "code-of-another-time"
    assert detail in line["detail"]
    assert alice.log_in(alice.code()).ok


def test_a_space_in_the_middle_is_accepted(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    assert alice.log_in(f"{code[:3]} {code[3:]}").ok


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda code: "", id="nothing"),
        pytest.param(lambda code: code[:5], id="five digits"),
        pytest.param(lambda code: code + "0", id="seven digits"),
        pytest.param(lambda code: f"{code[:2]} {code[2:]}", id="space elsewhere"),
        pytest.param(lambda code: code.translate({48 + digit: 0x660 + digit for digit in range(10)}), id="Arabic"),
        pytest.param(lambda code: "my other password", id="words"),
    ],
)
def test_an_answer_that_has_not_the_form_of_a_code_is_refused_and_is_no_guess(host: Host, disguise: object) -> None:
    assert callable(disguise)
    alice = host.person()
    mark = host.machine.mark()
    assert not alice.log_in(disguise(alice.code())).ok
    assert [line["reason"] for line in host.decisions(mark)] == ["malformed-code"]
    assert host.status(alice)["failures"] == 0
    assert alice.log_in(alice.code()).ok


def test_the_prompt_can_be_configured(host: Host) -> None:
    alice = host.person()
    with host.config('prompt = "Geheime Verification code: "'):
        result = alice.log_in(alice.code())
    assert result.ok
    assert kinds(result)[-1] == "Geheime Verification code:"


def test_a_new_authenticator_counts_from_its_confirmation_on_and_the_old_one_until_then(host: Host) -> None:
    old = host.person()
    new = host.enroll(old, pending=True)
    assert not old.log_in(new.code()).ok
    assert old.log_in(old.code()).ok
    host.machine.run(["pam-totp", "confirm", old.name], input=new.code(-1) + "\n")
    assert not old.log_in(old.code(1)).ok
    assert old.log_in(new.code()).ok


def test_each_of_two_authenticators_lets_in(host: Host) -> None:
    phone = host.person()
    tablet = host.enroll(phone, label="tablet")
    code = tablet.code()
    assert phone.log_in(code).ok
    assert phone.log_in(phone.code()).ok
    assert not phone.log_in(code).ok


def test_after_a_reset_the_user_is_not_asked(host: Host) -> None:
    alice = host.person()
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    result = alice.log_in()
    assert result.ok
    assert kinds(result) == host.first_prompts


def test_an_enrolment_at_the_terminal_counts_from_its_first_right_code_on(host: Host) -> None:
    alice = host.person(enrolled=False)
    with host.machine.terminal(["pam-totp", "enroll", "--qr", "ascii", alice.name]) as terminal:
        terminal.expect(r"key  ([A-Z2-7 ]+)\r\n")
        key = re.findall(r"key  ([A-Z2-7 ]+)\n", terminal.screen)[0].replace(" ", "")
        host.confidential |= spelled(key)
        alice = replace(alice, secret=key)
        terminal.expect("Code from the app: ")
        terminal.answer(alice.wrong())
        terminal.expect("that code is wrong")
        assert alice.log_in().ok
        terminal.answer(alice.code())
        terminal.expect("is enrolled")
        terminal.answer("n")  # no recovery codes
        assert terminal.wait() == 0
    assert not alice.log_in().ok
    assert alice.log_in(alice.code(1)).ok
