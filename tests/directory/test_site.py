"""A directory from its package, with its real keeper, gunicorn and publisher under systemd."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from pam_totp.factors import otp
from pam_totp.fleet import tree
from tests.directory import races, visitor
from tests.directory.site import NAME
from tests.directory.visitor import sign_in
from tests.lab.code import code
from tests.lab.fleet import wait

if TYPE_CHECKING:
    from pathlib import Path

    from tests.directory.site import Host, Site
    from tests.lab.machine import Machine

UNITS = (
    *("pam-totp-keeper.socket", "pam-totp-directory.service", "pam-totp-publisher.service"),
    *("pam-totp-mail.timer", "pam-totp-renew.timer"),
)
# Runs as the web process's user.
AS_WEB = ("setpriv", "--reuid=pam-totp-directory", "--regid=pam-totp-directory", "--init-groups")


@pytest.fixture(scope="module")
def host(site: Site) -> Host:
    """A host that has joined."""
    return site.join("web1")


def test_installing_starts_nothing_and_says_what_comes_next(site: Site) -> None:
    assert "pam-totp-directory init --name NAME" in site.installed


def test_two_commands_make_a_directory_that_answers(site: Site) -> None:
    assert f"The directory is at https://{NAME}" in site.said
    assert f"https://{NAME}/invitation/" in site.said
    site.command("backup", "/root/first.tar.gz")
    for unit in UNITS:
        assert site.machine.run(["systemctl", "is-active", unit]).stdout.strip() == "active"
    status, content = site.ask("/api/v1/ca")
    assert (status, content.decode("ascii")) == (200, site.machine.read("/etc/pam-totp-directory/ca.crt"))
    again = site.command("init", "--name", NAME, "--admin", "root")
    assert f"The directory is at https://{NAME}" in again.stdout
    assert site.command("init", "--name", "other.example.org", check=False).returncode == 3


def test_a_person_who_was_enrolled_is_on_a_host_that_has_joined_and_a_change_follows(site: Site, host: Host) -> None:
    site.command("user", "add", "alice")
    secret = site.enroll("alice")
    found = host.wait(lambda records: "alice" in records and records["alice"].authenticators)
    assert [each.secret for each in found["alice"].authenticators] == [secret]
    site.command("user", "lock", "alice")
    host.wait(lambda records: records["alice"].locked)
    site.command("user", "unlock", "alice")
    host.wait(lambda records: not records["alice"].locked)


def test_an_invitation_enrols_the_first_administrator_in_the_portal(site: Site) -> None:
    link = site.command("user", "invite", "root").stdout.split()[-1]
    done = visitor.enrol(site, link, "/", "/admin/", "/static/portal/portal.css", "/static/admin/css/base.css", link)
    assert (done["status"], len(done["codes"])) == (200, 10)
    assert {path: status for path, (status, _) in done["pages"].items()} == {
        "/": 200,
        "/admin/": 200,
        "/static/portal/portal.css": 200,
        "/static/admin/css/base.css": 200,
        link: 404,
    }
    said = site.machine.run(["journalctl", "--no-pager"]).stdout
    for hidden in (done["key"], link.split("/")[-2], *done["codes"]):
        assert hidden not in said


# A mail server with the directory's own certificate, which puts what it takes into a file.
MAIL = """
import ssl, sys, time
from aiosmtpd.controller import Controller
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/pam-totp-directory/tls.crt", "/etc/pam-totp-directory/tls.key")
class Handler:
    async def handle_DATA(self, server, session, envelope):
        with open("/root/mails", "ab") as file:
            file.write(envelope.content)
        return "250 OK"
