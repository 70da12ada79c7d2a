"""The same with PostgreSQL: a directory that began with SQLite is moved there by one line and two commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.factors import otp
from tests.directory import lane, races
from tests.directory.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "postgresql://totp:secret@127.0.0.1/totp"


@pytest.fixture(scope="module")
def moved(pytestconfig: pytest.Config) -> Iterator[Site]:
    """A directory with PostgreSQL."""
    from tests.lab.booted import Booted
    from tests.lab.package import directory_deb

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        package = directory_deb()
        machine = Booted(lane.SUITE, (*lane.PACKAGES, "postgresql"))
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
