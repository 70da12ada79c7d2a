"""Power lost at every write and sync: what a disk may then hold is made of a recorded run, and opened."""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING

from pam_totp.errors import PamTotpError
from tests.faults.inside import host, kill, trace
from tests.faults.inside.holder import Holder
from tests.faults.inside.holder import login as pam_login

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.inside.host import View

DIRECTORY = host.DIRECTORIES[1]
SECTOR = 512
WATCHED = "trace=write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename,link"
HEX = r"((?:\\x[0-9a-f]{2})*)"
CALL = re.compile(rf'(?:\d+ +)?(\w+)\((\d+)<{HEX}>(?:, "{HEX}")?(?:, (\d+))?(?:, (\d+))?\) += (\d+)')
Files = dict[str, bytes]


class Write:
    """A write to a file: where, and what."""

    def __init__(self, path: str, offset: int, data: bytes) -> None:
        self.path = path
        self.offset = offset
        self.data = data

    def apply(self, files: dict[str, bytearray], start: int = 0, end: int | None = None) -> None:
        """Do it, or only the sectors from `start` to `end` of it."""
        content = files[self.path]
        first = self.offset // SECTOR
        for number in range(first, (self.offset + len(self.data) - 1) // SECTOR + 1):
            if number - first < start or (end is not None and number - first >= end):
                continue
            low, high = max(self.offset, number * SECTOR), min(self.offset + len(self.data), (number + 1) * SECTOR)
            if len(content) < high:
                content.extend(bytes(high - len(content)))
            content[low:high] = self.data[low - self.offset : high - self.offset]

    @property
    def sectors(self) -> int:
        """How many sectors it touches."""
        return (self.offset + len(self.data) - 1) // SECTOR - self.offset // SECTOR + 1


Event = Write | str  # a write, or a sync of the file with this path


def recorded(lines: list[str]) -> list[Event]:
    """The writes and syncs below the cache's directory. Raises ValueError for anything that it cannot replay."""
    events: list[Event] = []
    here = DIRECTORY.encode() + b"/"
    for line in lines:
        match = CALL.match(line)
        if match is None:
            if here.hex() in line.replace("\\x", ""):  # a name that appears, changes or goes
                raise ValueError(line)
            continue
        name, _, path, data, first, second, _ = match.groups()
        if not _bytes(path).startswith(here):
            continue
        if name in ("fsync", "fdatasync"):
            events.append(_bytes(path).decode())
        elif name == "pwrite64" and len(_bytes(data)) == int(first):
            events.append(Write(_bytes(path).decode(), int(second), _bytes(data)))
        else:
            raise ValueError(line)
    return events


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def states(
    before: Files, events: list[Event], variants: int, source: random.Random
) -> Iterator[tuple[str, bool, Files]]:
    """What the disk may hold after a cut at each point: a name, whether all was synced by then, and the files.

    Writes before their file's last sync are there; of the others any may be missing, or there in part.
    """
    for cut in range(len(events) + 1):
        durable: dict[str, bytearray] = {path: bytearray(content) for path, content in before.items()}
        loose: list[Write] = []
        for event in events[:cut]:
            if isinstance(event, str):
                for write in [write for write in loose if write.path == event]:
                    write.apply(durable)
                loose = [write for write in loose if write.path != event]
            else:
                loose.append(event)
        choices: list[tuple[str, list[tuple[Write, int, int | None]]]] = [("none", [])]
        if loose:
            choices.append(("all", [(write, 0, None) for write in loose]))
            choices += [
                (f"without {n}", [(w, 0, None) for m, w in enumerate(loose) if m != n]) for n in range(len(loose))
            ]
            choices += [(f"only {n}", [(write, 0, None)]) for n, write in enumerate(loose)]
            for number in range(variants):
                some = [(write, *_part(write, source)) for write in loose if source.random() < 0.7]
                source.shuffle(some)
                choices.append((f"random {number}", some))
        for name, writes in choices:
            files = {path: bytearray(content) for path, content in durable.items()}
            for write, start, end in writes:
                write.apply(files, start, end)
            yield f"cut {cut}, {name}", cut == len(events), {path: bytes(content) for path, content in files.items()}


def _part(write: Write, source: random.Random) -> tuple[int, int | None]:
    if source.random() < 0.5:
        return 0, None
    middle = source.randrange(write.sectors + 1)
    return (0, middle) if source.random() < 0.5 else (middle, None)


def login(variants: int, seed: int, synced: bool = True, pam_every: int = 0) -> dict[str, object]:
    """A login: its step is spent or not, and spent for certain once everything is written.

    Not `synced`: as if it never synced the journal, to see that this would be found. Each `pam_every`-th state is
    logged in to by the real module: with the code again, and with the next one.
    """
    secret = host.enrolled("alice")
    kept = host.keep()
    step = host.step_now()
    with Holder("alice") as holder:
        lines = _lines(holder.stopped(host.code(secret, step)), holder.wait)

    def spent(view: View) -> bool:
        return max(view.marks.values()) == step

    def unspent(view: View) -> bool:
        return max(view.marks.values()) == step - 1

    def through_pam(view: View) -> list[str]:
        problems = []
        if spent(view) and pam_login("alice", host.code(secret, step)) != host.AUTH_ERR:
            problems.append("the spent code is not refused")
        if pam_login("alice", host.code(secret, host.step_now() + 1)) != host.SUCCESS:
            problems.append("the next code is not accepted")
        return problems

    events = [event for event in recorded(lines) if synced or event != f"{host.PATHS.cache}-journal"]
    return _judged(kept, events, unspent, spent, variants, seed, through_pam, pam_every)


def command(name: str, variants: int, seed: int) -> dict[str, object]:
    """A command of kill.COMMANDS: done or not done, and done for certain once everything is written."""
    argv, prepare, typed, before, behind = kill.COMMANDS[name]
    secrets = prepare()
    kept = host.keep()
    pid = os.fork()
    if pid == 0:
        kill.become(argv, typed(secrets[-1]))
    lines = _lines(pid, lambda: os.waitpid(pid, 0))
    return _judged(kept, recorded(lines), before, behind, variants, seed)


def _lines(pid: int, wait: Callable[[], object]) -> list[str]:
    return trace.lines(pid, wait, "-y", "-xx", "-s", "100000", "-e", WATCHED)


def _judged(
    kept: host.Kept,
    events: list[Event],
    before: Callable[[View], bool],
    behind: Callable[[View], bool],
    variants: int,
    seed: int,
    through_pam: Callable[[View], list[str]] = lambda _: [],
    pam_every: int = 0,
) -> dict[str, object]:
    files = {path: content for path, (_, content) in kept.items() if path.startswith(DIRECTORY + "/")}
    problems: list[str] = []
    seen = {"old": 0, "new": 0}
    pam = 0
    for name, committed, content in states(files, events, variants, random.Random(seed)):
        host.put_back({**kept, **{path: (0o600, data) for path, data in content.items()}})
        for file in os.listdir(host.PATHS.run):
            os.unlink(os.path.join(host.PATHS.run, file))
        try:
            view = host.View("alice")
        except PamTotpError as error:
            problems.append(f"{name}: {error}")
            continue
        is_new = behind(view)
        seen["new" if is_new else "old"] += 1
        if view.damage or not (is_new or before(view)) or (committed and not is_new):
            problems.append(f"{name}: {view}")
        elif pam_every and sum(seen.values()) % pam_every == 0:
            problems += [f"{name}: {problem}" for problem in through_pam(view)]
            pam += 1
    host.put_back(kept)
    return {"cases": sum(seen.values()), "pam": pam, "events": len(events), "seen": seen, "problems": problems[:20]}