controller = Controller(Handler(), "127.0.0.1", 5870, tls_context=context, require_starttls=True)
controller.start()
print("ready", flush=True)
sys.stdin.readline()
"""
MAIL_SETTINGS = f"""
[mail]
server = "{NAME}"
port = 5870
authority = "/etc/pam-totp-directory/ca.crt"
from = "totp@example.org"
"""


def test_an_invitation_by_mail_enrols_and_the_timer_s_run_tells_of_it(site: Site) -> None:
    assert site.command("mail", "test", "root@example.org", check=False).returncode == 2
    site.machine.sh(
        "cat >>/etc/pam-totp-directory/directory.toml; systemctl restart pam-totp-directory", input=MAIL_SETTINGS
    )
    site.command("user", "add", "--email", "mia@example.org", "mia")
    # Nobody is there yet: it waits, and doctor says so.
    assert site.command("user", "invite", "--mail", "mia", check=False).returncode == 3
    assert "mails that wait: 1" in site.command("doctor", check=False).stdout
    with site.machine.popen(["/usr/bin/python3", "-I", "-c", MAIL]) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        site.command("mail", "test", "root@example.org")
        assert "sent to mia@example.org" in site.command("user", "invite", "--mail", "mia").stdout
        [link] = re.findall(r"https://\S+/invitation/\S+", site.machine.read("/root/mails"))
        assert len(visitor.enrol(site, link)["codes"]) == 10
        site.machine.run(["systemctl", "start", "pam-totp-mail.service"])
        said = site.machine.read("/root/mails")
        assert 'The authenticator "phone" was set up, on' in said
        assert "New recovery codes were made" in said
        assert "mail server" not in site.command("doctor", check=False).stdout
        server.communicate("\n", timeout=60)
    assert link.split("/")[-2] not in "\n".join(site.machine.journal())
    site.machine.sh("sed -i '/^.mail/,$d' /etc/pam-totp-directory/directory.toml; systemctl restart pam-totp-directory")


def test_who_enrols_in_the_portal_is_enrolled_on_the_hosts(site: Site, host: Host) -> None:
    site.command("user", "add", "erin")
    done = visitor.enrol(site, site.command("user", "invite", "erin").stdout.split()[-1], "/admin/")
    assert done["pages"]["/admin/"][0] == 404
    found = host.wait(lambda records: "erin" in records and records["erin"].authenticators)
    (authenticator,) = found["erin"].authenticators
    assert base64.b32encode(authenticator.secret).decode("ascii") == done["key"]


def test_of_many_hosts_that_claim_a_code_at_once_one_has_it(site: Site, host: Host) -> None:
    site.command("user", "add", "bob")
    site.enroll("bob")
    races.one_wins(site, host, "bob")


@pytest.mark.full
def test_of_a_hundred_hosts_that_claim_a_code_at_once_one_has_it(site: Site) -> None:
    site.command("user", "add", "claire")
    site.enroll("claire")
    token = tree.parse_token(site.command("token", "new").stdout)
    hosts = [site.join(f"of{number}.example.org", token) for number in range(100)]
    for host in hosts:
        host.wait(lambda records: "claire" in records and records["claire"].authenticators, seconds=120)
    races.one_wins(site, hosts[0], "claire", hosts=hosts[1:])


def test_a_host_gets_nothing_of_another_one(site: Site, host: Host) -> None:
    other = site.join("web2")
    other.wait(lambda _: other.manifest() is not None)
    manifest = host.manifest()
    assert manifest is not None
    assert site.ask(f"/tree/{host.ident}/manifest", other)[0] == 404
    for name in manifest.files:
        assert site.ask(f"/tree/{host.ident}/objects/{name}", other)[0] == 404
        assert site.ask(f"/tree/{other.ident}/objects/{name}", other)[0] == 404
    assert site.ask(f"/tree/{host.ident}/manifest")[0] == 401


def test_a_host_that_was_revoked_gets_nothing_and_whom_to_enrol_anew_is_listed(site: Site) -> None:
    host = site.join("web3")
    host.wait(lambda records: "alice" in records)
    said = site.command("host", "revoke", "web3", "--yes").stdout
    assert {"alice", "bob"} <= set(said.splitlines())
    # Who reads its own tree is known for a second.
    wait(lambda: site.ask(f"/tree/{host.ident}/manifest", host)[0] == 401)


def test_who_has_taken_over_the_web_process_has_no_key_and_cannot_add_a_host(site: Site) -> None:
    for path in ("keys", "keeper.db", ""):
        done = site.machine.run([*AS_WEB, "cat", f"/var/lib/pam-totp-keeper/{path}"], check=False)
        assert "Permission denied" in done.stderr
    assert (
        "Permission denied" in site.machine.run([*AS_WEB, "cat", "/etc/pam-totp-directory/ca.key"], check=False).stderr
    )
    [pid] = site.machine.run(["systemctl", "show", "--value", "-p", "MainPID", "pam-totp-keeper"]).stdout.split()
    for what in ("mem", "environ", "maps"):
        assert "ermi" in site.machine.run([*AS_WEB, "cat", f"/proc/{pid}/{what}"], check=False).stderr
    for verb in ("token", "epoch"):
        asked = {"verb": verb, "secret": "x", "host": "", "expires": 1 << 40}
        said = json.loads(
            site.machine.run([*AS_WEB, "/usr/bin/python3", "-I", "-c", ASK], input=json.dumps(asked)).stdout
        )
        assert "for root alone" in said["error"]
    nobody = site.machine.run(
        ["setpriv", "--reuid=nobody", "--clear-groups", "/usr/bin/python3", "-I", "-c", ASK], input="{}", check=False
    )
    assert "PermissionError" in nobody.stderr


ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("/run/pam-totp-directory/keeper.sock")
    asking.sendall(sys.stdin.read().encode() + b"\\n")
    print(asking.makefile().readline())
"""


def test_a_stolen_database_tells_no_secret(site: Site, host: Host) -> None:
    secrets = [each.secret for record in host.records().values() for each in record.authenticators]
    assert len(secrets) >= 2
    script = "cat /var/lib/pam-totp-directory/directory.db* | od -An -v -tx1 | tr -d ' \\n'"
    kept = site.machine.sh(script).stdout
    for secret in secrets:
        for form in (secret, base64.b64encode(secret)[:-4], base64.b32encode(secret), secret.hex().encode()):
            assert form.hex() not in kept
    listing = site.machine.run(["find", "/var/lib/pam-totp-directory", "-perm", "/007"]).stdout
    assert listing == ""


