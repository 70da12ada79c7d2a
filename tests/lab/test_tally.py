from __future__ import annotations

from typing import Any

import pytest

from tests.lab.joined import ALONE, CHANGES, CLAIMS, NO_CLAIMS, NOTHING, OWN
from tests.lab.rivals import COLD, GOOGLE, OATH, OURS, RIVALS, STOCK
from tests.lab.tally import bounds, report, summary


def measured(
    *,
    stock: float = 110,
    cold: float = 110,
    warm: float = 104,
    cpu: float = 45,
    failed: int = 0,
    claims: float = 103,
    own: float = 70,
    others: float = 70,
) -> dict[str, Any]:
    """A suite where google's login takes 100 ms and 40 ms of CPU; ours as given."""
    walls = {rival.name: 100.0 for rival in RIVALS} | {STOCK.name: stock, COLD.name: cold, OURS.name: warm}
    cpus = {rival.name: 40.0 for rival in RIVALS} | {OURS.name: cpu}
    crowd = {"logins": 200, "failed": failed, "seconds": [1.0, 2.0], "elapsed": 2.5, "server_cpu": 20.0}
    size = {"bytes": {COLD.name: 1000, OATH.name: 660}} | {rival.name: {"wall": [30.0]} for rival in (COLD, OATH)}
    return {
        "versions": {"python": "3.13.5"},
        "logins": {name: {"wall": [wall] * 3, "cpu": [cpus[name]] * 3} for name, wall in walls.items()},
        "setcred": {rival.name: [2.0] * 3 for rival in RIVALS},
        "sudo": {rival.name: [20.0] * 3 for rival in RIVALS},
        "at_once": {GOOGLE.name: crowd, COLD.name: crowd, OURS.name: crowd},
        "fleet": {ALONE: [100.0] * 3, CLAIMS: [claims] * 3, NO_CLAIMS: [claims / 1.03] * 3},
        "changes": {kind: {"wall": [{NOTHING: 50.0, OWN: own}.get(kind, others)] * 3, "alone": 0} for kind in CHANGES},
        "enrolled": [{"enrolled": 10} | size, {"enrolled": 10_000} | size],
    }


def kept(suite: str = "bookworm", **changes: Any) -> list[bool]:
    return [bound["kept"] for bound in bounds({suite: summary(measured(**changes))})]


def test_within_the_bounds_all_are_kept() -> None:
    assert kept() == [True] * 11
    assert kept(stock=120, cold=112, warm=105, cpu=46) == [True] * 11
    assert kept("trixie", stock=120, cold=124, warm=108) == [True] * 11


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"stock": 133.1}, [0, 3]),
        ({"cold": 112.1}, [1]),
        ({"warm": 105.1}, [2]),
        ({"stock": 120.1}, [3]),
        ({"cpu": 46.1}, [4]),
        ({"failed": 1}, [5, 6]),
        ({"claims": 103.1}, [7, 8]),
        ({"own": 70.1}, [9]),
        ({"others": 70.1}, [10]),
    ],
)
def test_each_bound_is_missed_by_a_little_more(changes: dict[str, Any], missed: list[int]) -> None:
    assert [number for number, held in enumerate(kept(**changes)) if not held] == missed


def test_failed_logins_count_for_no_throughput() -> None:
    assert summary(measured(failed=50))["at_once"][OURS.name]["logins_a_second"] == 60


def test_the_report_shows_every_table_of_every_suite_and_what_is_missed() -> None:
    summaries = {suite: summary(measured(warm=120)) for suite in ("bookworm", "trixie")}
    around = {"when": "now", "revision": "abc", "seconds": 60, "processors": 2, "processor": "x", "memory_mib": 1}
    around |= {"kernel": "6", "load_before": [0.1], "disk": "ext4", "durable_write_ms": 0.2}
    text = report({"surroundings": around, "summary": summaries, "bounds": bounds(summaries)}, warm_up=3)
    titles = [line for line in text.splitlines() if line.startswith(("Debian 12 (bookworm): ", "Debian 13 (trixie): "))]
    assert len(titles) == 2 * 6
    assert [line.split()[-4:] for line in text.splitlines() if line.endswith("NO")] == [
        ["bookworm", "1.200", "1.05", "NO"],
        ["trixie", "1.200", "1.08", "NO"],
    ]
