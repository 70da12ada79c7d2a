"""A PAM transaction that is tried out of sight: run by ``engine`` in a mount namespace of its own.

Key, cache, ``/run/pam-totp``, ``/etc/pam.d`` and the log are private ones, made here and gone with the namespace. In
that world root is enrolled with a key that exists nowhere else, and ``su`` asks the module: a wrong code has to be
refused and the right one to be taken. su is what every Debian has that calls PAM and is not Python, in which pam_python
cannot run.

Prints one JSON object: what su and the module said.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys

from pam_totp.cache import configured, keys, roster, schema
from pam_totp.cache.accounts import ACTIVE, Accounts, Authenticator
from pam_totp.factors import otp
from pam_totp.host import clock, programs
from pam_totp.host.paths import Paths
from pam_totp.host.users import User
from pam_totp.login import log

_LOGIN_DEFS = "/etc/login.defs"
_LOG = "/dev/log"
_BTMP = "/var/log/btmp"


def main(line: str) -> None:
    """Try a line, which is all that PAM asks. Raises an error where it cannot be tried."""
    paths = Paths()
    for directory in (os.path.dirname(paths.key), os.path.dirname(paths.cache), paths.run, paths.services):
        programs.run("mount", "-t", "tmpfs", "-o", "mode=700,size=8m", "tmpfs", directory)
    if os.path.isdir(os.path.dirname(paths.unsealed)):
        programs.run("mount", "-t", "tmpfs", "-o", "mode=700,size=1m", "tmpfs", os.path.dirname(paths.unsealed))
    _hide(_LOGIN_DEFS, "FAIL_DELAY 0\n", paths)
    _hide(_BTMP, "", paths)
    _hide(log.JOURNAL, "", paths)  # then all goes where we listen
    records = _listen(paths)
    with open(f"{paths.services}/su", "w", encoding="utf-8") as file:
        file.write(
            f"{line}\nauth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
        )
    secret = _enroll(paths)
    step = otp.step_at(clock.now().wall)
    near = {otp.hotp(secret, each) for each in range(step - 5, step + 6)}
    wrong = next(each for each in (f"{number:06}" for number in range(10**6)) if each not in near)
    said = {}
    for name, code in (("wrong", wrong), ("right", otp.hotp(secret, step))):
        status, text = programs.answered(f"{code}\n", "su", "-s", "/bin/sh", "-c", "exit 7", "root")
        said[name] = {"status": status, "said": text, "log": _logged(records)}
    print(json.dumps(said))


def _hide(path: str, content: str, paths: Paths) -> None:
    """Have a private file in the place of one, if there is one."""
    if os.path.exists(path):
        mine = f"{paths.run}/{os.path.basename(path)}"
        with open(mine, "w", encoding="utf-8") as file:
            file.write(content)
        programs.run("mount", "--bind", mine, path)


def _listen(paths: Paths) -> socket.socket:
    """Take what is sent to the log: nobody is to take a trial for a login."""
    mine = f"{paths.run}/log"
    records = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    records.bind(mine)
    if os.path.exists(_LOG):
        programs.run("mount", "--bind", mine, os.path.realpath(_LOG))
    return records


def _logged(records: socket.socket) -> list[str]:
    found = []
    while select.select([records], [], [], 0)[0]:
        found.append(records.recv(1 << 16).decode("utf-8", "replace"))
    return found


def _enroll(paths: Paths) -> bytes:
    """Make a key and a cache in which root is enrolled; returns the secret."""
    keys.create(paths.key)
    sealer = keys.load(paths.key, paths.owner)
    schema.create(paths.cache, roster.empty(sealer), configured.facts(sealer, present=False))
    secret = os.urandom(otp.SECRET_BYTES)
    with Accounts(paths) as accounts:
        account = accounts.find(User("root", 0))
        account.authenticators.append(Authenticator("0" * 16, ACTIVE, "trial", "local", int(clock.now().wall), secret))
        accounts.save(account)
    return secret


if __name__ == "__main__":
    main(sys.argv[1])