@pytest.mark.parametrize("unit", ["pam-totp-keeper", "pam-totp-directory", "pam-totp-publisher"])
def test_a_process_that_is_killed_comes_back_and_nothing_is_lost(site: Site, host: Host, unit: str) -> None:
    name = f"killed-{unit.rpartition('-')[2]}"
    site.command("user", "add", name)
    site.machine.run(["systemctl", "kill", "--signal=KILL", unit])
    host.wait(lambda records: name in records)
    site.command("user", "add", f"{name}-2")
    host.wait(lambda records: f"{name}-2" in records)


def test_the_trail_holds_and_the_keepers_log_has_who_asked_and_no_code(site: Site) -> None:
    assert site.command("audit", "--check").stdout.startswith("nothing was changed")
    said = site.command("audit").stdout
    for action in ("person-added alice", "enrolled alice", "host-joined web1", "host-revoked web3", "locked alice"):
        assert action in said
    journal = "\n".join(site.machine.journal())
    assert "check person=" in journal
    assert re.search(r"publish sequence=\d+ hosts=\d", journal)


def test_an_entry_of_the_trail_that_was_changed_behind_its_back_is_found(site: Site) -> None:
    """By somebody who may write the database, and takes the triggers out first."""
    for actor, status in (("eve", 1), ("root", 0)):
        site.machine.run(["/usr/bin/python3", "-I", "-c", FORGE], input=actor)
        done = site.command("audit", "--check", check=False)
        assert (done.returncode, "was changed, or" in done.stdout) == (status, bool(status))
        assert ("audit trail was changed" in site.command("doctor", check=False).stdout) == bool(status)


FORGE = """
import sqlite3, sys
found = sqlite3.connect("/var/lib/pam-totp-directory/directory.db", timeout=20)
(trigger,) = found.execute("SELECT sql FROM sqlite_master WHERE name = 'audit_update'").fetchone()
found.execute("DROP TRIGGER audit_update")
where = "WHERE action = 'host-revoked' AND target = 'web3'"
assert found.execute("UPDATE directory_audit SET actor = ? " + where, [sys.stdin.read()]).rowcount == 1
found.execute(trigger)
found.commit()
"""


@pytest.mark.full
def test_on_a_full_disk_nothing_is_half_done_and_hosts_keep_what_they_have(site: Site, host: Host) -> None:
    site.command("user", "add", "fulton")
    host.wait(lambda records: "fulton" in records)
    before = host.manifest()
    machine, units = site.machine, "pam-totp-directory pam-totp-publisher"
    machine.sh(
        f"""
        set -e
        systemctl stop {units}
        cd /var/lib
        mv pam-totp-directory pam-totp-directory.kept
        # The log has room for what comes, where it has been written to already.
        /usr/bin/python3 -I -c '
import sqlite3
found = sqlite3.connect("pam-totp-directory.kept/directory.db")
assert found.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
found.close()'
        mkdir pam-totp-directory
        size=$(($(du -sm pam-totp-directory.kept | cut -f1) + 3))
        mount -t tmpfs -o size=$size"m" tmpfs pam-totp-directory
        cp -a pam-totp-directory.kept/. pam-totp-directory/
        chown --reference=pam-totp-directory.kept pam-totp-directory
        chmod --reference=pam-totp-directory.kept pam-totp-directory
        systemctl start {units}
        dd if=/dev/zero of=pam-totp-directory/ballast bs=4096 2>/dev/null || true
        """
    )
    try:
        # All of them, or none.
        many = [f"many{number}" for number in range(400)]
        failed = site.command("user", "add", *many, check=False)
        assert (failed.returncode, "is the disk full" in failed.stderr) == (3, True)
        time.sleep(3)
        # A host that is answered with an error keeps what it has.
        status, content = site.ask(f"/tree/{host.ident}/manifest", host)
        assert status >= 500 or tree.open_manifest(content, host.pin.key) == before
        machine.sh("rm /var/lib/pam-totp-directory/ballast")
        end = time.monotonic() + 60
        while site.ask(f"/tree/{host.ident}/manifest", host)[0] != 200:
            assert time.monotonic() < end
            time.sleep(1)
        assert "many" not in site.command("user", "list").stdout
        site.command("user", "lock", "fulton")
        host.wait(lambda records: records["fulton"].locked, seconds=60)
        assert site.command("audit", "--check").returncode == 0
    finally:
        machine.sh(
            f"""
            systemctl stop {units}
            cd /var/lib
            rm -f pam-totp-directory/ballast
            cp -a pam-totp-directory/. pam-totp-directory.kept/
            umount pam-totp-directory
            rmdir pam-totp-directory
            mv pam-totp-directory.kept pam-totp-directory
            systemctl start {units}
            """
        )


