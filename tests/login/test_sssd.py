"""Rules about groups of an LDAP directory, as Debian's sssd tells them: reachable, cut off, stopped, killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.helpers import helpers
from tests.lab.machine import Machine
from tests.lab.roots import root
from tests.lab.user import User
from tests.login.host import Host, Person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = ("slapd", "sssd-common", "sssd-ldap", "libnss-sss", "libnss-systemd")
RULES = """
[[rule]]
groups = ["corpadmins"]
mfa = "require"

[[rule]]
mfa = "skip"
"""
GRACE = 6  # seconds
SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile /run/slapd/slapd.pid
database mdb
suffix "dc=corp"
directory /var/lib/corp
"""
DIRECTORY = """\
dn: dc=corp
objectClass: dcObject
objectClass: organization
o: corp
dc: corp

dn: uid=lena,dc=corp
objectClass: inetOrgPerson
objectClass: posixAccount
uid: lena
cn: Lena
sn: Lena
uidNumber: 20001
gidNumber: 20001
homeDirectory: /home/lena
loginShell: /bin/sh

dn: cn=corpadmins,dc=corp
objectClass: posixGroup
cn: corpadmins
gidNumber: 5000
memberUid: lena
memberUid: user1
"""
SSSD = """\
[sssd]
services = nss
domains = corp

[domain/corp]
id_provider = ldap
ldap_uri = ldap://127.0.0.1
ldap_search_base = dc=corp
ldap_id_use_start_tls = false
ldap_rfc2307_fallback_to_local_users = true
entry_cache_timeout = 2
offline_timeout = 1
offline_timeout_max = 1
offline_timeout_random_offset = 0

[nss]
entry_negative_timeout = 1
memcache_timeout = 0
"""


class Corporation:
    """A host of a corporation: its people, its directory, and the sssd that asks it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machine = host.machine
        self.machine.write("/etc/ldap/corp.conf", SLAPD)
        self.machine.write("/etc/ldap/corp.ldif", DIRECTORY)
        self.machine.write("/etc/sssd/sssd.conf", SSSD, mode=0o600)
        # The ssh client runs on this host, and must not wait for sssd to name its port.
        self.machine.sh("sed -i 's/^services:.*/services: files/' /etc/nsswitch.conf")
        self.machine.run(["mkdir", "-p", "/run/slapd", "/run/sssd", "/var/lib/corp"])
        self.machine.run(["slapadd", "-f", "/etc/ldap/corp.conf", "-l", "/etc/ldap/corp.ldif"])
        self.connect()
        self.start()
        self.local = host.person()  # a user of this host, and by the directory a member of its group
        # sssd may have kept the group from before this user was there.
        self.machine.sh("until getent group corpadmins | grep -qw user1; do sleep 0.2; done")
        self.lena = host.enroll(Person(host, self._lena(), ""))

    def _lena(self) -> User:
        self.machine.sh(
            """
            set -e
            install -d -o 20001 -g 20001 -m 700 /home/lena /home/lena/.ssh
            ssh-keygen -q -t ed25519 -N '' -C lena -f /root/.ssh/lena
            install -o 20001 -g 20001 -m 600 /root/.ssh/lena.pub /home/lena/.ssh/authorized_keys
            """
        )
        return User("lena", 20001, "")

    def connect(self) -> None:
        """Have the directory answer."""
        self.machine.run(["slapd", "-f", "/etc/ldap/corp.conf", "-h", "ldap://127.0.0.1"])

    def cut_off(self) -> None:
        """Have the directory gone, and wait until sssd has nothing newer than its own cache."""
        self.machine.sh('kill "$(cat /run/slapd/slapd.pid)"; while pidof slapd; do sleep 0.1; done')
        time.sleep(3)

    def start(self) -> None:
        """Start sssd, and wait until it answers."""
        self.machine.sh("setsid sssd -i --logger=files </dev/null >/var/log/sssd.out 2>&1 &")
        self.machine.sh("until test -S /var/lib/sss/pipes/nss; do sleep 0.1; done; getent -s sss passwd lena || true")

    def kill(self) -> None:
        """Kill all of sssd at once."""
        self.machine.sh("kill -KILL $(pidof sssd sssd_be sssd_nss); while pidof sssd_nss; do sleep 0.1; done")

    def refused(self, person: Person) -> dict[str, str]:
        """A login that must be refused without a question, and what the log says of it."""
        mark = self.machine.mark()
        result = person.log_in()
        assert not result.ok
        assert not result.asked_code
        (line,) = self.host.decisions(mark)
        assert (line["outcome"], line["reason"]) == ("unavailable", "nss-unavailable")
        return line

    def asked(self, *people: Person) -> None:
        """Logins that must be asked."""
        for person in people:
            result = person.log_in()
            assert not result.ok
            assert result.asked_code, result.screen


@pytest.fixture(scope="module")
def corporation(suite: str, debs: tuple[Path, ...], pytestconfig: pytest.Config) -> Iterator[Corporation]:
    """A machine with the package, sssd and its directory; both users are enrolled, and a rule has the group asked."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        base = root(suite, more=PACKAGES)
    with Machine(base) as machine:
        files = [f"/root/{each.name}" for each in debs]
        for file, each in zip(files, debs, strict=True):
            machine.write(file, each.read_bytes())
        machine.run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *files],
            env={"DEBIAN_FRONTEND": "noninteractive"},
            timeout=120,
        )
        host = Host(machine)
        host.use("key-and-code")
        corporation = Corporation(host)
        with host.config(RULES):
            yield corporation
        host.close()
        assert host.leaks() == []


