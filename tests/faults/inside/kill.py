"""SIGKILL at every system call of a login and of the commands that change something."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from pam_totp import cli
from pam_totp.cache.accounts import Accounts
from pam_totp.factors import enroll
from pam_totp.fleet import identity as identities
from pam_totp.fleet import tree
from pam_totp.host import users
from pam_totp.login import central
from tests.faults.inside import host, trace
from tests.faults.inside.holder import Holder, ended_by, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.inside.host import View

    Result = dict[str, object]
    Killing = Callable[[trace.Call | None], tuple[list[trace.Call], int]]
    Command = tuple[
        list[str], Callable[[], list[bytes]], Callable[[bytes], str], Callable[[View], bool], Callable[[View], bool]
    ]

# How often a command is started until it comes to a write that not each of its runs has.
ATTEMPTS = 20
LIST = "/root/list"
STICK = "/root/stick"
SYNC = ["sync", STICK]


def login(every: int) -> Result:
    """A right code, from the answer on: never PAM_SUCCESS, and the step is spent or it is not."""
    secret = host.enrolled("alice")
    kept = host.keep()
    step = 0

    def after(call: trace.Call) -> list[str]:
        view = host.View("alice")
        spent = max(view.marks.values()) >= step
        problems = [] if not view.damage and len(view.active) == 1 else [f"{call}: {view}"]
        again = host.attempt("alice", host.code(secret, step))
        if host.let_in(again) is spent:
            problems.append(f"{call}: spent is {spent}, and the code again is {again.reason}")
        return problems + host.works("alice", secret)

    with Holder("alice") as holder:

        def run(call: trace.Call | None) -> tuple[list[trace.Call], int]:
            nonlocal step
            host.put_back(kept)
            step = host.step_now()
            return _traced(holder.stopped(host.code(secret, step)), call, lambda: holder.wait()[1])

        return _sweep(run, after, every, ended_by(signal.SIGKILL))


def recovery(every: int) -> Result:
    """The same for a recovery code: it works once, whenever the first login with it dies."""
    host.enrolled("alice")
    codes = host.issued("alice")
    kept = host.keep()

    def after(call: trace.Call) -> list[str]:
        view = host.View("alice")
        spent = view.codes < len(codes)
        problems = [] if not view.damage and view.codes >= len(codes) - 1 else [f"{call}: {view}"]
        again = host.attempt("alice", codes[0])
        if host.let_in(again) is spent:
            problems.append(f"{call}: spent is {spent}, and the code again is {again.reason}")
        if not host.let_in(host.attempt("alice", codes[1])):
            problems.append(f"{call}: another recovery code is refused")
        return problems

    with Holder("alice") as holder:

        def run(call: trace.Call | None) -> tuple[list[trace.Call], int]:
            host.put_back(kept)
            return _traced(holder.stopped(codes[0]), call, lambda: holder.wait()[1])

        return _sweep(run, after, every, ended_by(signal.SIGKILL))


def command(name: str, every: int) -> Result:
    """A command of `COMMANDS`: everything is as before it or as after it, and alice's codes work where she has any."""
    argv, prepare, typed, before, behind = COMMANDS[name]
    secrets = prepare()
    kept = host.keep()

    def after(call: trace.Call) -> list[str]:
        view = host.View("alice")
        if view.damage or not (before(view) or behind(view)):
            return [f"{call}: {view}"]
        if view.active:
            secret = secrets[0] if before(view) else secrets[-1]
            return [f"{call}: {problem}" for problem in host.works("alice", secret)]
        return [] if host.let_in(host.attempt("alice", None)) else [f"{call}: not asked, and refused"]

    def run(call: trace.Call | None) -> tuple[list[trace.Call], int]:
        host.put_back(kept)
        pid = os.fork()
        if pid == 0:
            become(argv, typed(secrets[-1]))
        result = _traced(pid, call, lambda: _ended(pid))
        if call is None and not behind(host.View("alice")):
            raise AssertionError(f"{name} did not do its work: {host.View('alice')}")
        return result

    return _sweep(run, after, every)


