"""A host whose services ask for a code: Debian's own PAM files, and the profile that puts our line into all of them.

A module with PACKAGES has a door of its own: a host with these, where sshd alone asks at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.machine import Machine
from tests.login.host import Host
from tests.services.hostile import ENVIRONMENT, Hostile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.roots import Root

# What the tests here try beside what each machine of the lab has.
# python3-pampy needs six, and does not say so.
SERVICES = ("at", "cron", "openssl", "openvpn", "python3-pampy", "python3-six", "vsftpd")


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The packages that a module names; none where it tries the services."""
    return tuple(getattr(request.module, "PACKAGES", ()))


@pytest.fixture(scope="module")
def services_root(suite: str, debs: tuple[Path, ...], own: tuple[str, ...], pytestconfig: pytest.Config) -> Root:
    """A Debian root of the suite with the services, and with the packages installed by apt."""
    from tests.lab.package import installed

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return installed(suite, debs, own or SERVICES)


@pytest.fixture(scope="module")
def machine(services_root: Root, own: tuple[str, ...]) -> Iterator[Machine]:
    """A machine with our engine, behind the password wherever Debian's services ask for one."""
    with Machine(services_root) as running:
        if not own:
            running.run(["pam-auth-update", "--enable", "pam-totp"])
        # What waits after a refusal, whoever refused; here that would only cost time.
        running.sh("sed -i 's/pam_unix.so nullok$/& nodelay/' /etc/pam.d/common-auth")
        running.sh("sed -i '/pam_faildelay/d' /etc/pam.d/login")
        yield running


@pytest.fixture(scope="module")
def host(machine: Machine, own: tuple[str, ...]) -> Iterator[Host]:
    """One machine for a module's tests; each test has its own users. At the end its log is searched for secrets."""
    host = Host(machine)
    if own:
        host.use("password-and-code")
    yield host
    host.close()
    assert host.leaks() == []


@pytest.fixture(scope="module")
def hostile(host: Host) -> Hostile:
    """What a user can bring along, and that it would be found out if it ran, as the user or as root."""
    hostile = Hostile(host.machine)
    person = host.person(enrolled=False)
    python = ["/usr/bin/python3", "-c", "pass"]
    host.machine.run(hostile.around(person, python, "environment"), check=False)
    assert hostile.sprung() == {person.user.uid}
    host.machine.run(python, env={"PYTHONPATH": ENVIRONMENT["PYTHONPATH"]}, check=False)
    assert hostile.sprung() == {0}
    return hostile
