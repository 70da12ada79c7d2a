"""A machine that knows its users from a directory alone, for the benchmark: the agent is the real one.

The directory is tests/lab/directory.py, over HTTPS on the machine's loopback.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from pam_totp.fleet import tree
from tests.lab.directory import person as record
from tests.lab.fleet import FOLDER, Fleet, raw, wait
from tests.lab.rivals import OURS, login

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.bench import Stopwatch
    from tests.lab.rivals import Field, Person

# The kinds of host that are compared: one that never joined a fleet; with a code claimed at the directory before it
# counts, as is usual; and where the directory wants no claims.
ALONE, CLAIMS, NO_CLAIMS = "alone", "claims", "no_claims"
KINDS = {ALONE: "a host alone", CLAIMS: "a host of a fleet", NO_CLAIMS: "a host of a fleet without claims"}
# What the directory changes while somebody is asked for a code, so that the agent takes it when the answer comes.
NOTHING, OWN, OTHERS = "nothing", "own", "others"
MANY = 1000
CHANGES = {NOTHING: "nothing changes", OWN: "the user's own record", OTHERS: f"the records of {MANY:,} others"}
# The request of the agent's on which somebody begins to type, and for how long they do: so the answer comes at any
# moment of the pass.
_BEGINS = {NOTHING: ("/manifest", 0.03), OWN: ("/objects/", 0.03), OTHERS: ("/objects/", 2.0)}
_POLL_SECONDS = 0.3
_ALONE = "decided by this host alone"
_FORGET = """
set -e
rm -f /etc/pam-totp/key /var/lib/pam-totp/cache.db*
find /run/pam-totp -mindepth 1 ! -name login.sock -delete
pam-totp init --anew >/dev/null
"""


@contextmanager
def joined(field: Field, kind: str) -> Iterator[None]:
    """Have a machine be of this kind. Raises AssertionError where a login meanwhile was not decided as there."""
    if kind == ALONE:
        yield
        return
    machine = field.machine
    people = field.people(field.enrolled)
    machine.sh(_FORGET)
    with Fleet(machine) as fleet:
        fleet.join()
        records = [record(each.name, raw(each.secret)) for each in people]
        fleet.directory.publish(records, tree.Policy(claims=kind == CLAIMS))
        fleet.start()
        last = ["pam-totp", "status", people[-1].name, "--json"]
        wait(lambda: '"active"' in machine.run(last, check=False).stdout)
        field.give_back(people)
        mark = machine.mark()
        yield
        assert not any(_ALONE in str(each) for each in machine.log(mark)), "not asked in time"


class Changing:
    """A host of a fleet whose directory changes records while somebody logs in. A context manager.

    The agent is the real one, but that it looks more often.
    """

    def __init__(self, field: Field) -> None:
        self._machine = field.machine
        self._fleet = Fleet(field.machine)
        people = field.people(field.enrolled)
        self._others, self.people = people[:MANY], people[MANY:]
        self._sealed: dict[str, bytes] = {}
        self._changed = int(time.time()) + 86_400 * 300

    def __enter__(self) -> Self:
        self._machine.sh(_FORGET)
        self._fleet.__enter__()
        self._fleet.join()
        self._publish([*self._others, *self.people])
        self._fleet.start(_POLL_SECONDS)
        self._settle()
        return self

    def __exit__(self, *_: object) -> None:
        self._fleet.__exit__()

    def _publish(self, people: list[Person]) -> None:
        """Change the records of these people, and of nobody else."""
        directory = self._fleet.directory
        self._changed += 1
        for each in people:
            changed = record(each.name, raw(each.secret), deadline=self._changed)
            self._sealed[each.name] = directory.sealed(changed)
        directory.publish(self._sealed.values(), tree.Policy(), bundled=True)

    def _await(self, request: str) -> None:
        """Wait until the agent makes such a request."""
        self._watch(request)
        wait((self._fleet.directory.folder / "go").exists, 300)

    def _watch(self, request: str) -> None:
        folder = self._fleet.directory.folder
        (folder / "go").unlink(missing_ok=True)
        (folder / "watch.new").write_text(request)
        (folder / "watch.new").rename(folder / "watch")

    def _settle(self) -> None:
        """Wait until the agent has nothing to do any more."""
        for _ in range(2):  # the first may be of a pass that has begun
            self._await("/manifest")

    def login(self, watch: Stopwatch, kind: str, group: str) -> tuple[float, bool]:
        """One login during a change: ms from the answer to the user's own command; was the code claimed?"""
        folder = self._fleet.directory.folder
        person = self.people.pop()
        (folder / "asked").unlink(missing_ok=True)
        (folder / "go").unlink(missing_ok=True)
        request, longest = _BEGINS[kind]
        pause = f"{random.uniform(0, longest):.3f}"
        command = login(OURS, person, {"SECRET": person.secret, "HOLD": FOLDER, "PAUSE": pause})
        command["argv"] = [*command["argv"][:-1], "date +%s.%N"]
        mark = self._machine.mark()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(watch.run, command, group)
            wait(lambda: future.done() or (folder / "asked").exists())
            changed = {NOTHING: [], OWN: [person], OTHERS: self._others}[kind]
            if changed:
                self._publish(changed)
            self._watch(request)
            run, _ = future.result()
        answered, entered = (float(line) for line in run.output.split())
        self._settle()
        return (entered - answered) * 1000, not any(_ALONE in str(each) for each in self._machine.log(mark))