def rotation(every: int) -> Result:
    """A rotation: logins go on with either key, and the next one ends it, with one key left that is a new one."""
    secret = host.enrolled("alice")
    # A copy in /run, too.
    if not host.let_in(host.attempt("alice", host.code(secret, host.step_now()))):
        raise AssertionError
    kept = host.keep()
    directory = os.path.dirname(host.PATHS.key)
    former = kept[host.PATHS.key][1].split()[2]

    def after(call: trace.Call) -> list[str]:
        view = host.View("alice")
        problems = [] if not view.damage and len(view.active) == 1 else [f"{call}: {view}"]
        problems += [f"{call}: {problem}" for problem in (*host.damage(), *host.works("alice", secret))]
        if host.attempt("carol", None).reason != "not-enrolled":
            problems.append(f"{call}: somebody who is not enrolled is refused")
        # One that has ended but for what it prints would be followed by a second one.
        if os.listdir(directory) != ["key"] or _key() == former:
            pid = os.fork()
            if pid == 0:
                be(["key", "rotate"], "")
            ended = _ended(pid)
            problems += [] if ended == 0 else [f"{call}: the next rotation ends with {ended}"]
        if os.listdir(directory) != ["key"] or _key() == former or host.damage():
            problems.append(f"{call}: {os.listdir(directory)}, {host.damage()}")
        return problems

    def run(call: trace.Call | None) -> tuple[list[trace.Call], int]:
        host.put_back(kept)
        pid = os.fork()
        if pid == 0:
            become(["key", "rotate"], "")
        return _traced(pid, call, lambda: _ended(pid))

    def chosen(calls: list[trace.Call]) -> list[trace.Call]:
        steps = ("rename", "unlink", "mkdir")
        return [call for number, call in enumerate(calls) if call[0] in steps or number % every == 0]

    done = _sweep(run, after, every, choose=chosen)
    host.put_back(kept)  # with a key that was never rotated, as other tests expect it
    return done


def fleet(every: int) -> Result:
    """A pass that changes alice's authenticator and revokes bob: never skipped, and the next pass goes on."""
    identity, seed = _joined()
    old, new = (hashlib.sha1(name).digest() for name in (b"old", b"new"))
    for sequence, people in enumerate(({"alice": old, "bob": old[::-1]}, {"alice": new}), 1):
        _publish(identity, seed, sequence, people)
        if sequence == 1 and cli.main(SYNC):
            raise AssertionError
    kept = host.keep()

    def after(call: trace.Call) -> list[str]:
        view = host.View("alice")
        problems = [] if not view.damage and len(view.active) == 1 else [f"{call}: {view}"]
        if host.let_in(host.attempt("bob", None)):
            problems.append(f"{call}: bob is skipped")
        if host.works("alice", old) and host.works("alice", new):
            problems.append(f"{call}: neither of alice's codes works")
        pid = os.fork()
        if pid == 0:
            be(SYNC, "")
        problems += [f"{call}: {problem}" for problem in (*host.damage(), *([] if _ended(pid) == 0 else ["no pass"]))]
        if host.attempt("bob", None).reason != "fleet-revoked" or host.View("alice").active != [_identifier(new)]:
            problems.append(f"{call}: the next pass did not go on")
        return problems

    def run(call: trace.Call | None) -> tuple[list[trace.Call], int]:
        host.put_back(kept)
        pid = os.fork()
        if pid == 0:
            become(SYNC, "")
        return _traced(pid, call, lambda: _ended(pid))

    def chosen(calls: list[trace.Call]) -> list[trace.Call]:
        return [call for number, call in enumerate(calls) if call[0] in trace.CHANGING or number % 40 == 0][::every]

    try:
        return _sweep(run, after, 1, choose=chosen)
    finally:
        host.put_back(kept)
        with Accounts(host.PATHS) as accounts:
            accounts.configured.leave()
        for name in ("alice", "bob"):
            host.removed(name)
        shutil.rmtree(f"{os.path.dirname(host.PATHS.cache)}/fleet", ignore_errors=True)


def _joined() -> tuple[identities.Identity, bytes]:
    """Have this host be one of a fleet, whose directory signs with the seed."""
    for name in ("alice", "bob"):
        host.removed(name)
    seed, key = tree.new_signing_key()
    private, _ = tree.new_box_key()
    one, other = tree.new_identifier(), tree.new_identifier()
    url = "https://127.0.0.1:1"
    identity = identities.Identity(url, url, "x" * 32, private, key, bytes(32), "", one, other, "host", 0)
    with Accounts(host.PATHS) as accounts:
        accounts.configured.join(identity=identity.encode(), manifest=b"null", policy=central.encode(None, 0, None))
    return identity, seed


def _publish(identity: identities.Identity, seed: bytes, sequence: int, people: dict[str, bytes]) -> None:
    """Put a manifest and its objects where SYNC finds them."""
    box = tree.public_box_key(identity.private)
    records = [
        tree.Record(name, (tree.Authenticator(_identifier(secret), "phone", 0, secret),))
        for name, secret in people.items()
    ]
    contents = [tree.seal_record(record, identity.host, box) for record in records]
    os.makedirs(f"{STICK}/objects", exist_ok=True)
    for content in contents:
        with open(f"{STICK}/objects/{tree.digest(content)}", "wb") as file:
            file.write(content)
    names = tuple(sorted(map(tree.digest, contents)))
    manifest = tree.Manifest(identity.directory, identity.host, 1, sequence, 0, 1 << 40, None, names)
    with open(f"{STICK}/manifest", "wb") as file:
        file.write(tree.sign_manifest(manifest, seed))


