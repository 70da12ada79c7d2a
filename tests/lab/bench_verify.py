"""`./run bench verify`: how many codes the verify service verifies in a second, and how long one takes.

Each try is a right and unspent code of another user, over a kept connection to the UNIX socket, on a machine whose
changes go to the disk: each makes the durable writes of a login. The codes come from another implementation. Beside it,
in the same run, on the same machine and disk: privacyIDEA's /validate/check.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab import cache, privacyidea
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
# privacyIDEA takes so much longer that fewer do.
PEER_CROWD = 150
PEER_WARM_UP = 30
LEAST_A_SECOND = 300.0
MOST_P99_MS = 20.0
FIRST_UID = 100_000
METHOD = """\
How it was measured
  A fresh Debian in namespaces, on disk, with the package installed by its own apt, and the service started with the
  unit's command. Client and service share the machine and its processors. Crowd: {at_once} connections, each with its
  next request when it has an answer. Steady: {rate} requests a second, sent when their time has come; a time
  begins then. cpu: what the service used of the processors for each of the crowd.
  The first {warm_up} requests are dropped. An answer other than yes is a failure of the benchmark.
  privacyIDEA is version {peer}, from the Python Package Index, with its default settings (but that it waits longer for
  a lock), SQLite and a process of gunicorn for each processor; {peer_crowd} of the same people, by their tokens'
  serials, right after our crowd, in the same way."""


@dataclass(frozen=True)
class Service:
    """Who is asked, and how: what a request is, and what is in the answer to a right code."""

    address: str
    head: str
    body: str
    yes: str


PRIVACYIDEA = Service(
    privacyidea.ADDRESS,
    "POST /validate/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n",
    "serial={name}&pass={code}",
    '"value": true',
)


def ours(token: str) -> Service:
    """The verify service, for the client that has this token."""
    head = f"POST /v1/verify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    return Service(SOCKET, head, '{{"user": "{name}", "code": "{code}"}}', '"result": true')


def measure(root: Root) -> dict[str, Any]:
    """Everything, on one suite."""
    cache.say(f"{root.suite}: enrolling {WARM_UP + CROWD + STEADY:,} people")
    with machine(privacyidea.with_it(root)) as up, Verify(up) as verify:
        for script in ("fill.py", "load.py"):
            up.write(f"/run/lab/{script}", (HERE / script).read_bytes())
        count = WARM_UP + CROWD + STEADY
        listing = up.sh('exec /usr/bin/python3 -I /run/lab/fill.py "$1" "$2"', str(count), str(FIRST_UID)).stdout
        people = [line.split() for line in listing.splitlines()]
        service = ours(verify.client("bench", "--identity", "record", "--may-know"))
        load(up, service, people[:WARM_UP], 0)
        cache.say(f"{root.suite}: {CROWD:,} verifications, {AT_ONCE} at a time")
        crowd = loaded(up, service, people[WARM_UP : WARM_UP + CROWD], verify.started)
        peer = beside(up, people[: PEER_WARM_UP + PEER_CROWD])
        cache.say(f"{root.suite}: {STEADY:,} verifications, {RATE} a second")
        steady = load(up, service, people[WARM_UP + CROWD :], RATE)
        return {"crowd": crowd, "steady": steady, "peer": peer, "peer_version": privacyidea.version(up)}


def beside(up: Machine, people: list[list[str]]) -> dict[str, Any]:
    """The same with privacyIDEA."""
    cache.say(f"{up.suite}: enrolling {len(people)} of them in privacyIDEA")
    known = [(name, secret) for name, secret, _ in people]
    with privacyidea.serving(up, known, processes=len(os.sched_getaffinity(0))) as pid:
        load(up, PRIVACYIDEA, people[:PEER_WARM_UP], 0)
        cache.say(f"{up.suite}: {PEER_CROWD} verifications of privacyIDEA, {AT_ONCE} at a time")
        return loaded(up, PRIVACYIDEA, people[PEER_WARM_UP:], pid)


def loaded(up: Machine, service: Service, people: list[list[str]], pid: int) -> dict[str, Any]:
    """A crowd of requests, with the processor time that a process and its children used for them."""
    before = used(up, pid)
    found = load(up, service, people, 0)
    return {**found, "cpu": used(up, pid) - before}


def used(up: Machine, service: int) -> float:
    """Seconds of processor time that the service has used, its workers included."""
    script = 'cat "/proc/$1/stat"; for each in $(pgrep -P "$1"); do cat "/proc/$each/stat"; done'
    lines = up.sh(script, str(service)).stdout.splitlines()
    return sum(int(field) for line in lines for field in line.rpartition(")")[2].split()[11:13]) / os.sysconf(
        "SC_CLK_TCK"
    )


def load(up: Machine, service: Service, people: list[list[str]], rate: int) -> dict[str, Any]:
    """Have a right code of each of these people verified, after a wrong one of the first that has to be refused."""
    # The next step's code is good already, and stays so for more than two steps: time enough on a slow machine.
    if left() < 2:
        time.sleep(left() + 0.05)
    when = time.time() + STEP
    codes = [_code(bytes.fromhex(secret), int(when // STEP)) for _, secret, _ in people]
    if codes[0] != code(people[0][2], when):
        raise BenchError("the codes of the benchmark are not those of oathtool")
    bodies = [service.body.format(name=name, code=right) for (name, *_), right in zip(people, codes, strict=True)]
    refused = _send(up, service, [service.body.format(name=people[0][0], code=code(people[0][2], 1.0))], 0)
    if "yes" in refused["answers"]:
        raise BenchError("a code of 1970 was accepted")
    found = _send(up, service, bodies, rate)
    if found["answers"] != {"yes": len(people)}:
        raise BenchError(f"not every code was accepted: {found['answers']}")
    return found


def _send(up: Machine, service: Service, bodies: list[str], rate: int) -> dict[str, Any]:
    order = {"address": service.address, "head": service.head, "yes": service.yes}
    text = json.dumps({**order, "tries": bodies, "rate": rate, "connections": AT_ONCE})
    done = up.run(["/usr/bin/python3", "-I", "-S", "/run/lab/load.py"], input=text, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _code(secret: bytes, step: int) -> str:
    """A code (RFC 4226): oathtool would have to be started thousands of times."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


