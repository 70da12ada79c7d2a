"""What the measurements of `./run bench fleet` come to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.bench_fleet import growth, missed, summary, table


def measured(**changes: Any) -> dict[str, Any]:
    """A directory that keeps all bounds, but for these changes."""
    change = {"published": 1.0, "times": [1.0] * 99 + [16.0], "cpu": {"web": 0.3, "keeper": 0.2}, "failures": {}}
    traffic = {"requests": 400, "sent": 1000, "received": 3000, "seconds": 20.0, "cpu": {"web": 0.1, "keeper": 0.1}}
    quick = {"seconds": [0.004] * 100, "failures": {}, "load": 0.5}
    return {
        "hosts": 100,
        "people": 10,
        "first": 2.0,
        "sizes": {"content": 700_000, "disk": 4_096_000},
        "ready": {"failures": {}},
        "idle": {**traffic, "failures": {}},
        "changes": [change, change],
        "rounds": [{"claims": quick, "disk": {"seconds": [0.001], "load": 0.5}}] * 2,
        "cold": quick,
        "new": {"wait": 1.0, "fetch": 0.5, "failures": {}},
        **changes,
    }


def test_bounds_that_are_kept_are_not_missed() -> None:
    found = summary(measured())
    assert missed(found) == []
    assert found["idle_requests_s"] == 20
    assert found["idle_cpu"] == pytest.approx(0.2)
    assert found["publish_cpu_ms_a_host"] == pytest.approx(5)
    assert found["everywhere_max_s"] == 16
    assert (found["claim_p99_ms"], found["disk_p99_ms"], found["claim_load"]) == (4, 1, 0.5)
    assert (found["record_ms"], found["record_bytes"], found["record_disk"]) == (2, 700, 4096)
    assert table([found]).splitlines()[-1].startswith("  100     10 |")


def test_each_bound_that_is_missed_is_said() -> None:
    slow = {"published": 40.0, "times": [41.0], "cpu": {"web": 1.0}, "failures": {"503": 2}}
    busy = {"requests": 1, "sent": 1, "received": 1, "seconds": 1.0, "cpu": {"web": 0.6}, "failures": {}}
    # Of all claims, not of those of a good round.
    late = [{"seconds": [s] * 100, "failures": {}, "load": 1.0} for s in (0.004, 0.02)]
    rounds = [{"claims": each, "disk": {"seconds": [0.001], "load": 1.0}} for each in late]
    new = {"wait": 1.0, "fetch": 3.0, "failures": {}}
    found = missed(summary(measured(changes=[slow], idle=busy, rounds=rounds, new=new)))
    assert len(found) == 5
    assert all(line.startswith("MISSED with 100 hosts, 10 people: ") for line in found)
    assert "failed: 2" in found[-1]


def test_growth_is_drawn_along_both_axes() -> None:
    rows = [summary(measured(hosts=hosts, people=people)) for hosts, people in ((100, 10), (1000, 10), (100, 1000))]
    drawn = growth(rows)
    for name in ("everywhere", "published", "a new host", "bound: 30", "bound: 0.5"):
        assert f">{name}</text>" in drawn
    # Three lines of two sizes, one of two, three of two.
    assert drawn.count('<circle class="mark s0"') == 6
