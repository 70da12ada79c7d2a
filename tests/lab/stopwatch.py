"""Runs commands inside a machine and measures them. Standard input and output are lines of JSON.

A request is {"commands": [{"argv", "env", "input"}, ...], "group": DIRECTORY or ""}; its commands are all started at
once. The answer is {"runs": [{"status", "seconds", "cpu", "output"}, ...], "elapsed", "served"}: how long each took,
from its start to its end, and what it used of the processors with all its children; how long all took together; and
what the processes of the control group used meanwhile, until they had nothing left to do.

It imports nothing of the project.
"""

import json
import os
import sys
import time
from typing import Any

IDLE_SECONDS = 60
MOST_OUTPUT = 4096


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request["commands"], request["group"])), flush=True)


def answer(commands: list[dict[str, Any]], group: str) -> dict[str, Any]:
    """Run the commands, all at once."""
    idle, before = members(group), used(group)
    runs: list[dict[str, Any]] = []
    running = {}
    began = ended = time.perf_counter()
    for command in commands:
        output = os.memfd_create("output")
        started = time.perf_counter()
        running[start(command, output)] = (len(runs), started, output)
        runs.append({})
    while running:
        pid, status, usage = os.wait4(-1, 0)
        ended = time.perf_counter()
        number, started, output = running.pop(pid)
        runs[number] = {
            "status": os.waitstatus_to_exitcode(status),
            "seconds": ended - started,
            "cpu": usage.ru_utime + usage.ru_stime,
            "output": os.pread(output, MOST_OUTPUT, 0).decode("utf-8", "backslashreplace"),
        }
        os.close(output)
    give_up = time.monotonic() + IDLE_SECONDS
    while members(group) != idle:
        if time.monotonic() > give_up:
            raise TimeoutError(f"processes that do not end in {group}: {members(group) - idle}")
        time.sleep(0.001)
    return {"runs": runs, "elapsed": ended - began, "served": used(group) - before}


def start(command: dict[str, Any], output: int) -> int:
    """Start one command; return its pid."""
    source, sink = os.pipe()
    os.write(sink, command["input"].encode())
    os.close(sink)
    try:
        return os.posix_spawn(
            command["argv"][0],
            command["argv"],
            command["env"],
            file_actions=[
                (os.POSIX_SPAWN_DUP2, source, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
        )
    finally:
        os.close(source)


def members(group: str) -> set[str]:
    """The processes of a control group (version 2)."""
    if not group:
        return set()
    with open(f"{group}/cgroup.procs", encoding="ascii") as file:
        return set(file.read().split())


def used(group: str) -> float:
    """Seconds of processor time that a control group has used, its ended processes included."""
    if not group:
        return 0.0
    with open(f"{group}/cpu.stat", encoding="ascii") as file:
        fields = dict(line.split() for line in file)
    return int(fields["usage_usec"]) / 1e6


main()
