"""Hosts of a fleet on which people log in: claims of codes, over real HTTPS; runs inside a machine as root.

Usage: fleet_claims.py NAME CA HOSTS. A process of its own, apart from the many hosts that only ask for what is new: one
that holds thousands of connections answers late, and that is not the directory's time. Each host asks with the agent's
own client, in a thread, over a connection that it keeps. For each line on standard input, one of JSON on standard
output:
    claims RATE COUNT   codes, so many a second: how long each took, from when it was due until the answer was read
    cold COUNT          the same, one after the other, each by a host that has no connection yet
    disk RATE COUNT     no claims, but bare durable writes of 4 KiB to the disk that the database is on
Codes can be used again each time: what was claimed before is forgotten first.
"""

import gc
import itertools
import json
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, "/usr/lib/pam-totp-directory")

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.errors import FleetError
from pam_totp.fleet import web

HOSTS = 50  # of those there are, on which people log in
SECONDS = 30.0  # for one claim; an agent's patience is shorter, and here it is to be seen how long it takes
SLOW = 0.01  # when claims were made that took longer is told


class Claims:
    """Those hosts, and the codes."""

    def __init__(self, name: str, ca: str, known: dict[str, Any]) -> None:
        self._url = f"https://{name}"
        self._ca = ca
        self._tokens = [token for _, token, _ in known["hosts"]]
        self._authenticators = known["authenticators"]
        self._codes: list[tuple[str, int]] = []
        self._failures: dict[str, int] = {}

    def _forget(self) -> None:
        """Have no code of the people be used."""
        from django.db import connections

        from pam_totp.directory.models import Claim

        Claim.objects.filter(authenticator__in=self._authenticators).delete()
        connections.close_all()
        now = int(time.time() // 30)
        self._codes = list(itertools.product(self._authenticators, range(now - 36, now + 37)))

    def _some(self, count: int) -> list[web.Web]:
        tokens = random.sample(self._tokens, min(count, len(self._tokens)))
        return [web.Web(self._url, self._ca, each) for each in tokens]

    def _claim(self, host: web.Web) -> None:
        authenticator, step = self._codes.pop()
        fields = {"authenticator": authenticator, "step": step, "login": os.urandom(16).hex()}
        try:
            answer = host.post("/api/v1/claim", fields, SECONDS)
            said = f"{answer.status} {answer.content[:60]!r}"
            if answer.status == 200 and answer.fields() == {"claimed": True}:
                return
        except FleetError as error:
            said = error.reason
        self._failures[said] = self._failures.get(said, 0) + 1

    def _answer(self, found: dict[str, Any]) -> dict[str, Any]:
        failures, self._failures = self._failures, {}
        return {**found, "failures": failures, "load": os.getloadavg()[0]}

    def claims(self, rate: str, count: str) -> dict[str, Any]:
        """Many log in."""
        self._forget()
        free: queue.SimpleQueue[web.Web] = queue.SimpleQueue()
        hosts = self._some(min(HOSTS, len(self._codes) // 2))
        for each in hosts:
            self._claim(each)
            free.put(each)

        def one() -> None:
            host = free.get()
            self._claim(host)
            free.put(host)

        found = paced(float(rate), min(int(count), len(self._codes)), len(hosts), one)
        for each in hosts:
            each.close()
        return self._answer(found)

    def cold(self, count: str) -> dict[str, Any]:
        """Somebody logs in on a host where nobody has for long."""
        self._forget()
        seconds = []
        for _ in range(int(count)):
            (host,) = self._some(1)
            began = time.perf_counter()
            self._claim(host)
            seconds.append(time.perf_counter() - began)
            host.close()
        return self._answer({"seconds": sorted(seconds)})

    def disk(self, rate: str, count: str) -> dict[str, Any]:
        """What a durable write costs, whoever asks for it."""
        with tempfile.TemporaryFile(dir=config.STATE) as file:

            def write() -> None:
                os.pwrite(file.fileno(), os.urandom(4096), 0)
                os.fdatasync(file.fileno())

            write()
            return self._answer(paced(float(rate), int(count), 1, write))


def paced(rate: float, count: int, threads: int, does: Callable[[], None]) -> dict[str, Any]:
    """Do something so many times a second, however long it takes; how long it took each time, from when it was due."""
    numbers, lock, seconds, slow = iter(range(count)), threading.Lock(), [], []
    began = time.perf_counter() + 0.1

    def live() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            due = began + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            does()
            taken = time.perf_counter() - due
            seconds.append(taken)
            if taken > SLOW:
                slow.append((due - began, taken))

    gc.collect()
    gc.freeze()
    gc.disable()
    living = [threading.Thread(target=live) for _ in range(threads)]
    for each in living:
        each.start()
    for each in living:
        each.join()
    gc.enable()
    return {"seconds": sorted(seconds), "elapsed": time.perf_counter() - began, "slow": sorted(slow)}


if __name__ == "__main__":
    common.django()
    with open(sys.argv[2], encoding="ascii") as authority:
        ca = authority.read()
    with common.back_to_root(), open(sys.argv[3], encoding="ascii") as file:
        claims = Claims(sys.argv[1], ca, json.load(file))
    while words := sys.stdin.readline().split():
        print(json.dumps(getattr(claims, words[0])(*words[1:])), flush=True)
