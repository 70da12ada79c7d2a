"""Who a name is: unknown ones, a second name of a uid, a uid that changed or was given away."""

from __future__ import annotations

import pytest

from tests.login.host import Host, Person, kinds

pytestmark = pytest.mark.usefixtures("password_and_code")

UNKNOWN = "nobody-here"


def state(host: Host) -> str:
    """Every file that the module keeps, with its content's sum."""
    return host.machine.sh("find /var/lib/pam-totp /run/pam-totp -type f -exec sha256sum {} + | sort").stdout


def second_name(host: Host, person: Person, name: str) -> None:
    """A further passwd entry for the uid of a user, with a home and the same password."""
    host.machine.sh(
        """
        set -e
        useradd --non-unique --uid "$1" --create-home --shell /bin/bash "$2"
        chpasswd
        """,
        str(person.user.uid),
        name,
        input=f"{name}:{person.user.password}\n",
    )


def test_an_unknown_user_sees_what_a_user_with_a_wrong_password_sees_and_leaves_no_trace(host: Host) -> None:
    alice = host.person()
    known = alice.log_in(alice.code(), password="wrong horse")
    before = state(host)
    unknown = host.machine.login(UNKNOWN, password="wrong horse", code="123456")
    assert kinds(unknown) == kinds(known) == ["Password:"]
    assert unknown.status == known.status
    assert unknown.screen == known.screen.replace(alice.name, UNKNOWN)
    assert state(host) == before


def test_no_state_is_kept_for_a_user_who_is_not_enrolled(host: Host) -> None:
    bob = host.person(enrolled=False)
    before = state(host)
    assert bob.log_in().ok
    assert state(host) == before


def test_a_second_name_of_a_uid_is_asked_for_the_records_code_and_spends_it(host: Host) -> None:
    alice = host.person()
    second_name(host, alice, "alias")
    mark = host.machine.mark()
    code = alice.code()
    result = host.machine.login("alias", password=alice.user.password, code=code)
    assert result.ok
    assert kinds(result) == ["Password:", "Verification code:"]
    (line,) = host.decisions(mark)
    assert f"alias of {alice}" in line["detail"]
    assert not alice.log_in(code).ok


def test_wrong_codes_of_a_second_name_count_for_the_record(host: Host) -> None:
    alice = host.person()
    second_name(host, alice, "nickname")
    assert not host.machine.login("nickname", password=alice.user.password, code=alice.wrong()).ok
    assert host.status(alice)["failures"] == 1


def test_a_user_whose_uid_changed_is_refused_until_it_is_put_back(host: Host) -> None:
    alice = host.person()
    host.machine.run(["usermod", "--uid", "5001", alice.name])
    mark = host.machine.mark()
    result = alice.log_in(alice.code())
    assert not result.ok
    assert kinds(result) == ["Password:"]
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("unavailable", "uid-changed")]
    host.machine.run(["usermod", "--uid", str(alice.user.uid), alice.name])
    assert alice.log_in(alice.code()).ok


def test_a_user_whose_uid_changed_gets_in_again_after_a_reset_and_a_new_enrolment(host: Host) -> None:
    alice = host.person()
    host.machine.run(["usermod", "--uid", "5002", alice.name])
    assert not alice.log_in(alice.code()).ok
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    again = host.enroll(alice)
    assert not again.log_in(alice.code()).ok
    assert again.log_in(again.code()).ok


def test_a_new_user_with_the_uid_of_a_removed_one_is_not_asked_for_that_ones_code(host: Host) -> None:
    alice = host.person()
    host.machine.run(["userdel", "--remove", alice.name])
    bob = host.machine.user("newcomer", uid=alice.user.uid)
    mark = host.machine.mark()
    result = host.machine.login(bob, password=bob.password)
    assert result.ok
    assert kinds(result) == ["Password:"]
    (line,) = host.decisions(mark)
    assert line["outcome"] == "skipped"
    assert f"stale record of {alice}" in line["detail"]
