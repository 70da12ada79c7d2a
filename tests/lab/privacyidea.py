"""privacyIDEA, which the verify service is measured beside: a layer of a root with it, and a running server.

It is from the Python Package Index, since Debian has no package of it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.machine import MachineError
from tests.lab.roots import Root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.machine import Machine

PINS = Path(__file__).resolve().parents[1] / "privacyidea.txt"
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
ADDRESS = "127.0.0.1:8085"
PLACE = "/opt/privacyidea"
HOME = "/var/lib/privacyidea"
ENVIRONMENT = {"PYTHONPATH": PLACE, "PRIVACYIDEA_CONFIGFILE": f"{HOME}/pi.cfg"}
# SQLite, as our own cache, and it waits for a lock of the other process as long as it takes: by default it answers with
# an error after 5 s. The keys and peppers are for this one run.
SETTINGS = """
SQLALCHEMY_DATABASE_URI = "sqlite:///{database}"
SQLALCHEMY_ENGINE_OPTIONS = {{"connect_args": {{"timeout": 120}}}}
SECRET_KEY = "this key is for one run of the benchmark"
PI_PEPPER = "and so is this pepper"
PI_ENCFILE = "{home}/enckey"
PI_AUDIT_KEY_PRIVATE = "{home}/private.pem"
PI_AUDIT_KEY_PUBLIC = "{home}/public.pem"
PI_LOGFILE = "{home}/log"
PI_LOGLEVEL = 30
"""
APPLICATION = """
import os
from privacyidea.app import create_app
application = create_app(config_name="production", config_file=os.environ["PRIVACYIDEA_CONFIGFILE"], silent=True)
"""
# A line of its input is "SERIAL HEXADECIMAL".
FILL = """
import sys
from application import application
with application.app_context():
    from privacyidea.lib.token import init_token
    for line in sys.stdin:
        serial, secret = line.split()
        init_token({"type": "totp", "otpkey": secret, "serial": serial})
"""
# What is filled in memory would cost thousands of durable writes on the disk; what is measured is on the disk.
SET_UP = """
set -e
for step in create_enckey create_audit_keys create_tables; do
    /usr/bin/python3 "$1/bin/pi-manage" setup $step
done
"""
# A code of nobody: whoever answers is there.
PROBE = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
form = {"Content-Type": "application/x-www-form-urlencoded"}
connection.request("POST", "/validate/check", "serial=nobody&pass=0", form)
connection.getresponse().read()
"""


def with_it(root: Root) -> Root:
    """The root with privacyIDEA for its Python. Raises CalledProcessError."""
    version = PYTHON[root.suite]
    layers = cache.home() / "privacyidea"
    directory = layers / f"{root.suite}-{cache.digest(PINS.read_bytes(), version, PLACE)}"
    cache.kept(directory, lambda unfinished: _install(version, unfinished))
    cache.forget(layers, f"{root.suite}-*", keep=1)
    return Root(root.suite, (directory, *root.layers))


def _install(version: str, directory: Path) -> None:
    cache.say(f"fetching what tests/{PINS.name} lists for Python {version} (once)")
    with tempfile.TemporaryDirectory(prefix="pam-totp-pip-") as scratch:
        subprocess.run(["/usr/bin/python3", "-m", "venv", scratch], check=True)
        command = [f"{scratch}/bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", f"--python-version={version}"]
        subprocess.run([*command, f"--target={directory}{PLACE}", f"--requirement={PINS}"], check=True)


@contextmanager
def serving(machine: Machine, people: Sequence[tuple[str, str]], processes: int) -> Iterator[int]:
    """A server that knows people, by name and secret in hexadecimal. Gives its pid."""
    fast, kept = "/dev/shm/privacyidea.db", f"{HOME}/db"
    machine.write(f"{HOME}/application.py", APPLICATION)
    script = f'cd "{HOME}" && exec "$@"'
    python = "/usr/bin/python3"
    machine.write(f"{HOME}/pi.cfg", SETTINGS.format(home=HOME, database=fast), mode=0o600)
    machine.sh(f"mkdir -p /dev/shm\n{SET_UP}", PLACE, env=ENVIRONMENT, timeout=300)
    listing = "".join(f"{name} {secret}\n" for name, secret in people)
    machine.sh(script, python, "-c", FILL, input=listing, env=ENVIRONMENT, timeout=600)
    machine.sh('mv "$1" "$2" && sync "$2"', fast, kept)
    machine.write(f"{HOME}/pi.cfg", SETTINGS.format(home=HOME, database=kept), mode=0o600)
    command = [python, f"{PLACE}/bin/gunicorn", "--workers", str(processes), "--worker-class", "gthread"]
    command += ["--threads", "8", "--bind", ADDRESS, "--pid", f"{HOME}/pid", "application"]
    process = machine.popen(["sh", "-c", f'{script} >"{HOME}/out" 2>&1', "sh", *command], env=ENVIRONMENT)
    try:
        _wait(machine)
        yield int(machine.read(f"{HOME}/pid"))
    finally:
        machine.end(process)


def version(machine: Machine) -> str:
    """The version that was measured."""
    script = "import importlib.metadata as m; print(m.version('privacyidea'))"
    return machine.run(["/usr/bin/python3", "-c", script], env=ENVIRONMENT).stdout.strip()


def _wait(machine: Machine) -> None:
    end = time.monotonic() + 120
    probe = ["/usr/bin/python3", "-I", "-c", PROBE, ADDRESS]
    while machine.run(probe, check=False).returncode:
        if time.monotonic() > end:
            raise MachineError(f"privacyIDEA does not answer:\n{machine.read(f'{HOME}/out')}")
        time.sleep(0.5)
