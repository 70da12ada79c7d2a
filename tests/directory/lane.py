"""A Debian 13 with the directory's sources, where tests that need Django run: Debian 12 has another Django."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.lab.package import CHECKOUT

if TYPE_CHECKING:
    from tests.lab.machine import Completed, Machine

SUITE = "trixie"
# What the package needs; PostgreSQL's driver; and what the tests inside need.
PACKAGES = (
    *("gunicorn", "python3-aiosmtpd", "python3-argon2", "python3-cryptography", "python3-django", "python3-httptools"),
    *("python3-uvloop",),
    *("libjs-jquery", "python3-psycopg2", "python3-pytest-django", "python3-uvicorn", "python3-whitenoise"),
    # Recommended: for signing in at a provider, and with passwords of LDAP or PAM.
    *("python3-jwt", "python3-ldap", "python3-pampy"),
)
SOURCES = (
    "pam_totp",
    "tests/__init__.py",
    "tests/directory/__init__.py",
    "tests/directory/inside",
    "tests/directory/browser",
    "docs/directory-api.yaml",
    "tests/directory/ldap",
)
WHERE = "/usr/local/src/pam-totp"
_ENV = {"PYTHONPATH": WHERE, "PYTHONDONTWRITEBYTECODE": "1", "DJANGO_SETTINGS_MODULE": "pam_totp.directory.settings"}


def unpack(machine: Machine) -> None:
    """Put the sources into a machine that is no directory, as they are in the checkout now."""
    sources(machine)
    machine.write("/etc/pam-totp-directory/directory.toml", 'name = "dir.example.org"\n')


def sources(machine: Machine) -> None:
    """Put the sources into a machine."""
    command = ["tar", "-C", str(CHECKOUT), "--exclude=__pycache__", "-c", *SOURCES]
    machine.write("/root/sources.tar", subprocess.check_output(command))
    machine.sh('mkdir -p "$1" && tar -C "$1" -xf /root/sources.tar', WHERE)


def popen(machine: Machine, *words: str) -> subprocess.Popen[str]:
    """Start the machine's Python there, with the sources in sight."""
    return machine.popen(["sh", "-c", 'cd "$1" && shift && exec /usr/bin/python3 "$@"', "sh", WHERE, *words], env=_ENV)


def pytest(machine: Machine, *words: str, timeout: float = 300) -> Completed:
    """Run pytest in the machine."""
    command = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--no-header", "--tb=short", *words]
    script = 'cd "$1" && shift && exec "$@" 2>&1'
    return machine.sh(script, WHERE, *command, check=False, env=_ENV, timeout=timeout)
