"""`./run bench fleet`: what a directory costs with many hosts, and how long a change takes to be on all of them.

The directory is the package, set up by its own command in a machine that systemd has booted, with its web process,
keeper and publisher. The hosts are many in one process, each with a connection of its own over TLS; those on which
people log in are in another one, so that what the first one costs is not counted as the directory's answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.directory import lane
from tests.directory.site import CA, NAME, Site
from tests.lab import cache, chart
from tests.lab.bench import BenchError, surroundings
from tests.lab.booted import Booted
from tests.lab.machine import HERE, MachineError
from tests.lab.package import CHECKOUT, DIST, BuildError, directory_deb
from tests.lab.roots import RootError
from tests.lab.sources import NoSourcesError

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULT = DIST / "bench-fleet.json"
GROWTH = CHECKOUT / "docs" / "fleet-growth.svg"
# From 100 to 10,000 hosts with ten people, and from ten to 10,000 people on a hundred hosts.
GROWING = ((100, 10), (1000, 10), (10_000, 10), (100, 100), (100, 1000), (100, 10_000))
SIZES = ((100, 10), (100, 100), (1000, 10))
FULL = ((100, 1000), (1000, 100), (1000, 1000), (10_000, 10), (10_000, 1000))
UNITS = ("pam-totp-directory", "pam-totp-publisher", "pam-totp-keeper", "postgresql@*")
DATABASE = "postgresql://totp:secret@127.0.0.1/totp"
RATE = 100
ROUNDS, SECONDS = 12, 5  # of claims: a minute, as a disk stalls now and then; before each round, bare durable writes
# What issue-sized fleets are to keep: seconds, share of a processor, seconds, ms.
MOST_CHANGE, MOST_IDLE, MOST_NEW, MOST_CLAIM_MS = 30.0, 0.5, 2.0, 10.0
MOST_FILE_US = 100.0  # for one new file, where publishing is not slowed down by what was removed before
METHOD = """\
How it was measured
  The directory's package with {database}, in a machine booted by systemd, on disk, with the settings of init, but for
  {workers} web processes. The hosts share the machine and its processors, where the directory goes first; one process
  holds them all, each with its connection over TLS on the loopback, and asks every 15 s with the agent's jitter. Hosts
  and people were put into the database and the keeper's list as joining does it. All hosts of a size have the same
  people.
  new file: the mean of 2,000, before anything else. Ext4 looks at each file that was removed in the last five minutes
  before it makes one, so where many were, publishing takes several times as long.
  first: publishing everything for all of these hosts. published: from a committed change of one person, whom every host
  has, until the tree has it for the last host. everywhere: until hosts have fetched, verified and opened it.
  idle: over {idle:g} s without a change; cpu is that of web, publisher, keeper and database, 1 being one processor.
  claims: {rate} a second, {rounds} times for {seconds} s, by 50 hosts more, while all others ask as before. They are in
  a process of their own, each in a thread with the agent's own client and a connection that it keeps; Python's garbage
  collector does not run there. The time is that from when the claim was due until its answer was read, so a claim that
  waits for others counts its wait. cold: one at a time, each over a new connection.
  disk: {rate} bare durable writes of 4 KiB a second to the database's disk, for a second before each round, without
  claims: a claim waits for one at least. load: the most that the machine's load average was after a round.
  new: one more host joins by the API; wait: until there is something for it; fetch: until it has all records, got with
  the agent's own client: most of them in one file."""


