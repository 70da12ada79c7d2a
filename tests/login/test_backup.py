"""pam-totp backup and restore on a host where users log in all the while."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab import pam

if TYPE_CHECKING:
    from tests.login.host import Host

pytestmark = pytest.mark.usefixtures("key_and_code")

# One login after another by a user who is enrolled, until the file is gone; each wrong code is charged, so each writes.
BUSY = """
touch /run/busy
while test -e /run/busy; do
    printf '000000\\n' | pamtester -I rhost=127.0.0.$((RANDOM % 250 + 1)) lab "$1" authenticate
done >/run/busy.log 2>&1
"""


def test_a_backup_and_a_restore_while_users_log_in_lose_nothing_that_counts(host: Host) -> None:
    alice, bob = host.person(), host.person()
    codes = host.recovery_codes(alice)
    pam.alone(host.machine)
    machine = host.machine
    busy = machine.popen(["bash", "-c", BUSY, "bash", str(bob)])
    try:
        machine.sh("until test -s /run/busy.log; do sleep 0.05; done")
        for number in range(3):
            machine.run(["pam-totp", "backup", f"/root/backup{number}.tar"])
        assert alice.log_in(codes[0]).ok
        carol = host.person()
        done = machine.run(["pam-totp", "restore", "/root/backup2.tar", "--yes"])
        assert f"not enrolled any more afterwards, because that came later: {carol}\n" in done.stdout
        assert busy.poll() is None
    finally:
        machine.run(["rm", "/run/busy"])
        busy.communicate(timeout=60)
    # Refused for the code or the wait it had brought about, and never for the cache.
    assert set(re.findall(r"pamtester: (.*)", machine.read("/run/busy.log"))) == {"Authentication failure"}
    assert machine.run(["pam-totp", "status"]).stdout.count(" active ") >= 1
    assert not alice.log_in(codes[0]).ok
    assert alice.log_in(codes[1]).ok
    assert alice.log_in(alice.code()).ok


def test_what_was_backed_up_before_and_after_a_rotation_of_the_key_can_be_put_back(host: Host) -> None:
    alice = host.person(spent=-2)
    machine = host.machine
    pam.alone(machine)
    machine.run(["pam-totp", "backup", "/root/before.tar"])
    machine.run(["pam-totp", "key", "rotate"])
    machine.run(["pam-totp", "backup", "/root/after.tar"])
    for number, name in enumerate(("after", "before")):
        mark = machine.mark()
        done = machine.run(["pam-totp", "restore", f"/root/{name}.tar", "--yes"])
        assert "put back: cache and key" in done.stdout
        [line] = [record.message for record in machine.log(mark) if "action=restore" in record.message]
        assert " by=root " in line
        code = alice.code(number - 1)
        assert alice.log_in(code).ok
        assert not alice.log_in(code).ok
    machine.run(["pam-totp", "key", "rotate"])
    assert alice.log_in(alice.code(1)).ok
