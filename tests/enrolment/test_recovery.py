"""Recovery codes: at the same prompt, once each, also while waiting or locked, and only with a durable write."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import GOES_ON, enrolled, started
from tests.lab.pam import alone, pamtester
from tests.login.host import Host, Person, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.ssh import Result

pytestmark = pytest.mark.usefixtures("enrolling")

CODE = "Verification code:"
RECOVERY = "Recovery code: "
CACHE = "/var/lib/pam-totp"


@pytest.fixture(scope="module")
def enrolling(host: Host, key_and_code: None) -> None:
    """Whoever is not enrolled enrols at the login; three wrong codes make one wait."""
    host.machine.write("/etc/pam-totp/config.toml", 'unenrolled = "enroll"\nlock_after = 10\n')


def reason(person: Person, answer: str) -> tuple[Result, dict[str, str]]:
    """Log in with this answer to the usual prompt; how it went, and what the module logged."""
    mark = person.host.machine.mark()
    result = person.log_in(answer)
    (line,) = person.host.decisions(mark)
    return result, line


def test_each_code_works_once_at_the_same_prompt_and_the_user_is_told_how_many_are_left(host: Host) -> None:
    alice, codes = enrolled(host)
    with started(alice, command=None) as session:
        session.expect(CODE)
        session.answer(codes[0])
        session.expect(r"\$ ")
        session.answer("exit")
        session.wait()
    assert "9 recovery codes are left." in session.screen
    result, line = reason(alice, codes[0])
    assert not result.ok
    assert (line["outcome"], line["reason"]) == ("refused", "wrong-recovery-code")
    result, line = reason(alice, codes[1].upper().replace("-", " "))
    assert result.ok
    assert kinds(result) == [CODE]
    assert (line["outcome"], line["reason"], line["detail"]) == ("accepted", "recovery-code", "8 left")
    assert host.status(alice)["failures"] == 0
    assert alice.log_in(alice.code()).ok


def test_when_few_are_left_the_user_is_told_what_to_do(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    service = alone(host.machine)
    for code in codes[:6]:
        assert pamtester(host.machine, service, alice.name, answers=[code]).code == "PAM_SUCCESS"
    with started(alice) as session:
        session.expect(CODE)
        session.answer(codes[6])
        session.expect(GOES_ON)
        session.wait()
    assert "3 recovery codes are left. Ask your administrator for new ones." in session.screen


def test_new_codes_void_the_old_ones(host: Host) -> None:
    alice = host.person()
    old, new = host.recovery_codes(alice), host.recovery_codes(alice)
    assert not alice.log_in(old[0]).ok
    assert alice.log_in(new[0]).ok


def test_who_is_not_enrolled_gets_none(host: Host) -> None:
    bob = host.person(enrolled=False)
    done = host.machine.run(["pam-totp", "recovery", bob.name], check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_who_has_none_is_not_offered_any_while_waiting(host: Host) -> None:
    alice = host.person()
    for _ in range(3):
        assert not alice.log_in(alice.wrong()).ok
    waiting = alice.log_in()
    assert not waiting.ok
    assert RECOVERY not in waiting.screen


def test_while_waiting_only_a_recovery_code_is_looked_at_and_it_ends_the_wait(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    for _ in range(3):
        assert not alice.log_in(alice.wrong()).ok
    with started(alice, "-o", "NumberOfPasswordPrompts=1") as session:
        session.expect(RECOVERY)
        session.answer(alice.code())
        assert session.wait() == 255
    with started(alice) as session:
        session.expect(RECOVERY)
        session.answer(codes[0])
        session.expect(GOES_ON)
        assert session.wait() == 0
    text = screens.told(session.screen, alice)
    assert text.replace(seconds_left(text), "N s") == screens.kept("waiting")
    assert kinds(alice.log_in(alice.code())) == [CODE]


def seconds_left(text: str) -> str:
    return text.partition("Try again in ")[2].partition(".")[0]


def test_a_recovery_code_ends_a_lock(host: Host) -> None:
    alice = host.person()
    codes = host.recovery_codes(alice)
    service = alone(host.machine)
    for number in range(10):
        pamtester(host.machine, service, alice.name, answers=[alice.wrong()], rhost=f"192.0.2.{number}")
    assert host.status(alice)["state"] == "locked"
    with started(alice) as session:
        session.expect(RECOVERY)
        session.answer(codes[0])
        session.expect(GOES_ON)
        assert session.wait() == 0
        assert screens.told(session.screen, alice) == screens.kept("locked")
    assert host.status(alice)["state"] == "active"


@contextmanager
def no_space(host: Host) -> Iterator[None]:
    """The cache on a full disk, without the journal that it else keeps for such a day."""
    with host.machine.tmpfs(CACHE, size="2m"):
        host.machine.sh(f"rm -f {CACHE}/cache.db-journal; cat /dev/zero >{CACHE}/filler", check=False)
        yield


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    """The cache on a read-only disk."""
    with host.machine.tmpfs(CACHE, size="4m"):
        host.machine.run(["mount", "-o", "remount,ro", CACHE])
        yield


@pytest.mark.parametrize("disk", [no_space, read_only])
def test_without_a_durable_write_a_recovery_code_is_refused_and_stays_good(host: Host, disk: object) -> None:
    assert callable(disk)
    alice = host.person()
    codes = host.recovery_codes(alice)
    with disk(host):
        result, line = reason(alice, codes[0])
        assert not result.ok
        assert (line["outcome"], line["reason"]) == ("unavailable", "not-chargeable")
    result, line = reason(alice, codes[0])
    assert result.ok
    assert line["detail"] == "9 left"
