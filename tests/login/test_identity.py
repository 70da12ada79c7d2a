"""Who a name is: unknown ones, a second name of a uid, a uid that changed or was given away."""

from __future__ import annotations

import pytest

from tests.lab.user import User
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


@pytest.mark.parametrize("condition", ['users = ["{0}"]', 'groups = ["of-{0}"]'])
def test_a_rule_about_an_enrolled_user_is_not_avoided_under_a_second_name(host: Host, condition: str) -> None:
    alice = host.person()
    second_name(host, alice, f"{alice}-too")
    host.machine.run(["groupadd", "--users", alice.name, f"of-{alice}"])
    named = condition.format(alice)
    with host.config(f'[[rule]]\n{named}\n[[rule]]\nmfa = "skip"'):
        mark = host.machine.mark()
        result = host.machine.login(f"{alice}-too", password=alice.user.password)
        assert not result.ok
        assert result.asked_code
        (line,) = host.decisions(mark)
        assert f"the rule is about one of the names {alice}-too and {alice}" in line["detail"]
    with host.config(f'[[rule]]\n{named}\nmfa = "skip"'):
        assert host.machine.login(f"{alice}-too", password=alice.user.password).asked_code
        assert not alice.log_in().asked_code


def test_a_user_whose_uid_changed_is_refused_until_it_is_put_back(host: Host) -> None:
    alice = host.person()
    host.machine.account("usermod", "--uid", "5001", alice.name)
    mark = host.machine.mark()
    result = alice.log_in(alice.code())
    assert not result.ok
    assert kinds(result) == ["Password:"]
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("unavailable", "uid-changed")]
    host.machine.account("usermod", "--uid", str(alice.user.uid), alice.name)
    assert alice.log_in(alice.code()).ok


def test_a_user_whose_uid_changed_gets_in_again_once_the_record_is_adopted(host: Host) -> None:
    alice = host.person()
    spent = alice.code()
    assert alice.log_in(spent).ok
    host.machine.account("usermod", "--uid", "5003", alice.name)
    mark = host.machine.mark()
    assert kinds(alice.log_in()) == ["Password:"]
    (line,) = host.decisions(mark)
    assert f"pam-totp adopt {alice}" in line["detail"]
    host.machine.run(["pam-totp", "adopt", "--yes", alice.name])
    again = alice.log_in(spent)
    assert (again.ok, again.asked_code) == (False, True)
    assert alice.log_in(alice.code(1)).ok


def test_a_user_whose_uid_changed_gets_in_again_after_a_reset_and_a_new_enrolment(host: Host) -> None:
    alice = host.person()
    host.machine.account("usermod", "--uid", "5002", alice.name)
    assert not alice.log_in(alice.code()).ok
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    again = host.enroll(alice)
    assert not again.log_in(alice.code()).ok
    assert again.log_in(again.code()).ok


def test_a_user_who_was_renamed_is_refused_until_the_record_is_renamed_too(host: Host) -> None:
    alice = host.person()
    spent = alice.code()
    assert alice.log_in(spent).ok
    host.machine.account("usermod", "--login", "alicia", alice.name)
    alicia = User("alicia", alice.user.uid, alice.user.password)
    mark = host.machine.mark()
    refused = host.machine.login(alicia, password=alicia.password)
    assert not refused.ok
    assert kinds(refused) == ["Password:"]
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("unavailable", "name-changed")
    assert f"pam-totp rename {alice} alicia" in line["detail"]
    host.machine.run(["pam-totp", "rename", "--yes", alice.name, "alicia"])
    again = host.machine.login(alicia, password=alicia.password, code=spent)
    assert (again.ok, again.asked_code) == (False, True)
    assert host.machine.login(alicia, password=alicia.password, code=alice.code(1)).ok


def test_what_was_spent_before_a_renaming_stays_spent_in_an_older_cache(host: Host) -> None:
    alice = host.person()
    host.machine.run(["cp", "-a", "/var/lib/pam-totp/cache.db", "/root/older.db"])
    spent = alice.code()
    assert alice.log_in(spent).ok
    host.machine.account("usermod", "--login", "alina", alice.name)
    alina = User("alina", alice.user.uid, alice.user.password)
    host.machine.run(["pam-totp", "rename", "--yes", alice.name, "alina"])
    host.machine.sh("cat /root/older.db >/var/lib/pam-totp/cache.db; rm -f /var/lib/pam-totp/cache.db-journal")
    host.machine.run(["pam-totp", "rename", "--yes", alice.name, "alina"])
    again = host.machine.login(alina, password=alina.password, code=spent)
    assert (again.ok, again.asked_code) == (False, True)


def test_a_new_user_with_the_uid_of_a_removed_one_is_refused_until_that_one_is_reset(host: Host) -> None:
    alice = host.person()
    host.machine.account("userdel", "--remove", alice.name)
    bob = host.machine.user("newcomer", uid=alice.user.uid)
    mark = host.machine.mark()
    result = host.machine.login(bob, password=bob.password)
    assert not result.ok
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("unavailable", "name-changed")
    assert f"pam-totp reset {alice}" in line["detail"]
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    result = host.machine.login(bob, password=bob.password)
    assert result.ok
    assert kinds(result) == ["Password:"]


def test_a_record_that_was_never_confirmed_refuses_nobody_who_has_its_uid(host: Host) -> None:
    alice = host.person(enrolled=False, pending=True)
    host.machine.account("userdel", "--remove", alice.name)
    bob = host.machine.user("successor", uid=alice.user.uid)
    mark = host.machine.mark()
    assert host.machine.login(bob, password=bob.password).ok
    (line,) = host.decisions(mark)
    assert line["outcome"] == "skipped"
    assert f"inactive record of {alice}" in line["detail"]


def test_a_new_user_of_an_old_name_inherits_no_exemption(host: Host) -> None:
    alice = host.person(enrolled=False)
    with host.config('unenrolled = "deny"'):
        host.machine.run(["pam-totp", "exempt", alice.name, "--until", "2099-01-01", "--reason", "travels"])
        assert alice.log_in().ok
        host.machine.account("userdel", "--remove", alice.name)
        host.machine.sh('rm -f "/root/.ssh/$1" "/root/.ssh/$1.pub"', alice.name)
        other = host.machine.user(alice.name, uid=7001)
        refused = host.machine.login(other, password=other.password)
        assert not refused.ok
        host.machine.run(["pam-totp", "exempt", alice.name, "--until", "2099-01-01", "--reason", "the new one"])
        assert host.machine.login(other, password=other.password).ok


def test_a_new_user_of_an_old_name_has_a_deadline_of_its_own(host: Host) -> None:
    alice = host.person(enrolled=False)
    with host.config('[enrollment]\nperiod = "7d"'):
        assert alice.log_in().ok
        host.machine.run(["pam-totp", "deadline", alice.name, "--end"])
        assert not alice.log_in().ok
        host.machine.account("userdel", "--remove", alice.name)
        host.machine.sh('rm -f "/root/.ssh/$1" "/root/.ssh/$1.pub"', alice.name)
        other = host.machine.user(alice.name, uid=8001)
        result = host.machine.login(other, password=other.password)
        assert result.ok
        assert "within 7 days" in result.screen
