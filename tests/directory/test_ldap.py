"""LDAP: the tests of ldap/, each file by pytest in a Debian 13 with slapd; and the timer, under systemd."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.directory import lane
from tests.directory.ldap.server import PASSWORD
from tests.directory.slapd import Ldap
from tests.directory.visitor import sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.directory.site import Site
    from tests.lab.machine import Machine

PACKAGES = ("slapd",)
FILES = sorted(path.name for path in Path(__file__).parent.joinpath("ldap").glob("test_*.py"))


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A Debian 13 with slapd, Django and the sources."""
    from tests.lab import booted
    from tests.lab.machine import Machine
    from tests.lab.roots import root

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        base = root(lane.SUITE, (*booted.PACKAGES, *PACKAGES, *lane.PACKAGES))
    with Machine(base) as made:
        lane.unpack(made)
        yield made


@pytest.mark.parametrize("file", FILES)
def test_what_needs_slapd(machine: Machine, file: str) -> None:
    done = lane.pytest(machine, f"tests/directory/ldap/{file}")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


# Under systemd, from the package


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Ldap]:
    """slapd, which nobody knows of yet."""
    made = Ldap(site)
    yield made
    made.end()


def configure(site: Site, text: str) -> None:
    """Have this at the end of directory.toml, and the web process know it."""
    site.machine.sh(
        """
        set -e
        cat >>/etc/pam-totp-directory/directory.toml
        systemctl restart pam-totp-directory
        """,
        input=text,
    )


@pytest.mark.full
def test_the_timer_is_off_until_there_is_something_to_ask(site: Site) -> None:
    for unit in ("pam-totp-sync.timer", "pam-totp-passwords.socket"):
        assert site.machine.run(["systemctl", "is-enabled", unit], check=False).stdout.strip() == "disabled"
        assert site.machine.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "inactive"
    done = site.command("sync", "ldap", check=False)
    assert (done.returncode, "there is no table [ldap]" in done.stderr) == (3, True)


@pytest.mark.full
def test_the_timer_takes_people_from_ldap_who_enrol_with_their_password_there(site: Site, server: Ldap) -> None:
    server.have("alice", "bob")
    configure(site, 'passwords = "ldap"\n' + server.table)
    assert "would do: alice: added" in site.command("sync", "ldap", "--dry-run").stdout
    site.machine.write("/etc/systemd/system/pam-totp-sync.timer.d/soon.conf", SOON)
    site.machine.sh("systemctl daemon-reload; systemctl enable --now pam-totp-sync.timer")
    host = site.join("web1")
    host.wait(lambda records: {"alice", "bob"} <= set(records), 60)
    assert [row.split()[:2] for row in site.command("group", "list").stdout.splitlines() if "staff" in row] == [
        ["staff", "1"]
    ]
    done = sign_in(site, "alice", PASSWORD)
    assert (done["path"], "recovery codes" in done["page"]) == ("/enrol/", True)
    found = host.wait(lambda records: records["alice"].authenticators)
    [authenticator] = found["alice"].authenticators
    assert base64.b32encode(authenticator.secret).decode("ascii") == done["key"]
    assert sign_in(site, "alice", PASSWORD)["path"] == "/login/code/"
    assert sign_in(site, "alice", "wrong")["path"] == "/login/"
    # Who is gone is locked on the hosts at the timer's next turn.
    server.have("alice")
    host.wait(lambda records: records["bob"].locked, 60)
    assert "bob: locked: gone" in site.machine.journal()


@pytest.mark.full
def test_with_ldap_down_nobody_gets_in_nothing_is_changed_and_the_log_and_doctor_say_so(
    site: Site, server: Ldap
) -> None:
    site.machine.sh("systemctl stop pam-totp-sync.timer pam-totp-sync.service")
    before = site.command("user", "list").stdout
    server.stop()
    known, unknown = sign_in(site, "alice", PASSWORD), sign_in(site, "nobody", PASSWORD)
    assert known["path"] == unknown["path"] == "/login/"
    assert "do not belong together" in known["page"]
    done = site.machine.run(["systemctl", "start", "pam-totp-sync.service"], check=False)
    assert done.returncode == 1
    assert "LDAP cannot be asked" in site.command("doctor", check=False).stdout
    journal = "\n".join(site.machine.journal())
    assert "a password could not be checked, and was refused: ldaps://ldap.example.org" in journal
    assert "pam-totp-directory: ldaps://ldap.example.org" in journal
    assert PASSWORD not in journal
    assert site.command("user", "list").stdout == before


SOON = """[Timer]
OnActiveSec=
OnActiveSec=1s
OnUnitActiveSec=5s
RandomizedDelaySec=0
AccuracySec=1s
"""
