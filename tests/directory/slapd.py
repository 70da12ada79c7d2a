"""slapd in a machine that is a directory."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from tests.directory import lane
from tests.lab.package import CHECKOUT

if TYPE_CHECKING:
    from tests.directory.site import Site

SOURCES = ("pam_totp", "tests/__init__.py", "tests/directory/__init__.py", "tests/directory/ldap")
# Reads lines of JSON: the uids to have, or "stop". Prints the table [ldap], and then a line for each.
SERVER = """
import json, pathlib, sys, tempfile
from tests.directory.ldap.server import GROUPS, Slapd, Someone, group
place = pathlib.Path(tempfile.mkdtemp(dir="/var/lib"))
place.chmod(0o755)
made = Slapd(place)
found = made.settings(groups=GROUPS)
names = ("url", "ca", "bind_dn", "bind_password", "people", "groups")
print(json.dumps({name: getattr(found, name) for name in names}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked == "stop":
        made.stop()
    else:
        made.have([Someone(uid) for uid in asked], group("staff", uids=asked[:1]))
    print("done", flush=True)
"""


class Ldap:
    """slapd at work in the machine, and the directory told of it."""

    def __init__(self, site: Site) -> None:
        command = ["tar", "-C", str(CHECKOUT), "--exclude=__pycache__", "-c", *SOURCES]
        site.machine.write("/root/sources.tar", subprocess.check_output(command))
        site.machine.sh('mkdir -p "$1" && tar -C "$1" -xf /root/sources.tar', lane.WHERE)
        self._process = lane.popen(site.machine, "-c", SERVER)
        assert self._process.stdout is not None
        settings = json.loads(self._process.stdout.readline())
        self.table = "\n[ldap]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())

    def _ask(self, what: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def have(self, *uids: str) -> None:
        """Have these people, the first of whom is in the group staff."""
        self._ask(uids)

    def stop(self) -> None:
        """End it."""
        self._ask("stop")

    def end(self) -> None:
        """End what runs it, too."""
        self.stop()
        self._process.communicate()
