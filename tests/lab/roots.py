"""Debian roots for machines: a base for each suite, and a layer on top of it with the package installed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.sources import own_suite, sources_for, transport_options

if TYPE_CHECKING:
    from pathlib import Path

SUITES = ("bookworm", "trixie")
RECIPE = "1"
PACKAGES = [
    *("libpam-python", "python3-nacl", "python3-pyotp", "python3-segno"),  # what the package needs
    *("openssh-server", "openssh-client", "login", "passwd", "sudo"),  # what logs in, and who lets in
    *("libpam-google-authenticator", "libpam-oath"),  # what the module is measured against
    *("pamtester", "oathtool", "sqlite3", "strace", "procps", "iproute2"),  # what tests look with
    *("tcc", "libc6-dev", "libpam0g-dev"),  # what builds a small PAM client
    *("putty-tools", "libnss-extrausers"),  # another client, and another name service than files
]

# Of many packages more than these would make a name that is too long for a directory.
MOST_NAMED = 8

# Runs in the finished root: no daemon is ever started by apt, and ssh in the root knows its own sshd.
FINISH = r"""
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
for key in "$1"/etc/ssh/ssh_host_*_key.pub; do
    read -r type text _ <"$key"
    printf '* %s %s\n' "$type" "$text" >>"$1/etc/ssh/ssh_known_hosts"
done
printf '127.0.0.1 localhost %s\n::1 localhost\n' lab >"$1/etc/hosts"
rm -f "$1/etc/resolv.conf"
: >"$1/etc/default/locale"
"""


class RootError(Exception):
    """A Debian root could not be built."""


@dataclass(frozen=True)
class Root:
    """A Debian root: read-only layers, the topmost first."""

    suite: str
    layers: tuple[Path, ...]


def root(suite: str = "", more: tuple[str, ...] = ()) -> Root:
    """A base root of `suite` (the machine's own if it is empty) with everything but the package. Raises RootError.

    With `more` packages it is a root of its own.
    """
    suite = suite or own_suite()
    if suite not in SUITES:
        raise RootError(f"unknown suite {suite!r}: choose one of {', '.join(SUITES)}")
    roots = cache.home() / "roots"
    # A dot marks what a killed build has left (cache.forget).
    name = "-".join([*more[:MOST_NAMED], suite]).replace(".", "_")
    directory = roots / f"{name}-{cache.digest(suite, RECIPE, FINISH, *PACKAGES, *more)}"
    cache.kept(directory, lambda unfinished: _bootstrap(suite, [*PACKAGES, *more], unfinished))
    cache.forget(roots, f"{name}-*", keep=1)
    return Root(suite, (directory,))


def _bootstrap(suite: str, packages: list[str], directory: Path) -> None:
    cache.say(f"building a Debian root of {suite} (once, takes a minute)")
    command = ["unshare", "--mount", "--propagation", "private", "--", "mmdebstrap", "--mode=root", "--variant=minbase"]
    command += [f"--include={','.join(packages)}", "--dpkgopt=force-unsafe-io", f"--customize-hook={FINISH}"]
    command += [f"--aptopt={option}" for option in ("Apt::Sandbox::User root", *transport_options())]
    command += ["--format=directory", suite, str(directory), "-"]
    _followed(command, sources_for(suite))


def _followed(command: list[str], text: str) -> None:
    """Run mmdebstrap, show its steps, and keep the rest for the error message."""
    tail: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="pam-totp-root-") as scratch,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "TMPDIR": scratch},
        ) as process,
    ):
        if process.stdin is None or process.stderr is None:
            raise AssertionError
        process.stdin.write(text)
        process.stdin.close()
        for line in process.stderr:
            tail = [*tail[-40:], line]
            if line.startswith("I: ") and "..." in line:
                cache.say("  " + line.removeprefix("I: ").strip())
    if process.returncode:
        raise RootError(f"mmdebstrap failed ({process.returncode}):\n{''.join(tail)}")
