"""Codes from a program that shares nothing with ours: oathtool, of OATH Toolkit."""

from __future__ import annotations

import subprocess
import time

STEP = 30


def code(secret: str, when: float | None = None) -> str:
    """The TOTP code (RFC 6238: SHA-1, six digits, steps of 30 s) of a base32 secret at `when`, seconds since the epoch.

    The secret goes through standard input: an argument is there for every user to read.
    """
    moment = time.time() if when is None else when
    command = ["/usr/bin/oathtool", "--totp", "--base32", f"--now=@{int(moment)}", "-"]
    done = subprocess.run(command, input=secret + "\n", check=True, stdout=subprocess.PIPE, encoding="ascii")
    return done.stdout.strip()


def left() -> float:
    """Seconds until the current step ends."""
    return STEP - time.time() % STEP
