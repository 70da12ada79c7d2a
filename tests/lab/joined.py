"""A machine that knows its users from a directory alone, for the benchmark: the agent is the real one.

The directory is tests/lab/directory.py, over HTTPS on the machine's loopback.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pam_totp.fleet import tree
from tests.lab.directory import person as record
from tests.lab.fleet import Fleet, raw, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.rivals import Field

# The kinds of host that are compared: one that never joined a fleet; with a code claimed at the directory before it
# counts, as is usual; and where the directory wants no claims.
ALONE, CLAIMS, NO_CLAIMS = "alone", "claims", "no_claims"
KINDS = {ALONE: "a host alone", CLAIMS: "a host of a fleet", NO_CLAIMS: "a host of a fleet without claims"}
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
        assert not any("decided by this host alone" in str(each) for each in machine.log(mark)), "not asked in time"
