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


def wrong(secret: str) -> str:
    """Six digits that are no code of the secret within ten minutes of now."""
    now = time.time()
    near = {code(secret, now + step * STEP) for step in range(-20, 21)}
    return next(guess for guess in (f"{number:06}" for number in range(123456, 999999)) if guess not in near)


def left() -> float:
    """Seconds until the current step ends."""
    return STEP - time.time() % STEP
