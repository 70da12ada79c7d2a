"""What users do with their own authenticators, and what it changes at their logins."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.login.host import CONFIG, Host, Person, kinds
from tests.login.self_service import (
    CODE,
    CODE_OF_THE_APP,
    KEY,
    SOCKET,
    Service,
    enrolled,
    recovery_codes,
    scanned,
    terminal,
    visit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("key_and_code", "service")

# Says something of its own to the service, and prints what comes back.
TALK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(sys.stdin.buffer.read())
    try:
        while answer := connection.recv(4096):
            print(answer.decode(), end="")
    except ConnectionResetError:
        pass
"""


@pytest.fixture(scope="module")
def service(host: Host) -> Iterator[Service]:
    """The service, for all tests of the module; un-enrolled users may enrol there."""
    host.machine.write(CONFIG, "self_enroll = true\n")
    with Service(host.machine) as service:
        yield service
    host.machine.sh('rm "$1" && pam-totp config reset --yes', CONFIG)


def changes(host: Host, mark: int) -> list[str]:
    return [record.message for record in host.machine.log(mark) if " action=" in record.message]


def labels(person: Person) -> list[str]:
    return sorted(each["label"] for each in person.host.status(person)["authenticators"])


def test_a_user_enrols_and_logs_in_with_a_code_and_with_a_recovery_code(host: Host) -> None:
    alice = host.person(enrolled=False)
    assert kinds(alice.log_in()) == []
    mark = host.machine.mark()
    alice, codes = enrolled(alice)
    assert changes(host, mark) == [f'pam-totp: user={alice} action=self-enroll by={alice} detail="label phone"']
    assert len(codes) == 10
    result = alice.log_in(alice.code())
    assert result.ok
    assert kinds(result) == [CODE.strip()]
    assert alice.log_in(codes[0]).ok
    assert not alice.log_in(codes[0]).ok


def test_the_code_that_confirms_is_spent(host: Host) -> None:
    alice, code = host.person(enrolled=False), ""
    with terminal(alice, "enroll") as session:
        session.expect(CODE_OF_THE_APP)
        alice = scanned(alice, session.screen)
        code = alice.code()
        session.answer(code)
        session.expect("type yes: ")
        recovery_codes(alice, session.screen)
        session.answer("yes")
        assert session.wait() == 0
    mark = host.machine.mark()
    assert not alice.log_in(code).ok
    assert [line["reason"] for line in host.decisions(mark)] == ["spent-code"]


def test_whoever_breaks_off_is_not_asked_at_logins(host: Host) -> None:
    alice = host.person(enrolled=False)
    with terminal(alice, "enroll") as session:
        session.expect(CODE_OF_THE_APP)
        alice = scanned(alice, session.screen)
        session.send("\x03")
        session.wait()
    assert host.status(alice)["state"] == "none"
    assert kinds(alice.log_in()) == []


def test_a_service_that_is_killed_changes_nothing(host: Host) -> None:
    alice = host.person(enrolled=False)
    with terminal(alice, "enroll") as session:
        session.expect(CODE_OF_THE_APP)
        scanned(alice, session.screen)
        host.machine.run(["pkill", "-KILL", "-f", "pam_totp.selfservice.server"])
        session.answer("123456")
        assert session.wait() == 3
    assert "the service ended the connection" in session.screen
    assert host.status(alice)["state"] == "none"


def test_a_second_authenticator_takes_a_code_and_then_either_lets_in(host: Host) -> None:
    alice, _ = enrolled(host.person(enrolled=False))
    tablet, codes = enrolled(alice, "--label", "tablet", code=alice.code())
    assert labels(alice) == ["phone", "tablet"]
    assert codes == []
    assert tablet.log_in(tablet.code()).ok
    assert alice.log_in(alice.code(1)).ok