def test_a_restored_database_is_noticed_and_an_epoch_mends_it(site: Site, host: Host) -> None:
    site.machine.sh(
        """
        set -e
        systemctl stop pam-totp-directory pam-totp-publisher
        cp -a /var/lib/pam-totp-directory /root/old
        systemctl start pam-totp-directory pam-totp-publisher
        """
    )
    site.command("user", "lock", "alice")
    host.wait(lambda records: records["alice"].locked)
    before = host.manifest()
    assert before is not None
    site.machine.sh(
        """
        set -e
        systemctl stop pam-totp-directory pam-totp-publisher
        rm -r /var/lib/pam-totp-directory/directory.db*
        cp -a /root/old/directory.db* /var/lib/pam-totp-directory/
        systemctl start pam-totp-directory pam-totp-publisher
        """
    )
    site.command("user", "add", "carol")
    done = site.command("publish", check=False)
    assert done.returncode == 3
    assert "pam-totp-directory epoch" in done.stderr
    assert host.manifest() == before
    said = site.command("epoch", "--yes").stdout
    assert "Epoch 2 has begun" in said
    host.wait(lambda records: "carol" in records)
    after = host.manifest()
    assert after is not None
    assert (after.epoch, after.previous_epoch_closed) == (2, before.sequence)


# Puts a certificate into the place of the web process's: how many days ago it was made, and by which CA.
AGED = """
import datetime, sys
sys.path.insert(0, "/usr/lib/pam-totp-directory")
from pam_totp.directory import certificates
now, where = datetime.datetime.now(datetime.UTC), "/etc/pam-totp-directory/"
ca, ca_key = (open(where + name, "rb").read() for name in ("ca.crt", "ca.key"))
if sys.argv[2] == "other":
    ca, ca_key = certificates.authority("another", now)
made, _ = certificates.server(
    sys.argv[3], ca, ca_key, now - datetime.timedelta(days=int(sys.argv[1])), open(where + "tls.key", "rb").read()
)
open(where + "tls.crt", "wb").write(made)
"""


def test_the_certificate_is_renewed_in_time_and_nobody_is_signed_out(site: Site, host: Host) -> None:
    def age(days: int, authority: str = "own") -> None:
        site.machine.run(["/usr/bin/python3", "-I", "-c", AGED, str(days), authority, NAME])

    path = "/etc/pam-totp-directory/tls.crt"
    before = site.machine.read(path)
    site.machine.run(["systemctl", "start", "pam-totp-renew.service"])
    assert site.machine.read(path) == before
    age(780)
    assert "tls.crt ends at" in site.command("doctor", check=False).stdout
    site.machine.run(["systemctl", "reload", "pam-totp-directory"])
    pid = site.machine.run(["systemctl", "show", "--value", "-p", "MainPID", "pam-totp-directory"]).stdout
    old = _served(site)
    site.command("user", "add", "nora")
    link = site.command("user", "invite", "nora").stdout.split()[-1]
    # She signs in, the certificate is renewed and served, and she is signed in still.
    script = (
        f'old=$({SERVED}) && systemctl start pam-totp-renew && until test "$({SERVED})" != "$old"; do sleep 0.3; done'
    )
    assert visitor.enrol(site, link, "/recovery/", between=script)["pages"]["/recovery/"][0] == 200
    assert _served(site) != old
    assert site.machine.run(["systemctl", "show", "--value", "-p", "MainPID", "pam-totp-directory"]).stdout == pid
    assert site.machine.sh("stat -c %a:%U /etc/pam-totp-directory/tls.*").stdout.split() == ["644:root", "640:root"]
    assert "tls.crt ends at" not in site.command("doctor", check=False).stdout
    host.wait(lambda _: True)
    # One of another CA is left alone, and doctor says when it ends.
    age(780, "other")
    theirs = site.machine.read(path)
    assert "left alone" in site.command("renew").stdout
    assert site.machine.read(path) == theirs
    assert "renew it, and systemctl reload" in site.command("doctor", check=False).stdout
    age(0)
    site.machine.run(["systemctl", "reload", "pam-totp-directory"])


def _served(site: Site) -> str:
    return site.machine.sh(SERVED).stdout


# The certificate that the web process shows.
SERVED = f"""/usr/bin/python3 -I -c 'import ssl; print(ssl.get_server_certificate(("{NAME}", 443)))'"""


def test_the_doctor_finds_nothing_wrong_and_names_what_is(site: Site) -> None:
    said = site.command("doctor", check=False)
    # Hosts here ask once, for a test.
    wrong = [
        line for line in said.stdout.splitlines() if "nothing was heard" not in line and line != "nothing is wrong"
    ]
    assert wrong == []
    site.machine.sh("chmod 755 /var/lib/pam-totp-keeper; systemctl stop pam-totp-publisher")
    said = site.command("doctor", check=False)
    assert said.returncode == 1
    assert "WRONG: /var/lib/pam-totp-keeper is not as it has to be" in said.stdout
    assert "WRONG: pam-totp-publisher.service is inactive" in said.stdout
    site.machine.sh("chmod 700 /var/lib/pam-totp-keeper; systemctl start pam-totp-publisher")


