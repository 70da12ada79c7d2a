"""FreeRADIUS as ``verify setup freeradius`` has it, and what its clients get: the site's password, then a code."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from pam_totp.fleet import tree
from tests.lab.code import STEP
from tests.lab.directory import person as record
from tests.lab.fleet import FOLDER, Fleet, raw, wait
from tests.lab.verify import ADDRESS, Verify
from tests.login.host import Host, steady
from tests.services import radius
from tests.services.radius import PLACE, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine
    from tests.login.host import Person
    from tests.services.radius import Radius

# The root with FreeRADIUS takes a minute to build.
pytestmark = pytest.mark.full

PACKAGES = radius.PACKAGES
SETUP = ("pam-totp", "verify", "setup", "freeradius")
WISHES = (
    *("vpn=required", "door=enrolled", "firewall=required,one-field", "printer=enrolled,one-field"),
    *("wlan=required,eap", "cafe=enrolled,eap", "plain=off", "old=required,one-field,unsigned"),
)
# All that there is to know of a tree of files.
TREE = (
    r'cd "$1" && find . -printf "%p %y %m %u %g %l\n" | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum'
)
GTC = "sed -i '/^\tpeap {/,/^\t}/s/default_eap_type = mschapv2/default_eap_type = gtc/' $1/mods-available/eap"


@pytest.fixture(scope="module", autouse=True)
def _clients(machine: Machine) -> None:
    """A client for each NAS, before anything else looks."""
    radius.clients(machine)


@pytest.fixture(scope="module")
def pristine(machine: Machine) -> str:
    """What FreeRADIUS's settings were before."""
    machine.sh(GTC, PLACE)
    return machine.sh(TREE, PLACE).stdout


@pytest.fixture(scope="module")
def verify(host: Host) -> Iterator[Verify]:
    """The verify service."""
    with Verify(host.machine) as running:
        yield running


@pytest.fixture(scope="module")
def arranged(host: Host, pristine: str) -> Iterator[None]:
    """FreeRADIUS set up, with the password in its own file of users; undone at the end, to what was there."""
    machine = host.machine
    nas = [word for wish in WISHES for word in ("--nas", wish)]
    machine.run([*SETUP, "--module", "files", "--listen", ADDRESS, "--yes", *nas])
    yield
    machine.run([*SETUP, "--undo", "--yes"])
    # What the tests themselves have changed.
    theirs = ("mods-config/files/authorize", "mods-available/sql")
    left, before = (
        [line for line in text.splitlines() if not any(name in line for name in theirs)]
        for text in (machine.sh(TREE, PLACE).stdout, pristine)
    )
    assert left == before


def reset(host: Host, verify: Verify) -> None:
    """The service anew: what tests have stopped."""
    verify.stop()
    verify.__enter__()


# -- setting it up


def test_setup_is_undone_to_the_byte_and_a_second_one_changes_nothing(machine: Machine, pristine: str) -> None:
    shown = machine.run(
        [*SETUP, "--module", "files", "--listen", ADDRESS, "--nas", "wlan=required,eap", "--dry-run"], check=False
    )
    assert shown.returncode == 1
    assert "+server pam-totp {" in shown.stdout
    assert "secret" not in shown.stdout
    assert machine.sh(TREE, PLACE).stdout == pristine

    command = [*SETUP, "--module", "files", "--listen", ADDRESS, "--nas", "wlan=required,eap", "--yes"]
    machine.run(command)
    after = machine.sh(TREE, PLACE).stdout
    assert after != pristine
    assert machine.run(command).stdout == "nothing to change: freeradius is set up\n"
    assert machine.sh(TREE, PLACE).stdout == after
    token = f"{PLACE}/mods-config/pam-totp"
    assert machine.run(["cat", token], user="freerad").stdout.count("freeradius-") == 2
    for other in ("nobody", "www-data"):
        assert machine.run(["cat", token], user=other, check=False).returncode != 0
    # Its group neither: not one who belongs to it for reading its log.
    group = ["setpriv", "--reuid=nobody", "--regid=freerad", "--clear-groups", "cat", token]
    assert machine.run(group, check=False).returncode != 0

    machine.run([*SETUP, "--undo", "--yes"])
    assert machine.sh(TREE, PLACE).stdout == pristine
    assert "freeradius" not in machine.run(["pam-totp", "verify", "list"], check=False).stdout
    assert machine.run([*SETUP, "--undo", "--yes"]).stdout.startswith("nothing to undo")