class Hosts:
    """A process that hosts live in."""

    def __init__(self, machine: Booted, script: str) -> None:
        command = ["/usr/bin/python3", "-I", f"/root/lab/{script}", NAME, CA, "/root/lab/hosts.json"]
        self._machine = machine
        self._process = machine.popen(command)

    def ask(self, *words: str) -> dict[str, Any]:
        """Have it do something, and wait."""
        self.tell(*words)
        found: dict[str, Any] = self.answer()
        return found

    def tell(self, *words: str) -> None:
        """Have it begin to do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What it says. Raises BenchError."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise BenchError(f"the hosts stopped: {self._process.stderr.read()[-2000:]}")
        return json.loads(line)

    def end(self) -> None:
        """End it."""
        self._machine.end(self._process)


def site(machine: Booted, postgresql: bool) -> Site:
    """A directory, and what fills it."""
    made = Site(machine, directory_deb())
    for script in ("fleet_site.py", "fleet_hosts.py", "fleet_claims.py"):
        machine.write(f"/root/lab/{script}", (HERE / script).read_bytes())
    if postgresql:
        machine.sh(
            """
            set -e
            systemctl start postgresql
            cd /
            psql() { setpriv --reuid=postgres --regid=postgres --init-groups psql -q -c "$1"; }
            psql "CREATE ROLE totp LOGIN PASSWORD 'secret'"
            psql "CREATE DATABASE totp OWNER totp"
            """
        )
        made.command("token", "new", "--host", "none")  # the keeper has a file from its first request on
        made.command("backup", "/root/backup")
        machine.sh('printf "database = \\"%s\\"\\n" "$1" >>/etc/pam-totp-directory/directory.toml', DATABASE)
        made.command("restore", "--yes", "--database-only", "/root/backup")
    return made


def filled(machine: Booted, *words: str) -> dict[str, Any]:
    """What fleet_site.py says."""
    done = machine.run(["/usr/bin/python3", "-I", "/root/lab/fleet_site.py", *words], timeout=5 * 3600)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def used(machine: Booted) -> dict[str, float]:
    """Seconds of processor time that each unit has used, of all processes in it."""
    script = """
        for unit; do
            for pid in $(systemctl show -p MainPID --value "$unit"); do
                for each in $pid $(pgrep -P "$pid"); do
                    [ "$each" = 0 ] || printf '%s %s\n' "$unit" "$(cut -d ' ' -f 14-17 "/proc/$each/stat")"
                done
            done
        done
    """
    found = dict.fromkeys(UNITS, 0.0)
    for line in machine.sh(script, *UNITS).stdout.splitlines():
        unit, own, system, *_ = line.split()
        found[unit] += (int(own) + int(system)) / os.sysconf("SC_CLK_TCK")
    return found


def measure(made: Site, hosts: int, people: int, idle: float) -> dict[str, Any]:
    """Everything, of one size."""
    machine = made.machine
    cache.say(f"{hosts:,} hosts, {people:,} people")
    before = used(machine)
    group = filled(machine, "hosts", str(hosts), str(people))
    first = filled(machine, "published", group["group"])["until"] - group["begun"]
    after = used(machine)
    found: dict[str, Any] = {"hosts": hosts, "people": people, "first": first, "first_cpu": _more(before, after)}
    found["group"] = group["group"]
    found["sizes"] = sizes(machine)
    cache.say(f"  published first after {first:.1f} s: {found['sizes']}")
    living = Hosts(machine, "fleet_hosts.py")
    try:
        found["ready"] = living.ask("ready")
        before, began = used(machine), time.monotonic()
        found["idle"] = living.ask("idle", str(idle))
        spent = time.monotonic() - began
        cpu = _more(before, used(machine))
        found["idle"] |= {"seconds": spent, "cpu": {unit: each / spent for unit, each in cpu.items()}}
        cache.say(f"  idle: {found['idle']}")
        found["changes"] = []
        for _ in range(2):
            before = used(machine)
            living.tell("change")
            living.answer()
            changed = filled(machine, "change", group["group"])
            answer = living.answer()
            times = [each - changed["at"] for each in answer["times"]]
            cost = _more(before, used(machine))
            found["changes"].append(
                {
                    "published": changed["seconds"],
                    "times": times,
                    "cpu": cost,
                    "failures": answer["failures"],
                }
            )
            cache.say(f"  a change: published after {changed['seconds']:.1f} s, everywhere after {times[-1]:.1f} s")
        found |= logins(machine)
        token = made.command("token", "new", "--group", group["group"]).stdout.strip()
        found["new"] = living.ask("new", token)
    finally:
        living.end()
    return found


def logins(machine: Booted) -> dict[str, Any]:
    """Claims, and what the disk costs them."""
    claiming = Hosts(machine, "fleet_claims.py")
    try:
        rounds = []
        for _ in range(ROUNDS):
            disk, before = claiming.ask("disk", str(RATE), str(RATE)), used(machine)
            claims = claiming.ask("claims", str(RATE), str(RATE * SECONDS))
            rounds.append({"disk": disk, "claims": {**claims, "cpu": _more(before, used(machine))}})
            told = [f"{name} {_ms(each, 0.5):.1f} / {_ms(each, 0.99):.1f}" for name, each in rounds[-1].items()]
            cache.say(f"  p50 / p99 in ms: {', '.join(told)}; load {claims['load']:.1f}")
        return {"rounds": rounds, "cold": claiming.ask("cold", "50")}
    finally:
        claiming.end()


def _ms(found: dict[str, Any], part: float) -> float:
    return quantile(found["seconds"], part) * 1000


def sizes(machine: Booted) -> dict[str, int]:
    """Bytes of the tree, as its files have and as the disk has, how many files, and bytes of both databases."""
    script = """
        cd /var/lib/pam-totp-directory
        du -s --apparent-size --block-size=1 tree | cut -f 1
        du -s --block-size=1 tree | cut -f 1
        find tree -type f | wc -l
        asked="SELECT pg_database_size('totp')"
        if ! grep -q '^database = "postgresql' /etc/pam-totp-directory/directory.toml; then cat directory.db* | wc -c
        else (cd / && setpriv --reuid=postgres --regid=postgres --init-groups psql -At -c "$asked"); fi
        wc -c </var/lib/pam-totp-keeper/keeper.db
    """
    names = ("content", "disk", "files", "database", "keeper")
    return dict(zip(names, map(int, machine.sh(script).stdout.split()), strict=True))


def _more(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {unit: after[unit] - before[unit] for unit in after}


def new_file() -> float:
    """What it takes to make a file where machines' files are, in microseconds: the mean of 2,000."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache.home()) as folder:
        began = time.perf_counter()
        for number in range(2000):
            Path(folder, str(number)).write_bytes(b"manifest")
        return (time.perf_counter() - began) / 2000 * 1e6


