"""A Debian root with what builds and checks packages, for the tests that run with --full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab.roots import Root

TOOLS = (
    *("apt-utils", "build-essential", "debhelper", "dh-python", "lintian", "pybuild-plugin-pyproject"),
    *("python3-pip", "python3-setuptools", "python3-venv", "python3-wheel"),
)


@pytest.fixture(scope="session")
def workshop_root(suite: str, pytestconfig: pytest.Config) -> Root:
    """A Debian root of the suite without the package, with the suite's own tools for it."""
    from tests.lab.roots import root

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return root(suite, TOOLS)
