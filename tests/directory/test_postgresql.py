"""The same with PostgreSQL: a directory that began with SQLite is moved there by one line and two commands."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from pam_totp.factors import otp
from tests.directory import lane, races
from tests.directory.site import NAME, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.booted import Booted

DATABASE = "postgresql://totp:secret@127.0.0.1/totp"


@pytest.fixture(scope="module")
def moved(pytestconfig: pytest.Config) -> Iterator[Site]:
    """A directory with PostgreSQL."""
    from tests.lab.booted import Booted
    from tests.lab.package import directory_deb

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        package = directory_deb()
        machine = Booted(lane.SUITE, (*lane.PACKAGES, "iproute2", "postgresql"))
    with machine:
        site = Site(machine, package)
        yield site


@pytest.mark.full
def test_a_directory_is_moved_to_postgresql_and_goes_on_there(moved: Site) -> None:
    moved.command("user", "add", "alice")
    secret = moved.enroll("alice")
    host = moved.join("web1")
    before = host.wait(lambda records: "alice" in records)
    machine = moved.machine
    machine.sh(
        """
        set -e
        systemctl start postgresql
        cd /
        setpriv --reuid=postgres --regid=postgres --init-groups psql -q -c "CREATE ROLE totp LOGIN PASSWORD 'secret'"
        setpriv --reuid=postgres --regid=postgres --init-groups psql -q -c "CREATE DATABASE totp OWNER totp"
        """
    )
    moved.command("backup", "/root/backup")
    machine.sh('printf "database = \\"%s\\"\\n" "$1" >>/etc/pam-totp-directory/directory.toml', DATABASE)
    assert "has begun" in moved.command("restore", "--yes", "--database-only", "/root/backup").stdout
    machine.sh("rm /var/lib/pam-totp-directory/directory.db*")
    assert host.wait(lambda records: "alice" in records) == before
    assert [each.secret for each in before["alice"].authenticators] == [secret]
    moved.command("user", "add", "bob")
    host.wait(lambda records: "bob" in records)
    # When a host was seen is written there, too, where many are written at once.
    ask = 'cd /; setpriv --reuid=postgres --regid=postgres --init-groups psql -At totp -c "$1"'
    machine.sh(ask, "UPDATE directory_host SET last_seen = NULL, address = NULL")
    machine.sh("systemctl restart pam-totp-directory", timeout=120)
    host.wait(lambda records: "bob" in records)
    seen = "SELECT count(*) FROM directory_host WHERE now() - last_seen < '1 minute' AND address = '127.0.0.1'"
    assert machine.sh(ask, seen).stdout == "1\n"
    assert moved.command("audit", "--check").stdout.startswith("nothing was changed")
    assert "older" not in moved.command("doctor", check=False).stdout


@pytest.mark.full
def test_there_too_one_of_many_claims_wins_and_the_trail_is_append_only(moved: Site) -> None:
    races.one_wins(moved, moved.join("web2"), "alice")
    script = """
        cd /
        setpriv --reuid=postgres --regid=postgres --init-groups psql totp -c "UPDATE directory_audit SET target = 'eve'"
    """
    done = moved.machine.sh(script, check=False)
    assert "append-only" in done.stderr


@pytest.mark.full
def test_there_too_a_database_of_each_earlier_state_comes_up_to_date(moved: Site) -> None:
    script = """cd / && setpriv --reuid=postgres --regid=postgres --init-groups psql -qtAc "$1" """
    moved.machine.sh(script, "ALTER ROLE totp CREATEDB")
    lane.sources(moved.machine)
    done = lane.pytest(moved.machine, "tests/directory/inside/test_migrations.py")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    # It was here, and not in a file.
    assert moved.machine.sh(script, "SELECT 1 FROM pg_database WHERE datname = 'old'").stdout == "1\n"


@pytest.mark.full
def test_a_database_that_is_killed_at_any_moment_loses_nothing_that_was_answered(moved: Site) -> None:
    """Also while claims are being made: what was claimed stays so, and what was not is asked for again."""
    host, machine = moved.join("web3"), moved.machine
    records = host.wait(lambda records: "alice" in records and records["alice"].authenticators)
    (authenticator,) = records["alice"].authenticators
    step = otp.step_at(float(machine.run(["date", "+%s"]).stdout))
    claimed, killed = [], 0
    for number in range(30):
        asked = {"authenticator": authenticator.identifier, "step": step + number, "login": f"{number:032x}"}
        if number % 6 == 3:
            machine.sh("kill -KILL $(head -1 /var/lib/postgresql/*/main/postmaster.pid)")
            killed += 1
        status, _ = moved.ask("/api/v1/claim", host, asked)
        claimed += [number] if status == 200 else []
        if number % 6 == 5:
            machine.sh("systemctl reset-failed 'postgresql*'; systemctl restart postgresql")
            machine.sh("until pg_isready -q; do sleep 0.2; done")
    assert killed == 5
    # Of six, one or two while it is dead, and one for each web process that finds its connection dead.
    assert 10 <= len(claimed) < 30
    for number in claimed:
        asked = {"authenticator": authenticator.identifier, "step": step + number, "login": "f" * 32}
        assert moved.ask("/api/v1/claim", host, asked) == (200, b'{"claimed": false}'), number
    moved.command("user", "add", "carol")
    host.wait(lambda records: "carol" in records, seconds=60)
    assert moved.command("audit", "--check").returncode == 0


@pytest.mark.full
def test_there_too_a_backup_is_put_back(moved: Site) -> None:
    moved.command("backup", "/root/second")
    moved.command("user", "remove", "--yes", "alice")
    assert "has begun" in moved.command("restore", "--yes", "/root/second").stdout
    assert moved.command("user", "list", "alice").returncode == 0
    assert moved.command("audit", "--check").returncode == 0


# A second machine with the same database

ADDRESSES = "192.0.2.1", "192.0.2.2"
UNITS = (
    "pam-totp-directory.service",
    "pam-totp-publisher.service",
    "pam-totp-keeper.socket",
    "pam-totp-keeper.service",
)


class Second(Site):
    """A machine that has the package, and nothing of init's yet."""

    def __init__(self, machine: Booted, package: Path) -> None:
        self.machine = machine
        machine.write(f"/root/{package.name}", package.read_bytes())
        machine.sh('printf "127.0.0.1 %s\\n" "$1" >>/etc/hosts', NAME)
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        machine.sh(f"apt-get install -q -y ./root/{package.name} 2>&1", env=env, timeout=300)


