"""The first factor comes first: nobody sees the question for the code without it, whatever sshd's settings say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.login.host import Host, Person

DROP_IN = "/etc/ssh/sshd_config.d/00-pam-totp-key-and-code.conf"
METHODS = "AuthenticationMethods publickey,keyboard-interactive:pam"


@dataclass(frozen=True)
class Mistake:
    """How the demand for a public key got lost: a drop-in, or `forgotten`, and by which method one tries."""

    drop_in: str = ""
    text: str = ""
    forgotten: bool = False
    method: str = "keyboard-interactive"


MISTAKES = {
    "no AuthenticationMethods": Mistake(forgotten=True),
    "Match block": Mistake("50-site", "Match User *\n    AuthenticationMethods keyboard-interactive:pam"),
    "Match block with a choice": Mistake(
        "50-site", "Match Address 127.0.0.0/8\n    AuthenticationMethods publickey keyboard-interactive:pam"
    ),
    "Match block with passwords": Mistake(
        "50-site", "Match User *\n    AuthenticationMethods password\n    PasswordAuthentication yes", method="password"
    ),
    "shadowed drop-in": Mistake("00-local", "AuthenticationMethods keyboard-interactive:pam"),
    "shadowed drop-in that accepts variables": Mistake("00-local", "AuthenticationMethods any\nAcceptEnv *"),
}


def attack(person: Person, method: str) -> list[dict[str, str]]:
    """Try to get in without a key, with the right code where there is one; return what the module decided."""
    mark = person.host.machine.mark()
    answer = person.code() if person.secret else person.user.password
    result = person.log_in(
        answer,
        *("-o", f"PreferredAuthentications={method}"),
        *("-o", "SetEnv=SSH_AUTH_INFO_0='publickey ssh-ed25519 AAAA'"),
        key=False,
        password=answer if method == "password" else None,
    )
    assert not result.ok
    assert not result.asked_code
    return person.host.decisions(mark)


@pytest.fixture(scope="module", params=list(MISTAKES.values()), ids=list(MISTAKES))
def mistake(host: Host, request: pytest.FixtureRequest) -> Mistake:
    """The variant with the key, with one mistake in sshd's settings."""
    mistake: Mistake = request.param
    for other in MISTAKES.values():
        host.machine.sshd.remove(other.drop_in or "none")
    host.use("key-and-code")
    if mistake.forgotten:
        host.machine.replace(DROP_IN, METHODS, f"#{METHODS}")
    if mistake.drop_in:
        host.machine.sshd.drop_in(mistake.drop_in, mistake.text)
    host.machine.sshd.reload()
    return mistake


def test_who_is_enrolled_is_refused_without_a_key_and_it_is_no_guess(host: Host, mistake: Mistake) -> None:
    alice = host.person()
    decisions = attack(alice, mistake.method)
    assert {(line["outcome"], line["reason"]) for line in decisions} == {("refused", "no-public-key")}
    assert host.status(alice)["failures"] == 0


def test_who_is_not_enrolled_is_refused_without_a_key(host: Host, mistake: Mistake) -> None:
    decisions = attack(host.person(enrolled=False), mistake.method)
    assert {(line["outcome"], line["reason"]) for line in decisions} == {("refused", "no-public-key")}


@pytest.fixture
def sound_keys(host: Host) -> None:
    """The variant with the key as it is shipped."""
    for mistake in MISTAKES.values():
        host.machine.sshd.remove(mistake.drop_in or "none")
    host.use("key-and-code")


@pytest.mark.usefixtures("sound_keys")
def test_with_the_shipped_settings_nobody_is_asked_anything_without_a_right_key(host: Host) -> None:
    alice, bob, mallory = host.person(), host.person(enrolled=False), host.person()
    mark = host.machine.mark()
    results = [alice.log_in(alice.code(), key=key) for key in (False, mallory.name)]
    results += [bob.log_in(key=key) for key in (False, mallory.name)]
    assert not any(result.ok or result.asked for result in results)
    assert host.decisions(mark) == []
    assert alice.log_in(alice.code()).ok
    assert bob.log_in().ok


@pytest.mark.usefixtures("sound_keys")
def test_where_the_methods_are_forgotten_a_key_alone_gets_in_as_the_example_warns(host: Host) -> None:
    assert "Without this line a key alone gets in" in host.machine.read(DROP_IN)
    host.machine.replace(DROP_IN, METHODS, f"#{METHODS}")
    host.machine.sshd.reload()
    alice = host.person()
    assert alice.log_in().ok


@pytest.fixture
def passwords(host: Host) -> None:
    """The variant with the password as it is shipped."""
    for mistake in MISTAKES.values():
        host.machine.sshd.remove(mistake.drop_in or "none")
    host.use("password-and-code")


@pytest.mark.usefixtures("passwords")
def test_a_wrong_password_does_not_reach_the_question_for_the_code(host: Host) -> None:
    alice = host.person()
    mark = host.machine.mark()
    result = alice.log_in(alice.code(), password="wrong horse")
    assert not result.ok
    assert result.asked_password
    assert not result.asked_code
    assert host.decisions(mark) == []
    assert host.status(alice)["failures"] == 0
    assert alice.log_in(alice.code()).ok


@pytest.mark.usefixtures("passwords")
def test_a_key_alone_gets_nobody_in_where_password_and_code_are_demanded(host: Host) -> None:
    for person in (host.person(), host.person(enrolled=False)):
        assert not host.machine.login(person.user, "-o", "PreferredAuthentications=publickey", key=True).ok
        assert host.machine.sh('test -s "/home/$1/.ssh/authorized_keys"', person.name).returncode == 0


@pytest.mark.usefixtures("passwords")
def test_the_method_password_is_not_offered_so_no_password_is_ever_taken_for_a_code(host: Host) -> None:
    alice = host.person()
    result = alice.log_in(None, "-o", "PreferredAuthentications=password")
    assert not result.ok
    assert result.asked == ()
    assert host.status(alice)["failures"] == 0
