"""What ``pam-totp setup`` has put in force on this host: the record of it, and whether it still holds.

Beside the cache lie, for each service, ``setup/SERVICE.json`` (what is to be in force) and ``setup/SERVICE.before/``:
each file as it was before ``setup`` first touched it, under a name that is never written twice.
"""

from __future__ import annotations

import glob
import json
import os

from pam_totp.errors import ConfigError, PamTotpError
from pam_totp.host import files, pamfile, rewrite, sshd
from pam_totp.host.programs import ProgramError
from pam_totp.host.rewrite import State

VERSION = 1
SSHD = "sshd"
# Seconds: a run of the check that begins so short a time before the end could make systemd drop the timer's own.
_EARLY = 2.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


class SetupError(PamTotpError):
    """What was asked for cannot be put in force, or the record of what is in force cannot be read."""

    reason = "setup"


class Revert:
    """When a set-up that nobody keeps is undone, and what then comes back. Seconds are those since the boot."""

    __slots__ = ("boot_id", "former", "since", "states", "until")

    def __init__(
        self, boot_id: str, until: float, states: dict[str, State], former: Pin | None, since: float | None = None
    ) -> None:
        self.boot_id = boot_id
        self.until = until
        self.states = states
        self.former = former
        self.since = since

    def due(self, now: Moment) -> bool:
        """Whether the time is over. A boot ends it: whoever was locked out may have no other way than that."""
        return now.boot_id != self.boot_id or now.uptime >= self.until - _EARLY

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "boot_id": self.boot_id,
            "until": self.until,
            "since": self.since,
            "states": {path: state.plain() for path, state in self.states.items()},
            "former": self.former.plain() if self.former else None,
        }

    @classmethod
    def from_plain(cls, kept: dict[str, Any]) -> Revert:
        """What ``plain`` has made. Raises KeyError, TypeError or ValueError for anything else."""
        states = {str(path): State.from_plain(state) for path, state in kept["states"].items()}
        former = Pin.from_plain(kept["former"]) if kept["former"] else None
        since = None if kept["since"] is None else float(kept["since"])
        return cls(str(kept["boot_id"]), float(kept["until"]), states, former, since)


class Pin:
    """What is to be in force for a service."""

    __slots__ = ("enforce", "engine", "revert", "robots", "service", "variant")

    def __init__(
        self,
        service: str,
        variant: str,
        engine: str,
        robots: list[str],
        enforce: bool = False,
        revert: Revert | None = None,
    ) -> None:
        self.service = service
        self.variant = variant
        self.engine = engine
        self.robots = robots
        self.enforce = enforce
        self.revert = revert

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            "version": VERSION,
            "service": self.service,
            "variant": self.variant,
            "engine": self.engine,
            "robots": self.robots,
            "enforce": self.enforce,
            "revert": self.revert.plain() if self.revert else None,
        }

    @classmethod
    def from_plain(cls, kept: dict[str, Any]) -> Pin:
        """What ``plain`` has made. Raises KeyError, TypeError or ValueError for anything else."""
        if (
            kept["version"] != VERSION
            or kept["variant"] not in pamfile.VARIANTS
            or kept["engine"] not in pamfile.ENGINES
        ):
            raise ValueError
        revert = Revert.from_plain(kept["revert"]) if kept["revert"] else None
        robots = [str(robot) for robot in kept["robots"]]
        return cls(str(kept["service"]), kept["variant"], kept["engine"], robots, bool(kept["enforce"]), revert)


# -- the record


def _directory(paths: Paths) -> str:
    return f"{os.path.dirname(paths.cache)}/setup"


def services(paths: Paths) -> list[str]:
    """The services that something is put in force for."""
    return sorted(os.path.basename(path).removesuffix(".json") for path in glob.glob(f"{_directory(paths)}/*.json"))


def load(paths: Paths, service: str) -> Pin | None:
    """What is to be in force for a service; None where ``setup`` was not run for it. Raises SetupError."""
    path = f"{_directory(paths)}/{service}.json"
    try:
        return Pin.from_plain(_read(path, paths))
    except FileNotFoundError:
        return None
    except (files.UnsafeFileError, KeyError, TypeError, ValueError, AttributeError):
        raise SetupError(f"{path} cannot be used: move it away, and run pam-totp setup again") from None