def _identifier(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()[:32]


def _key() -> bytes:
    with open(host.PATHS.key, "rb") as file:
        return file.read().split()[2]


def _sweep(
    run: Killing,
    after: Callable[[trace.Call], list[str]],
    every: int,
    killed: int = -signal.SIGKILL,
    choose: Callable[[list[trace.Call]], list[trace.Call]] | None = None,
) -> Result:
    calls, ended = run(None)
    problems = [] if ended == 0 else [f"undisturbed it ends with {verdict(ended)}"]
    chosen = choose(calls) if choose is not None else trace.chosen(calls, every)
    for call in chosen:
        # How much memory is asked for differs from run to run, and with random names in an index the pages written.
        for _ in range(ATTEMPTS if call[0] in trace.CHANGING else 1):
            _, ended = run(call)
            if ended:
                break
        if ended != killed and (ended != 0 or call[0] in trace.CHANGING):
            problems.append(f"{call}: not killed but {verdict(ended)}")
        problems += after(call)
    return {"calls": len(calls), "cases": len(chosen), "problems": problems}


def _traced(pid: int, call: trace.Call | None, wait: Callable[[], int]) -> tuple[list[trace.Call], int]:
    ended: list[int] = []
    if call is None:
        return trace.calls(pid, lambda: ended.append(wait())), ended[0]
    trace.killed_at(pid, call, lambda: ended.append(wait()))
    return [], ended[0]


def become(argv: list[str], typed: str) -> None:
    """Stop, and then be the command; does not return."""
    os.kill(os.getpid(), signal.SIGSTOP)
    be(argv, typed)


def be(argv: list[str], typed: str) -> None:
    """Be the command; does not return."""
    sys.stdin = io.StringIO(typed)
    try:
        os._exit(cli.main(argv))
    finally:
        os._exit(99)


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# What the commands start from; each returns the secrets that count before and behind it.


def _nobody() -> list[bytes]:
    host.removed("alice")
    return [b""]


def _pending() -> list[bytes]:
    return [host.enrolled("alice", pending=True)]


def _active() -> list[bytes]:
    return [host.enrolled("alice")]


def _both() -> list[bytes]:
    first = host.enrolled("alice")
    user = users.find("alice")
    if user is None:
        raise AssertionError
    with Accounts(host.PATHS) as accounts:
        account = accounts.find(user)
        second = enroll.begin(account, "phone", 1)
        accounts.save(account)
    return [first, second.secret]


def _failed() -> list[bytes]:
    secret = host.enrolled("alice")
    for _ in range(5):
        host.attempt("alice", host.wrong(secret, host.step_now()), rhost="192.0.2.1")
    return [secret]


def _a_list() -> list[bytes]:
    host.removed("bob")
    with open(LIST, "w", encoding="ascii") as file:
        file.write("alice\nbob\n")
    return _nobody()


def _both_are(pending: int) -> Callable[[View], bool]:
    # Of the two, never one alone.
    return lambda view: all(_is(0, pending)(each) and not each.damage for each in (view, host.View("bob")))


def _nothing(_: bytes) -> str:
    return ""


def _code(secret: bytes) -> str:
    # Of now: good for another half minute, should the next step begin before it is read.
    return host.code(secret, host.step_now()) + "\n"


def _is(active: int, pending: int, row: int | None = None) -> Callable[[View], bool]:
    return lambda view: len(view.active) == active and view.pending == pending and (row is None or view.row == row)


def _has_codes(count: int) -> Callable[[View], bool]:
    return lambda view: len(view.active) == 1 and view.codes == count


# Arguments; what it starts from; what is typed; how alice is before and behind it.
COMMANDS: dict[str, Command] = {
    "enroll": (["enroll", "alice", "--no-confirm"], _nobody, _nothing, _is(0, 0), _is(0, 1)),
    "enroll a list": (["enroll", "--from", LIST, "--json"], _a_list, _nothing, _both_are(0), _both_are(1)),
    "enroll again": (["enroll", "alice", "--no-confirm"], _active, _nothing, _is(1, 0), _is(1, 1)),
    "confirm": (["confirm", "alice"], _pending, _code, _is(0, 1), _is(1, 0)),
    "confirm again": (["confirm", "alice"], _both, _code, _is(1, 1), _is(1, 0)),
    "reset": (["reset", "alice", "--yes"], _active, _nothing, _is(1, 0), _is(0, 0)),
    "recovery": (["recovery", "alice"], _active, _nothing, _has_codes(0), _has_codes(10)),
    "unlock": (["unlock", "alice"], _failed, _nothing, _is(1, 0, 3), _is(1, 0, 0)),
    # How it is killed, `rotation` tries.
    "key rotate": (["key", "rotate"], _active, _nothing, _is(1, 0), _is(1, 0)),
}
