"""The process of pam-totp-login.service: it has imported and rehearsed a login, and forks a helper for each one."""

from __future__ import annotations

import posix as os
import sys

# The C parts of `signal` and `socket`: what the rest of them adds, enumerations, each fork would pay for.
from _signal import SIG_DFL, SIG_IGN, SIGCHLD, alarm, signal
from _socket import MSG_PEEK, SO_PEERCRED, SOL_SOCKET, socket

from pam_totp.engine import helper

# A name that no token has (cache/volatile.py).
_REHEARSAL = "/run/pam-totp/.rehearsal"


def stay_warm(listener: int) -> None:
    """Import and rehearse what a login needs, then fork for each connection to a listening UNIX socket. Never returns.

    The forks share imported code and nothing else: this process reads no key, no configuration and no cache of the
    host, and asks NSS nothing. Each one first says which file it is made of; pam_totp.so passes it over where another
    is installed.

    What reads a configuration, and what a host of a fleet needs, is imported once there is such a thing: each fork pays
    for what this process has.

    Raises OSError where the descriptor is no such socket.
    """
    import gc
    from os import environ

    from pam_totp.host import files
    from pam_totp.host.paths import Paths

    waiting = socket(fileno=listener)
    made_of = _made_of()  # before the imports: a file that is replaced during them is another one
    import_all()
    _rehearse()
    environ.clear()
    signal(SIGCHLD, SIG_IGN)  # the kernel buries what ends
    gc.collect()
    gc.freeze()
    paths = Paths()
    later = {paths.config: _import_parsers, f"{paths.run}/agent": _import_fleet}
    while True:
        for path in [path for path in later if files.exists(path)]:
            later.pop(path)()
            gc.freeze()
        connection, _ = waiting._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # socket's accept calls it
        try:
            if os.fork() == 0:
                _serve_fork(connection, made_of)
        except OSError:
            pass  # closed at once, so that the login starts a helper, or says why it cannot
        os.close(connection)


def _serve_fork(connection: int, made_of: bytes) -> None:
    """Be the helper of one login, as ``helper.main`` is, in a process of its own. Never returns."""
    try:
        signal(SIGCHLD, SIG_DFL)
        alarm(helper.PATIENCE)
        os.setsid()
        os.dup2(connection, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        other = socket(fileno=3)
        peer = other.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)  # three numbers: pid, uid, gid
        if int.from_bytes(peer[4:8], sys.byteorder) == os.geteuid():
            helper.Channel(3, alarm).send(b"H", made_of)
            # Nothing comes where the module has passed this helper over: that is no failure.
            if other.recv(1, MSG_PEEK):
                helper.main()
    finally:
        os._exit(0)  # noqa: SLF001  # it is public in os


def _made_of() -> bytes:
    """Which file the helper is: the same words as pam_totp.so's. A file that replaces it has others."""
    status = os.stat(helper.__file__)
    seconds, nanoseconds = divmod(status.st_ctime_ns, 10**9)
    return f"{status.st_ino} {seconds}.{nanoseconds:09}".encode()


def import_all() -> None:
    """Import what a login needs, and what only some need."""
    from pam_totp.engine import combined  # noqa: F401  # to be there when a login needs it
    from pam_totp.host import clock, config, nss, paths, stack  # noqa: F401  # the same
    from pam_totp.login import evaluation, log, login  # noqa: F401  # the same


def _import_parsers() -> None:
    import ipaddress  # noqa: F401  # for rules with networks

    from pam_totp.host import settings

    settings.toml_parser()


def _import_fleet() -> None:
    from pam_totp.login import central, claim  # noqa: F401  # to be there when a login needs them


def _rehearse() -> None:
    try:
        from pam_totp.engine import rehearsal

        rehearsal.rehearse(_REHEARSAL)
    except Exception:  # noqa: BLE001  # without it logins are slower, and nothing else
        return
