"""`[enrollment] period`: until the deadline users get in and are told; then it is enforced where the login is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.enrolment import screens
from tests.enrolment.dialogue import CODE, INVITATION, finish, shown, started
from tests.login.host import Host, Person, kinds

if TYPE_CHECKING:
    from tests.lab.ssh import Result

pytestmark = pytest.mark.usefixtures("key_and_code")


@pytest.fixture(autouse=True)
def week(host: Host) -> None:
    """Everybody has seven days."""
    configure(host, "deny")


def configure(host: Host, after: str) -> None:
    host.machine.write("/etc/pam-totp/config.toml", f'[enrollment]\nperiod = "7d"\nafter = "{after}"\n')


def deadline(host: Host, *words: str) -> str:
    return host.machine.run(["pam-totp", "deadline", *words]).stdout


def log_in(person: Person) -> tuple[Result, dict[str, str]]:
    """Log in without a code; how it went, and what the module logged."""
    mark = person.host.machine.mark()
    result = person.log_in()
    (line,) = person.host.decisions(mark)
    return result, line


def test_until_the_deadline_an_interactive_login_says_how_long_is_left(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert deadline(host) == "no deadline has begun\n"
    mark = host.machine.mark()
    with started(alice, command=None) as session:
        session.expect(r"\$ ")
        session.answer("exit")
        session.wait()
    assert "\nA verification code will be required here: set it up within 7 days" in session.screen
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"], line["detail"]) == ("skipped", "grace", "7 days left")
    listed = deadline(host)
    assert listed.splitlines()[1].split()[0] == alice.name
    assert listed.endswith("7 days\n")


def test_what_is_told_never_mixes_with_what_a_command_prints(host: Host) -> None:
    alice = host.person(enrolled=False)
    done = host.machine.run(["ssh", "-i", f"/root/.ssh/{alice}", f"{alice}@127.0.0.1", "echo hello"])
    assert done.stdout == "hello\n"


def test_after_the_deadline_the_user_is_refused_until_it_is_extended(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert log_in(alice)[0].ok
    assert deadline(host, alice.name, "--end") == f"{alice}: over\n"
    result, line = log_in(alice)
    assert not result.ok
    assert kinds(result) == []
    assert screens.told(result.screen, alice) == screens.kept("deadline-over")
    assert (line["outcome"], line["reason"]) == ("refused", "not-enrolled")
    assert [alice.name, "over", "-"] in [line.split() for line in deadline(host).splitlines()]
    assert deadline(host, alice.name, "--extend", "3d") == f"{alice}: 3 days left\n"
    result, line = log_in(alice)
    assert result.ok
    assert line["detail"] == "3 days left"
    assert deadline(host, alice.name, "--extend", "12h") == f"{alice}: 4 days left\n"


def test_after_the_deadline_the_user_enrols_at_the_prompt_where_policy_says_so(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert log_in(alice)[0].ok
    deadline(host, alice.name, "--end")
    configure(host, "enroll")
    with started(alice) as session:
        thief = shown(alice, session)
    with started(alice) as session:
        alice = shown(alice, session)
        finish(alice, session)
    assert not alice.log_in(thief.code()).ok
    assert kinds(alice.log_in(alice.code())) == ["Verification code:"]
    assert alice.name not in deadline(host)


def test_after_the_deadline_the_user_needs_an_invitation_where_policy_says_so(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert log_in(alice)[0].ok
    deadline(host, alice.name, "--end")
    configure(host, "invite")
    result, line = log_in(alice)
    assert not result.ok
    assert line["reason"] == "not-invited"
    code = host.machine.run(["pam-totp", "invite", alice.name]).stdout.strip()
    host.confidential.add(code)
    with started(alice) as session:
        session.expect(INVITATION)
        session.answer(code)
        shown(alice, session)


def test_a_deadline_can_end_before_the_first_login(host: Host) -> None:
    alice = host.person(enrolled=False)
    deadline(host, alice.name, "--end")
    assert not log_in(alice)[0].ok


def test_a_deadline_can_be_longer_for_somebody_who_has_not_logged_in_yet(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert deadline(host, alice.name, "--extend", "2d") == f"{alice}: 9 days left\n"
    assert log_in(alice)[1]["detail"] == "9 days left"


def test_a_deadline_may_be_a_date_for_everybody_or_for_one(host: Host) -> None:
    alice = host.person(enrolled=False)
    friday = host.machine.sh("date -u -d '5 days' +%FT%TZ").stdout.strip()
    host.machine.write("/etc/pam-totp/config.toml", f'[enrollment]\nuntil = {friday}\nafter = "deny"\n')
    result, line = log_in(alice)
    assert (result.ok, line["detail"]) == (True, "5 days left")
    host.machine.write("/etc/pam-totp/config.toml", '[enrollment]\nuntil = 2020-01-31\nafter = "deny"\n')
    assert not log_in(alice)[0].ok
    assert deadline(host, alice.name, "--until", "2d").endswith(" UTC, 2 days left\n")
    result, line = log_in(alice)
    assert result.ok
    assert line["detail"] in ("47 h 59 min left", "2 days left")


def test_who_is_enrolled_has_no_deadline_and_after_a_reset_a_new_one(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert log_in(alice)[0].ok
    deadline(host, alice.name, "--end")
    alice = host.enroll(alice)
    done = host.machine.run(["pam-totp", "deadline", alice.name, "--end"], check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(f"\npam-totp: {alice} is enrolled: there is no deadline\n")
    assert kinds(alice.log_in(alice.code())) == ["Verification code:"]
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    result, line = log_in(alice)
    assert result.ok
    assert line["detail"] == "7 days left"
    assert CODE not in result.screen
