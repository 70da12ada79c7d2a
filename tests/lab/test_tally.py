from __future__ import annotations

from typing import Any

import pytest

from tests.lab.rivals import OATH, OURS, RIVALS, SCRIPT
from tests.lab.tally import bounds, report, summary


def measured(*, login: float = 104, cpu: float = 10, failed: int = 0) -> dict[str, Any]:
    """A suite where the script's login takes 100 ms and its transactions 20 ms of CPU; ours as given."""
    walls = {rival.name: 100.0 for rival in RIVALS} | {OURS.name: login}
    cpus = {rival.name: 20.0 for rival in RIVALS} | {OURS.name: 20 + cpu / 2}
    crowd = {"logins": 200, "failed": failed, "seconds": [1.0, 2.0], "elapsed": 2.5, "server_cpu": 20.0}
    size = {"bytes": {OURS.name: 1000, OATH.name: 660}} | {
        rival.name: {"wall": [30.0], "cpu": [20.0]} for rival in (OURS, OATH)
    }
    return {
        "versions": {"python": "3.13.5"},
        "logins": {name: {"wall": [wall] * 3, "cpu": [40.0] * 3} for name, wall in walls.items()},
        "transactions": {name: {"authenticate": [each] * 3, "setcred": [each] * 3} for name, each in cpus.items()},
        "at_once": {SCRIPT.name: crowd, OURS.name: crowd},
        "enrolled": [{"enrolled": 10} | size, {"enrolled": 10_000} | size],
    }


def kept(**changes: Any) -> list[bool]:
    return [bound["kept"] for bound in bounds({"trixie": summary(measured(**changes))})]


def test_within_the_bounds_all_are_kept() -> None:
    assert kept() == [True, True, True]
    assert kept(login=105, cpu=14) == [True, True, True]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"login": 105.1}, [False, True, True]),
        ({"cpu": 14.1}, [True, False, True]),
        ({"failed": 1}, [True, True, False]),
    ],
)
def test_each_bound_is_missed_by_a_little_more_alone(changes: dict[str, Any], expected: list[bool]) -> None:
    assert kept(**changes) == expected


def test_own_cpu_is_that_of_authenticate_and_setcred_together() -> None:
    assert bounds({"trixie": summary(measured(cpu=13))})[1]["value"] == 13


def test_failed_logins_count_for_no_throughput() -> None:
    assert summary(measured(failed=50))["at_once"][OURS.name]["logins_a_second"] == 60


def test_the_report_shows_every_table_of_every_suite_and_what_is_missed() -> None:
    summaries = {suite: summary(measured(login=120)) for suite in ("bookworm", "trixie")}
    around = {"when": "now", "revision": "abc", "seconds": 60, "processors": 2, "processor": "x", "memory_mib": 1}
    around |= {"kernel": "6", "load_before": [0.1], "disk": "ext4", "durable_write_ms": 0.2}
    text = report({"surroundings": around, "summary": summaries, "bounds": bounds(summaries)}, warm_up=3)
    titles = [line for line in text.splitlines() if line.startswith(("Debian 12 (bookworm): ", "Debian 13 (trixie): "))]
    assert len(titles) == 2 * 4
    assert [line.split()[-4:] for line in text.splitlines() if line.endswith("NO")] == [
        ["bookworm", "1.200", "1.05", "NO"],
        ["trixie", "1.200", "1.05", "NO"],
    ]
