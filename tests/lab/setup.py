"""The steps an administrator takes: one of the two variants in force, and users enrolled."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Literal

from tests.lab.code import STEP, code

if TYPE_CHECKING:
    from tests.lab.machine import Machine
    from tests.lab.user import User

EXAMPLES = "/usr/share/doc/pam-totp/examples"
Variant = Literal["password-and-code", "key-and-code", "combined"]


def use(machine: Machine, variant: Variant, *, relaxed: bool = True) -> None:
    """Copy a variant's two example files to where they belong, and start sshd (again).

    They are used as they are, but for the engine that the machine is to have.
    """
    machine.sh(
        """
        set -e
        rm -f /etc/ssh/sshd_config.d/00-pam-totp-*.conf
        cp "$1/sshd_config.d/00-pam-totp-$2.conf" /etc/ssh/sshd_config.d/
        sed "s/pam_totp\\.so/$3/" "$1/pam.d/sshd-$2" >/etc/pam.d/sshd
        """,
        EXAMPLES,
        variant,
        machine.module,
    )
    machine.sshd.restart(relaxed=relaxed)


def enroll(machine: Machine, user: str | User, *, pending: bool = False, label: str = "") -> str:
    """Enrol a user, and `confirm` unless it is to stay pending; return the secret in base32."""
    options = ["--label", label] if label else []
    done = machine.run(["pam-totp", "enroll", str(user), "--no-confirm", "--json", *options])
    secret = str(json.loads(done.stdout)["secret"])
    if not pending:
        confirm(machine, user, secret)
    return secret


def confirm(machine: Machine, user: str | User, secret: str) -> None:
    """Confirm a pending secret with the code of the step before this one: this step's is then good for a login."""
    # Should the step end before the first arrives, the second is what the first one was meant to be.
    now = time.time()
    typed = f"{code(secret, now - STEP)}\n{code(secret, now)}\n"
    machine.run(["pam-totp", "confirm", str(user)], input=typed)
