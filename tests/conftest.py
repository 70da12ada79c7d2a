"""Options of the test run, and the fixtures for real logins. Nothing of the lab is imported until one is asked for."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.machine import Machine
    from tests.lab.roots import Root

SUITES = ("bookworm", "trixie")
# What a PAM line names; the first is our own.
ENGINES = {"pam_totp": "pam_totp.so", "pam_python": "pam_python.so pam_totp.py"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --suite, --engine, --full, --pictures and --half."""
    parser.addoption("--suite", action="append", choices=SUITES, help="only this Debian suite (can be repeated)")
    parser.addoption("--engine", action="append", choices=ENGINES, help="only this engine (can be repeated)")
    parser.addoption("--full", action="store_true", help="also run what is marked `full`")
    parser.addoption(
        "--pictures", action="store_true", help="draw docs/sso-*.png anew, where a test sees what is on them"
    )
    parser.addoption("--half", choices=SUITES, help="of all tests those of this suite, and some of those of none")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and have tests that are the same however the run was started."""
    interruptible()
    config.addinivalue_line("markers", "full: takes long; runs with --full only")
    config.addinivalue_line("markers", "engines: runs with both engines, also without --full")


def interruptible() -> None:
    """Take signals as usual. A shell starts what is in its background, and nohup what it runs, with some ignored.

    What a test starts would inherit that, and not end at Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a suite on each of them, and what needs an engine with ours; with both where that is wanted."""
    if "suite" in metafunc.fixturenames:
        suites = metafunc.config.getoption("suite") or SUITES
        metafunc.parametrize("suite", list(dict.fromkeys(suites)), scope="session")
    if "engine" in metafunc.fixturenames:
        both = metafunc.config.getoption("full") or metafunc.definition.get_closest_marker("engines")
        engines = metafunc.config.getoption("engine") or (list(ENGINES) if both else ["pam_totp"])
        metafunc.parametrize("engine", list(dict.fromkeys(engines)), scope="session")


@pytest.hookimpl(trylast=True)  # type: ignore[untyped-decorator]  # it has no types
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `full`, unless it is asked for, and what another process runs; and put them in order."""
    half = config.getoption("half")
    left_out = [
        item
        for item in items
        if (item.get_closest_marker("full") and not config.getoption("full")) or half not in (None, _half(item))
    ]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[str, str, str, int]:
    """Where a test is in the order: a module sets up its machine once for each suite and engine.

    Pytest 7 runs the first case of every function that takes a suite, of all modules; then the second case of each.
    """
    path, line, _ = item.location
    callspec = getattr(item, "callspec", None)
    params = callspec.params if callspec else {}
    return path, str(params.get("suite", "")), str(params.get("engine", "")), line or 0


def _half(item: pytest.Item) -> str:
    """Whose process runs a test. Of those that have no suite, each gets what lets both end at about the same time."""
    of_none = "bookworm" if item.nodeid.startswith(("tests/directory/", "tests/unit/")) else "trixie"
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("suite", of_none)) if callspec else of_none


@pytest.fixture(scope="session")
def debs(pytestconfig: pytest.Config) -> tuple[Path, ...]:
    """The packages, built from this checkout: pam-totp, then the module of each architecture."""
    from tests.lab.package import debs as build

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return build()


@pytest.fixture(scope="session")
def base_root(suite: str, pytestconfig: pytest.Config) -> Root:
    """A Debian root of the suite without the package."""
    from tests.lab.roots import root

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return root(suite)


@pytest.fixture(scope="session")
def installed_root(suite: str, debs: tuple[Path, ...], base_root: Root, pytestconfig: pytest.Config) -> Root:
    """A Debian root of the suite with the packages installed by apt."""
    from tests.lab.package import installed

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return installed(base_root.suite, debs)


@pytest.fixture(scope="module")
def machine(installed_root: Root, engine: str) -> Iterator[Machine]:
    """A machine with the package, as apt leaves it, for all tests of a module. sshd is not started."""
    from tests.lab.machine import Machine

    with Machine(installed_root, module=ENGINES[engine]) as running:
        yield running


@pytest.fixture
def fresh_machine(installed_root: Root, engine: str) -> Iterator[Machine]:
    """A machine with the package, as apt leaves it, for one test. sshd is not started."""
    from tests.lab.machine import Machine

    with Machine(installed_root, module=ENGINES[engine]) as running:
        yield running