def test_a_code_used_here_is_spent_at_logins_and_the_other_way_round(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    assert visit(alice, "recovery", answers=(code, "yes")).returncode == 0
    assert not alice.log_in(code).ok
    host.unlock(alice)
    following = alice.code(1)
    assert alice.log_in(following).ok
    again = visit(alice, "recovery", answers=(following,))
    assert again.returncode == 1
    assert "That code was not accepted." in again.stdout


def test_wrong_codes_here_wait_here_and_hold_up_no_login(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    for _ in range(3):
        assert visit(alice, "remove", answers=(alice.wrong(),)).returncode == 1
    held = visit(alice, "remove", answers=(alice.code(),))
    assert held.returncode == 1
    assert re.search(r"Too many wrong codes\. Try again in \d+ s\.", held.stdout)
    assert [(line["service"], line["reason"]) for line in host.decisions(mark)] == [
        *[("self", "wrong-code")] * 3,
        ("self", "throttled"),
    ]
    assert host.status(alice)["failures"] == 3
    assert "wrong-code" in host.machine.run(["pam-totp", "status", alice.name]).stdout
    result = alice.log_in(alice.code())
    assert result.ok


def test_one_of_two_is_removed_and_its_codes_are_refused(host: Host) -> None:
    alice, _ = enrolled(host.person(enrolled=False))
    tablet, _ = enrolled(alice, "--label", "tablet", code=alice.code())
    mark = host.machine.mark()
    removed = visit(alice, "remove", "--label", "tablet", answers=(alice.code(1),))
    assert removed.returncode == 0, removed.stdout
    assert changes(host, mark) == [f'pam-totp: user={alice} action=self-remove by={alice} detail="label tablet"']
    assert labels(alice) == ["phone"]
    assert not tablet.log_in(tablet.code()).ok


def test_the_last_one_can_be_removed_only_where_no_login_needs_one(host: Host) -> None:
    alice = host.person()
    with host.config('unenrolled = "enroll"'):
        refused = visit(alice, "remove")
    assert refused.returncode == 1
    assert "This is your last authenticator, and logins need one here." in refused.stdout
    assert visit(alice, "remove", answers=(alice.code(),)).returncode == 0
    assert kinds(alice.log_in()) == []


def test_re_enrolment_keeps_the_old_authenticator_until_the_new_one_is_confirmed(host: Host) -> None:
    alice = host.person()
    with terminal(alice, "enroll") as session:
        session.expect(CODE)
        session.answer(alice.code())
        session.expect(CODE_OF_THE_APP)
        new = scanned(alice, session.screen)
        assert alice.log_in(alice.code(1)).ok
        session.answer(new.code(-1))
        session.expect("type yes: ")
        recovery_codes(new, session.screen)
        session.answer("yes")
        assert session.wait() == 0
    assert labels(alice) == ["phone"]
    assert new.log_in(new.code()).ok


def test_new_recovery_codes_void_the_old(host: Host) -> None:
    alice, old = enrolled(host.person(enrolled=False))
    with terminal(alice, "recovery") as session:
        session.expect(CODE)
        session.answer(alice.code())
        session.expect("type yes: ")
        new = recovery_codes(alice, session.screen)
        session.answer("yes")
        assert session.wait() == 0
    assert not alice.log_in(old[0]).ok
    assert alice.log_in(new[0]).ok


def test_a_first_enrolment_obeys_the_policy(host: Host) -> None:
    alice = host.person(enrolled=False)
    with host.config('unenrolled = "deny"'):
        denied = visit(alice, "enroll")
    assert denied.returncode == 1
    assert "Ask your administrator to enrol you." in denied.stdout
    with host.config('unenrolled = "invite"'):
        uninvited = visit(alice, "enroll")
        assert uninvited.returncode == 1
        assert "Ask your administrator for an invitation" in uninvited.stdout
        invitation = host.machine.run(["pam-totp", "invite", alice.name]).stdout.strip()
        host.confidential.add(invitation)
        wrong = visit(alice, "enroll", answers=("aaaaa-bbbbb",))
        assert wrong.returncode == 1
        assert "That invitation was not accepted." in wrong.stdout
        with terminal(alice, "enroll") as session:
            session.expect("Invitation code: ")
            session.answer(invitation)
            session.expect(CODE_OF_THE_APP)
            alice = scanned(alice, session.screen)
            session.answer(alice.code(-1))
            session.expect("type yes: ")
            recovery_codes(alice, session.screen)
            session.answer("yes")
            assert session.wait() == 0
        assert alice.log_in(alice.code()).ok


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("# nothing", "self-enroll-off"),
        ('unenrolled = "skip"', "self-enroll-off"),
        ('unenrolled = "deny"', "not-enrolled"),
        ('self_enroll = true\nunenrolled = "deny"', "not-enrolled"),
        ('self_enroll = false\nunenrolled = "enroll"', "self-enroll-off"),
        ('self_enroll = false\n[enrollment]\nperiod = "7d"', "self-enroll-off"),
    ],
)
def test_where_policy_has_nobody_enrol_no_program_of_a_user_locks_the_user_out(
    host: Host, setting: str, reason: str
) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    with host.config(setting):
        done = visit(alice, "enroll", answers=("123456",))
    assert done.returncode == 1
    assert CODE_OF_THE_APP not in done.stdout
    assert "Ask your administrator" in done.stdout
    assert [(line["service"], line["reason"]) for line in host.decisions(mark)] == [("self", reason)]
    assert kinds(alice.log_in()) == []


@pytest.mark.parametrize("setting", ['unenrolled = "enroll"', '[enrollment]\nperiod = "7d"'])
def test_where_policy_has_users_enrol_they_may_do_so_here(host: Host, setting: str) -> None:
    alice = host.person(enrolled=False)
    with host.config(setting):
        alice, _ = enrolled(alice)
    assert alice.log_in(alice.code()).ok


