"""cron and at: nobody is there to be asked, and PAM does not ask, though the line is in their stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.login.host import Host, Person

WAIT = 'for _ in $(seq 300); do test -e "$1" && exit; sleep 0.1; done; exit 1'
DENY = "auth required pam_deny.so\n"


def cron(person: Person, path: str) -> None:
    """Have a job of a user's run, now, by cron as it starts."""
    machine = person.host.machine
    machine.run(["crontab", "-u", person.name, "-"], input=f"@reboot /usr/bin/touch {path}\n")
    machine.sh("rm -f /run/crond.reboot; cron")


def at(person: Person, path: str) -> None:
    """Have a job of a user's run, now, by at's daemon."""
    machine = person.host.machine
    machine.run(["at", "now"], user=person.user, input=f"/usr/bin/touch {path}\n")
    machine.run(["atd"])


@pytest.mark.parametrize(("start", "name"), [(cron, "cron"), (at, "atd")])
def test_jobs_of_an_enrolled_user_run_unasked(host: Host, start: Callable[[Person, str], None], name: str) -> None:
    machine, alice = host.machine, host.person()
    assert "@include common-auth" in machine.read(f"/etc/pam.d/{name}")
    mark = machine.mark()
    try:
        start(alice, f"/home/{alice}/done")
        machine.sh(WAIT, f"/home/{alice}/done")
    finally:
        machine.run(["pkill", "-x", name])
    assert machine.run(["stat", "-c", "%U", f"/home/{alice}/done"]).stdout == f"{alice}\n"
    assert host.decisions(mark) == []
    # It would have been found out if the line refused what is asked of it: to set credentials.
    stack = machine.read(f"/etc/pam.d/{name}")
    machine.write(f"/etc/pam.d/{name}", DENY + stack)
    try:
        start(alice, f"/home/{alice}/denied")
        machine.sh('for _ in $(seq 50); do test -e "$1" && exit 1; sleep 0.1; done', f"/home/{alice}/denied")
    finally:
        machine.run(["pkill", "-x", name])
        machine.write(f"/etc/pam.d/{name}", stack)
