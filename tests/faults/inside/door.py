"""The real sshd of this machine, key and code: connections that end early, that idle, and many at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pam_totp.cache.accounts import Accounts
from tests.faults.inside import host, hostile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "/root/.ssh/door"
KEYS = "/etc/ssh/door_keys"
ASK = "/run/lab/askpass"
ASKED, ANSWER = "/run/lab/asked", "/run/lab/answer"
# ssh calls it for the code: it says that it was called, and answers what it is given, or what comes later.
ASKPASS = f"""#!/bin/sh
if [ -n "$CODE" ]; then echo "$CODE"; exit; fi
echo $$ >{ASKED}.new; mv {ASKED}.new {ASKED}
read -r answer <{ANSWER}
echo "$answer"
"""


def prepare(crowd: int) -> None:
    """Make the users door0, door1 ..., one key for all of them, and the client's askpass."""
    os.makedirs("/root/.ssh", mode=0o700, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY], check=True)
    with open(f"{KEY}.pub", encoding="ascii") as file:
        public = file.read()
    with open(KEYS, "w", encoding="ascii") as file:
        file.write(public)
    with open(ASK, "w", encoding="ascii") as file:
        file.write(ASKPASS)
    os.chmod(ASK, 0o755)
    os.mkfifo(ANSWER)
    with open("/etc/passwd", "a", encoding="ascii") as passwd, open("/etc/shadow", "a", encoding="ascii") as shadow:
        for number in range(crowd):
            passwd.write(f"door{number}:x:{20_000 + number}:100::/:/bin/sh\n")
            shadow.write(f"door{number}:*:20000:0:99999:7:::\n")


