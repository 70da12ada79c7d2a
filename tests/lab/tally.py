"""What the benchmark's measurements come to: medians and comparisons, the bounds that hold, and tables."""

from __future__ import annotations

import statistics
import textwrap
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from tests.lab.demo import RELEASES
from tests.lab.figures import difference, quartiles, ratio, table
from tests.lab.joined import ALONE, CHANGES, CLAIMS, KINDS, NO_CLAIMS, NOTHING
from tests.lab.rivals import ASKING, COLD, GOOGLE, NONE, OATH, OURS, RIVALS, STOCK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The bounds that the project has set itself.
MOST_TIMES_GOOGLE = {
    "bookworm": {STOCK.name: 1.33, COLD.name: 1.12, OURS.name: 1.05},
    "trixie": {STOCK.name: 1.61, COLD.name: 1.24, OURS.name: 1.08},
}
# In pam_python, beside a script that only asks: what that takes is Python's start, twice in each login, and not ours.
MOST_TIMES_ASKING = 1.20
MOST_CPU_TIMES_GOOGLE = 1.15
# A login on a host of a fleet that claims its code, beside one on a host alone. Without claims it takes no more.
MOST_TIMES_ALONE = 1.03
# How many ms longer a login takes while the directory changes records.
MOST_DELAY = 20

METHOD = """\
How it was measured
  Each suite is a fresh Debian in namespaces of its own, on disk, with the package installed by its own apt. Client and
  server share the machine and talk over its loopback. What is compared takes turns in random order, round by round;
  the first {warm_up} rounds are dropped. Whatever checks a code gets a right and unspent one, of a user who has not
  logged in before, and was seen to refuse a wrong one. Comparisons are of medians, with a 95 % interval (bootstrap
  over rounds).
  Logins: for each module its own sshd, all alike but for one auth line in the /etc/pam.d/sshd that it sees; the rest
  is the package's example for key + code. The time is that of OpenSSH's client, which runs `true`, from its start to
  its end. Server CPU is what the control group of that sshd used, sessions and all.
  lo acknowledges at once (the route's quickack): else TCP's delayed acknowledgements stall every login once or twice
  for 43 ms, and hide what differs. sshd makes a client that is not in yet wait for each answer until 5 to 9 ms,
  depending on the user's name, times a power of two are over: what is spent before the prompt shows as nothing, or as
  several times itself. Server CPU does not know this. The warm process is in the control group of its sshd.
  pam_python starts Python twice in each login; a script that only asks shows what no script in it can save.
  Of a fleet: the directory answers on the same machine, over HTTPS, by a connection that the real agent keeps.
  While it changes: the answer is given while the agent takes the change; it looks more often than usual, and is
  otherwise the real one. The time is from the answer until the user's own command runs.
  setcred: pamtester(1), the whole process, user + system time. sudo: `sudo true` of a user, with one auth line.
  At once: all clients are started together, and each takes its code from oathtool(1) when it is asked for it."""


