"""The agent of a host that has joined a fleet: it keeps the cache up to date, hands up events, and answers claims.

Logins need it for nothing: without it, and without the directory, they go on from what the cache holds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import sys
import threading

from pam_totp.cache import store
from pam_totp.cache.accounts import Accounts
from pam_totp.cache.configured import IDENTITY
from pam_totp.errors import ConfigError, FleetError, PamTotpError
from pam_totp.fleet import events, line, sources, sync, tree, web
from pam_totp.fleet import identity as identities
from pam_totp.host import clock, files
from pam_totp.host import config as configuration
from pam_totp.host.paths import Paths
from pam_totp.login import claim, log

POLL_SECONDS = 15.0
LONGEST_PAUSE = 300.0
# What was removed or spent here is told by reading every account: at the start, after a merge, and this often.
SWEEP_SECONDS = 3600.0
LINE_SECONDS = 300.0
LINE_AGAIN_SECONDS = 60.0
CLAIM_SECONDS = 0.18
_CLAIMERS = 4
_MOST_LINES = 50  # of users who were merged, in one pass
_MOST_TAKEN = 100_000
# After a claim that the directory did not answer it is not asked for so long: logins shall not all wait in vain.
_SILENCE_SECONDS = 5.0
_EVENT_SECONDS = 20.0
# How a login ended stays in memory for so long: the processors are for the session that begins, and all logins of that
# time are looked up at once.
TOLD_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")
CLONED = (
    "another host has this one's identity, from an image or a backup: revoke it in the directory "
    "(pam-totp-directory host revoke), and on each host pam-totp leave, and join anew"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.fleet.identity import Identity
    from pam_totp.fleet.sync import Result
    from pam_totp.host.clock import Moment


def server_of(identity: Identity) -> web.Web:
    """The directory, asked as this host. Raises FleetError."""
    return web.Web(identity.url, identity.ca, identity.token)


def source_of(identity: Identity, server: web.Web | None = None) -> sources.Source:
    """Where this host's folder of the tree is: over the connections to the directory where it is there.

    Raises FleetError.
    """
    # The token is the directory's to see, and nobody else's who carries the tree.
    own = (server or server_of(identity)).at(identity.tree)
    path = "" if identity.tree.endswith(f"/{identity.host}") else f"/{identity.host}"
    return sources.WebTree(own or web.Web(identity.tree, ""), path)


def window_of(paths: Paths) -> int:
    """The host's window in steps; the default where the configuration is not readable."""
    try:
        return configuration.load(paths.config, paths.owner).window
    except ConfigError:
        return configuration.Config().window


def queue_of(paths: Paths) -> events.Queue:
    """The events that wait on this host."""
    return events.Queue(f"{os.path.dirname(paths.cache)}/fleet/events", paths.owner)


def state_path(paths: Paths) -> str:
    """Where the agent, and each pass, note how it went."""
    return f"{os.path.dirname(paths.cache)}/fleet/state"


def note(paths: Paths, now: Moment, error: PamTotpError | None, result: Result | None, twin: str | None = None) -> None:
    """Note how a pass went, for ``pam-totp fleet``, doctor and metrics. Best effort.

    ``twin``: the id that another host has as well, empty where none has, None where that was not asked.
    """
    state = recall(paths)
    if error is None:
        state |= {"succeeded": int(now.wall), "reason": "", "error": ""}
    else:
        state |= {"reason": error.reason, "error": str(error)}
    state["tried"] = int(now.wall)
    if twin is not None:
        state["cloned"] = twin
    state["problems"] = [] if result is None else result.problems[:20]
    try:
        os.makedirs(os.path.dirname(state_path(paths)), mode=0o700, exist_ok=True)
        files.replace(state_path(paths), json.dumps(state).encode("ascii"), 0o600)
    except OSError:
        pass