def save(paths: Paths, pin: Pin) -> None:
    """Write the record anew. Raises OSError."""
    os.makedirs(_directory(paths), mode=0o700, exist_ok=True)
    content = json.dumps(pin.plain(), indent=1).encode("ascii")
    rewrite.put(f"{_directory(paths)}/{pin.service}.json", State(content, 0o600, paths.owner, os.getegid()))


def forget(paths: Paths, service: str) -> None:
    """Remove the record, and what was kept of before. Raises OSError."""
    rewrite.put(f"{_directory(paths)}/{service}.json", State())
    for path in glob.glob(f"{_directory(paths)}/{service}.before/*"):
        os.unlink(path)
    try:
        os.rmdir(f"{_directory(paths)}/{service}.before")
    except FileNotFoundError:
        pass


def remember(paths: Paths, service: str, olds: dict[str, State]) -> None:
    """Keep each of these files as it is, unless it was kept at an earlier set-up. Raises OSError."""
    directory = f"{_directory(paths)}/{service}.before"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for path, old in olds.items():
        name = f"{directory}/{path.strip('/').replace('/', '+')}"
        if not os.path.lexists(name):
            content = json.dumps({"path": path, **old.plain()}, indent=1).encode("ascii")
            rewrite.put(name, State(content, 0o600, paths.owner, os.getegid()))


def before(paths: Paths, service: str) -> dict[str, State]:
    """Each file that ``setup`` has touched, as it was before that. Raises SetupError."""
    found = {}
    for name in sorted(glob.glob(f"{_directory(paths)}/{service}.before/*")):
        if not name.endswith(".pam-totp-new"):  # left by a process that was killed
            try:
                kept = _read(name, paths)
                found[str(kept["path"])] = State.from_plain(kept)
            except (files.UnsafeFileError, KeyError, TypeError, ValueError, AttributeError):
                raise SetupError(f"{name} cannot be used: move it away, and run pam-totp setup --undo again") from None
    return found


def _read(path: str, paths: Paths) -> Any:
    return json.loads(files.read(path, paths.owner, 4 * rewrite.LIMIT))


# -- whether it holds


def pam_path(paths: Paths, service: str) -> str:
    """The PAM file of a service."""
    return f"{paths.services}/{service}"


def losses(paths: Paths, service: str) -> list[str]:
    """What is missing of what ``setup`` put in force for a service, a sentence each; empty where all of it holds.

    What cannot be looked at counts as missing. A service that ``setup`` was not run for has nothing to miss.
    Raises SetupError where the record itself cannot be read.
    """
    pin = load(paths, service)
    if pin is None:
        return []
    found = []
    path = pam_path(paths, service)
    try:
        asked(paths, pin, rewrite.look(path, paths.owner).text)
    except ConfigError as error:
        found.append(f"{path}: {error}")
    except (OSError, files.UnsafeFileError) as error:
        found.append(f"{path} cannot be read safely: {error}")
    if service == SSHD:
        try:
            found += sshd.differences(pin.variant)
        except ProgramError as error:
            found.append(f"what sshd does cannot be said: {error}")
    return found


def asked(paths: Paths, pin: Pin, text: str, *, alone: bool = False) -> None:
    """Make sure that PAM comes to each line of a variant in this text, and that it decides.

    With ``alone``, that no other line of this module, as in a file that is included, asks a second time.
    Raises ConfigError.
    """

    def read(name: str) -> str:
        path = name if name.startswith("/") else f"{paths.services}/{name}"
        state = rewrite.look(path, paths.owner)
        if not name or state.content is None:
            raise ConfigError(f"it takes in {name or 'nothing'}, which is missing")
        return state.text

    try:
        stacks = {kind: pamfile.walk(text, kind, read) for kind in ("auth", "account")}
    except (ValueError, files.UnsafeFileError) as error:
        raise ConfigError(str(error)) from None
    all_wanted = pamfile.lines_for(pin.variant, pin.engine)
    for wanted in all_wanted:
        words = wanted.split()
        lines = stacks[words[0]]
        places = [number for number, line in enumerate(lines) if line.words == words]
        if not places:
            raise ConfigError(f"the line {wanted!r} is missing")
        if "pam_permit.so" not in words and (obstacle := pamfile.obstacle(lines, places[0])):
            raise ConfigError(f"the line {wanted!r} does not decide: {obstacle}")
    ours = [" ".join(line.words) for line in stacks["auth"] if line.arguments is not None]
    more = [line for line in ours if line not in all_wanted or ours.count(line) > 1]
    if alone and more:
        raise ConfigError(f"the line {more[0]!r} asks as well: take it out first")