def summary(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Medians and comparisons of what was measured on one suite; a comparison is [value, low, high]."""
    return {
        "versions": measured["versions"],
        "logins": _logins(measured["logins"]),
        "setcred": _calls(measured["setcred"]),
        "sudo": _calls(measured["sudo"]),
        "at_once": {name: _at_once(data) for name, data in measured["at_once"].items()},
        "fleet": _fleet(measured["fleet"]),
        "changes": _changes(measured["changes"]),
        "enrolled": _enrolled(measured["enrolled"]),
    }


def _logins(data: Mapping[str, Any]) -> dict[str, Any]:
    base = data[GOOGLE.name]
    found = {
        name: {
            "count": len(series["wall"]),
            "median_ms": statistics.median(series["wall"]),
            "quartiles_ms": quartiles(series["wall"]),
            "times_google": astuple(ratio(series["wall"], base["wall"])),
            "above_google_ms": astuple(difference(series["wall"], base["wall"])),
            "server_cpu_ms": statistics.median(series["cpu"]),
            "server_cpu_times_google": astuple(ratio(series["cpu"], base["cpu"])),
        }
        for name, series in data.items()
    }
    found[STOCK.name]["times_asking"] = astuple(ratio(data[STOCK.name]["wall"], data[ASKING.name]["wall"]))
    return found


def _calls(data: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        name: {
            "count": len(values),
            "median_ms": statistics.median(values),
            "above_nothing_ms": astuple(difference(values, data[NONE.name])),
        }
        for name, values in data.items()
    }


def _at_once(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "logins": data["logins"],
        "failed": data["failed"],
        "logins_a_second": (data["logins"] - data["failed"]) / data["elapsed"],
        "median_s": statistics.median(data["seconds"]),
        "slowest_s": max(data["seconds"]),
        "server_cpu_ms_each": data["server_cpu"] / data["logins"] * 1000,
    }


def _fleet(data: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        kind: {
            "count": len(values),
            "median_ms": statistics.median(values),
            "times_alone": astuple(ratio(values, data[ALONE])),
            "above_alone_ms": astuple(difference(values, data[ALONE])),
        }
        for kind, values in data.items()
    }


def _changes(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        kind: {
            "count": len(series["wall"]),
            "median_ms": statistics.median(series["wall"]),
            "delay_ms": astuple(difference(series["wall"], data[NOTHING]["wall"])),
            "p99_ms": sorted(series["wall"])[-1 - len(series["wall"]) // 100],
            "slowest_ms": max(series["wall"]),
            "alone": series["alone"],
        }
        for kind, series in data.items()
    }


def _enrolled(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: [
            {
                "enrolled": size["enrolled"],
                "count": len(size[name]["wall"]),
                "median_ms": statistics.median(size[name]["wall"]),
                "times_fewest": astuple(ratio(size[name]["wall"], data[0][name]["wall"])),
                "bytes": size["bytes"][name],
                "bytes_per_user": size["bytes"][name] / size["enrolled"],
            }
            for size in data
        ]
        for name in (COLD.name, OATH.name)
    }


def bounds(tallied: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the project promises of each suite, what was measured, and whether it is kept."""
    found = []
    for suite, data in tallied.items():
        titles = {rival.name: rival.title for rival in RIVALS}
        rows = [
            (f"a login, times google's: {titles[name]}", data["logins"][name]["times_google"][0], most)
            for name, most in MOST_TIMES_GOOGLE[suite].items()
        ]
        stock = data["logins"][STOCK.name]["times_asking"][0]
        rows.append((f"a login, times a script's that only asks: {STOCK.title}", stock, MOST_TIMES_ASKING))
        cpu = data["logins"][OURS.name]["server_cpu_times_google"][0]
        rows.append((f"CPU of a login, times google's: {OURS.title}", cpu, MOST_CPU_TIMES_GOOGLE))
        for name in (COLD.name, OURS.name):
            together = data["at_once"][name]
            rows.append((f"failed of {together['logins']} logins at once: {titles[name]}", together["failed"], 0))
        claims, none = (data["fleet"][kind]["times_alone"] for kind in (CLAIMS, NO_CLAIMS))
        rows.append((f"a login, times one on a host alone: {KINDS[CLAIMS]}", claims[0], MOST_TIMES_ALONE))
        # Of two that are alike one is always slower: it takes more where the whole interval does.
        rows.append((f"the same, low end: {KINDS[NO_CLAIMS]}", none[1], 1))
        rows += [
            (f"ms that a login is delayed by: {title}", data["changes"][kind]["delay_ms"][0], MOST_DELAY)
            for kind, title in CHANGES.items()
            if kind != NOTHING
        ]
        found += [
            {"suite": suite, "what": what, "value": value, "at_most": most, "kept": value <= most}
            for what, value, most in rows
        ]
    return found


def report(result: Mapping[str, Any], *, warm_up: int) -> str:
    """All of it as text."""
    parts = []
    for suite, data in result["summary"].items():
        name = f"{RELEASES[suite]} ({suite})"
        parts += [_login_table(name, data["logins"]), _call_table(name, data["setcred"], data["sudo"])]
        parts += [_fleet_table(name, data["fleet"]), _change_table(name, data["changes"])]
        parts += [_enrolled_table(name, data["enrolled"]), _at_once_table(name, data["at_once"])]
    parts += [METHOD.format(warm_up=warm_up), _surroundings(result), _bound_table(result["bounds"])]
    return "\n".join(parts)


def _login_table(name: str, data: Mapping[str, Any]) -> str:
    head = ["", "median ms", "quartiles", "x google", "95 %", "ms above", "95 %", "server CPU ms", "x google", "95 %"]
    rows = [
        [
            rival.title,
            f"{row['median_ms']:.1f}",
            "{:.1f} - {:.1f}".format(*row["quartiles_ms"]),
            *_compared(row["times_google"], 3, is_base=rival is GOOGLE),
            *_compared(row["above_google_ms"], 1, is_base=rival is GOOGLE),
            f"{row['server_cpu_ms']:.1f}",
            *_compared(row["server_cpu_times_google"], 3, is_base=rival is GOOGLE),
        ]
        for rival in RIVALS
        for row in [data[rival.name]]
    ]
    return table(f"{name}: ssh login with key + code, {data[OURS.name]['count']} of each", head, rows)


def _call_table(name: str, setcred: Mapping[str, Any], sudo: Mapping[str, Any]) -> str:
    head = ["", "sudo ms", "above nothing", "95 %", "setcred CPU ms", "above nothing", "95 %"]
    rows = []
    for rival in RIVALS:
        cells = [rival.title]
        for row, digits in ((sudo[rival.name], 1), (setcred[rival.name], 2)):
            cells.append(f"{row['median_ms']:.{digits}f}")
            cells += _compared(row["above_nothing_ms"], digits, is_base=rival is NONE)
        rows.append(cells)
    return table(f"{name}: sudo and setcred, {sudo[OURS.name]['count']} of each", head, rows)


def _fleet_table(name: str, data: Mapping[str, Any]) -> str:
    head = ["", "median ms", "x alone", "95 %", "ms above", "95 %"]
    rows = [
        [
            title,
            f"{data[kind]['median_ms']:.1f}",
            *_compared(data[kind]["times_alone"], 3, is_base=kind == ALONE),
            *_compared(data[kind]["above_alone_ms"], 1, is_base=kind == ALONE),
        ]
        for kind, title in KINDS.items()
    ]
    return table(f"{name}: ssh login of a host of a fleet, warm, {data[ALONE]['count']} of each", head, rows)


def _change_table(name: str, data: Mapping[str, Any]) -> str:
    head = ["", "median ms", "delay ms", "95 %", "p99 ms", "slowest", "not claimed"]
    rows = [
        [
            title,
            f"{data[kind]['median_ms']:.1f}",
            *_compared(data[kind]["delay_ms"], 1, is_base=kind == NOTHING),
            f"{data[kind]['p99_ms']:.1f}",
            f"{data[kind]['slowest_ms']:.1f}",
            f"{data[kind]['alone']}",
        ]
        for kind, title in CHANGES.items()
    ]
    title = f"{name}: from the answer to being in, while the directory changes, {data[NOTHING]['count']} of each"
    return table(title, head, rows)


def _enrolled_table(name: str, data: Mapping[str, Any]) -> str:
    fewest = data[COLD.name][0]["enrolled"]
    head = ["", "enrolled", "median ms", f"x {fewest} enrolled", "95 %", "bytes", "a user"]
    rows = [
        [
            rival.title,
            f"{row['enrolled']:,}",
            f"{row['median_ms']:.1f}",
            *_compared(row["times_fewest"], 2, is_base=row["enrolled"] == fewest),
            f"{row['bytes']:,}",
            f"{row['bytes_per_user']:,.0f}",
        ]
        for rival in (OATH, COLD)
        for row in data[rival.name]
    ]
    return table(
        f"{name}: PAM authenticate by number of enrolled users, {data[COLD.name][0]['count']} of each", head, rows
    )


def _at_once_table(name: str, data: Mapping[str, Any]) -> str:
    head = ["", "failed", "logins a second", "median s", "slowest s", "server CPU ms each"]
    rows = [
        [
            rival.title,
            f"{row['failed']}",
            f"{row['logins_a_second']:.1f}",
            f"{row['median_s']:.1f}",
            f"{row['slowest_s']:.1f}",
            f"{row['server_cpu_ms_each']:.1f}",
        ]
        for rival in (GOOGLE, COLD, OURS)
        for row in [data[rival.name]]
    ]
    return table(f"{name}: {data[OURS.name]['logins']} logins at once, each of another user", head, rows)


def _compared(found: Sequence[float], digits: int, *, is_base: bool) -> list[str]:
    value, low, high = (f"{each:.{digits}f}" for each in found)
    return ["", ""] if is_base else [value, f"{low} - {high}"]


def _surroundings(result: Mapping[str, Any]) -> str:
    at = result["surroundings"]
    lines = [
        "",
        "Where it was measured",
        f"  {at['when']}, revision {at['revision']}, in {at['seconds'] / 60:.0f} min",
        f"  {at['processors']} processors ({at['processor']}), {at['memory_mib']} MiB, Linux {at['kernel']}",
        f"  load {at['load_before'][0]:.2f} before the start",
        f"  disk {at['disk']}: one durable write of 4 KiB takes {at['durable_write_ms']:.2f} ms",
    ]
    for suite, data in result["summary"].items():
        found = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
        lines += textwrap.wrap(f"{suite}: {found}", 118, initial_indent="  ", subsequent_indent="    ")
    return "\n".join([*lines, ""])


def _bound_table(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [each["what"], each["suite"], f"{each['value']:.3f}", f"{each['at_most']:g}", "yes" if each["kept"] else "NO"]
        for each in found
    ]
    return table("Bounds", ["", "suite", "measured", "at most", "kept"], rows)
