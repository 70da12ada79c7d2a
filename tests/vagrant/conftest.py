"""When the box runs: on Debian 12 when something that it covers has changed, and with --full always, on both suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BOX = "box_of"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Boxes of the suites that were asked for."""
    if BOX in metafunc.fixturenames:
        usual = ("bookworm", "trixie") if metafunc.config.getoption("full") else ("bookworm",)
        suites = metafunc.config.getoption("suite") or usual
        metafunc.parametrize(BOX, list(dict.fromkeys(suites)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the boxes that have not changed since they were last all right on this computer."""
    if config.getoption("full"):
        return
    from tests.lab.vagrant import covered

    boxes = [item for item in items if isinstance(item, pytest.Function) and BOX in item.fixturenames]
    unchanged = [item for item in boxes if covered.unchanged(str(item.callspec.params[BOX]))]
    config.hook.pytest_deselected(items=unchanged)
    items[:] = [item for item in items if item not in unchanged]


@pytest.fixture
def visible(pytestconfig: pytest.Config) -> Iterator[None]:
    """Show what is printed while it is printed: it takes minutes."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        yield
