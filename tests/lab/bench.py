"""`./run bench`: what a login costs with pam_totp and with others.

As tables for people and, in dist/bench.json, for programs: "surroundings", "bounds", "summary" (medians and comparisons
by suite) and "measured" (every single value, in the order of the rounds).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.lab import cache
from tests.lab.code import code, wrong
from tests.lab.joined import CHANGES, KINDS, MANY, Changing, joined
from tests.lab.machine import Machine, MachineError
from tests.lab.package import CHECKOUT, DIST, BuildError, debs, installed
from tests.lab.rivals import COLD, GOOGLE, OATH, OURS, RIVALS, Field, Person, Servers, hidden, login, sudo, transaction
from tests.lab.roots import SUITES, Root, RootError
from tests.lab.sources import NoSourcesError
from tests.lab.tally import bounds, report, summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.rivals import Command, Rival

RESULT = DIST / "bench.json"
ENOUGH = 30
REPEAT = 70
WARM_UP = 3
CROWD = 200
SIZES = (10, 10_000)
FULL_SIZE = 1_000_000
PATIENCE = 600.0
PACKAGES = (
    *("pam-totp", "libpam-totp", "libpam-python", "python3-nacl", "libsodium23", "libsqlite3-0"),
    *("openssh-server", "libpam0g", "libpam-google-authenticator", "libpam-oath", "pamtester", "sudo"),
)


class BenchError(Exception):
    """Something that was to be measured did not work."""


@dataclass(frozen=True)
class Run:
    """One command that was measured: seconds from start to end, and of processor time with all its children."""

    status: int
    seconds: float
    cpu: float
    output: str


@dataclass(frozen=True)
class Crowd:
    """Commands that ran at once: `elapsed` seconds for all; `served` is the processor time of a control group."""

    runs: list[Run]
    elapsed: float
    served: float


class Stopwatch:
    """Runs commands in a machine and measures them there. A context manager."""

    def __init__(self, machine: Machine) -> None:
        self._process = machine.popen(["/usr/bin/python3", "-I", "-S", "/run/lab/stopwatch.py"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        if kind is None:  # else it may be busy for long; it ends with its machine
            self._process.wait(timeout=PATIENCE)

    def crowd(self, commands: Sequence[Command], group: str = "") -> Crowd:
        """Run commands at once. Raises BenchError when that cannot be done; how they end is the caller's business."""
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise AssertionError
        self._process.stdin.write(json.dumps({"commands": commands, "group": group}) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            raise BenchError(f"not finished after {PATIENCE:g} s: {commands[0]['argv']}")
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the stopwatch stopped: {self._process.stderr.read()}")
        answer = json.loads(line)
        return Crowd([Run(**run) for run in answer["runs"]], answer["elapsed"], answer["served"])

    def run(self, command: Command, group: str = "") -> tuple[Run, float]:
        """Run a command that must succeed; also returns what the group used meanwhile. Raises BenchError."""
        crowd = self.crowd([command], group)
        (run,) = crowd.runs
        if run.status:
            raise BenchError(f"exit status {run.status}: {command['argv']}\n{run.output}")
        return run, crowd.served


# -- what is measured


def measure(root: Root, sizes: Sequence[int], repeat: int) -> dict[str, Any]:
    """Everything, on one suite."""
    cache.say(f"{root.suite}: setting up")
    users = 2 * len(RIVALS) * (WARM_UP + repeat) + 3 * CROWD + len(RIVALS)
    with machine(root) as up:
        field = Field(up, users, users)
        with Stopwatch(up) as watch, Servers(up) as servers:
            found: dict[str, Any] = {"versions": versions(up)}
            cache.say(f"{root.suite}: {repeat} logins of each kind")
            found["logins"] = logins(field, servers, watch, repeat)
            cache.say(f"{root.suite}: {repeat} calls of sudo and of setcred of each kind")
            found["setcred"], found["sudo"] = calls(field, watch, repeat)
            for rival in (GOOGLE, COLD, OURS):
                cache.say(f"{root.suite}: {CROWD} logins at once, {rival.title}")
                found.setdefault("at_once", {})[rival.name] = at_once(field, servers, watch, rival)
    found["fleet"] = of_a_fleet(root, repeat)
    # A thousand records take seconds each time.
    found["changes"] = under_a_change(root, min(repeat, ENOUGH))
    found["enrolled"] = enrolled(root, sizes, repeat)
    return found


def logins(field: Field, servers: Servers, watch: Stopwatch, repeat: int) -> dict[str, Any]:
    """Whole ssh logins with key + code, in ms: by name of the rival, "wall" and "cpu" (the server's) of each round."""
    for rival in RIVALS:
        if rival.checks:
            person = field.person()
            attempt = login(rival, person, {"CODE": wrong(person.secret)})
            if not watch.crowd([attempt], servers.group(rival)).runs[0].status:
                raise BenchError(f"{rival.title} lets a wrong code in: there is nothing to compare")
    found: dict[str, Any] = {rival.name: {"wall": [], "cpu": []} for rival in RIVALS}
    for counts, rival, person in rounds(field, repeat):
        run, served = watch.run(login(rival, person, {"CODE": code(person.secret)}), servers.group(rival))
        if counts:
            found[rival.name]["wall"].append(run.seconds * 1000)
            found[rival.name]["cpu"].append(served * 1000)
    return found


def calls(field: Field, watch: Stopwatch, repeat: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Of each round: setcred by pamtester, processor time in ms; and `sudo true`, in ms from start to end."""
    setcred: dict[str, list[float]] = {rival.name: [] for rival in RIVALS}
    called: dict[str, list[float]] = {rival.name: [] for rival in RIVALS}
    for counts, rival, person in rounds(field, repeat):
        with hidden(field.machine, rival):
            quick, _ = watch.run(transaction(rival, person, "setcred", ""))
            run, _ = watch.run(sudo(rival, person, code(person.secret)))
        if counts:
            setcred[rival.name].append(quick.cpu * 1000)
            called[rival.name].append(run.seconds * 1000)
    return setcred, called


def rounds(field: Field, repeat: int) -> Iterator[tuple[bool, Rival, Person]]:
    """Whether it counts, whose turn it is, and who logs in: in each round every rival once, each with another user.

    With the same one, a code that one of ours accepts would be spent for the others.
    """
    order = list(RIVALS)
    for number in range(WARM_UP + repeat):
        random.shuffle(order)
        for rival in order:
            yield number >= WARM_UP, rival, field.person()


def at_once(field: Field, servers: Servers, watch: Stopwatch, rival: Rival) -> dict[str, Any]:
    """Many users at once, in seconds: each login, all of them together, and what the server used of the processors."""
    commands = [login(rival, person, {"SECRET": person.secret}) for person in field.people(CROWD)]
    crowd = watch.crowd(commands, servers.group(rival))
    failed = [run for run in crowd.runs if run.status]
    for run in failed[:3]:
        cache.say(f"  a login failed: {run.output.strip()}")
    return {
        "logins": len(crowd.runs),
        "failed": len(failed),
        "seconds": sorted(run.seconds for run in crowd.runs),
        "elapsed": crowd.elapsed,
        "server_cpu": crowd.served,
    }


def of_a_fleet(root: Root, repeat: int) -> dict[str, list[float]]:
    """Whole ssh logins, warm, on a host alone and on two that have joined a fleet: by kind, in ms, of each round."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        hosts = {}
        for kind in KINDS:
            field = Field(stack.enter_context(machine(root)), WARM_UP + repeat, WARM_UP + repeat)
            stack.enter_context(joined(field, kind))
            watch = stack.enter_context(Stopwatch(field.machine))
            hosts[kind] = field, watch, stack.enter_context(Servers(field.machine))
        cache.say(f"{root.suite}: {repeat} logins on a host alone, and on two of a fleet")
        order = list(KINDS)
        for count in range(WARM_UP + repeat):
            random.shuffle(order)
            for kind in order:
                field, watch, servers = hosts[kind]
                person = field.person()
                run, _ = watch.run(login(OURS, person, {"CODE": code(person.secret)}), servers.group(OURS))
                if count >= WARM_UP:
                    found[kind].append(run.seconds * 1000)
    return found


def under_a_change(root: Root, repeat: int) -> dict[str, dict[str, Any]]:
    """Whole ssh logins of a host of a fleet, from the answer on, while the directory changes records.

    By change "wall", in ms of each round, and how many were "alone": their code could not be claimed in time.
    """
    found: dict[str, dict[str, Any]] = {kind: {"wall": [], "alone": 0} for kind in CHANGES}
    people = MANY + len(CHANGES) * (WARM_UP + repeat)
    with ExitStack() as stack:
        field = Field(stack.enter_context(machine(root)), people, people)
        changing = stack.enter_context(Changing(field))
        watch = stack.enter_context(Stopwatch(field.machine))
        servers = stack.enter_context(Servers(field.machine))
        cache.say(f"{root.suite}: {repeat} logins while records change")
        order = list(CHANGES)
        for count in range(WARM_UP + repeat):
            random.shuffle(order)
            for kind in order:
                milliseconds, claimed = changing.login(watch, kind, servers.group(OURS))
                if count >= WARM_UP:
                    found[kind]["wall"].append(milliseconds)
                    found[kind]["alone"] += not claimed
    return found


def enrolled(root: Root, sizes: Sequence[int], repeat: int) -> list[dict[str, Any]]:
    """PAM transactions with more and more users enrolled: ours, cold, and pam_oath's, "wall" in ms of each round."""
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        fields = []
        for size in sizes:
            cache.say(f"{root.suite}: enrolling {size:,} users")
            field = Field(stack.enter_context(machine(root)), size, WARM_UP + repeat)
            fields.append((field, stack.enter_context(Stopwatch(field.machine))))
            sizes_kept = field.machine.sh("stat -c %s /var/lib/pam-totp/cache.db /etc/users.oath").stdout.split()
            series: dict[str, Any] = {rival.name: {"wall": []} for rival in (COLD, OATH)}
            found.append({"enrolled": size, "bytes": dict(zip(series, map(int, sizes_kept), strict=True)), **series})
        cache.say(f"{root.suite}: {repeat} PAM transactions with each")
        turns = [(number, rival) for number in range(len(fields)) for rival in (COLD, OATH)]
        for count in range(WARM_UP + repeat):
            people = [field.person() for field, _ in fields]
            random.shuffle(turns)
            for number, rival in turns:
                person = people[number]
                run, _ = fields[number][1].run(transaction(rival, person, "authenticate", code(person.secret)))
                if count >= WARM_UP:
                    found[number][rival.name]["wall"].append(run.seconds * 1000)
    return found


# -- where it is measured


@contextmanager
def machine(root: Root) -> Iterator[Machine]:
    """A machine whose changes go to the disk, as a real one's do: a login makes durable writes."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=cache.home()) as upper,
        Machine(root, upper=Path(upper)) as up,
    ):
        yield up


def versions(up: Machine) -> dict[str, str]:
    """Of everything in a machine that a login uses."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PACKAGES]
    found = dict(line.split() for line in up.run(query).stdout.splitlines())
    return {"python": up.run(["/usr/bin/python3", "-V"]).stdout.split()[-1], **found}


def surroundings() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT)]
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _said([*git, "describe", "--always", "--dirty", "--exclude=*"]),
        "kernel": os.uname().release,
        "processor": model[1] if model else os.uname().machine,
        "processors": len(os.sched_getaffinity(0)),
        "memory_mib": memory,
        "disk": _said(["stat", "-f", "-c", "%T", str(cache.home())]),
        "durable_write_ms": durable_write(),
        "load_before": os.getloadavg(),
    }


