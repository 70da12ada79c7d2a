"""Surroundings in which a user can start a privileged program, and a trap that says as whom something of theirs ran."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab.machine import Machine
    from tests.login.host import Person

PLACE = "/srv/hostile"
# Whatever of the following is loaded or run leaves a file named after the effective uid.
LIBRARY = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
unsigned la_version(unsigned version)
{
    return version;
}
__attribute__((constructor)) static void spring(void)
{
    char path[64];
    snprintf(path, sizeof path, "/srv/hostile/sprung/%d", (int)geteuid());
    close(open(path, O_CREAT | O_WRONLY, 0666));
}
"""
MODULE = """
import posix
posix.close(posix.open("/srv/hostile/sprung/%d" % posix.geteuid(), posix.O_CREAT | posix.O_WRONLY, 0o666))
"""
PROGRAM = "#!/bin/sh -p\n: >/srv/hostile/sprung/$(/usr/bin/id -u)\n"
MODULES = ("encodings", "os", "pam_totp", "re", "site", "sitecustomize", "sqlite3", "usercustomize", "nacl", "_sqlite3")
LIBRARIES = ("libffi.so.8", "libpam_misc.so.0", "libsodium.so.23", "libsqlite3.so.0")
PROGRAMS = ("python3", "sh", "env", "unix_chkpwd")
ENVIRONMENT = {
    "PATH": f"{PLACE}/bin",
    "HOME": f"{PLACE}/home",
    "PYTHONPATH": f"{PLACE}/lib",
    "PYTHONHOME": f"{PLACE}/home",
    "PYTHONUSERBASE": f"{PLACE}/home",
    "PYTHONSTARTUP": f"{PLACE}/lib/site.py",
    "PYTHONPLATLIBDIR": f"{PLACE}/lib",
    "PYTHONEXECUTABLE": f"{PLACE}/bin/python3",
    "PYTHONPYCACHEPREFIX": f"{PLACE}/lib",
    "PYTHONINSPECT": "1",
    "PYTHONSAFEPATH": "",
    "LD_PRELOAD": f"{PLACE}/lib/libsodium.so.23",
    "LD_LIBRARY_PATH": f"{PLACE}/lib",
    "LD_AUDIT": f"{PLACE}/lib/libsodium.so.23",
    "GCONV_PATH": f"{PLACE}/lib",
    "LOCPATH": f"{PLACE}/lib",
    "LC_ALL": "xx_XX.UTF-7",
    "TZ": f":{PLACE}/lib/site.py",
    "TMPDIR": f"{PLACE}/lib",
    "SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAA",
    "SUDO_USER": "root",
    "LISTEN_FDS": "1",
    "LISTEN_PID": "1",
}
# What of it a program that root starts may have: what the linker is told there is root's own business.
OF_ROOT = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("LD_", "LC_"))}
# What is done before the program takes this shell's place, and what starts it.
CONDITIONS = {
    "idle": "/usr/bin/chrt --idle --pid 0 $$; /usr/bin/renice -n 19 $$ >/dev/null; /usr/bin/ionice -c 3 -p $$",
    "environment": f"cd {PLACE}/lib; umask 0; "
    + "; ".join(f"export {name}={shlex.quote(value)}" for name, value in ENVIRONMENT.items()),
    "poor": "ulimit -S -c 0 -f 0 -n 24 -s 256 -t 5 -v 24000 -u 1",
    # Less memory than this, and the password cannot be checked either: yescrypt takes 16 MB.
    "poorer": "ulimit -f 0 -v 24000",
    "closed": "exec 0<&- 1>&- 2>&-",
    "deaf": "command=(/usr/bin/env --ignore-signal --block-signal --)",
}
# What a program can still work in: without its streams only one that opens the terminal itself.
ALL = ("idle", "environment", "poor", "deaf")


class Hostile:
    """The trap, set in a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        version = machine.run(["/usr/bin/python3", "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        home = f"{PLACE}/home/lib/python{version.stdout.strip()}"
        machine.run(["mkdir", "-p", f"{PLACE}/bin", f"{PLACE}/lib", f"{home}/site-packages"])
        machine.run(["mkdir", "-m", "1777", f"{PLACE}/sprung"])
        machine.write(f"{PLACE}/trap.c", LIBRARY)
        machine.run(["tcc", "-shared", "-o", f"{PLACE}/lib/{LIBRARIES[0]}", f"{PLACE}/trap.c"])
        for name in LIBRARIES[1:]:
            machine.run(["cp", f"{PLACE}/lib/{LIBRARIES[0]}", f"{PLACE}/lib/{name}"])
        for directory in (f"{PLACE}/lib", home, f"{home}/site-packages"):
            machine.sh(
                """
                set -e
                cd "$1"
                shift
                cat >trap.py
                for name; do
                    mkdir -p "$name"
                    cp trap.py "$name.py"
                    cp trap.py "$name/__init__.py"
                done
                """,
                directory,
                *MODULES,
                input=MODULE,
            )
        for name in PROGRAMS:
            machine.write(f"{PLACE}/bin/{name}", PROGRAM, mode=0o755)

    def around(self, person: Person, argv: Sequence[str], *conditions: str) -> list[str]:
        """The command line, for root, that has this user start a program in these surroundings."""
        first = "command=()\n" + "\n".join(CONDITIONS[each] for each in CONDITIONS if each in conditions)
        become = ["setpriv", f"--reuid={person}", f"--regid={person}", "--init-groups", "--reset-env"]
        return [*become, "/bin/bash", "-c", f'{first}\nexec "${{command[@]}}" "$@"', "bash", *argv]

    def around_root(self, argv: Sequence[str]) -> list[str]:
        """The command line, for root, of a program of root's in such surroundings: the directory and `OF_ROOT`."""
        settings = [f"{name}={value}" for name, value in OF_ROOT.items()]
        return ["/usr/bin/env", f"--chdir={PLACE}/lib", *settings, *argv]

    def sprung(self) -> set[int]:
        """As whom anything of the user's has run since the last time."""
        script = f"cd {PLACE}/sprung && ls && rm -f -- *"
        return {int(name) for name in self._machine.sh(script).stdout.split()}
