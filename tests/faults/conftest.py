"""Fixtures for faults and races, and the table of what was proven: printed, and kept in dist/reliability*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.rig import Rig
from tests.faults.rows import Tally, document, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.roots import Root

DIST = Path(__file__).resolve().parents[2] / "dist"
TALLY = "reliability"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "row(key): which row of the reliability table a test belongs to")
    config.addinivalue_line("markers", "section(title): which section of docs/recovery.md a test tries")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every report say which row and suite it is about."""
    for item in items:
        marker = item.get_closest_marker("row")
        if marker is not None:
            callspec = getattr(item, "callspec", None)
            suite = callspec.params.get("suite", "") if callspec else ""
            item.user_properties.append(("row", (marker.args[0], suite)))


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Tells the table how many cases a test has been through, how many of them through PAM, and its figures."""

    def tell(cases: int, pam: int = 0, **figures: str) -> None:
        record_property(TALLY, {"cases": cases, "pam": pam, "figures": figures})

    return tell


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Whether every case is wanted, however long it takes."""
    return bool(pytestconfig.getoption("full"))


@pytest.fixture(scope="session")
def rig(installed_root: Root, engine: str) -> Iterator[Rig]:
    """A machine with the package and the agent, for all tests; each starts with enrolments of its own.

    What these tests break, stop and kill is the process that a login is in: our engine's helper, or with pam_python the
    program that calls PAM.
    """
    from tests.conftest import ENGINES
    from tests.lab.machine import Machine

    with Machine(installed_root, module=ENGINES[engine]) as machine, Rig(machine) as running:
        yield running


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table and keep it."""
    tallies: dict[str, Tally] = {}
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport):  # what was deselected, and warnings
                continue
            properties = dict(getattr(report, "user_properties", ()))
            if "row" not in properties:
                continue
            key, suite = properties["row"]
            tally = tallies.setdefault(key, Tally())
            tally.seconds += report.duration
            tally.failed += outcome in ("failed", "error")
            if report.when == "teardown":
                tally.suites |= {suite} - {""}
                for name, entry in report.user_properties:
                    if name == TALLY and isinstance(entry, dict):
                        tally.add(entry)
    if not tallies:
        return
    full = bool(config.getoption("full"))
    terminalreporter.section(f"reliability{' (full)' if full else ''}")
    terminalreporter.write_line(table(tallies))
    DIST.mkdir(exist_ok=True)
    half = config.getoption("half")
    path = DIST / (f"reliability-{half}.json" if half else "reliability.json")
    path.write_text(json.dumps(document(tallies, full), indent=2) + "\n", encoding="utf-8")
    terminalreporter.write_line(f"kept in {path.relative_to(DIST.parent)}")
