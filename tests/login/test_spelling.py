"""Users of a directory that spells their names in another way from one day to the next, as an option of sssd does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.flaky import install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.ssh import Result
    from tests.login.host import Host, Person

pytestmark = pytest.mark.usefixtures("key_and_code", "directory")

BARE = "/etc/flaky.bare"


@pytest.fixture(scope="module")
def directory(host: Host) -> None:
    """A name service beside the files."""
    install(host.machine)
    host.machine.sh("sed -i 's/^passwd:.*/passwd: files flaky/' /etc/nsswitch.conf")


@pytest.fixture
def alice(host: Host) -> Iterator[Person]:
    """Enrolled, and a user of the directory's: her name there is her own, for now."""
    alice = host.person()
    host.machine.sh("grep \"^$1:\" /etc/passwd | sed 's/:x:/:*:/' >/etc/flaky.passwd", alice.name)
    host.machine.sh('sed -i "/^$1:/d" /etc/passwd /etc/shadow', alice.name)
    yield alice
    # Nobody else gets the uid.
    host.machine.sh("sed 's/@corp:/:/' /etc/flaky.passwd >>/etc/passwd && rm -f /etc/flaky.passwd /etc/flaky.bare")


def respelled(host: Host, alice: Person, bare: bool) -> str:
    """Have the directory spell names with a domain; ``bare``: it goes on to find them without one."""
    host.machine.sh('sed -i "s/^$1:/$1@corp:/" /etc/flaky.passwd', alice.name)
    if bare:
        host.machine.write(BARE, "")
    return f"{alice}@corp"


def log_in(host: Host, alice: Person, name: str, code: str | None = None) -> Result:
    return host.machine.login(name, key=alice.name, code=code)


def test_a_user_of_the_directory_is_asked_however_the_name_is_typed(host: Host, alice: Person) -> None:
    assert log_in(host, alice, alice.name.upper()).asked_code
    assert log_in(host, alice, alice.name.upper(), alice.code()).ok


def test_a_name_that_still_leads_to_the_user_finds_the_record_and_the_rules_about_it(host: Host, alice: Person) -> None:
    full = respelled(host, alice, bare=True)
    with host.config(f'[[rule]]\nusers = ["{alice}"]\n[[rule]]\nmfa = "skip"'):
        for name in (alice.name, full):
            assert log_in(host, alice, name).asked_code
        assert (
            f"names the user {alice.name!r}, whom NSS spells {full!r}"
            in host.machine.run(["pam-totp", "config", "check"]).stdout
        )
    code = alice.code()
    assert log_in(host, alice, alice.name, code).ok
    assert not log_in(host, alice, full, code).ok


def test_a_name_that_leads_to_nobody_any_more_refuses_until_the_record_is_renamed(host: Host, alice: Person) -> None:
    full = respelled(host, alice, bare=False)
    with host.config('[[rule]]\nusers = ["nobody-else"]'):
        mark = host.machine.mark()
        refused = log_in(host, alice, full)
        assert (refused.ok, refused.asked_code) == (False, False)
        (line,) = host.decisions(mark)
        assert (line["outcome"], line["reason"]) == ("unavailable", "name-changed")
        host.machine.run(["pam-totp", "rename", "--yes", alice.name, full])
        assert log_in(host, alice, full, alice.code()).ok