def test_what_freeradius_does_not_take_is_taken_back(machine: Machine, pristine: str) -> None:
    library = "/usr/lib/freeradius/rlm_rest.so"
    machine.sh('mv "$1" /root/rest && echo broken >"$1"', library)
    done = machine.run([*SETUP, "--module", "files", "--listen", ADDRESS, "--nas", "vpn", "--yes"], check=False)
    machine.sh('mv /root/rest "$1"', library)
    assert done.returncode == 3
    assert "freeradius -XC says: " in done.stderr
    assert "rlm_rest" in done.stderr
    assert machine.sh(TREE, PLACE).stdout == pristine
    assert "freeradius" not in machine.run(["pam-totp", "verify", "list"], check=False).stdout


def test_what_was_broken_before_is_said_and_not_touched(machine: Machine, pristine: str) -> None:
    machine.write(f"{PLACE}/sites-enabled/broken", "server {\n")
    done = machine.run([*SETUP, "--module", "files", "--listen", ADDRESS, "--yes"], check=False)
    machine.run(["rm", f"{PLACE}/sites-enabled/broken"])
    assert (done.returncode, "sites-enabled/broken" in done.stderr) == (3, True)
    assert machine.sh(TREE, PLACE).stdout == pristine


def test_peap_with_mschapv2_is_refused_with_the_reason(machine: Machine, pristine: str) -> None:
    eap = f"{PLACE}/mods-available/eap"
    before = machine.read(eap)
    machine.sh("sed -i 's/default_eap_type = gtc/default_eap_type = mschapv2/' \"$1\"", eap)
    wish = ["--module", "files", "--listen", ADDRESS, "--nas", "wlan=required,eap", "--yes"]
    done = machine.run([*SETUP, *wish], check=False)
    machine.sh('cat >"$1"', eap, input=before)
    assert done.returncode == 3
    assert "PEAP proposes mschapv2 here, which never sends what the user types" in done.stderr
    assert "default_eap_type = gtc" in done.stderr
    assert machine.sh(TREE, PLACE).stdout == pristine


# -- logins


@pytest.mark.usefixtures("arranged")
def test_the_code_is_asked_for_by_a_challenge_and_good_once_at_all_doors(host: Host, verify: Verify) -> None:
    alice, eve = host.person(), host.person()
    with running(host.machine, alice, eve) as server:
        steady(20)
        mark = host.machine.mark()
        assert server.one("vpn", alice.name, "wrong") == "reject"
        assert server.one("vpn", "nobody-at-all", "pw") == "reject"
        assert host.decisions(mark) == []  # without the password nobody is asked about

        state = server.challenge("vpn", alice)
        spent = alice.code()
        mark = host.machine.mark()
        # Packets are lost and sent again (RFC 5080, section 2.2.2): the same answer, and one verification.
        assert server.ask("vpn", alice.name, spent, state, times=3) == [["accept", "", "", "staff"]] * 3
        [line] = host.decisions(mark)
        assert (line["service"], line["rhost"], line["reason"]) == ("radius", "198.51.100.3", "code")

        assert server.one("vpn", alice.name, spent, state) == "reject"  # the state again
        assert server.one("vpn", alice.name, spent, server.challenge("vpn", alice)) == "reject"  # the code again
        assert not alice.log_in(spent).ok  # and at another door
        state = server.challenge("vpn", alice)
        assert server.one("vpn", eve.name, eve.code(), state) == "reject"  # the state of another
        assert server.one("vpn", alice.name, alice.code(1), state) == "reject"  # which is spent by that
        assert server.one("vpn", alice.name, alice.code(1), "00" * 16) == "reject"  # an invented one
        following = alice.code(1)
        assert alice.log_in(following).ok
        assert server.one("vpn", alice.name, following, server.challenge("vpn", alice)) == "reject"
        assert server.one("vpn", eve.name, eve.wrong(), server.challenge("vpn", eve)) == "reject"
        assert server.one("vpn", eve.name, "pw", server.challenge("vpn", eve)) == "reject"
        assert server.one("vpn", eve.name, eve.code(), server.challenge("vpn", eve)) == "accept"
    said = host.machine.read("/root/radius.log")
    assert not any(word in said for word in host.confidential)