def summary(found: dict[str, Any]) -> dict[str, float]:
    """What the measurements of one suite come to."""
    crowd, peer, steady = found["crowd"], found["peer"], found["steady"]
    come_to = {**_crowd(crowd, ""), **_crowd(peer, "peer_")}
    return {
        **come_to,
        "ratio": come_to["a_second"] / come_to["peer_a_second"],
        "steady_p50_ms": _quantile(steady["seconds"], 0.5) * 1000,
        "steady_p99_ms": _quantile(steady["seconds"], 0.99) * 1000,
        "steady_most_ms": steady["seconds"][-1] * 1000,
    }


def _crowd(crowd: dict[str, Any], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}a_second": len(crowd["seconds"]) / crowd["elapsed"],
        f"{prefix}cpu_ms": crowd["cpu"] / len(crowd["seconds"]) * 1000,
        f"{prefix}crowd_p50_ms": _quantile(crowd["seconds"], 0.5) * 1000,
        f"{prefix}crowd_p99_ms": _quantile(crowd["seconds"], 0.99) * 1000,
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
    results: dict[str, dict[str, float]] = {}
    peer = ""
    try:
        packages = debs()
        for suite in dict.fromkeys(arguments.suite or SUITES):
            measured = measure(installed(suite, packages))
            results[suite] = summary(measured)
            peer = measured["peer_version"]
    except (BenchError, BuildError, MachineError, NoSourcesError, RootError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    rounded = {suite: {name: round(value, 2) for name, value in found.items()} for suite, found in results.items()}
    RESULT.write_text(
        json.dumps({"surroundings": around, "peer": peer, "summary": rounded}, indent=1) + "\n", encoding="ascii"
    )
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
        print(
            f"{'  privacyIDEA':13} {found['peer_a_second']:6.0f} {found['peer_cpu_ms']:5.1f}"
            f" {found['peer_crowd_p50_ms']:5.0f} {found['peer_crowd_p99_ms']:5.0f}"
            f"    the verify service makes {found['ratio']:.1f} times as many a second"
        )
    shown = {"at_once": AT_ONCE, "rate": RATE, "warm_up": WARM_UP, "peer": peer, "peer_crowd": PEER_CROWD}
    print("\n" + METHOD.format(**shown))
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