def recall(paths: Paths) -> dict[str, object]:
    """What was noted last: tried, succeeded (seconds since the epoch), reason, error, problems; empty before."""
    try:
        found = json.loads(files.read(state_path(paths), paths.owner, 1 << 20))
    except (OSError, files.UnsafeFileError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def cloned(paths: Paths) -> str:
    """The id of this host that another one has as well, as it was noted last; empty: none."""
    return str(recall(paths).get("cloned", ""))


def log_result(result: Result) -> None:
    """Tell syslog what a pass has changed."""
    last = result.last
    if result.order == "epoch" and last is not None:
        text = f"epoch {last.epoch} has begun, with number {last.sequence}"
        log.send(log.NOTICE, "pam-totp", log.line(action="fleet-epoch", detail=text))
    for name in result.revoked:
        log.send(log.NOTICE, "pam-totp", log.line(user=name, action="fleet-revoked", by="directory"))
    changed = [*result.merged, *result.bound]
    if len(changed) > _MOST_LINES:
        text = f"{len(changed)} users"
        log.send(log.INFO, "pam-totp", log.line(action="fleet-merged", by="directory", detail=text))
        changed = []
    for name in changed:
        log.send(log.INFO, "pam-totp", log.line(user=name, action="fleet-merged", by="directory"))
    for problem in result.problems:
        log.send(log.ERROR, "pam-totp", log.line(action="fleet-problem", detail=problem))


class Agent:
    """What the agent knows between two passes. ``step`` makes one; claims are answered in threads of their own."""

    def __init__(self, paths: Paths, now: Callable[[], Moment] = clock.now) -> None:
        self._paths = paths
        self._now = now
        self._identity: Identity | None = None
        self._source: sources.Source | None = None
        self.reach = Reach(paths)
        self._server: web.Web | None = None
        self._failures = 0
        self._said = ""
        self._taken: set[str] = set()
        self._swept: float | None = None
        self._line = line.Line(f"{os.path.dirname(paths.cache)}/fleet/line", paths.owner)
        self._handed: float | None = None
        # What had to wait, after so many passes, and from when on that is looked at again.
        self._problems: list[str] = []
        self._waits = 0
        self._again = 0.0
        self.queue = queue_of(paths)
        self.queueing = threading.Lock()
        self._told: list[tuple[str, str, int]] = []
        self.wake = threading.Event()

    def step(self) -> float | None:
        """One pass; returns how many seconds to wait for the next one. None where this host has not joined."""
        now = self._now()
        result = None
        try:
            found = self.reach.read()
            if found is None:
                return None
            identity, self._server = found
            self._use(identity)
            # Events first: what was spent here is to be known there before what is published says otherwise.
            handed = self._hand_up(identity, now)
            assert self._source is not None  # made by _use
            result = self._take(self._source, now)
        except PamTotpError as error:
            self._failed(error)
            note(self._paths, now, error, result)
            return self._pause(min(LONGEST_PAUSE, POLL_SECONDS * 2 ** min(self._failures, 8)))
        if self._said and handed is None:
            log.send(log.NOTICE, "pam-totp", log.line(action="fleet-sync", detail="the directory is there again"))
        self._failures = 0
        if handed is None:
            self._said = ""
        if handed is not None:
            self._failed(handed)
            self._failures = 0  # what is published came all the same
        note(self._paths, now, handed, result, self._cloned(identity, now))
        return self._pause(POLL_SECONDS)

    def _take(self, source: sources.Source, now: Moment) -> Result:
        """Take what is published. What has to wait is looked at ever later: that may fetch a whole bundle each time."""
        due = not 0 < self._again - now.uptime <= LONGEST_PAUSE
        result = sync.run(self._paths, source, now, window_of(self._paths), again=due)
        if result.merged or result.revoked:
            self._swept = None
        log_result(result)
        if due or result.order is not None:
            self._problems, self._waits = result.problems, self._waits + 1 if result.problems else 0
            self._again = now.uptime + min(LONGEST_PAUSE, POLL_SECONDS * (2 ** min(self._waits, 8) - 2))
        else:
            result.problems = self._problems
        return result

    def _use(self, identity: Identity) -> None:
        if identity != self._identity:
            self._identity = identity
            self._source = source_of(identity, self._server)
            self._taken, self._swept, self._handed = set(), None, None
            self._problems, self._waits, self._again = [], 0, 0.0

    def _cloned(self, identity: Identity, now: Moment) -> str | None:
        """The id of this host where another one has it, too; empty where none has; None where that is not known now."""
        pause = LINE_SECONDS if self._line.answered else LINE_AGAIN_SECONDS
        if self._handed is not None and 0 <= now.uptime - self._handed < pause:
            return None
        assert self._server is not None  # made by _use
        self._handed = now.uptime
        alone = self._line.hand_over(self._server, identity.host)
        if alone is None:
            return None
        if alone:
            return ""
        if cloned(self._paths) != identity.host:
            log.send(log.ERROR, "pam-totp", log.line(action="fleet-cloned", detail=CLONED))
        return identity.host

    def _hand_up(self, identity: Identity, now: Moment) -> PamTotpError | None:
        """Hand up what waits; what the directory does not take waits on. Returns why it does."""
        try:
            while True:
                waiting = self._waiting(identity, now)
                if not waiting:
                    return None
                taken = self._post(waiting[: events.MOST])
                with self.queueing:
                    self.queue.take(taken)
                # Which ids were taken is known only to spare requests: each may be handed up again.
                self._taken = taken if len(self._taken) > _MOST_TAKEN else self._taken | taken
                if not taken:
                    return FleetError("the directory takes no events: see its log", "fleet-answer")
        except PamTotpError as error:
            return error

    def _waiting(self, identity: Identity, now: Moment) -> list[events.Event]:
        with Accounts(self._paths, gives_way=True) as accounts:
            found = events.enrolments(accounts, identity, self._taken, int(now.wall))
            if self._swept is None or not 0 <= now.uptime - self._swept < SWEEP_SECONDS:
                found += events.changes(accounts, identity, self._taken, int(now.wall))
                if not found:
                    self._swept = now.uptime
        with self.queueing:
            return found + [each for each in self.queue.waiting() if each["id"] not in self._taken]

    def _post(self, batch: list[events.Event]) -> set[str]:
        assert self._server is not None  # made by _use
        answer = self._server.post("/api/v1/events", {"events": batch}, _EVENT_SECONDS)
        if answer.status in (400, 413, 422):
            # One that the directory does not understand must not hold up the others for ever.
            if len(batch) == 1:
                detail = f"event {batch[0]['id']} ({batch[0].get('kind')}) is not taken, and dropped"
                log.send(log.ERROR, "pam-totp", log.line(action="fleet-problem", detail=detail))
                return {batch[0]["id"]}
            middle = len(batch) // 2
            return self._post(batch[:middle]) | self._post(batch[middle:])
        if answer.status != 200:
            raise FleetError(f"the directory takes no events: it answers {answer.status}", "fleet-answer")
        taken = answer.fields().get("taken")
        if not isinstance(taken, list):
            raise FleetError("the directory's answer to events is not understood", "fleet-answer")
        return {each["id"] for each in batch} & {each for each in taken if isinstance(each, str)}

    def _failed(self, error: PamTotpError) -> None:
        self._failures += 1
        # Once for each kind of trouble, not every minute.
        if error.reason != self._said:
            self._said = error.reason
            log.send(log.ERROR, "pam-totp", log.line(action="fleet-sync", reason=error.reason, detail=str(error)))

    def _pause(self, seconds: float) -> float:
        # Hosts that were started at one time do not all come at one time.
        return seconds * random.uniform(0.8, 1.1)  # noqa: S311  # no secret

    # Claims

    def listen(self) -> socket.socket:
        """Listen for logins. Raises FleetError where another agent does."""
        path = f"{self._paths.run}/{claim.SOCKET}"
        for directory in (self._paths.run, os.path.dirname(path)):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(path)
            except OSError:
                pass
            else:
                end.close()
                raise FleetError("another agent runs already: systemctl status pam-totp-agent", "fleet-agent")
        if os.path.lexists(path):
            os.unlink(path)
        end.bind(path)
        os.chmod(path, 0o600)
        end.listen(128)
        return end

    def answer(self, end: socket.socket) -> None:
        """Take logins from a listening socket, for ever. Several threads may."""
        claimer = Claimer(self.reach)
        while True:
            connection, _ = end.accept()
            with connection:
                try:
                    self._serve(connection, claimer)
                except (OSError, ValueError, RuntimeError, PamTotpError):  # RuntimeError: no thread can be had
                    continue  # that login decides alone

    def _serve(self, connection: socket.socket, claimer: Claimer) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] != self._paths.owner:
            return
        connection.settimeout(0.1)
        word, *fields = connection.recv(4096).decode("utf-8", "surrogateescape").split("\0")
        if word == "claim":
            connection.send(claimer.ask(fields, self._now()).encode("ascii"))
        elif word == "event" and len(fields) == 2:
            with self.queueing:
                if not self._told:
                    threading.Timer(TOLD_SECONDS, self._keep).start()
                self._told.append((fields[0], fields[1], int(self._now().wall)))

    def _keep(self) -> None:
        """Keep how logins ended until the directory has taken it. What is missed is in the log."""
        with self.queueing:
            told, self._told = self._told, []
        try:
            with Accounts(self._paths) as accounts:
                names = {name: _known(accounts, name) for name in {name for name, _, _ in told}}
        except (OSError, PamTotpError):
            return
        logins = (events.of_login(line, names[name], now) for name, line, now in told if names[name])
        found = [event for event in logins if event is not None]
        with self.queueing:
            for event in found:
                self.queue.add(event)
        if any(event["reason"] in ("enrolled", "recovery-code") for event in found):
            # The rest of the fleet is to know soon.
            self._swept = None
            self.wake.set()