def durable_write() -> float:
    """The median of writing 4 KiB durably to the disk that machines write to, in ms."""
    times = []
    with tempfile.TemporaryFile(dir=cache.home()) as file:
        for _ in range(20):
            started = time.perf_counter()
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _said(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()


# -- all of it


def main() -> int:
    """Run the benchmark. The exit status is 0 if all bounds are kept, 1 if not, 2 if it could not be run."""
    parser = argparse.ArgumentParser(prog="./run bench", description="Measure logins with pam_totp and with others.")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this Debian suite (can be repeated)")
    parser.add_argument("--full", action="store_true", help=f"also with {FULL_SIZE:,} enrolled users")
    parser.add_argument(
        "--repeat",
        type=int,
        default=REPEAT,
        metavar="N",
        help=f"measure each N times (default: {REPEAT}); fewer than {ENOUGH} are good for trying it out only",
    )
    arguments = parser.parse_args()
    sizes = (*SIZES, FULL_SIZE) if arguments.full else SIZES
    around = surroundings()
    if around["load_before"][0] > around["processors"] / 4:
        cache.say(f"this machine is busy (load {around['load_before'][0]:.1f}): the numbers will be rough")
    measured: dict[str, Any] = {}
    try:
        packages = debs()
        for suite in dict.fromkeys(arguments.suite or SUITES):
            measured[suite] = measure(installed(suite, packages), sizes, arguments.repeat)
    except (
        AssertionError,
        BenchError,
        BuildError,
        MachineError,
        NoSourcesError,
        RootError,
        subprocess.SubprocessError,
    ) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench: interrupted; nothing is left running", file=sys.stderr)
        return 130
    around["seconds"] = time.monotonic() - cache.START
    summaries = {suite: summary(data) for suite, data in measured.items()}
    kept = bounds(summaries)
    result = {"surroundings": around, "bounds": kept, "summary": summaries, "measured": measured}
    RESULT.write_text(json.dumps(_rounded(result), indent=1) + "\n", encoding="ascii")
    owner = CHECKOUT.stat()
    os.chown(RESULT, owner.st_uid, owner.st_gid)
    print(report(result, warm_up=WARM_UP))
    print(f"All of this, and every single measurement, is in {RESULT.relative_to(CHECKOUT)}.")
    if arguments.repeat < ENOUGH:
        print(f"Only {arguments.repeat} of each were measured: too few for a result that counts.")
    missed = [bound for bound in kept if not bound["kept"]]
    for bound in missed:
        print(f"MISSED on {bound['suite']}: {bound['what']}: {bound['value']:.3f} is more than {bound['at_most']:g}")
    return 1 if missed else 0


def _rounded(value: Any) -> Any:
    """Without the digits that mean nothing."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    sys.exit(main())