def test_a_backup_brings_back_everything_and_hosts_take_it(site: Site, host: Host) -> None:
    before = host.records()
    secret = "/etc/pam-totp-directory/oidc.secret"
    site.machine.sh('echo x >"$1" && chmod 640 "$1" && chgrp pam-totp-directory "$1"', secret)
    settings = site.machine.sh("stat -c '%n %a %U %G' /etc/pam-totp-directory/*").stdout
    assert secret in settings
    site.command("backup", "/root/backup.tar.gz")
    assert site.machine.sh("stat -c %a /root/backup.tar.gz").stdout.strip() == "600"
    assert site.command("backup", "/root/backup.tar.gz", check=False).returncode == 3
    site.command("user", "remove", "--yes", "alice")
    host.wait(lambda records: "alice" not in records)
    last = host.manifest()
    assert last is not None
    site.machine.sh("head -c 2000 /root/backup.tar.gz >/root/cut.tar.gz")
    assert "nothing was changed" in site.command("restore", "--yes", "/root/cut.tar.gz", check=False).stderr
    # Not even keys are left.
    site.machine.sh(
        """
        systemctl stop pam-totp-directory pam-totp-publisher pam-totp-keeper.socket pam-totp-keeper
        rm -rf /etc/pam-totp-directory /var/lib/pam-totp-directory /var/lib/pam-totp-keeper
        """
    )
    said = site.command("restore", "--yes", "/root/backup.tar.gz").stdout
    assert "has begun" in said
    assert site.machine.sh("stat -c '%n %a %U %G' /etc/pam-totp-directory/*").stdout == settings
    found = host.wait(lambda records: "alice" in records)
    assert found == before
    after = host.manifest()
    assert after is not None
    assert after.epoch > last.epoch
    assert site.command("audit", "--check").returncode == 0
    assert "certificate" not in site.command("doctor", check=False).stdout


def test_connections_on_which_nothing_comes_keep_nobody_out(site: Site) -> None:
    with site.machine.popen(["/usr/bin/python3", "-I", "-c", IDLE]) as idle:
        assert idle.stdin is not None
        assert idle.stdout is not None
        assert idle.stdout.readline() == "open\n"
        assert site.ask("/api/v1/ca")[0] == 200
        idle.communicate("\n", timeout=60)


IDLE = f"""
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/pam-totp-directory/ca.crt")
kept = []
for number in range(200):
    kept.append(socket.create_connection(({NAME!r}, 443)))
    if number % 2:
        kept[-1] = context.wrap_socket(kept[-1], server_hostname={NAME!r})
        kept[-1].sendall(b"GET /api/v1/ca HTTP/1.1\\r\\nHost:")
print("open", flush=True)
sys.stdin.readline()
"""


def test_links_that_a_taken_over_web_process_leaves_lead_root_nowhere(site: Site) -> None:
    """Root sets the directory up again, or puts a backup back: with root's rights a link would be followed."""
    machine = site.machine
    site.command("backup", "/root/links.tar.gz")
    look = "stat -c '%U %a' /root/target /etc/profile.d; ls -A /root/target /etc/profile.d"
    machine.run(["mkdir", "-m", "700", "/root/target"])
    before = machine.sh(look).stdout
    machine.sh(
        """
        set -e
        systemctl stop pam-totp-publisher pam-totp-directory
        cd /var/lib/pam-totp-directory
        mv tree tree.kept
        mv session.key session.kept
        setpriv --reuid=pam-totp-directory --regid=pam-totp-directory --init-groups sh -c '
            ln -s /root/target tree
            ln -s /etc/profile.d before-directory.db.sh
            echo "touch /root/taken" >directory.db.sh
            ln -s /etc/profile.d/session.sh session.key'
        """
    )
    site.command("init", "--name", NAME, "--admin", "root", check=False)
    site.command("restore", "--yes", "/root/links.tar.gz", check=False)
    assert machine.sh(look).stdout == before
    machine.sh(
        """
        set -e
        cd /var/lib/pam-totp-directory
        rm -f tree session.key before-* directory.db.sh
        mv session.kept session.key
        mv tree.kept tree
        """
    )
    assert "has begun" in site.command("restore", "--yes", "/root/links.tar.gz").stdout
    assert site.machine.run(["stat", "-c", "%U %a", "/var/lib/pam-totp-directory/tree"]).stdout.strip() == (
        "pam-totp-directory 750"
    )


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/join", "/login/"])
def test_a_stranger_s_endless_body_is_cut_off_and_fills_no_disk(site: Site, path: str) -> None:
    """Nobody knows whose a body is before it is there."""
    # The files, too, that have no name, in the memory of this machine or on its disk.
    took = "df -k --output=used / /tmp /var/tmp | tail -n +2; ps -o rss= -u pam-totp-directory"
    before = sum(map(int, site.machine.sh(took).stdout.split()))
    status = site.machine.run(["/usr/bin/python3", "-I", "-c", ENDLESS], input=path, timeout=120).stdout.strip()
    # What still comes is thrown away.
    assert (status, sum(map(int, site.machine.sh(took).stdout.split())) - before < 64 << 10) == ("413", True)
    assert site.ask("/api/v1/ca")[0] == 200


