"""The machine in which the tests of inside/ run, and one that is a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.directory import lane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.directory.site import Site
    from tests.lab.machine import Machine

collect_ignore = ["inside", "browser", "ldap"]


@pytest.fixture(scope="session")
def debian(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A Debian 13 with Django and the sources."""
    from tests.lab import booted
    from tests.lab.machine import Machine
    from tests.lab.roots import root

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        base = root(lane.SUITE, (*booted.PACKAGES, *lane.PACKAGES))
    with Machine(base) as machine:
        lane.unpack(machine)
        yield machine


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Site]:
    """A Debian 13 that systemd has booted, made a directory with the two commands of the documentation.

    A module's PACKAGES are there, too: first, so that the root has a name of its own among those that are kept.
    """
    from tests.directory.site import Site
    from tests.lab.booted import Booted
    from tests.lab.package import directory_deb

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        package = directory_deb()
        machine = Booted(lane.SUITE, (*getattr(request.module, "PACKAGES", ()), *lane.PACKAGES))
    with machine:
        yield Site(machine, package)