@pytest.mark.usefixtures("arranged", "verify")
def test_each_nas_asks_nobody_the_enrolled_or_everybody(host: Host) -> None:
    alice, bob, carol = host.person(), host.person(enrolled=False), host.person(pending=True)
    with running(host.machine, alice, bob, carol) as server:
        steady(20)
        for person in (alice, bob):
            assert server.one("plain", person.name, "pw") == "accept"
            assert server.one("plain", person.name, "wrong") == "reject"
        mark = host.machine.mark()
        for person in (bob, carol):
            assert server.one("door", person.name, "pw") == "accept"
            assert server.one("door", person.name, "wrong") == "reject"
        assert [line["outcome"] for line in host.decisions(mark)] == ["skipped", "skipped"]
        assert server.one("door", alice.name, alice.wrong(), server.challenge("door", alice)) == "reject"
        assert server.one("door", alice.name, alice.code(), server.challenge("door", alice)) == "accept"

        # Required: all look alike, and nobody gets in without a code.
        for person in (bob, carol):
            assert server.one("vpn", person.name, "123456", server.challenge("vpn", person)) == "reject"
            assert server.one("firewall", person.name, "pw") == "reject"
            assert server.one("firewall", person.name, "pw123456") == "reject"
        assert server.one("vpn", alice.name, alice.code(1), server.challenge("vpn", alice)) == "accept"
        # A state of the one NAS is none at another that wants a code.
        assert server.one("firewall", alice.name, alice.code(1), server.challenge("vpn", alice)) == "reject"

        with host.config('[[rule]]\nservices = ["radius"]\nunenrolled = "deny"\n'):
            assert server.one("door", bob.name, "pw") == "reject"
            assert server.one("printer", bob.name, "pw") == "reject"
        with host.config("nonsense = 1"):
            assert server.one("door", bob.name, "pw") == "reject"


