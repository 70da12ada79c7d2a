"""Runs in the machine: puts a set-up in place, breaks it, examines it, and does what is printed.

One process for all rows of a table, in which a trial of the engine is made once for each module and not for each row;
it does what the command does otherwise. It runs with the machine's own Python and imports nothing of the tests.

A line of its input is a function's name and its arguments in JSON; its answer is one line of JSON.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from pam_totp.cli import main
from pam_totp.doctor import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pam_totp.doctor.findings import Finding
    from pam_totp.host.paths import Paths

SAVED = "/root/saved"
TREES = (
    *("/etc/pam.d", "/etc/ssh", "/etc/pam-totp", "/var/lib/pam-totp", "/var/lib/pam", "/home/alice", "/root/.ssh"),
    *("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/nsswitch.conf", "/run/pam-totp"),
)
EXTRA = ("/etc/rsnapshot.conf", "/var/lib/extrausers", "/home/bob", "/var/mail/bob", "/srv/other")
PROGRAM = "/root/program"
PATIENCE = 60
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "TERM": "xterm"}

tried: dict[tuple[str, ...], list[Finding]] = {}
really = engine.findings


def once(modules: Sequence[str], paths: Paths) -> list[Finding]:
    """The engine's findings of the first time."""
    key = tuple(modules)
    if key not in tried:
        tried[key] = really(modules, paths)
    return tried[key]


engine.findings = once


def save(name: str) -> None:
    """Keep what there is as a base for rows."""
    for tree in TREES:
        if os.path.exists(tree):
            os.makedirs(os.path.dirname(f"{SAVED}/{name}{tree}"), exist_ok=True)
            subprocess.run(["cp", "-a", tree, f"{SAVED}/{name}{tree}"], check=True)


def save_program() -> None:
    """Keep what the package has installed."""
    for path in program():
        os.makedirs(os.path.dirname(PROGRAM + path), exist_ok=True)
        subprocess.run(["cp", "-a", path, PROGRAM + path], check=True)


def program() -> list[str]:
    """The files of the package that rows break."""
    return [*glob.glob("/usr/lib/*/security/pam_totp.so"), "/usr/lib/python3/dist-packages/pam_totp"]


def restore_program() -> None:
    """Put the package's files back."""
    modules = glob.glob(f"{PROGRAM}/usr/lib/*/security/pam_totp.so")
    for path in (*modules, f"{PROGRAM}/usr/lib/python3/dist-packages/pam_totp"):
        remove(path.removeprefix(PROGRAM))
        subprocess.run(["cp", "-a", path, path.removeprefix(PROGRAM)], check=True)


def restore(name: str) -> None:
    """Make this machine what it was when the base was saved."""
    for pid in sshds():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while sshds() and time.monotonic() < end:
        time.sleep(0.005)
    subprocess.run(["umount", "-R", "-l", "/srv/other"], stderr=subprocess.DEVNULL, check=False)
    for tree in (*TREES, *EXTRA, "/run/sshd.pid"):
        remove(tree)
    subprocess.run(["cp", "-a", f"{SAVED}/{name}/.", "/"], check=True)


def sshds() -> list[int]:
    """The process ids of all sshd, in whichever root."""
    found = []
    for each in glob.glob("/proc/[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if os.path.basename(os.readlink(each)) == "sshd":
                found.append(int(each.split("/")[2]))
    return found


def remove(path: str) -> None:
    """Remove whatever is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sh(script: str) -> str:
    """What a script prints; it has to succeed."""
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=ENVIRONMENT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script}: {done.returncode}: {done.stdout}")
    return done.stdout


def doctor(*words: str) -> tuple[int, Any, str]:
    """The exit code of `pam-totp doctor`, and what it prints as JSON."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(["doctor", "--json", *words])
    return code, json.loads(output.getvalue() or "null"), errors.getvalue()


def mend(command: str, edit: str) -> tuple[int, str]:
    """Type a command at a terminal and answer what it asks; its exit code and its screen."""
    with open("/root/editor", "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\n{edit}\n")
    os.chmod("/root/editor", 0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/bash", ["bash", "-c", command], {**ENVIRONMENT, "EDITOR": "/root/editor"})
    screen, answered = "", 0
    secret = ""
    if os.path.exists("/root/pending.json"):
        with open("/root/pending.json", encoding="utf-8") as file:
            secret = json.load(file)["secret"]
    end = time.monotonic() + PATIENCE
    while True:
        if not select.select([terminal], [], [], end - time.monotonic() if time.monotonic() < end else 0)[0]:
            os.kill(pid, signal.SIGKILL)
            break
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        screen += part.decode("utf-8", "replace")
        rest = screen[answered:]
        key = re.findall(r"^  key  ([A-Z2-7 ]+)\r?$", rest, re.MULTILINE)
        secret = key[-1].replace(" ", "") if key else secret
        if rest.endswith(("[y/N] ", "[Y/n] ")):
            os.write(terminal, b"y\n")
        elif re.search(r"Code from the app[^\n]*: $", rest):
            os.write(terminal, code(secret).encode() + b"\n")
        else:
            continue
        answered = len(screen)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), screen


def code(secret: str) -> str:
    """What an authenticator app shows."""
    done = subprocess.run(
        ["oathtool", "--totp", "--base32", "-"],
        input=secret + "\n",
        stdout=subprocess.PIPE,
        encoding="ascii",
        check=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for request in sys.stdin:
        name, arguments = json.loads(request)
        try:
            result = [True, globals()[name](*arguments)]
        except Exception as error:  # noqa: BLE001  # the test is to see it
            result = [False, f"{type(error).__name__}: {error}"]
        print(json.dumps(result), file=answers, flush=True)