def test_a_key_that_an_administrator_made_is_not_for_whoever_runs_as_the_user(host: Host) -> None:
    alice = host.person(pending=True)
    removed = visit(alice, "remove")
    assert removed.returncode == 1
    assert "ask your administrator to remove it" in removed.stdout
    guessed = visit(alice, "enroll", answers=(alice.wrong(),))
    assert (guessed.returncode, KEY.findall(guessed.stdout)) == (1, [])
    assert "That code was not accepted." in guessed.stdout
    with terminal(alice, "enroll") as session:
        session.expect("Code, or new: ")
        session.answer("new")
        session.expect(CODE_OF_THE_APP)
        scanned(alice, session.screen)
        session.send("\x03")
        session.wait()
    assert host.status(alice)["state"] == "pending"
    with terminal(alice, "enroll") as session:
        session.expect("Code, or new: ")
        session.answer(alice.code(-1))
        session.expect("type yes: ")
        recovery_codes(alice, session.screen)
        session.answer("yes")
        assert session.wait() == 0
    assert alice.log_in(alice.code()).ok


def test_everybody_sees_and_changes_their_own_only(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    assert json.loads(visit(alice, "status", "--json").stdout)["user"] == alice.name
    assert visit(bob, "status").stdout.startswith(f"{bob}: none\n")
    assert visit(bob, "remove").stdout == "You have no authenticator.\n"


def test_root_has_no_extra_rights(host: Host) -> None:
    host.person()
    assert host.machine.run(["pam-totp", "self", "status"]).stdout.startswith("root: none\n")
    setuid = "import os; os.seteuid(0)"
    assert host.machine.run(["python3", "-c", setuid], user=host.person().name, check=False).returncode != 0


def test_a_group_or_a_name_in_the_environment_is_no_identity(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    command = ["setpriv", f"--reuid={bob}", f"--regid={alice}", "--clear-groups", "pam-totp", "self", "status"]
    names = {"USER": alice.name, "LOGNAME": alice.name, "SUDO_USER": alice.name, "HOME": f"/home/{alice}"}
    assert host.machine.run(command, env=names).stdout.startswith(f"{bob}: none\n")


def test_whoever_has_no_login_shell_is_refused(host: Host) -> None:
    mark = host.machine.mark()
    for name in ("www-data", "daemon", "games"):
        refused = host.machine.run(["pam-totp", "self", "status"], user=name, check=False)
        assert (refused.returncode, refused.stdout) == (1, "This is for users with a login shell.\n")
    assert [line["reason"] for line in host.decisions(mark)] == ["no-login"] * 3
    bob = host.person(enrolled=False)
    host.machine.run(["usermod", "--shell", "/usr/sbin/nologin", bob.name])
    assert visit(bob, "status").returncode == 1
    uid = host.machine.run(
        ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "pam-totp", "self", "status"], check=False
    )
    assert uid.returncode == 1


def test_a_uid_has_three_connections_at_a_time_and_others_do_not_mind(host: Host) -> None:
    alice, bob = host.person(enrolled=False), host.person(enrolled=False)
    sessions = [terminal(alice, "enroll") for _ in range(3)]
    try:
        for session in sessions:
            session.expect(CODE_OF_THE_APP)
            scanned(alice, session.screen)
        mark = host.machine.mark()
        fourth = visit(alice, "status")
        assert (fourth.returncode, fourth.stdout) == (1, "You have 3 of these open already: finish one first.\n")
        assert [line["reason"] for line in host.decisions(mark)] == ["too-many-connections"]
        assert visit(bob, "status").returncode == 0
    finally:
        for session in sessions:
            session.close()
    assert visit(alice, "status").returncode == 0


@pytest.mark.parametrize(
    "said",
    [
        "GET / HTTP/1.1\r\n\r\n",
        '{"verb": "status"}\n',
        '{"verb": "status", "label": null, "qr": null, "columns": 0, "json": false, "user": "root"}\n',
        "x" * 10_000,
    ],
    ids=["http", "too little", "too much", "endless"],
)
def test_anything_but_the_protocol_ends_the_connection(host: Host, said: str) -> None:
    alice = host.person(enrolled=False)
    mark = host.machine.mark()
    answer = host.machine.run(["python3", "-c", TALK, SOCKET], input=said, user=alice.name, check=False)
    assert answer.stdout == ""
    assert [line["reason"] for line in host.decisions(mark)] == ["bad-message"]
    assert visit(alice, "status").returncode == 0


def test_what_is_broken_is_not_told_to_users(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    with host.config("nonsense = 1"):
        broken = visit(alice, "status")
    assert (broken.returncode, broken.stdout) == (
        3,
        "This does not work at the moment. Tell your administrator: the log says why.\n",
    )
    assert [line["reason"] for line in host.decisions(mark)] == ["bad-config"]


def test_without_a_socket_it_says_so(host: Host) -> None:
    alice = host.person(enrolled=False)
    host.machine.run(["mv", SOCKET, f"{SOCKET}.away"])
    try:
        absent = visit(alice, "status")
    finally:
        host.machine.run(["mv", f"{SOCKET}.away", SOCKET])
    assert (absent.returncode, absent.stdout) == (3, "")
    assert absent.stderr.startswith("pam-totp: self-service is not available on this host")


def test_a_login_points_to_it_where_it_is_there(host: Host) -> None:
    bob = host.person(enrolled=False)
    with host.config('[enrollment]\nperiod = "7d"'), host.machine.ssh(bob.user, command="", key=True) as session:
        session.expect("set it up within 7 days, with: pam-totp self enroll")