@pytest.mark.usefixtures("arranged", "verify")
def test_password_and_code_in_one_field(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with running(host.machine, alice, bob) as server:
        steady(20)
        spent = alice.code()
        for nas in ("firewall", "printer"):
            assert server.one(nas, alice.name, "pw") == "reject"
            assert server.one(nas, alice.name, f"wrong{spent}") == "reject"
            assert server.one(nas, alice.name, spent) == "reject"
            assert server.one(nas, alice.name, f"pw{alice.wrong()}") == "reject"
        mark = host.machine.mark()
        assert server.ask("firewall", alice.name, f"pw{spent}", times=3) == [["accept", "", "", "staff"]] * 3
        assert len(host.decisions(mark)) == 1
        for nas in ("firewall", "printer"):
            assert server.one(nas, alice.name, f"pw{spent}") == "reject"
        assert server.one("printer", alice.name, f"pw{alice.code(1)}") == "accept"
        assert server.one("printer", bob.name, "pw") == "accept"
        assert server.one("printer", bob.name, "wrong") == "reject"


@pytest.mark.usefixtures("arranged", "verify")
def test_a_password_that_ends_in_digits_is_not_taken_for_a_code(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    machine = host.machine
    with running(machine, alice, bob) as server:
        server.close()
    users = "".join(
        f'{person.name} Cleartext-Password := "horse271828"\n\tFilter-Id = "staff"\n' for person in (alice, bob)
    )
    machine.write(f"{PLACE}/mods-config/files/authorize", users, mode=0o640, owner="freerad:freerad")
    with running(machine) as server:
        steady(20)
        assert server.one("door", bob.name, "horse271828") == "accept"
        assert server.one("printer", bob.name, "horse271828") == "accept"
        assert server.one("printer", bob.name, "horse") == "reject"
        assert server.one("printer", bob.name, "horse271829") == "reject"
        assert server.one("printer", alice.name, "horse271828") == "reject"
        assert server.one("firewall", alice.name, "horse271828") == "reject"
        assert server.one("firewall", alice.name, f"horse271828{alice.code()}") == "accept"
        assert server.one("vpn", alice.name, alice.code(1), server.challenge("vpn", alice, "horse271828")) == "accept"


@pytest.mark.usefixtures("arranged", "verify")
def test_a_packet_that_is_not_signed_gets_no_answer(host: Host) -> None:
    alice = host.person()
    with running(host.machine, alice) as server:
        # The site's own "no" stands below ours.
        assert server.ask("plain", alice.name, "pw", signed=False)[0][0] == "accept"
        for nas in ("vpn", "firewall"):
            assert server.ask(nas, alice.name, "pw", signed=False) == [["nothing", "", "", ""]]
            assert server.one(nas, alice.name, "wrong") == "reject"
        # But where the administrator has said so.
        assert server.ask("old", alice.name, "pw", signed=False)[0][0] == "reject"
        assert server.ask("old", alice.name, f"pw{alice.code()}", signed=False)[0][0] == "accept"


@pytest.mark.usefixtures("arranged")
def test_accounting_is_answered(host: Host) -> None:
    alice = host.person()
    with running(host.machine, alice):
        done = host.machine.run(
            ["radclient", "-x", "-r1", "-t8", "127.0.0.1:1813", "acct", radius.SECRET],
            input=f'User-Name = "{alice.name}", Acct-Status-Type = Start, Acct-Session-Id = "1", '
            "Packet-Src-IP-Address = 127.0.0.11\n",
        )
        assert "Received Accounting-Response" in done.stdout


@pytest.mark.usefixtures("arranged", "verify")
def test_chap_and_mschap_are_refused(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with running(host.machine, alice, bob):
        for person in (alice, bob):
            for attribute in ("User-Password", "CHAP-Password", "MS-CHAP-Password"):
                done = host.machine.run(
                    ["radclient", "-x", "-r1", "-t8", "127.0.0.1:1812", "auth", radius.SECRET],
                    input=f'User-Name = "{person.name}", {attribute} = "pw", Packet-Src-IP-Address = 127.0.0.12, '
                    "Message-Authenticator = 0x00\n",
                    check=False,
                )
                wanted = "Access-Reject"
                if attribute == "User-Password":
                    wanted = "Access-Challenge" if person is alice else "Access-Accept"
                assert f"Received {wanted}" in done.stdout, done.stdout + done.stderr


# -- networks and services that fail


@pytest.mark.usefixtures("arranged")
def test_a_packet_sent_again_while_the_service_is_slow_spends_one_code(host: Host, verify: Verify) -> None:
    reset(host, verify)
    alice, bob = host.person(), host.person()
    machine = host.machine
    with running(machine, alice, bob) as server:
        assert server.one("firewall", bob.name, f"pw{bob.wrong()}") == "reject"
        service = verify.started
        steady(20)
        state = server.challenge("vpn", alice)
        mark = machine.mark()
        machine.run(["kill", "-STOP", str(service)])
        server.ask("vpn", alice.name, alice.code(), state, times=0)
        server.again("vpn", times=0)
        time.sleep(0.5)  # how long it is slow, nothing that is waited for
        server.again("vpn", times=0)
        machine.run(["kill", "-CONT", str(service)])
        # All that is sent from now on gets the first one's answer, and so do those before, if they get any.
        assert {kind for kind, *_ in server.again("vpn", times=3)} == {"accept"}
        assert [line["outcome"] for line in host.decisions(mark)] == ["accepted"]


@pytest.mark.usefixtures("arranged")
def test_without_the_service_or_with_one_that_hangs_nobody_gets_in(host: Host, verify: Verify) -> None:
    reset(host, verify)
    alice, bob = host.person(), host.person(enrolled=False)
    machine = host.machine
    with running(machine, alice, bob) as server:
        assert server.one("door", bob.name, "pw") == "accept"
        service = verify.started
        state = server.challenge("vpn", alice)
        machine.run(["kill", "-STOP", str(service)])
        try:
            for nas, person, password, its in (
                ("vpn", alice, alice.code(), state),
                ("door", bob, "pw", ""),
                ("firewall", alice, f"pw{alice.code()}", ""),
                ("printer", bob, "pw", ""),
            ):
                began = time.monotonic()
                assert server.one(nas, person.name, password, its) == "reject"
                # Five seconds, and one that FreeRADIUS has a refusal wait.
                assert time.monotonic() - began < 9
            assert server.one("plain", bob.name, "pw") == "accept"  # the others work on
        finally:
            machine.run(["kill", "-CONT", str(service)])
        state = server.challenge("vpn", alice)
        verify.stop()
        assert server.one("vpn", alice.name, alice.code(1), state) == "reject"
        assert server.one("door", bob.name, "pw") == "reject"
        assert server.one("firewall", alice.name, f"pw{alice.code(1)}") == "reject"
        assert server.one("printer", bob.name, "pw") == "reject"
        verify.__enter__()
        assert server.one("door", bob.name, "pw") == "accept"


@pytest.mark.usefixtures("arranged")
def test_two_servers_with_one_cache_take_a_code_once(host: Host, verify: Verify) -> None:
    reset(host, verify)
    alice, *others = (host.person() for _ in range(5))
    machine = host.machine
    with running(machine, alice, *others) as one, running(machine, port=1822, log="/root/second.log") as two:
        steady(25)
        state = one.challenge("vpn", alice)
        spent = alice.code()
        assert two.one("vpn", alice.name, spent, state) == "reject"  # it is the other's state
        assert one.one("vpn", alice.name, spent, state) == "accept"
        assert two.one("vpn", alice.name, spent, two.challenge("vpn", alice)) == "reject"
        following = alice.code(1)
        assert two.one("firewall", alice.name, f"pw{following}") == "accept"
        assert one.one("firewall", alice.name, f"pw{following}") == "reject"
        # At the same moment: one of them.
        for person in others:
            typed = f"pw{person.code()}"
            found: list[str] = []

            def ask(server: Radius, person: Person = person, typed: str = typed, found: list[str] = found) -> None:
                found.append(server.one("firewall", person.name, typed))

            threads = [threading.Thread(target=ask, args=(server,)) for server in (one, two)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(found) == ["accept", "reject"]


# -- Wi-Fi


@pytest.mark.parametrize(("outer", "inner"), [("TTLS", "auth=PAP"), ("PEAP", "auth=GTC"), ("TTLS", "autheap=GTC")])
@pytest.mark.usefixtures("arranged", "verify")
def test_eap_carries_password_and_code_in_its_tunnel(outer: str, inner: str, host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with running(host.machine, alice, bob) as server:
        steady(25)
        spent = alice.code()
        mark = host.machine.mark()
        assert not server.tunnel("wlan", outer, inner, alice, "pw")
        assert not server.tunnel("wlan", outer, inner, alice, f"wrong{spent}")
        assert not server.tunnel("wlan", outer, inner, bob, "pw")
        assert server.tunnel("wlan", outer, inner, alice, f"pw{spent}")
        assert [line["outcome"] for line in host.decisions(mark)].count("accepted") == 1
        assert not server.tunnel("wlan", outer, inner, alice, f"pw{spent}")
        assert server.tunnel("cafe", outer, inner, bob, "pw")
        assert not server.tunnel("cafe", outer, inner, alice, "pw")
        following = alice.code(1)
        assert server.tunnel("cafe", outer, inner, alice, f"pw{following}")
        assert not alice.log_in(following).ok


@pytest.mark.usefixtures("arranged", "verify")
def test_what_asks_for_a_password_alone_in_a_tunnel_is_refused(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    with running(host.machine, alice, bob) as server:
        for nas in ("wlan", "cafe"):
            for person in (alice, bob):
                assert not server.tunnel(nas, "TTLS", "autheap=MD5", person, "pw")
                assert not server.tunnel(nas, "PEAP", "auth=MSCHAPV2", person, "pw")
                assert not server.tunnel(nas, "TTLS", "auth=MSCHAPV2", person, "pw")
                assert not server.tunnel(nas, "TTLS", "auth=CHAP", person, "pw")
                assert not server.tunnel(nas, "MD5", "", person, "pw")
        # And a NAS without EAP takes none, as one with it takes nothing else.
        assert not server.tunnel("vpn", "TTLS", "auth=PAP", alice, f"pw{alice.code()}")
        assert server.one("wlan", alice.name, f"pw{alice.code()}") == "reject"
        assert server.one("cafe", bob.name, "pw") == "reject"


# -- the site's own ways to check a password

LDAP = """
set -e
mkdir /root/ldap
cat >/root/ldap/slapd.conf <<END
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix dc=example,dc=org
directory /root/ldap
access to attrs=userPassword by anonymous auth
access to * by * read
END
slapadd -f /root/ldap/slapd.conf
slapd -f /root/ldap/slapd.conf -h ldap://127.0.0.1:389
"""
ENTRY = """
dn: uid={0},dc=example,dc=org
objectClass: inetOrgPerson
uid: {0}
cn: {0}
sn: {0}
userPassword: {1}
"""
SQL = """
import sqlite3, sys
with sqlite3.connect("/tmp/freeradius.db") as base:
    base.executescript(open("/etc/freeradius/3.0/mods-config/sql/main/sqlite/schema.sql").read())
    insert = "INSERT INTO radcheck (username, attribute, op, value) VALUES (?, 'Cleartext-Password', ':=', ?)"
    base.executemany(insert, [line.split(" ", 1) for line in sys.stdin.read().splitlines()])
"""


def prepare(machine: Machine, module: str, *people: Person) -> None:
    """Have a module of FreeRADIUS's know the passwords that these people have on the host, and enable it."""
    if module == "pam":
        machine.run(["adduser", "--quiet", "freerad", "shadow"])
    elif module == "ldap":
        entries = "".join(ENTRY.format(person.name, person.user.password) for person in people)
        machine.sh(LDAP, input=f"dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n{entries}")
    else:
        known = "".join(f"{person.name} {person.user.password}\n" for person in people)
        machine.run(["/usr/bin/python3", "-c", SQL], input=known)
        machine.run(["chown", "freerad", "/tmp/freeradius.db"])
        machine.replace(f"{PLACE}/mods-available/sql", 'driver = "rlm_sql_null"', 'driver = "rlm_sql_sqlite"')
    machine.sh('ln -s "../mods-available/$2" "$1/mods-enabled/"', PLACE, module)


@pytest.mark.parametrize("module", ["pam", "ldap", "sql"])
@pytest.mark.usefixtures("arranged")
def test_the_sites_own_module_checks_the_password(module: str, host: Host, verify: Verify) -> None:
    reset(host, verify)
    machine = host.machine
    alice, bob, eve = host.person(), host.person(enrolled=False), host.person(enrolled=False)
    refused = machine.run([*SETUP, "--module", module, "--yes"], check=False)
    assert (refused.returncode, f"module {module} is not enabled" in refused.stderr) == (3, True)
    prepare(machine, module, alice, bob)
    machine.run([*SETUP, "--module", module, "--yes"])
    mark = machine.mark()
    # The file of users, which knows eve, is not asked.
    with running(machine, eve) as server:
        steady(20)
        password = bob.user.password
        for nas in ("door", "printer", "vpn", "firewall"):
            assert server.one(nas, bob.name, "wrong") == "reject"
            assert server.one(nas, eve.name, "pw") == "reject"
            assert server.one(nas, "nobody-at-all", password) == "reject"
        assert host.decisions(mark) == []
        assert server.one("door", bob.name, password) == "accept"
        assert server.one("printer", bob.name, password) == "accept"
        assert server.one("printer", alice.name, password) == "reject"
        spent = alice.code()
        assert server.one("firewall", alice.name, f"{password}{spent}") == "accept"
        state = server.challenge("vpn", alice, password)
        assert server.one("vpn", alice.name, spent, state) == "reject"
        state = server.challenge("vpn", alice, password)
        assert server.one("vpn", alice.name, alice.code(1), state) == "accept"
    machine.run([*SETUP, "--module", "files", "--yes"])
    machine.sh('rm "$1/mods-enabled/$2"', PLACE, module)


# -- on a host of a fleet


@pytest.mark.usefixtures("arranged", "verify")
def test_a_code_of_the_directory_is_good_once_in_the_fleet_and_once_here_while_it_is_down(host: Host) -> None:
    with Fleet(host.machine) as fleet, host.config("window = 10"):
        token = fleet.join()
        host.confidential |= {token, tree.parse_token(token).secret}
        alice = host.person_of_the_fleet()
        fleet.directory.publish([record(alice.name, raw(alice.secret))])
        fleet.start()
        wait(lambda: '"active"' in host.machine.run(["pam-totp", "status", alice.name, "--json"]).stdout)
        with running(host.machine, alice) as server:
            steady(20)
            first = alice.code()
            assert server.one("vpn", alice.name, first, server.challenge("vpn", alice)) == "accept"
            assert server.one("vpn", alice.name, first, server.challenge("vpn", alice)) == "reject"
            assert not alice.log_in(first).ok
            beaten_elsewhere(host, fleet, alice, server)
            fleet.kill_directory()
            mark = host.machine.mark()
            alone = alice.code(8)
            assert server.one("vpn", alice.name, alone, server.challenge("vpn", alice)) == "accept"
            assert server.one("vpn", alice.name, alone, server.challenge("vpn", alice)) == "reject"
            assert ["decided by this host alone" in line["detail"] for line in host.decisions(mark)] == [True, False]
            fleet.directory.publish([])
            assert "1 revoked" in host.machine.run(["pam-totp", "sync", f"{FOLDER}/tree"]).stdout
            mark = host.machine.mark()
            assert server.one("vpn", alice.name, alice.code(9), server.challenge("vpn", alice)) == "reject"
            assert [line["reason"] for line in host.decisions(mark)] == ["fleet-revoked"]
        fleet.serve()
        host.machine.run(["pam-totp", "leave", "--yes"])


def beaten_elsewhere(host: Host, fleet: Fleet, alice: Person, server: Radius) -> None:
    """Codes that another host has claimed, until the directory is quick enough to say so: on a busy machine."""
    for each in range(1, 7):
        identifier = record(alice.name, raw(alice.secret)).authenticators[0].identifier
        step, code = int(time.time() // STEP) + each, alice.code(each)
        fleet.claim_elsewhere(identifier, step)
        mark = host.machine.mark()
        answer = server.one("vpn", alice.name, code, server.challenge("vpn", alice))
        [line] = host.decisions(mark)
        if line["reason"] == "spent-elsewhere":
            assert answer == "reject"
            return
        time.sleep(5.5)  # for which a directory that did not answer is not asked
    raise AssertionError(line)
