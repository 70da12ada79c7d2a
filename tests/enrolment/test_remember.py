"""`remember`: who has typed a code is not asked again for a while, from the same client in every respect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import alone, pamtester
from tests.login.host import Host, Person, kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("remembering")

CODE = "Verification code:"
ON = 'remember = "12h"\n'


@pytest.fixture(scope="module")
def remembering(host: Host, key_and_code: None) -> None:
    """Clients are remembered for twelve hours."""
    configure(host, ON)


def configure(host: Host, text: str) -> None:
    host.machine.write("/etc/pam-totp/config.toml", text or "# the defaults\n")


def remembered(host: Host) -> Person:
    """A new user who has just logged in with a code."""
    alice = host.person()
    assert kinds(alice.log_in(alice.code())) == [CODE]
    return alice


def is_asked(person: Person, *, key: bool | str = True, source: str = "") -> bool:
    """Whether a login is asked for a code. One that is not must get in."""
    result = person.log_in(key=key, source=source)
    assert result.ok != result.asked_code
    return result.asked_code


def test_the_same_client_is_not_asked_again_and_the_log_says_so(host: Host) -> None:
    alice = remembered(host)
    mark = host.machine.mark()
    assert not is_asked(alice)
    assert [(line["outcome"], line["reason"]) for line in host.decisions(mark)] == [("skipped", "remembered")]


def test_another_address_is_asked(host: Host) -> None:
    alice = remembered(host)
    assert is_asked(alice, source="127.0.0.2")
    assert is_asked(alice, source="::1")


def test_another_key_is_asked(host: Host) -> None:
    alice = remembered(host)
    script = """
        ssh-keygen -q -t ed25519 -N '' -f "/root/.ssh/$1-laptop"
        cat "/root/.ssh/$1-laptop.pub" >>"/home/$1/.ssh/authorized_keys"
    """
    host.machine.sh(script, alice.name)
    assert is_asked(alice, key=f"{alice}-laptop")
    assert not is_asked(alice)


def test_another_user_with_the_same_key_is_asked(host: Host) -> None:
    alice, bob = remembered(host), host.person()
    host.machine.sh('cat "/root/.ssh/$1.pub" >>"/home/$2/.ssh/authorized_keys"', alice.name, bob.name)
    assert is_asked(bob, key=alice.name)


def test_who_was_refused_is_asked(host: Host) -> None:
    alice = host.person()
    assert not alice.log_in(alice.wrong()).ok
    assert is_asked(alice)


def test_after_forget_everybody_is_asked(host: Host) -> None:
    alice = remembered(host)
    said = host.machine.run(["pam-totp", "forget", alice.name]).stdout
    assert said == f"{alice}: 1 remembered client forgotten\n"
    assert is_asked(alice)


def test_nothing_is_remembered_across_a_reset(host: Host) -> None:
    alice = remembered(host)
    host.machine.run(["pam-totp", "reset", "--yes", alice.name])
    alice = host.enroll(alice)
    assert is_asked(alice)


def test_nothing_is_remembered_once_there_is_another_authenticator(host: Host) -> None:
    alice = remembered(host)
    host.enroll(alice, label="tablet")
    assert is_asked(alice)


def test_it_is_off_by_default_and_turning_it_off_counts_at_once(host: Host) -> None:
    alice = remembered(host)
    configure(host, "")
    assert is_asked(alice)
    configure(host, f'{ON}[[rule]]\nusers = ["{alice}"]\nremember = "never"\n')
    assert is_asked(alice)
    configure(host, f'[[rule]]\nusers = ["{alice}"]\nremember = "1h"\n')
    assert not is_asked(alice)
    configure(host, "")
    bob = remembered(host)
    configure(host, ON)
    assert is_asked(bob)


def test_without_a_key_nothing_is_remembered(host: Host) -> None:
    host.use("password-and-code")
    try:
        alice = host.person()
        assert alice.log_in(alice.code()).ok
        assert is_asked(alice)
    finally:
        host.use("key-and-code")


# Certificates


@pytest.fixture(scope="module")
def authorities(host: Host, remembering: None) -> None:
    """Two certification authorities whom sshd trusts."""
    host.machine.sh(
        """
        for name in ca-one ca-two; do ssh-keygen -q -t ed25519 -N '' -f "/root/$name"; done
        cat /root/ca-one.pub /root/ca-two.pub >/etc/ssh/authorities
        """
    )
    host.machine.sshd.drop_in("10-authorities", "TrustedUserCAKeys /etc/ssh/authorities\n")
    host.machine.sshd.reload()


def certify(person: Person, authority: str, serial: int) -> str:
    """Have a key of the user's certified; the key's name. ssh finds the certificate beside it."""
    name = f"{person}-certified"
    script = """
        test -e "/root/.ssh/$2" || ssh-keygen -q -t ed25519 -N '' -f "/root/.ssh/$2"
        ssh-keygen -q -s "/root/$3" -I "laptop $4" -n "$1" -z "$4" "/root/.ssh/$2.pub"
    """
    person.host.machine.sh(script, person.name, name, authority, str(serial))
    return name


@pytest.mark.usefixtures("authorities")
def test_a_certificate_that_is_issued_anew_by_the_same_authority_is_the_same_client(host: Host) -> None:
    alice = host.person()
    key = certify(alice, "ca-one", 1)
    assert kinds(alice.log_in(alice.code(), key=key)) == [CODE]
    certify(alice, "ca-one", 2)
    assert not is_asked(alice, key=key)
    certify(alice, "ca-two", 2)
    assert is_asked(alice, key=key)
    host.machine.sh(
        'rm "/root/.ssh/$2-cert.pub"; cat "/root/.ssh/$2.pub" >>"/home/$1/.ssh/authorized_keys"', alice.name, key
    )
    assert is_asked(alice, key=key)


# Without sshd


def asked(host: Host, person: Person, *keys: str, service: str, answers: Sequence[str] = ()) -> bool:
    """Whether a login to a service in which these keys have passed is asked."""
    environment = {"SSH_AUTH_INFO_0": "".join(f"publickey ssh-ed25519 {key}\n" for key in keys)}
    result = pamtester(host.machine, service, person.user, answers=answers, env=environment, rhost="192.0.2.7")
    assert result.code in (("PAM_SUCCESS",) if answers else ("PAM_IGNORE", "PAM_AUTH_ERR", "PAM_CONV_ERR"))
    return result.code != "PAM_IGNORE"


def test_all_keys_that_passed_and_the_service_must_be_the_same(host: Host) -> None:
    alice = host.person()
    one, other = alone(host.machine), alone(host.machine, name="other")
    assert asked(host, alice, "AAAA", "BBBB", service=one, answers=[alice.code()])
    assert not asked(host, alice, "AAAA", "BBBB", service=one)
    assert asked(host, alice, "AAAA", service=one)
    assert asked(host, alice, "AAAA", "BBBB", "CCCC", service=one)
    assert asked(host, alice, service=one)
    assert asked(host, alice, "AAAA", "BBBB", service=other)