ENDLESS = f"""
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/pam-totp-directory/ca.crt")
end = context.wrap_socket(socket.create_connection(({NAME!r}, 443), timeout=60), server_hostname={NAME!r})
head = "POST " + sys.stdin.read() + " HTTP/1.1\\r\\nHost: {NAME}\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
end.sendall(head.encode())
chunk, sent = b"10000\\r\\n" + b"a" * 65536 + b"\\r\\n", 0
try:
    while sent < 256 << 20:
        end.sendall(chunk)
        sent += 65536
except OSError:
    pass
try:
    print(end.recv(4096).split()[1].decode())
except OSError as error:
    print(error)
"""


@pytest.mark.full
def test_a_connection_that_asks_for_nothing_ends(site: Site) -> None:
    """Else a stranger holds all that there are, by doing nothing."""
    script = "import pam_totp.directory.serve as it; print(it.HEAD_SECONDS)"
    seconds = float(
        site.machine.run(["/usr/bin/python3", "-c", f"import sys; sys.path.insert(0, {LIB!r}); {script}"]).stdout
    )
    said = site.machine.run(["/usr/bin/python3", "-I", "-c", NOTHING], input=str(seconds), timeout=180).stdout
    assert said.split() == ["ended", "ended", "ended", "answered"]


LIB = "/usr/lib/pam-totp-directory"
NOTHING = f"""
import http.client, socket, ssl, sys, time
context = ssl.create_default_context(cafile="/etc/pam-totp-directory/ca.crt")
def connect():
    return context.wrap_socket(socket.create_connection(({NAME!r}, 443), timeout=120), server_hostname={NAME!r})
silent, slow, later = connect(), connect(), connect()
busy = http.client.HTTPSConnection({NAME!r}, 443, timeout=60, context=context)
def answered():
    busy.request("GET", "/api/v1/ca")
    answer = busy.getresponse()
    return bool(answer.read()) and answer.status == 200
assert answered()
kept = busy.sock
request = b"GET /api/v1/ca HTTP/1.1\\r\\nHost: {NAME}\\r\\n\\r\\n"
later.sendall(request)
assert later.recv(1 << 16)
end = time.monotonic() + float(sys.stdin.read()) + 20
open_ = {{"silent": silent, "slow": slow, "later": later}}
while open_ and time.monotonic() < end:
    assert answered()
    for name, each in list(open_.items()):
        try:
            if name != "silent":
                each.sendall(b"G" if name == "later" else b"GE")
            each.settimeout(0.1)
            if each.recv(1 << 16) == b"":
                del open_[name]
        except TimeoutError:
            pass
        except OSError:
            del open_[name]
    time.sleep(2)
print(*(["ended"] * (3 - len(open_))), *open_)
print("answered" if answered() and busy.sock is kept else "another")
"""


# A host with the package pam-totp and its agent: the same machine, as nothing of the two is shared.


@pytest.fixture(scope="module")
def fleet(site: Site, debs: tuple[Path, ...]) -> Machine:
    """The machine, joined as the host `laptop`, with users dora and gina; its PAM service `try` asks for codes.

    Before it joined, hugo and ivan were enrolled on it; the directory knows hugo.
    """
    for package in debs:
        site.machine.write(f"/root/{package.name}", package.read_bytes())
    files = " ".join(f"/root/{package.name}" for package in debs)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    site.machine.sh(f"apt-get install -q -y --no-install-recommends {files} 2>&1", env=env, timeout=200)
    site.machine.sh("useradd dora; useradd gina; printf 'auth required pam_totp.so\n' >/etc/pam.d/try")
    site.command("user", "add", "dora", "gina", "hugo")
    for name in ("hugo", "ivan"):
        site.machine.run(["useradd", name])
        made = json.loads(site.machine.run(["pam-totp", "enroll", name, "--no-confirm", "--json"]).stdout)
        site.machine.run(["pam-totp", "confirm", name], input=f"{code(made['secret'])}\n")
    token = site.command("token", "new", "--host", "laptop").stdout
    said = site.machine.run(["pam-totp", "join", f"https://{NAME}", "--name", "laptop"], input=token).stdout
    assert "enrolled on this host and not in the directory: 1; pam-totp upload hands them up" in said
    return site.machine


def until(machine: Machine, script: str) -> None:
    """Wait until a shell script succeeds."""
    machine.sh(f"until {script}; do sleep 0.3; done", timeout=120)


def log_in(machine: Machine, name: str, typed: str) -> bool:
    """Whether somebody gets in with this code."""
    done = machine.run(["pamtester", "try", name, "authenticate"], input=f"{typed}\n", check=False)
    return done.returncode == 0