def quantile(ordered: Sequence[float], part: float) -> float:
    """A quantile of what is in order already."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def summary(found: dict[str, Any]) -> dict[str, float]:
    """What the measurements of one size come to."""
    times = sorted(each for change in found["changes"] for each in change["times"])
    claims, disk = (sorted(s for each in found["rounds"] for s in each[name]["seconds"]) for name in ("claims", "disk"))
    cold, idle, asked = found["cold"]["seconds"], found["idle"], [each["claims"] for each in found["rounds"]]
    failures = [idle["failures"], *(each["failures"] for each in [*found["changes"], *asked])]
    failures += [found[name]["failures"] for name in ("ready", "cold", "new")]
    return {
        "hosts": found["hosts"],
        "people": found["people"],
        "first_s": found["first"],
        "published_s": max(change["published"] for change in found["changes"]),
        "publish_cpu_ms_a_host": max(sum(change["cpu"].values()) for change in found["changes"])
        * 1000
        / found["hosts"],
        "everywhere_p50_s": quantile(times, 0.5),
        "everywhere_p99_s": quantile(times, 0.99),
        "everywhere_max_s": times[-1],
        "idle_requests_s": idle["requests"] / idle["seconds"],
        "idle_bytes_s": (idle["sent"] + idle["received"]) / idle["seconds"],
        "idle_cpu": sum(idle["cpu"].values()),
        "claim_p50_ms": quantile(claims, 0.5) * 1000,
        "claim_p99_ms": quantile(claims, 0.99) * 1000,
        "claim_load": max(each["load"] for each in asked),
        "disk_p50_ms": quantile(disk, 0.5) * 1000,
        "disk_p99_ms": quantile(disk, 0.99) * 1000,
        "cold_p50_ms": quantile(cold, 0.5) * 1000,
        "new_wait_s": found["new"]["wait"],
        "new_fetch_s": found["new"]["fetch"],
        "record_ms": found["first"] * 1000 / (found["hosts"] * found["people"]),
        "record_bytes": found["sizes"]["content"] / (found["hosts"] * found["people"]),
        "record_disk": found["sizes"]["disk"] / (found["hosts"] * found["people"]),
        "failures": sum(sum(each.values()) for each in failures),
    }


def missed(found: dict[str, float]) -> list[str]:
    """Which bounds are not kept."""
    bounds = (
        ("a change is everywhere after", found["everywhere_max_s"], MOST_CHANGE, "s"),
        ("idle processor time is", found["idle_cpu"], MOST_IDLE, "of one processor"),
        ("a new host has 1,000 records after", found["new_fetch_s"] / max(1, found["people"] / 1000), MOST_NEW, "s"),
        ("a claim takes at p99", found["claim_p99_ms"], MOST_CLAIM_MS, "ms"),
        ("requests that failed:", found["failures"], 0, ""),
    )
    size = f"{found['hosts']:,.0f} hosts, {found['people']:,.0f} people"
    return [
        f"MISSED with {size}: {what} {value:.2f} {unit}, at most {most:g}"
        for what, value, most, unit in bounds
        if value > most
    ]


def table(rows: Sequence[dict[str, float]]) -> str:
    """For people."""
    lines = [
        "hosts people | first published everywhere, s     | idle             | claims, ms cold  disk load | new host",
        "             |     s         s   p50   p99   max |  req/s  kB/s cpu |  p50   p99  p50   p99      | wait fetch",
    ]
    lines += [
        f"{row['hosts']:5.0f} {row['people']:6.0f} | {row['first_s']:5.1f} {row['published_s']:9.1f}"
        f" {row['everywhere_p50_s']:5.1f} {row['everywhere_p99_s']:5.1f} {row['everywhere_max_s']:5.1f} |"
        f" {row['idle_requests_s']:6.1f} {row['idle_bytes_s'] / 1000:5.1f} {row['idle_cpu']:3.2f} |"
        f" {row['claim_p50_ms']:4.1f} {row['claim_p99_ms']:5.1f} {row['cold_p50_ms']:4.1f} {row['disk_p99_ms']:5.1f}"
        f" {row['claim_load']:4.1f} | {row['new_wait_s']:4.2f} {row['new_fetch_s']:5.2f}"
        for row in rows
    ]
    return "\n".join(lines)


def growth(rows: Sequence[dict[str, float]]) -> str:
    """How times and sizes grow, as a picture."""
    wide = [row for row in rows if row["people"] == GROWING[0][1]]
    deep = [row for row in rows if row["hosts"] == GROWING[0][0]]

    def line(name: str, found: Sequence[dict[str, float]], across: str, what: str) -> Any:
        return name, [(row[across], row[what]) for row in found]

    return chart.draw(
        "How a directory's times grow with hosts, and with people on each of them",
        [
            chart.Panel(
                "A change, seconds; 10 people a host",
                "hosts",
                [
                    line("everywhere", wide, "hosts", "everywhere_max_s"),
                    line("half of them", wide, "hosts", "everywhere_p50_s"),
                    line("published", wide, "hosts", "published_s"),
                ],
                MOST_CHANGE,
            ),
            chart.Panel(
                "Idle, share of a processor",
                "hosts that ask every 15 s",
                [line("directory", wide, "hosts", "idle_cpu")],
                MOST_IDLE,
            ),
            chart.Panel(
                "100 hosts, seconds",
                "people on each host",
                [
                    line("first, all", deep, "people", "first_s"),
                    line("a new host", deep, "people", "new_fetch_s"),
                    line("a change", deep, "people", "published_s"),
                ],
            ),
        ],
    )


def _size(text: str) -> tuple[int, int]:
    hosts, people = map(int, text.split("x"))
    if hosts < 1 or not 1 <= people <= 10_000:
        raise ValueError
    return hosts, people


def main() -> int:
    """Run it. The exit status is 0 if the bounds are kept, 1 if not, 2 if it could not be run."""
    parser = argparse.ArgumentParser(prog="./run bench fleet", description="Measure a directory with many hosts.")
    parser.add_argument(
        "--size",
        action="append",
        type=_size,
        metavar="HOSTSxPEOPLE",
        help=f"such as 1000x100; can be repeated (default: {', '.join(f'{a}x{b}' for a, b in SIZES)})",
    )
    parser.add_argument("--full", action="store_true", help="up to 10000x1000, for a quiet machine and a day")
    parser.add_argument("--growth", action="store_true", help=f"the sizes of docs/{GROWTH.name}, and draw it")
    parser.add_argument("--postgresql", action="store_true", help="with PostgreSQL in place of SQLite")
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS", help="how long to idle (default: 60)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="web processes (default: 2)")
    arguments = parser.parse_args()
    # Whoever ends it, gets what was measured until then; a shell's background jobs would not hear of an interrupt.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    usual = GROWING if arguments.growth else (*SIZES, *(FULL if arguments.full else ()))
    wanted = list(dict.fromkeys(arguments.size or usual))
    database = "PostgreSQL" if arguments.postgresql else "SQLite"
    around = surroundings()
    if around["load_before"][0] > around["processors"] / 4:
        cache.say(f"this machine is busy (load {around['load_before'][0]:.1f}): the numbers will be rough")
    around["new_file_us"] = new_file()
    if around["new_file_us"] > MOST_FILE_US:
        cache.say("many files were removed from this disk lately: publishing will be slow for five minutes")
    measured: list[dict[str, Any]] = []
    stopped = ""
    try:
        more = (*lane.PACKAGES, *(("postgresql",) if arguments.postgresql else ()))
        with (
            tempfile.TemporaryDirectory(prefix="bench-", dir=cache.home()) as upper,
            Booted(lane.SUITE, more, upper=Path(upper)) as machine,
        ):
            made = site(machine, arguments.postgresql)
            machine.sh('printf "workers = %s\\n" "$1" >>/etc/pam-totp-directory/directory.toml', str(arguments.workers))
            machine.sh("systemctl restart pam-totp-directory", timeout=120)
            for hosts, people in wanted:
                if measured:
                    filled(machine, "forget", measured[-1]["group"])
                filled(machine, "people", str(hosts), str(people))
                measured.append(measure(made, hosts, people, arguments.idle))
    except (BenchError, BuildError, MachineError, NoSourcesError, RootError, subprocess.SubprocessError) as error:
        stopped = str(error)
    except KeyboardInterrupt:
        stopped = "interrupted"
    summaries = [summary(each) for each in measured]
    around["load_after"] = os.getloadavg()
    rounded = [{name: round(value, 3) for name, value in found.items()} for found in summaries]
    result = {"surroundings": around, "database": database, "workers": arguments.workers, "summary": rounded}
    RESULT.write_text(
        json.dumps({**result, "stopped": stopped, "measured": measured}, indent=1) + "\n", encoding="ascii"
    )
    owner = CHECKOUT.stat()
    os.chown(RESULT, owner.st_uid, owner.st_gid)
    if arguments.growth:
        GROWTH.write_text(growth(summaries), encoding="utf-8")
    print(
        f"One durable write of 4 KiB to this disk: {around['durable_write_ms']:.2f} ms (median); one new file: "
        f"{around['new_file_us']:.0f} us; load before: {around['load_before'][0]:.1f}, after: "
        f"{around['load_after'][0]:.1f}, {around['processors']} processors\n"
    )
    print(table(summaries))
    shown = {"database": database, "workers": arguments.workers, "idle": arguments.idle, "rate": RATE}
    shown |= {"rounds": ROUNDS, "seconds": SECONDS}
    print("\n" + METHOD.format(**shown))
    bad = [line for found in summaries for line in missed(found)]
    print("\n".join(bad))
    if stopped:
        print(f"bench: {stopped}", file=sys.stderr)
        return 2
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
