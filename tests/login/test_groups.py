"""Rules that name groups, over real logins, while the service that knows the groups fails."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.flaky import install
from tests.lab.pam import OURS, alone, pamtester
from tests.login.self_service import Service, visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.login.host import Host, Person

pytestmark = pytest.mark.usefixtures("key_and_code", "flaky")

SWITCH = "/etc/nsswitch.conf"
CONTROL, MEMBERS = "/etc/flaky", "/etc/flaky.members"
# corpadmins is known by initgroups only, corpstaff by the list of its members only.
RULES = """
[[rule]]
groups = ["{group}"]
mfa = "require"
unenrolled = "deny"

[[rule]]
mfa = "skip"
"""
UNAVAIL, EIO, ENOENT = -1, 5, 2
GRACE = 5  # seconds
PATIENCE = 30  # seconds that pam_totp.so waits for its helper


@pytest.fixture(scope="module")
def flaky(host: Host) -> None:
    """A name service that can be told to fail, the last but one of those that are asked about groups."""
    install(host.machine)
    host.machine.sh("sed -i 's/^\\(passwd\\|group\\):.*/\\1: files flaky extrausers/' /etc/nsswitch.conf")


@pytest.fixture
def alice(host: Host) -> Iterator[Person]:
    """A member of both groups, enrolled."""
    alice = host.person()
    host.machine.write(MEMBERS, f"{alice}\n")
    yield alice
    host.machine.run(["rm", "-f", CONTROL])


def fails(host: Host, function: str, number: int = EIO, how: str = "always") -> None:
    host.machine.write(CONTROL, f"{function} {UNAVAIL} {number} {how}\n")


def works(host: Host) -> None:
    host.machine.run(["rm", CONTROL])


@pytest.mark.parametrize("group", ["corpadmins", "corpstaff"])
@pytest.mark.parametrize(("function", "number"), [("group", EIO), ("initgroups", ENOENT), ("initgroups", 0)])
def test_a_group_service_that_fails_opens_no_door_and_is_named_in_the_log(
    host: Host, alice: Person, group: str, function: str, number: int
) -> None:
    with host.config(RULES.format(group=group)):
        fails(host, function, number)
        mark = host.machine.mark()
        result = alice.log_in()
        assert not result.ok
        assert not result.asked_code
        (line,) = host.decisions(mark)
        assert (line["outcome"], line["reason"]) == ("unavailable", "nss-unavailable")
        assert "'flaky' does not answer (UNAVAIL" in line["detail"]
        explained = host.machine.run(["pam-totp", "explain", alice.name], check=False)
        assert (explained.returncode, explained.stdout) == (3, "")
        assert "'flaky' does not answer" in explained.stderr
        works(host)
        assert not alice.log_in("").ok
        assert alice.log_in(alice.code()).ok, host.machine.log(mark)


def test_who_is_in_no_group_is_not_asked_while_the_service_answers(host: Host, alice: Person) -> None:
    bob = host.person()
    with host.config(RULES.format(group="corpadmins")):
        assert bob.log_in().ok
        fails(host, "initgroups")
        assert not bob.log_in(bob.code()).ok


def test_a_group_that_only_a_service_elsewhere_could_know_has_to_exist(host: Host, alice: Person) -> None:
    with host.config(RULES.format(group="corpadmin")):
        mark = host.machine.mark()
        assert not alice.log_in(alice.code()).ok
        (line,) = host.decisions(mark)
        assert line["reason"] == "nss-unavailable"
        assert "the group 'corpadmin', which flaky does not know" in line["detail"]


@contextmanager
def changed(host: Host, path: str, text: str | None) -> Iterator[None]:
    """Have another content of a file for a while; None: no such file."""
    host.machine.run(["cp", "-p", path, f"{path}.before"])
    try:
        host.machine.run(["rm", path] if text is None else ["sh", "-c", 'printf %s "$1" >"$2"', "sh", text, path])
        yield
    finally:
        host.machine.run(["mv", f"{path}.before", path])


@pytest.mark.parametrize("text", [None, "", "passwd: files\n"], ids=["absent", "empty", "without a line for groups"])
def test_an_nsswitch_conf_that_does_not_say_who_knows_groups_opens_no_door(
    host: Host, alice: Person, text: str | None
) -> None:
    mark = host.machine.mark()
    with host.config(RULES.format(group="corpadmins")), changed(host, SWITCH, text):
        result = alice.log_in()
    assert not result.ok
    assert not result.asked_code
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("unavailable", "nss-unavailable")
    assert SWITCH in line["detail"]


def test_an_emptied_group_file_opens_no_door(host: Host, alice: Person) -> None:
    host.machine.run(["usermod", "-aG", "sudo", alice.name])
    with host.config(RULES.format(group="sudo")), changed(host, SWITCH, "passwd: files\ngroup: files\n"):
        assert alice.log_in(alice.code()).asked_code
        mark = host.machine.mark()
        with changed(host, "/etc/group", ""):
            result = alice.log_in()
    assert not result.ok
    assert not result.asked_code
    (line,) = host.decisions(mark)
    assert (line["outcome"], line["reason"]) == ("unavailable", "nss-unavailable")
    assert "/etc/group" in line["detail"]


@pytest.mark.parametrize("function", ["group", "initgroups"])
def test_a_group_service_that_hangs_is_ended_by_sshd(host: Host, alice: Person, function: str) -> None:
    host.machine.sshd.drop_in("10-grace", f"LoginGraceTime {GRACE}\n")
    host.machine.sshd.reload()
    try:
        with host.config(RULES.format(group="corpadmins")):
            fails(host, function, how="hanging")
            start = time.monotonic()
            result = alice.log_in()
            assert not result.ok
            assert not result.asked_code
            assert GRACE - 1 < time.monotonic() - start < GRACE + 10
            works(host)
            assert alice.log_in(alice.code()).ok
    finally:
        host.machine.sshd.remove("10-grace")
        host.machine.sshd.reload()


def test_a_group_service_that_hangs_ends_in_a_refusal_wherever_the_module_is_used(host: Host, alice: Person) -> None:
    service = alone(host.machine, OURS)
    with host.config(RULES.format(group="corpadmins")):
        fails(host, "group", how="hanging")
        start = time.monotonic()
        assert pamtester(host.machine, service, alice.user).code == "PAM_SERVICE_ERR"
        assert PATIENCE - 1 < time.monotonic() - start < PATIENCE + 5


def test_the_last_authenticator_cannot_be_removed_while_it_is_not_known_whether_logins_need_one(
    host: Host, alice: Person
) -> None:
    with Service(host.machine), host.config(RULES.format(group="corpstaff")):
        for function in ("group", "initgroups"):
            fails(host, function)
            mark = host.machine.mark()
            refused = visit(alice, "remove", answers=(alice.code(),))
            assert refused.returncode == 3
            assert "does not work at the moment" in refused.stdout
            (line,) = host.decisions(mark)
            assert (line["service"], line["reason"]) == ("self", "nss-unavailable")
            works(host)
        assert "logins need one here" in visit(alice, "remove").stdout
        assert alice.log_in(alice.code()).ok


def test_a_user_whom_a_failing_service_hides_is_not_called_unknown(host: Host) -> None:
    with Service(host.machine):
        fails(host, "passwd")
        mark = host.machine.mark()
        assert not host.machine.login("dora", password="wrong horse", code="123456").ok
        become = ["setpriv", "--reuid=6001", "--regid=100", "--clear-groups"]
        assert host.machine.run([*become, "pam-totp", "self", "status"], check=False).returncode == 3
        assert {line["reason"] for line in host.decisions(mark) if line["service"] == "self"} == {"nss-unavailable"}
        works(host)
        assert host.machine.run([*become, "pam-totp", "self", "status"]).stdout.startswith("dora: none\n")