def connect(first: Booted, second: Booted) -> None:
    """A cable between them, on which the first one's PostgreSQL is reached."""
    command = ["ip", "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", str(second.pid)]
    subprocess.run([*first.around("--net"), *command], check=True)
    for machine, address in zip((first, second), ADDRESSES, strict=True):
        machine.sh('ip address add "$1/24" dev lan; ip link set lan up', address)
    first.sh(
        """
        set -e
        cd /etc/postgresql/*/main
        echo "listen_addresses = '*'" >>postgresql.conf
        echo "host all totp 192.0.2.0/24 scram-sha-256" >>pg_hba.conf
        systemctl restart postgresql
        sed -i 's/@127.0.0.1/@192.0.2.1/' /etc/pam-totp-directory/directory.toml
        systemctl restart pam-totp-directory pam-totp-publisher
        """,
        timeout=120,
    )


def sql(machine: Booted, statement: str) -> str:
    """Change the database behind everybody's back."""
    script = 'cd / && exec setpriv --reuid=postgres --regid=postgres --init-groups psql -tA totp -c "$1"'
    return machine.sh(script, statement).stdout


@pytest.mark.full
def test_a_second_machine_answers_too_and_goes_on_alone(moved: Site) -> None:
    from tests.lab.booted import Booted
    from tests.lab.package import directory_deb

    with Booted(lane.SUITE, (*lane.PACKAGES, "iproute2")) as machine:
        other = Second(machine, directory_deb())
        connect(moved.machine, machine)
        moved.command("user", "add", "dora")
        moved.enroll("dora")
        host = moved.join("web9")
        first = host.wait(lambda records: "dora" in records)
        begun = host.manifest()
        assert begun is not None
        moved.command("backup", "/root/third")
        machine.write("/root/third", moved.machine.run(["base64", "/root/third"]).stdout.encode())
        machine.sh("base64 -d /root/third >/root/backup")
        other.command("restore", "--yes", "--no-database", "/root/backup")
        there = dataclasses.replace(host, site=other)
        # What the other keeper does after that: two hosts join, one is revoked, and an epoch begins.
        late, gone = moved.join("web10"), moved.join("web11")
        gone.wait(lambda records: "dora" in records)
        moved.command("host", "revoke", "--yes", "web11")
        assert "has begun" in moved.command("epoch", "--yes").stdout
        # Both answer, and of all claims at both one wins.
        spent = races.one_wins(moved, host, "dora", sites=[other])
        # One publishes: the second one has nothing in its tree, though it watches.
        moved.command("user", "lock", "dora")
        host.wait(lambda records: records["dora"].locked)
        assert there.manifest() is None
        before = host.manifest()
        assert before is not None
        assert before.epoch > begun.epoch
        for word in ("mask", "--runtime"), ("kill", "--signal=KILL"):
            moved.machine.run(["systemctl", *word, *UNITS], check=False)
        # The one that is left has all of it, under a later number, and what was spent at the other is spent.
        found = there.wait(lambda records: "dora" in records, 120)
        assert found["dora"].authenticators == first["dora"].authenticators
        assert found["dora"].locked
        after = there.manifest()
        assert after is not None
        assert (after.epoch, after.sequence > before.sequence) == (before.epoch, True)
        status, said = other.ask("/api/v1/claim", host, {**spent, "login": "f" * 32})
        assert (status, json.loads(said)) == (200, {"claimed": False})
        # Who joined at the other one after the backup has it, too; who was revoked there does not, whatever the
        # database says now.
        assert dataclasses.replace(late, site=other).wait(lambda records: "dora" in records)["dora"].locked
        said_then = "SELECT count(*) FROM directory_host WHERE name = 'web11' AND revoked IS NOT NULL"
        undone = "UPDATE directory_host SET revoked = NULL, changes = changes + 1 WHERE name = 'web11'"
        assert sql(moved.machine, said_then).strip() == "1"
        assert sql(moved.machine, undone).strip() == "UPDATE 1"
        journal = "until journalctl -u pam-totp-publisher -o cat | grep 'not published for web11'; do sleep 0.5; done"
        assert "or was revoked" in machine.sh(journal, timeout=60).stdout
        assert "signs nothing for web11" in other.command("doctor", check=False).stdout
        sql(moved.machine, "UPDATE directory_host SET revoked = now() WHERE name = 'web11'")
        # It has a host join itself.
        new = other.join("web12")
        new.wait(lambda records: "dora" in records)
        assert "signs nothing" not in other.command("doctor", check=False).stdout
        other.command("user", "unlock", "dora")
        there.wait(lambda records: not records["dora"].locked)
        # The first one comes back, answers, and does not publish as well.
        moved.machine.run(["systemctl", "unmask", "--runtime", *UNITS])
        moved.machine.run(["systemctl", "start", *UNITS[:3]], timeout=120)
        moved.command("user", "lock", "dora")
        there.wait(lambda records: records["dora"].locked)
        assert host.manifest() == before
        # Its keeper has heard of who joined meanwhile: it opens what that host hands up, and would publish for it.
        end = time.monotonic() + 60
        while "signs nothing" in moved.command("doctor", check=False).stdout:
            assert time.monotonic() < end