def test_a_real_host_asks_for_the_codes_of_the_directory_each_good_once_in_the_fleet(
    site: Site, host: Host, fleet: Machine
) -> None:
    secrets = {name: base64.b32encode(site.enroll(name)).decode("ascii") for name in ("dora", "gina")}
    until(fleet, "test $(pam-totp status | grep -Ec '^(dora|gina) +active') = 2")
    soon = time.time() + 30
    right = code(secrets["dora"], soon)
    assert log_in(fleet, "dora", right)
    assert not log_in(fleet, "dora", right)
    # Another host was faster.
    records = host.wait(lambda records: "gina" in records and records["gina"].authenticators)
    asked = {"authenticator": records["gina"].authenticators[0].identifier, "step": otp.step_at(soon)}
    assert site.ask("/api/v1/claim", host, asked) == (200, b'{"claimed": true}')
    assert not log_in(fleet, "gina", code(secrets["gina"], soon))
    until(fleet, "pam-totp fleet | grep -q 'pending: *0 events'")


def test_who_is_locked_in_the_directory_is_locked_on_a_real_host_and_who_enrols_there_is_enrolled_here(
    site: Site, fleet: Machine
) -> None:
    site.command("user", "lock", "dora")
    until(fleet, "pamtester try dora authenticate </dev/null 2>&1 | grep -q 'account is locked'")
    site.command("user", "add", "fred")
    fleet.run(["useradd", "fred"])
    until(fleet, "pam-totp status fred | grep -q none")
    with fleet.terminal(["pam-totp", "enroll", "fred"]) as terminal:
        terminal.expect(r"secret=([A-Z2-7]{32})")
        found = re.search(r"secret=([A-Z2-7]{32})", terminal.screen)
        assert found is not None
        terminal.expect("ode")
        terminal.answer(code(found[1]))
        terminal.expect("recovery codes too")
        terminal.answer("n")
        assert terminal.wait() == 0
    until(fleet, "pam-totp-directory user list fred | grep -q ' enrolled '")


def test_a_real_host_hands_up_who_was_enrolled_there_before_it_joined(site: Site, host: Host, fleet: Machine) -> None:
    assert "not enrolled" in site.command("user", "list", "hugo").stdout
    done = fleet.run(["pam-totp", "upload", "--yes"], check=False)
    assert done.returncode == 1
    assert "hugo is handed up" in done.stdout
    assert "ivan stays this host's own" in done.stdout
    assert " enrolled " in site.command("user", "list", "hugo").stdout
    # The other host has it, and on this one it is the directory's.
    host.wait(lambda records: "hugo" in records and records["hugo"].authenticators)
    until(fleet, 'pam-totp status hugo --json | grep -q \'"source": *"directory"\'')
    until(fleet, "pam-totp upload --yes | grep -q 'there is nobody to hand up'")
    site.command("user", "lock", "hugo")
    until(fleet, "pamtester try hugo authenticate </dev/null 2>&1 | grep -q 'account is locked'")


def test_two_agents_with_one_identity_are_noticed(site: Site, fleet: Machine) -> None:
    # What a copy of this host would hand over, with the real identity, and the real agent beside it.
    line = json.loads(fleet.read("/var/lib/pam-totp/fleet/line"))
    said = json.loads(fleet.run(["/usr/bin/python3", "-I", "-c", COPY, line["latest"]]).stdout)
    assert said["alone"]
    fleet.run(["systemctl", "restart", "pam-totp-agent"])
    end = time.monotonic() + 60
    while said["alone"]:
        assert time.monotonic() < end
        said = json.loads(fleet.run(["/usr/bin/python3", "-I", "-c", COPY, said["latest"]]).stdout)
        time.sleep(0.3)
    assert "two hosts have the identity of laptop" in site.command("doctor", check=False).stdout
    assert "host-cloned laptop" in site.command("audit").stdout
    # The host hears of it as well.
    fleet.run(["systemctl", "restart", "pam-totp-agent"])
    until(fleet, "pam-totp fleet | grep -q '^cloned: *another host has this one'")
    assert fleet.run(["pam-totp", "fleet"], check=False).returncode == 1


COPY = """
import json, sys
from pam_totp.cache.accounts import Accounts
from pam_totp.fleet import identity, tree, web
from pam_totp.host.paths import Paths
with Accounts(Paths()) as accounts:
    own = identity.require(accounts)
latest = tree.new_identifier()
said = web.Web(own.url, own.ca, own.token).post("/api/v1/line", {"before": sys.argv[1], "latest": latest}, 10).fields()
print(json.dumps({"latest": latest, **said}))
"""


def test_a_real_host_leaves(site: Site, fleet: Machine) -> None:
    fleet.run(["pam-totp", "leave", "--yes"])
    assert "laptop" not in site.command("host", "list").stdout


def test_people_are_imported_and_exported_by_the_command(site: Site) -> None:
    site.machine.write("/root/people.csv", "name,display\nmike,Mike\ndave\n")
    refused = site.command("user", "import", "/root/people.csv", check=False)
    assert (refused.returncode, "line 3: there are 1 fields" in refused.stderr) == (2, True)
    site.machine.write("/root/people.csv", "name,display\nmike,Mike\n")
    assert "would do: mike: added" in site.command("user", "import", "--dry-run", "/root/people.csv").stdout
    assert "mike: added\n1 change" in site.command("user", "import", "/root/people.csv").stdout
    site.command("user", "export", "/root/export.csv")
    assert "mike,Mike,,everyone,\n" in site.machine.read("/root/export.csv")
    assert "0 changes" in site.command("user", "import", "/root/export.csv").stdout


