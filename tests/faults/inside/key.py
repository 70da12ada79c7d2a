"""A host key that is not as it has to be."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from pam_totp.cache import keys
from tests.faults.inside import host
from tests.faults.inside.holder import login, verdict
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = host.PATHS.key


def _short() -> None:
    with open(KEY, "r+b") as file:
        file.truncate(60)


def _another() -> None:
    os.unlink(KEY)
    keys.create(KEY)


# What is done to it; the reason in the log; what the command says has to be done.
FAULTS: dict[str, tuple[Callable[[], object], str, str]] = {
    "missing": (lambda: os.unlink(KEY), "key-missing", "from your backup"),
    "short": (_short, "key-unusable", "from your backup"),
    "another": (_another, "cache-damaged", "restore both from the same backup"),
    "readable": (lambda: os.chmod(KEY, 0o444), "key-unusable", f"run chmod go= {KEY}"),
    "of another owner": (lambda: os.chown(KEY, 1, 1), "key-unusable", f"run chown root {KEY}"),
}


def faults() -> dict[str, object]:
    """Each is denied and logged, and the command says how to put it right."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    with Log() as log:
        for what, (fault, reason, help_) in FAULTS.items():
            host.put_back(kept)
            fault()
            log.lines()
            got = login("alice", host.code(secret, host.step_now()))
            lines = log.lines()
            if got != host.AUTHINFO_UNAVAIL or not any(f"reason={reason}" in line for line in lines):
                problems.append(f"{what}: {verdict(got)} {lines}")
            got = login("carol", "123456")
            if got != host.AUTHINFO_UNAVAIL:
                problems.append(f"{what}: somebody who is not enrolled: {verdict(got)}")
            for verb in (["status"], ["init"]):
                done = subprocess.run(["pam-totp", *verb], check=False, capture_output=True, encoding="utf-8")
                said = done.stdout + done.stderr
                if done.returncode != 3 or help_ not in said:
                    problems.append(f"{what}: pam-totp {verb[0]}: {done.returncode} {said}")
    host.put_back(kept)
    problems += host.works("alice", secret)
    return {"cases": len(FAULTS), "pam": 2 * len(FAULTS), "problems": problems}
