"""`./run bench verify`: how many codes the verify service verifies in a second, and how long one takes.

Each try is a right and unspent code of another user, over a kept connection to the UNIX socket, on a machine whose
changes go to the disk: each makes the durable writes of a login. The codes come from another implementation.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.lab import cache
from tests.lab.bench import BenchError, machine, surroundings
from tests.lab.code import STEP, code, left
from tests.lab.machine import HERE, MachineError
from tests.lab.package import CHECKOUT, DIST, BuildError, debs, installed
from tests.lab.roots import SUITES, Root, RootError
from tests.lab.sources import NoSourcesError
from tests.lab.verify import SOCKET, Verify

if TYPE_CHECKING:
    from tests.lab.machine import Machine

RESULT = DIST / "bench-verify.json"
AT_ONCE = 16
CROWD = 1500
RATE = 100
STEADY = 1500
WARM_UP = 100
LEAST_A_SECOND = 300.0
MOST_P99_MS = 20.0
FIRST_UID = 100_000
METHOD = """\
How it was measured
  A fresh Debian in namespaces, on disk, with the package installed by its own apt, and the service started with the
  unit's command. Client and service share the machine and its processors. Crowd: {at_once} connections, each with its
  next request when it has an answer. Steady: {rate} requests a second, sent when their time has come; a time
  begins then. cpu: what the service used of the processors for each of the crowd.
  The first {warm_up} requests are dropped. An answer other than 200 is a failure of the benchmark."""


def measure(root: Root) -> dict[str, Any]:
    """Everything, on one suite."""
    cache.say(f"{root.suite}: enrolling {WARM_UP + CROWD + STEADY:,} people")
    with machine(root) as up, Verify(up) as verify:
        for script in ("fill.py", "load.py"):
            up.write(f"/run/lab/{script}", (HERE / script).read_bytes())
        count = WARM_UP + CROWD + STEADY
        listing = up.sh('exec /usr/bin/python3 -I /run/lab/fill.py "$1" "$2"', str(count), str(FIRST_UID)).stdout
        people = [line.split() for line in listing.splitlines()]
        token = verify.client("bench", "--identity", "record", "--may-know")
        refused = verify.ask("/v1/verify", token, user=people[0][0], code=code(people[0][2], 1.0))
        if refused[0] != 403:
            raise BenchError(f"a code of 1970 was not refused: {refused}")
        load(up, token, people[:WARM_UP], 0)
        cache.say(f"{root.suite}: {CROWD:,} verifications, {AT_ONCE} at a time")
        service = verify.started
        before = used(up, service)
        crowd = load(up, token, people[WARM_UP : WARM_UP + CROWD], 0)
        crowd["cpu"] = used(up, service) - before
        cache.say(f"{root.suite}: {STEADY:,} verifications, {RATE} a second")
        steady = load(up, token, people[WARM_UP + CROWD :], RATE)
    return {"crowd": crowd, "steady": steady}


def used(up: Machine, service: int) -> float:
    """Seconds of processor time that the service has used, its workers included."""
    script = 'cat "/proc/$1/stat"; for each in $(pgrep -P "$1"); do cat "/proc/$each/stat"; done'
    lines = up.sh(script, str(service)).stdout.splitlines()
    return sum(int(field) for line in lines for field in line.rpartition(")")[2].split()[11:13]) / os.sysconf(
        "SC_CLK_TCK"
    )


def load(up: Machine, token: str, people: list[list[str]], rate: int) -> dict[str, Any]:
    """Have a right code of each of these people verified."""
    # The next step's code is good already, and stays so for more than two steps: time enough on a slow machine.
    if left() < 2:
        time.sleep(left() + 0.05)
    when = time.time() + STEP
    tries = [[name, _code(bytes.fromhex(secret), int(when // STEP))] for name, secret, _ in people]
    if tries[0][1] != code(people[0][2], when):
        raise BenchError("the codes of the benchmark are not those of oathtool")
    order = {"socket": SOCKET, "token": token, "tries": tries, "rate": rate, "connections": AT_ONCE}
    done = up.run(["/usr/bin/python3", "-I", "-S", "/run/lab/load.py"], input=json.dumps(order), timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["statuses"] != {"200": len(people)}:
        raise BenchError(f"not every code was accepted: {found['statuses']}")
    return found


def _code(secret: bytes, step: int) -> str:
    """A code (RFC 4226): oathtool would have to be started thousands of times."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


def summary(found: dict[str, Any]) -> dict[str, float]:
    """What the measurements of one suite come to."""
    crowd, steady = found["crowd"], found["steady"]
    return {
        "a_second": len(crowd["seconds"]) / crowd["elapsed"],
        "cpu_ms": crowd["cpu"] / len(crowd["seconds"]) * 1000,
        "crowd_p50_ms": _quantile(crowd["seconds"], 0.5) * 1000,
        "crowd_p99_ms": _quantile(crowd["seconds"], 0.99) * 1000,
        "steady_p50_ms": _quantile(steady["seconds"], 0.5) * 1000,
        "steady_p99_ms": _quantile(steady["seconds"], 0.99) * 1000,
        "steady_most_ms": steady["seconds"][-1] * 1000,
    }


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def main() -> int:
    """Run it. The exit status is 0 if both bounds are kept, 1 if not, 2 if it could not be run."""
    parser = argparse.ArgumentParser(prog="./run bench verify", description="Measure the verify service.")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this Debian suite (can be repeated)")
    arguments = parser.parse_args()
    around = surroundings()
    if around["load_before"][0] > around["processors"] / 4:
        cache.say(f"this machine is busy (load {around['load_before'][0]:.1f}): the numbers are a lower bound")
    results = {}
    try:
        packages = debs()
        for suite in dict.fromkeys(arguments.suite or SUITES):
            results[suite] = summary(measure(installed(suite, packages)))
    except (BenchError, BuildError, MachineError, NoSourcesError, RootError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    rounded = {suite: {name: round(value, 2) for name, value in found.items()} for suite, found in results.items()}
    RESULT.write_text(json.dumps({"surroundings": around, "summary": rounded}, indent=1) + "\n", encoding="ascii")
    owner = CHECKOUT.stat()
    os.chown(RESULT, owner.st_uid, owner.st_gid)
    print(f"One durable write of 4 KiB to this disk: {around['durable_write_ms']:.2f} ms (median)\n")
    print("suite       a second   cpu   p50   p99 (crowd)   p50   p99   most (steady), in ms")
    for suite, found in results.items():
        print(
            f"{suite:10} {found['a_second']:9.0f} {found['cpu_ms']:5.1f}"
            f" {found['crowd_p50_ms']:5.1f} {found['crowd_p99_ms']:5.1f}"
            f" {found['steady_p50_ms']:13.1f} {found['steady_p99_ms']:5.1f} {found['steady_most_ms']:6.1f}"
        )
    print("\n" + METHOD.format(at_once=AT_ONCE, rate=RATE, warm_up=WARM_UP))
    missed = [
        f"MISSED on {suite}: {what}"
        for suite, found in results.items()
        for what, kept in (
            (f"{found['a_second']:.0f} a second, at least {LEAST_A_SECOND:g}", found["a_second"] >= LEAST_A_SECOND),
            (f"p99 {found['steady_p99_ms']:.1f} ms, at most {MOST_P99_MS:g}", found["steady_p99_ms"] <= MOST_P99_MS),
        )
        if not kept
    ]
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
