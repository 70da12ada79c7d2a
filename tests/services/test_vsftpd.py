"""vsftpd: it answers every question with the password, so the code is typed behind it; and it minds a child's end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import are_gone
from tests.lab.pam import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine
    from tests.login.host import Host, Person
    from tests.services.hostile import Hostile

CONFIG = """
listen=YES
listen_ipv6=NO
anonymous_enable=NO
local_enable=YES
write_enable=YES
use_localtime=YES
secure_chroot_dir=/var/run/vsftpd/empty
pam_service_name=vsftpd
max_login_fails=1
"""
# Arguments: user and password. The last line is a JSON list: whether one got in, and the files that are there.
CLIENT = """
import ftplib, json, sys
with ftplib.FTP("127.0.0.1", timeout=60) as session:
    try:
        session.login(*sys.argv[1:])
    except ftplib.error_perm as error:
        assert str(error).startswith("530"), error
        print(json.dumps([False, []]))
    else:
        session.mkd("mine")
        names = session.nlst()
        session.rmd("mine")
        print(json.dumps([True, names]))
"""
ACCOUNT = ("account required pam_unix.so", "session required pam_permit.so")
COMBINED = (
    "auth required pam_totp.so combined=split",
    "auth requisite pam_unix.so nodelay",
    "auth required pam_totp.so combined=verify",
    "account required pam_totp.so combined=verify",
    *ACCOUNT,
)


@pytest.fixture(autouse=True, scope="module")
def server(machine: Machine, hostile: Hostile) -> Iterator[None]:
    """A running vsftpd, in surroundings that nothing of ours may heed."""
    machine.write("/etc/vsftpd.conf", CONFIG)
    machine.run(["mkdir", "-p", "/var/run/vsftpd/empty"])
    service(machine, *COMBINED, name="vsftpd")
    process = machine.popen(hostile.around_root(["/usr/sbin/vsftpd", "/etc/vsftpd.conf"]))
    machine.sh("for _ in $(seq 300); do ss -Hltn sport = 21 | grep -q . && exit; sleep 0.1; done; exit 1")
    yield
    machine.end(process)
    assert hostile.sprung() == set()


def log_in(person: Person, password: str) -> bool:
    """Whether somebody gets in, and then can work."""
    machine = person.host.machine
    ok, names = json.loads(machine.run(["/usr/bin/python3", "-c", CLIENT, person.name, password]).stdout)
    assert names == (["mine"] if ok else [])
    assert are_gone(machine)
    return bool(ok)


def test_only_the_password_with_a_right_code_lets_in(host: Host) -> None:
    alice = host.person()
    password, spent = alice.user.password, alice.code()
    assert not log_in(alice, password)
    assert not log_in(alice, password + alice.wrong())
    assert not log_in(alice, "wrong" + spent)
    assert log_in(alice, password + spent)
    assert not log_in(alice, password + spent)


def test_a_user_who_is_not_enrolled_types_the_password_alone(host: Host) -> None:
    bob = host.person(enrolled=False)
    assert not log_in(bob, "wrong")
    assert log_in(bob, bob.user.password)


def test_a_question_of_its_own_is_answered_with_the_password_and_lets_nobody_in(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    service(host.machine, "auth required pam_unix.so nodelay", "auth required pam_totp.so", *ACCOUNT, name="vsftpd")
    try:
        assert not log_in(alice, alice.user.password)
        assert not log_in(alice, alice.user.password + alice.code())
        assert log_in(bob, bob.user.password)
    finally:
        service(host.machine, *COMBINED, name="vsftpd")
