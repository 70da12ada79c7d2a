"""confirm: the code comes from the terminal or from standard input, never from an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp import cli
from pam_totp.cache.accounts import ACTIVE, PENDING
from tests.unit.cli.conftest import CTRL_C
from tests.unit.pretend import ALICE

if TYPE_CHECKING:
    from pam_totp.cache.accounts import Account
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host


@pytest.fixture
def secret(host: Host) -> bytes:
    """The secret that waits for confirmation."""
    return host.enroll(ALICE, state=PENDING)


def test_a_code_from_standard_input_confirms(command: Command, host: Host, secret: bytes) -> None:
    ran = command("confirm", "alice", piped=host.code(secret) + "\n")
    assert (ran.code, ran.out, ran.err) == (0, "alice is enrolled: log in with the next code.\n", "")
    assert host.account().state == "active"
    assert host.login("alice", host.code(secret)).reason == "spent-code"


def test_a_code_from_the_terminal_confirms_after_a_prompt(command: Command, host: Host, secret: bytes) -> None:
    ran = command("confirm", "alice", typed=(host.code(secret)[:3] + " " + host.code(secret)[3:] + "\n", "n\n"))
    assert (ran.code, ran.err) == (0, "Code from the app: ")
    assert host.account().state == "active"


@pytest.mark.parametrize("steps", [-1, 1])
def test_the_codes_of_the_steps_beside_confirm(steps: int, command: Command, host: Host, secret: bytes) -> None:
    assert command("confirm", "alice", piped=host.code(secret, steps)).code == 0


def test_lines_are_tried_until_one_is_right(command: Command, host: Host, secret: bytes) -> None:
    ran = command("confirm", "alice", piped=f"nonsense\n{host.wrong(secret)}\n{host.code(secret)}\n")
    assert ran.code == 0
    assert ran.err == "pam-totp: six digits, please\npam-totp: that code is wrong: take the one the app shows now\n"


def test_what_strangers_guessed_at_the_key_before_does_not_lock_the_user_out(command: Command, host: Host) -> None:
    host.configure('unenrolled = "enroll"\nlock_after = 10\n')
    secret = host.enroll(issued=True)
    for number in range(10):
        assert host.login("alice", host.wrong(secret), rhost=f"203.0.113.{number}").reason == "wrong-code"
    assert host.account().ledger.locked
    assert command("confirm", "alice", piped=host.code(secret) + "\n").code == 0
    assert host.account().state == "active"
    assert host.login("alice", host.code(secret, 1)).reason == "code"


@pytest.mark.parametrize("piped", ["", "\n", "111111\n", "111111"])
def test_without_a_right_code_it_stays_pending(piped: str, command: Command, host: Host, secret: bytes) -> None:
    assert host.wrong(secret) == "111111"
    ran = command("confirm", "alice", piped=piped)
    assert (ran.code, ran.out) == (1, "")
    assert "still pending, run pam-totp confirm alice" in ran.err
    assert host.account().state == "pending"


def test_breaking_off_leaves_it_pending(command: Command, host: Host, secret: bytes) -> None:
    ran = command("confirm", "alice", typed=(CTRL_C,))
    assert ran.code == 1
    assert host.account().state == "pending"


def test_how_far_off_a_code_was_is_told(command: Command, host: Host, secret: bytes) -> None:
    assert "right, but 120 s ahead" in command("confirm", "alice", piped=host.code(secret, 4)).err
    assert "right, but 120 s behind" in command("confirm", "alice", piped=host.code(secret, -4)).err
    assert host.account().state == "pending"


@pytest.mark.parametrize("enrolled", [True, False])
def test_where_nothing_is_pending_the_answer_is_no(enrolled: bool, command: Command, host: Host) -> None:
    if enrolled:
        host.enroll()
    ran = command("confirm", "alice", typed=())
    assert (ran.code, ran.out) == (1, "")
    assert "nothing is pending for alice: run pam-totp enroll alice" in ran.err


@pytest.mark.parametrize("verb", ["confirm", "enroll --replace"])
@pytest.mark.parametrize("state", ["none", "active"])
def test_what_is_confirmed_or_reset_while_the_code_is_typed_ends_the_questions(
    state: str, verb: str, command: Command, host: Host, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(account: Account) -> None:
        if state == "active":
            account.authenticators[0].state = ACTIVE
        else:
            account.authenticators.clear()

    def type_slowly(_: str) -> str:
        assert host.account().pending is not None, "asked although nothing is pending"
        host.change(elsewhere)
        return host.code(secret)

    monkeypatch.setattr("pam_totp.cli.common.read_code", type_slowly)
    ran = command(*verb.split(), "alice")
    gone = "nothing is pending any more: it was confirmed or removed meanwhile, see pam-totp status"
    assert (ran.code, ran.err) == (1, f"pam-totp: {gone}\n")
    assert host.account().state == state


def test_a_user_unknown_to_nss_is_refused(command: Command) -> None:
    ran = command("confirm", "mallory", typed=())
    assert ran.code == 2
    assert "no such user" in ran.err


def test_what_is_not_text_is_no_code(
    command: Command, host: Host, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Binary:
        lines = 0

        def isatty(self) -> bool:
            return False

        def readline(self) -> str:
            self.lines += 1
            if self.lines == 1:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            return ""

    monkeypatch.setattr("sys.stdin", Binary())
    assert cli.main(["confirm", "alice"], host.paths) == 1
    assert host.account().state == "pending"


def test_a_confirmation_is_logged_without_the_code(
    command: Command, host: Host, secret: bytes, journal: list[tuple[int, str]]
) -> None:
    command("confirm", "alice", piped=host.code(secret))
    assert [line for _, line in journal] == ["pam-totp: user=alice action=confirm by=root detail=active"]