# The tests of this module go on from where the one before has left the host.


def test_debian_asks_another_service_after_sssd_whose_answer_hides_that_sssd_failed(corporation: Corporation) -> None:
    (line,) = [line for line in corporation.machine.read("/etc/nsswitch.conf").splitlines() if line[:6] == "group:"]
    assert line.split()[1:] == ["files", "sss", "systemd"]


def test_members_of_a_group_of_the_directory_are_asked(corporation: Corporation) -> None:
    corporation.asked(corporation.lena, corporation.local)
    for person in (corporation.lena, corporation.local):
        assert person.log_in(person.code()).ok
    other = corporation.host.person()
    assert other.log_in().ok


def test_while_the_directory_is_cut_off_they_are_asked_for_sssd_has_kept_the_group(corporation: Corporation) -> None:
    corporation.cut_off()
    corporation.asked(corporation.lena, corporation.local)


def test_while_sssd_is_stopped_a_login_ends_with_sshds_time_for_it(corporation: Corporation) -> None:
    machine = corporation.machine
    machine.sshd.drop_in("10-grace", f"LoginGraceTime {GRACE}\n")
    machine.sshd.reload()
    machine.sh("kill -STOP $(pidof sssd_nss)")
    for person in (corporation.local, corporation.lena):
        start = time.monotonic()
        result = person.log_in()
        assert not result.ok
        assert not result.asked_code
        assert time.monotonic() - start < GRACE + 10
    machine.sh("kill -CONT $(pidof sssd_nss)")
    # What was asked for those two has its answer now, and says so in the log; the next test is about other lines.
    while helpers(machine):
        time.sleep(0.05)
    machine.sshd.remove("10-grace")
    machine.sshd.reload()
    corporation.asked(corporation.local)


def test_while_sssd_is_killed_nobody_is_let_past_the_rule(corporation: Corporation) -> None:
    corporation.kill()
    assert "'sss' does not answer (UNAVAIL" in corporation.refused(corporation.local)["detail"]
    mark = corporation.machine.mark()
    assert not corporation.lena.log_in().ok  # sshd itself knows no lena now
    assert not [line for line in corporation.host.decisions(mark) if line["outcome"] in ("accepted", "skipped")]
    explained = corporation.machine.run(["pam-totp", "explain", "lena"], check=False)
    assert explained.returncode == 3
    assert "'sss' does not answer" in explained.stderr
    listed = corporation.machine.run(["pam-totp", "status"], check=False).stdout
    assert "lena (unknown: the name service does not answer)" in listed


def test_cut_off_and_with_an_empty_cache_sssd_knows_no_group_and_nobody_is_let_past_the_rule(
    corporation: Corporation,
) -> None:
    corporation.machine.sh("rm -f /var/lib/sss/db/* /var/lib/sss/mc/*")
    corporation.start()
    line = corporation.refused(corporation.local)
    assert "the group 'corpadmins', which sss does not know, perhaps because it is cut off" in line["detail"]
    assert not corporation.lena.log_in().ok


def test_when_the_directory_answers_again_they_are_asked_and_get_in(corporation: Corporation) -> None:
    corporation.connect()
    corporation.machine.sh("until getent passwd lena; do sleep 0.2; done", timeout=90)
    corporation.asked(corporation.lena, corporation.local)
    for person in (corporation.lena, corporation.local):
        assert person.log_in(person.code(1)).ok