def _known(accounts: Accounts, name: str) -> str:
    """The directory's name of an account; empty where it knows none: others' logins are not for it to see."""
    account = accounts.get(name)
    fleet = None if account is None else account.ledger.fleet
    return "" if fleet is None else str(fleet["name"])


class Reach:
    """Who this host is to its directory, as it was read last, and the connections to it: for all threads of the agent.

    What is polled for keeps one of them open. So a claim takes one round trip, however long nobody has logged in.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._now: tuple[str, Identity, web.Web] | None = None

    def read(self, patience: float = store.BUSY_SECONDS) -> tuple[Identity, web.Web] | None:
        """Read who this host is, and to which directory, waiting for the cache for ``patience`` seconds at most.

        None where it has not joined. Raises CacheError or FleetError.
        """
        with Accounts(self._paths, patience) as accounts:
            # In this order: what comes in between has another stamp than the one that is kept.
            stamp = accounts.configured.stamp(IDENTITY)
            identity = identities.load(accounts)
        with self._lock:
            if self._now is not None and self._now[1] != identity:
                self._now[2].close()
                self._now = None
            if identity is None:
                return None
            server = server_of(identity) if self._now is None else self._now[2]
            self._now = stamp, identity, server
            return identity, server

    def server(self, stamp: str) -> web.Web | None:
        """The directory of the host with this identity; read anew where that is not the one that was read last.

        None where it has not joined. Raises CacheError or FleetError.
        """
        now = self._now
        if now is not None and now[0] == stamp:
            return now[2]
        found = self.read(patience=0.05)
        return None if found is None else found[1]


class Claimer:
    """Claims codes at the directory. For one thread."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._silent_since: float | None = None

    def ask(self, fields: list[str], now: Moment) -> str:
        """Answer a login: yes, no, off, or unknown. Raises CacheError or FleetError, which is no answer either."""
        silent = self._silent_since
        request = _claim(fields)
        if request is None or (silent is not None and 0 <= now.uptime - silent < _SILENCE_SECONDS):
            return "unknown"
        self._silent_since = None
        server = self._reach.server(fields[0])
        if server is None:
            return "unknown"
        try:
            answer = server.post("/api/v1/claim", request, CLAIM_SECONDS)
            claimed = answer.fields().get("claimed") if answer.status == 200 else None
        except FleetError:
            claimed = None
        if not isinstance(claimed, bool):
            self._silent_since = now.uptime
            return "unknown"
        return "yes" if claimed else "no"


def _claim(fields: list[str]) -> dict[str, object] | None:
    """What to ask the directory; None where a login has not said what it has to."""
    if len(fields) != 5 or not tree.is_identifier(fields[1]):
        return None
    _, login, kind, who, what = fields
    if kind == "code" and tree.is_identifier(who) and what.isascii() and what.isdigit() and len(what) < 12:
        return {"authenticator": who, "step": int(what), "login": login}
    if kind == "recovery" and tree.is_identifier(what):
        return {"recovery": what, "name": who, "login": login}
    return None


def main(paths: Paths | None = None) -> int:
    """Run until the end; 0 at once where this host has not joined."""
    agent = Agent(paths or Paths())
    # At any moment: nothing is half done, and the logins of the last second are in the log.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        end = agent.listen()
        for _ in range(_CLAIMERS):
            threading.Thread(target=agent.answer, args=(end,), daemon=True).start()
        while (seconds := agent.step()) is not None:
            agent.wake.wait(seconds)
            agent.wake.clear()
    except (PamTotpError, OSError) as error:
        print(f"pam-totp-agent: {error}", file=sys.stderr)
        return 3
    print("pam-totp-agent: this host has joined no fleet: pam-totp join URL", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