def test_accounts_of_the_machine_sign_in_by_pam_and_nobody_but_the_web_process_asks(site: Site) -> None:
    machine = site.machine
    machine.sh(f'cp -p {SETTINGS} /root/settings && sed -i "1i passwords = \\"pam\\"" {SETTINGS}')
    machine.run(["systemctl", "restart", "pam-totp-directory"])
    assert "systemctl enable --now pam-totp-passwords.socket" in site.command("doctor", check=False).stdout
    machine.run(["systemctl", "enable", "--now", "pam-totp-passwords.socket"])
    machine.user("oscar", password=MACHINES_PASSWORD, key=False)
    machine.user("judy", password=MACHINES_PASSWORD, key=False)
    machine.sh(
        'passwd -d judy >/dev/null; useradd --system daemonlike; echo "$1" | chpasswd', f"root:{MACHINES_PASSWORD}"
    )
    machine.sh('echo "$1" | chpasswd', f"daemonlike:{MACHINES_PASSWORD}")
    site.command("user", "add", "oscar", "judy", "daemonlike")
    assert sign_in(site, "oscar", "wrong")["path"] == "/login/"
    assert sign_in(site, "oscar", MACHINES_PASSWORD)["path"] == "/enrol/"
    # No password is no way in, and accounts of the system are nobody's.
    for name in ("judy", "root", "daemonlike"):
        assert sign_in(site, name, MACHINES_PASSWORD)["path"] == "/login/", name
    # The right password of an account whose time is over.
    machine.run(["usermod", "--expiredate", "1", "oscar"])
    assert sign_in(site, "oscar", MACHINES_PASSWORD)["path"] == "/login/"
    assert "PAM" not in site.command("doctor", check=False).stdout
    asked = json.dumps({"name": "judy", "password": MACHINES_PASSWORD})
    ask = ["/usr/bin/python3", "-I", "-c", ASK_PAM]
    nobody = ["setpriv", "--reuid=nobody", "--clear-groups", *ask]
    assert "PermissionError" in machine.run(nobody, input=asked, check=False).stderr
    web = ["setpriv", "--reuid=pam-totp-directory", "--regid=pam-totp-directory", "--init-groups", *ask]
    assert machine.run(web, input=asked).stdout.strip() == '{"right": false}'
    assert MACHINES_PASSWORD not in "\n".join(machine.journal())
    [pid] = machine.run(["systemctl", "show", "--value", "-p", "MainPID", "pam-totp-passwords"]).stdout.split()
    status = machine.read(f"/proc/{pid}/status")
    assert "Uid:\t0" in status
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0" * 16}
    machine.sh(f"cp -p /root/settings {SETTINGS}; systemctl disable --now pam-totp-passwords.socket pam-totp-passwords")
    machine.run(["systemctl", "restart", "pam-totp-directory"])


SETTINGS = "/etc/pam-totp-directory/directory.toml"
MACHINES_PASSWORD = "the password of this machine"
ASK_PAM = """
import socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect("/run/pam-totp-directory/passwords.sock")
    asking.sendall(sys.stdin.read().encode() + b"\\n")
    print(asking.makefile().readline())
"""


# The last two change what the others need.


def test_an_upgrade_restarts_what_runs_and_hosts_go_on(site: Site, host: Host) -> None:
    before = {unit: _started(site, unit) for unit in (*UNITS[1:], "pam-totp-keeper.service")}
    site.machine.sh("dpkg -i /root/pam-totp-directory_*.deb 2>&1")
    site.command("user", "add", "upgraded")
    host.wait(lambda records: "upgraded" in records)
    assert {unit: started for unit in before if (started := _started(site, unit)) == before[unit]} == {}


def _started(site: Site, unit: str) -> str:
    return site.machine.run(["systemctl", "show", "--value", "-p", "InvocationID", unit]).stdout.strip()


def test_removal_keeps_everything_and_a_purge_leaves_nothing(site: Site) -> None:
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    site.machine.sh("apt-get remove -q -y pam-totp-directory 2>&1", env=env)
    site.machine.sh("test -e /var/lib/pam-totp-keeper/keys && test -e /var/lib/pam-totp-directory/directory.db")
    site.machine.sh("apt-get purge -q -y pam-totp-directory 2>&1", env=env)
    pruned = "-path /proc -o -path /sys -o -path /root -o -path /run/lab -o -path /var/lib/apt -o -path /var/cache/apt"
    names = " -o ".join(f"-name '*pam-totp-{name}*'" for name in ("directory", "keeper", "publisher", "mail", "renew"))
    left = site.machine.sh(f"find / -xdev \\( {pruned} \\) -prune -o \\( {names} \\) -print").stdout.split()
    assert left == []
    assert site.machine.sh("getent passwd pam-totp-directory pam-totp-keeper", check=False).stdout == ""
