"""A host for the real logins of a module, whose whole log is searched for secrets and codes at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.login.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine


@pytest.fixture(scope="module")
def host(machine: Machine) -> Iterator[Host]:
    """One machine for all tests of a module; each test has its own users. No variant is in force yet."""
    host = Host(machine)
    yield host
    host.close()
    assert host.leaks() == []


@pytest.fixture(scope="module")
def key_and_code(host: Host) -> None:
    """The variant with the public key, in force for a whole module."""
    host.use("key-and-code")


@pytest.fixture(scope="module")
def password_and_code(host: Host) -> None:
    """The variant with the password, in force for a whole module."""
    host.use("password-and-code")


@pytest.fixture(scope="module", params=["password-and-code", "key-and-code"])
def either_variant(host: Host, request: pytest.FixtureRequest) -> None:
    """A module's tests once with each variant."""
    host.use(request.param)