def _client(user: str, code: str = "") -> subprocess.Popen[bytes]:
    command = [
        "ssh",
        "-T",
        "-i",
        KEY,
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "NumberOfPasswordPrompts=1",
        f"{user}@127.0.0.1",
    ]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/root", "SSH_ASKPASS": ASK, "SSH_ASKPASS_REQUIRE": "force"}
    return subprocess.Popen(
        [*command, "true"],
        env={**environment, "CODE": code},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _processes(what: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if what in file.read().decode("utf-8", "replace").replace("\0", " "):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def _until(what: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.003)


@contextmanager
def _asked(user: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that has been asked for its code, and is gone at the end with all that served it."""
    if os.path.exists(ASKED):
        os.unlink(ASKED)
    client = _client(user)
    try:
        _until(lambda: os.path.exists(ASKED))
        yield client
    finally:
        _gone(client)
        _until(lambda: not _processes(f"sshd: {user}") and not _processes(f"sshd-session: {user}"))


def _gone(client: subprocess.Popen[bytes]) -> None:
    if client.poll() is None:
        os.killpg(client.pid, signal.SIGKILL)
    client.wait()


def _answer(code: str) -> None:
    with open(ANSWER, "w", encoding="ascii") as file:
        file.write(code + "\n")


def _pam(user: str) -> int:
    (pid,) = _processes(f"{user} [pam]")
    return pid


def _monitor(user: str) -> int:
    with open(f"/proc/{_pam(user)}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def hangups(count: int) -> dict[str, object]:
    """Connections closed and processes terminated at the prompt and after the answer: nothing stays locked."""
    user = "door0"
    secret = host.enrolled(user)
    kept = host.keep()
    problems = []
    for number in range(count):
        host.put_back(kept)
        kind = number % 6
        code = host.code(secret, host.step_now())
        with _asked(user) as client:
            if kind == 0:
                _gone(client)
            elif kind == 1:
                os.kill(_pam(user), signal.SIGTERM)
            elif kind == 2:
                os.kill(_monitor(user), signal.SIGTERM)
            else:
                pid = _pam(user) if kind == 4 else _monitor(user)
                _answer(code)
                time.sleep(0.002 * (number // 6 % 8))
                if kind == 3:
                    _gone(client)
                else:
                    _terminate(pid)
        problems += [f"{number} (kind {kind}): {problem}" for problem in _free(user)]
        if number % 10 < 2:
            if _finished(_client(user, host.code(secret, host.step_now() + 1))) != 0:
                problems.append(f"{number} (kind {kind}): the next login over sshd is refused")
        else:
            problems += [f"{number} (kind {kind}): {problem}" for problem in host.works(user, secret)]
    return {"cases": count, "problems": problems}


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it was done before


def _free(user: str) -> list[str]:
    """What is still locked: the user's lock and the cache must both be had, but for what ends just now."""
    try:
        with Accounts(host.PATHS, patience=5.0) as accounts, accounts.lock(user), accounts._store.transaction():
            return []
    except Exception as error:  # noqa: BLE001 - whatever keeps us out is what is asked for
        return [f"locked: {error}"]


def _finished(client: subprocess.Popen[bytes], seconds: float = 60.0) -> int:
    try:
        return client.wait(seconds)
    except subprocess.TimeoutExpired:
        _gone(client)
        return -1


def idle(grace: float) -> dict[str, object]:
    """A login that is never answered, until sshd's grace time ends: sshd hangs up, and the next one works."""
    user = "door0"
    secret = host.enrolled(user)
    with _asked(user):
        start = time.monotonic()
        _until(lambda: not _processes(f"{user} [pam]"), grace + 10)
        seconds = time.monotonic() - start
    problems = _free(user)
    if _finished(_client(user, host.code(secret, host.step_now()))) != 0:
        problems.append("the next login is refused")
    return {"cases": 1, "seconds": seconds, "problems": problems}


def crowd(count: int) -> dict[str, object]:
    """So many connections at once, each with a right code of its own user; then one login more."""
    users = [f"door{number}" for number in range(count + 1)]
    secrets = host.enrolled_all(users)
    (listener,) = _processes("[listener]")
    problems = []
    step = host.step_now()
    codes = {user: host.code(secret, step) for user, secret in secrets.items()}
    start = time.monotonic()
    clients = {user: _client(user, codes[user]) for user in users[:count]}
    took: list[float] = []
    refused = 0
    for client in clients.values():
        if _finished(client, 120) == 0:
            took.append(time.monotonic() - start)
        else:
            refused += 1
    elapsed = max(took, default=0.0)
    if _processes("[listener]") != [listener]:
        problems.append("sshd is another")
    last = users[count]
    code = host.code(secrets[last], host.step_now())
    if _finished(_client(last, code)) != 0:
        problems.append("the login afterwards is refused")
    if _finished(_client(last, code)) == 0:
        problems.append("and with the same code it works again")
    return {
        "cases": count,
        "in": len(took),
        "refused": refused,
        "slowest": elapsed,
        "rate": len(took) / elapsed if elapsed else 0.0,
        "problems": problems,
    }


# What somebody might have in the environment when starting sshd by hand; all of it points to `hostile.EVIL`.
ENVIRONMENTS = {
    "PATH": {"PATH": f"{hostile.EVIL}/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    "PYTHONPATH": {"PYTHONPATH": hostile.EVIL},
    "PYTHONHOME": {"PYTHONHOME": hostile.EVIL},
    "PYTHONSTARTUP and the like": {
        "PYTHONSTARTUP": f"{hostile.EVIL}/os.py",
        "PYTHONINSPECT": "1",
        "PYTHONOPTIMIZE": "2",
        "PYTHONBREAKPOINT": "os.system",
        "PYTHONUSERBASE": hostile.EVIL,
        "PYTHONPLATLIBDIR": "evil",
        "PYTHONIOENCODING": "utf-16",
        "PYTHONMALLOC": "debug",
        "PYTHONWARNINGS": "error",
    },
    "LD_LIBRARY_PATH": {"LD_LIBRARY_PATH": hostile.EVIL},
    "LD_PRELOAD": {"LD_PRELOAD": f"{hostile.EVIL}/none.so", "LD_AUDIT": f"{hostile.EVIL}/none.so"},
    "locale and others": {
        "LC_ALL": "tr_TR",
        "TZ": "../../etc/shadow",
        "HOME": hostile.EVIL,
        "IFS": "/",
        "MALLOC_PERTURB_": "1",
    },
}


def environments() -> dict[str, object]:
    """sshd started with each of them: a wrong code never gets in, and nothing of what they point to is run."""
    hostile.make_evil()
    user = "door0"
    secret = host.enrolled(user)
    kept = host.keep()
    problems = []
    seen = {}
    for what, environment in ENVIRONMENTS.items():
        host.put_back(kept)
        _restarted({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment})
        if _finished(_client(user, host.wrong(secret, host.step_now()))) == 0:
            problems.append(f"{what}: a wrong code gets in")
        code = host.code(secret, host.step_now())
        seen[what] = _finished(_client(user, code))
        if seen[what] == 0 and _finished(_client(user, code)) == 0:
            problems.append(f"{what}: the same code gets in twice")
        if os.path.exists(hostile.STOLEN):
            with open(hostile.STOLEN, encoding="ascii") as file:
                problems.append(f"{what}: run was {file.read()}")
            os.unlink(hostile.STOLEN)
    return {"cases": len(ENVIRONMENTS), "pam": 3 * len(ENVIRONMENTS), "seen": seen, "problems": problems}


def _restarted(environment: dict[str, str]) -> None:
    for pid in _processes("[listener]"):
        os.kill(pid, signal.SIGTERM)
    _until(lambda: not _processes("[listener]"))
    subprocess.run(["/usr/sbin/sshd"], env=environment, check=True)
    _until(lambda: _processes("[listener]"))
