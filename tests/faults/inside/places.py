"""Something else at each path that is opened, and directories that others can write."""

from __future__ import annotations

import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

from tests.faults.inside import host
from tests.faults.inside.holder import login, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASIDE = ".aside"
SECONDS = 10.0
# Made anew for each write; and SQLite's for another journal mode than ours.
NOT_READ = (".new", "-wal", "-shm")


def _link(path: str) -> None:
    shutil.move(path, path + ASIDE)
    os.symlink(path + ASIDE, path)


def _dangling(path: str) -> None:
    shutil.move(path, path + ASIDE)
    os.symlink("/nowhere", path)


def _hard_link(path: str) -> None:
    os.link(path, f"{path}.other")


def _made(make: Callable[[str], object]) -> Callable[[str], None]:
    def fault(path: str) -> None:
        shutil.move(path, path + ASIDE)
        make(path)

    return fault


def _device(path: str) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


KINDS: dict[str, Callable[[str], None]] = {
    "a symlink": _link,
    "a symlink to nowhere": _dangling,
    "a second name": _hard_link,
    "a FIFO": _made(lambda path: os.mkfifo(path, 0o600)),
    "a device": _made(_device),
    "a directory": _made(lambda path: os.mkdir(path, 0o700)),
}
DIRECTORY_KINDS = {
    "a symlink": _link,
    "a symlink to nowhere": _dangling,
    "a FIFO": KINDS["a FIFO"],
    "a device": KINDS["a device"],
    "a file": _made(lambda path: os.close(os.open(path, os.O_CREAT, 0o600))),
}


def places() -> dict[str, object]:
    """Each kind at each path: a right code is refused, at once; where nothing is read from there it may work, once."""
    secret = host.enrolled("alice")
    with open(host.PATHS.config, "w", encoding="utf-8") as file:
        file.write("window = 1\n")
    host.attempt("alice", host.code(secret, host.step_now()))
    kept = host.keep()
    problems = []
    cases = 0
    for path, kinds in _paths():
        for kind, fault in kinds.items():
            host.put_back(kept)
            cases += 1
            fault(path)
            start = time.monotonic()
            code = host.code(secret, host.step_now() + 1)
            got = login("alice", code)
            seconds = time.monotonic() - start
            once = got == host.SUCCESS and path.endswith(NOT_READ) and login("alice", code) != host.SUCCESS
            if got not in (host.AUTHINFO_UNAVAIL, host.SERVICE_ERR) and not once:
                problems.append(f"{kind} at {path}: {verdict(got)}")
            if seconds > SECONDS:
                problems.append(f"{kind} at {path}: {seconds:.1f} s")
            _back(path)
    host.put_back(kept)
    host.no_configuration()
    problems += host.works("alice", secret)
    return {"cases": cases, "problems": problems}


def _paths() -> Iterator[tuple[str, dict[str, Callable[[str], None]]]]:
    cache = host.PATHS.cache
    for path in (host.PATHS.key, host.PATHS.config, cache, f"{cache}-journal"):
        yield path, KINDS
    copies = [name for name in os.listdir(host.PATHS.run) if not name.endswith((".lock", ".new")) and name != "made"]
    token = f"{host.PATHS.run}/{copies[0]}"
    yield token, KINDS
    yield f"{host.PATHS.run}/made", KINDS
    yield f"{token}.lock", KINDS
    new = {kind: _prepared(KINDS[kind]) for kind in KINDS}
    for path in (f"{token}.new", f"{cache}-wal", f"{cache}-shm"):
        yield path, new
    for path in host.DIRECTORIES:
        yield path, DIRECTORY_KINDS


def _prepared(fault: Callable[[str], None]) -> Callable[[str], None]:
    def prepared(path: str) -> None:
        with open(path, "wb") as file:
            file.write(b"left over")
        os.chmod(path, 0o600)
        fault(path)

    return prepared


def _back(path: str) -> None:
    if os.path.lexists(path + ASIDE):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)
        shutil.move(path + ASIDE, path)


def open_parents() -> dict[str, object]:
    """A directory above what is opened that others may write, or that belongs to somebody else: refused."""
    secret = host.enrolled("alice")
    problems = []
    directories = ("/", "/etc", "/etc/pam-totp", "/var", "/var/lib", "/var/lib/pam-totp", "/run", "/run/pam-totp")
    cases = 0
    for path in directories:
        before = os.stat(path)
        for mode, owner in ((0o020, 0), (0o002, 0), (0, 1)):
            cases += 1
            os.chown(path, owner, before.st_gid)
            os.chmod(path, stat.S_IMODE(before.st_mode) | mode)
            got = login("alice", host.code(secret, host.step_now() + 1))
            if got not in (host.AUTHINFO_UNAVAIL, host.SERVICE_ERR):
                problems.append(f"{path} with mode {mode:03o} more and owner {owner}: {verdict(got)}")
        os.chown(path, before.st_uid, before.st_gid)
        os.chmod(path, stat.S_IMODE(before.st_mode))
    problems += host.works("alice", secret)
    return {"cases": cases, "problems": problems}
