"""Removing the package while a PAM line still asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.code import code
from tests.lab.setup import enroll, use

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.machine import Machine

pytestmark = pytest.mark.row("removal")


@pytest.mark.parametrize("how", [["apt-get", "remove", "-y"], ["apt-get", "purge", "-y"], ["dpkg", "--remove"]])
def test_the_package_stays_while_a_line_asks_for_it(
    how: list[str], fresh_machine: Machine, tally: Callable[..., None]
) -> None:
    alice = fresh_machine.user("alice")
    use(fresh_machine, "key-and-code")
    secret = enroll(fresh_machine, alice)
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    done = fresh_machine.run([*how, "libpam-totp", "pam-totp"], check=False, env=environment)
    assert done.returncode != 0
    assert "NOT REMOVED" in done.stdout + done.stderr
    assert "/etc/pam.d/sshd" in done.stdout + done.stderr
    assert fresh_machine.login(alice, key=True, code=code(secret)).ok
    fresh_machine.sh("sed -i '/pam_totp/s/^/#/' /etc/pam.d/sshd")
    fresh_machine.run([*how, "libpam-totp", "pam-totp"], env=environment)
    assert fresh_machine.login(alice, key=True).ok
    tally(1)
