"""LemonLDAP::NG: its REST second factor asks the verify service, by settings in a version of its own.

The portal keeps each version of its settings in a file and uses the newest, so a change is one more file. Its own
command would write the default of every setting that the site has left open into that file, so this does not use it.
"""

from __future__ import annotations

import json
import os
import re
import stat

from pam_totp.host import files, programs, rewrite, systemd
from pam_totp.host.pinned import SetupError
from pam_totp.host.rewrite import State
from pam_totp.verify import clients
from pam_totp.verify.clients import Client
from pam_totp.verify.setup import Program

INI = "/etc/lemonldap-ng/lemonldap-ng.ini"
COMMAND = "/usr/share/lemonldap-ng/bin/lemonldap-ng-cli"
# What runs the portal: Apache starts its processes itself, nginx asks one of the others.
UNITS = ("apache2.service", "lemonldap-ng-fastcgi-server.service", "uwsgi.service")
CLIENT = "lemonldap"
PATH = "/v1/lemonldap"
# The settings that are written; all that undoing looks at.
SETTINGS = (
    *("rest2fActivation", "rest2fVerifyUrl", "rest2fVerifyArgs"),
    *("rest2fCodeActivation", "rest2fInitUrl", "available2F"),
)
# What is false in Perl.
_OFF = (None, False, 0, "", "0")
_FILE = re.compile(r"lmConf-([1-9][0-9]{0,8})\.json")
_URL = re.compile(rf"http://{CLIENT}:({CLIENT}\.[A-Za-z0-9_-]+)@([0-9a-f.:\[\]]+){PATH}")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_totp.host.arrange import Changes
    from pam_totp.host.paths import Paths

    Settings = dict[str, Any]


class LemonLDAP(Program):
    """LemonLDAP::NG as it is to be. What is not given stays as it was set up before, or has its default.

    address     where the verify service listens, on loopback
    may_know    whether users whom the policy does not ask get in without a right code; else everybody has to have one
    date        when the settings are written, in seconds since the epoch
    """

    name = "lemonldap"

    def __init__(
        self, address: str | None, identity: str | None, services: list[str] | None, may_know: bool, date: int
    ) -> None:
        self._address = address
        self._identity = identity
        self._services = services
        self._may_know = may_know
        self._date = date
        self._notes: list[str] = []
        self._running: list[str] = []

    def look(self, path: str, paths: Paths) -> State:
        """A file as it is now: of ours, of the portal's own user, or of root, as Debian's first settings are."""
        if path == clients.path_of(CLIENT, paths):
            return rewrite.look(path, paths.owner)
        try:
            # What the user writes whom the portal runs as decides what the portal does in any case.
            user = os.stat(os.path.dirname(path)).st_uid
            status = os.lstat(path)
            files.check_parents(path, user)
            owner = status.st_uid if status.st_uid == paths.owner else user
            content = files.read(path, owner, rewrite.LIMIT, private=False)
        except FileNotFoundError:
            return State()
        return State(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)

    def hidden(self, path: str) -> str:
        """Each file has a token, or what tells the right one."""
        return "settings of the portal" if _FILE.fullmatch(os.path.basename(path)) else "who may ask"

    def notes(self) -> list[str]:
        """The settings, and for whom they are."""
        return self._notes

    def changes(self, paths: Paths) -> Changes:
        """The client of the verify service, and one more version of the settings."""
        directory = store()
        number = max(versions(directory), default=0)
        if not number:
            raise SetupError(f"{directory} has no settings of LemonLDAP::NG: set the portal up first")
        newest = self.look(version(directory, number), paths)
        settings = parsed(newest, version(directory, number))
        former = _URL.fullmatch(str(settings.get("rest2fVerifyUrl") or ""))
        if former is None and settings.get("rest2fActivation") not in _OFF:
            raise SetupError(
                "the portal's REST second factor asks another service already: "
                "deactivate it in the manager, under Second factors, and run this again"
            )
        client, token = self._client(former[1] if former else "", paths)
        address = self._address or (former[2] if former else None)
        if address is None:
            raise SetupError(
                "the verify service is not on, or not where the portal can ask it: "
                "run pam-totp verify enable --listen 127.0.0.1:722"
            )
        new = settings | wanted(settings, f"http://{CLIENT}:{token}@{address}{PATH}")
        self._notes = [described(settings, new), self._who(client)]
        path = clients.path_of(CLIENT, paths)
        changes = {path: (self.look(path, paths), State(clients.content(client), 0o600, paths.owner, os.getegid()))}
        if new != settings:
            path = version(directory, number + 1)
            changes[path] = (self.look(path, paths), self._next(newest, new, number + 1, "pam-totp verify setup"))
        return {path: (old, new) for path, (old, new) in changes.items() if old != new}

    def _client(self, token: str, paths: Paths) -> tuple[Client, str]:
        """Who asks; with the token that the portal has, where that is good."""
        old = clients.load(CLIENT, paths)
        services = self._services or (old.services if old else [CLIENT])
        identity = self._identity or (old.identity if old else "nss")
        client = Client(CLIENT, services, identity, self._may_know or (old is not None and old.may_know))
        clients.check(CLIENT, services)
        if token and old is not None and clients.with_token(token, paths) is not None:
            client.digest = old.digest
            return client, token
        return client, clients.give_token(client)

    def _who(self, client: Client) -> str:
        if client.may_know:
            return (
                "The portal asks everybody for a code. Users whom the policy does not ask get in whatever they type;\n"
                'unenrolled = "deny" refuses those who are not enrolled (see pam-totp.toml(5)).'
            )
        return (
            "The portal asks everybody for a code, and users who have none are refused. To let in those whom the\n"
            "policy does not ask, whatever they type, add --may-know."
        )

    def _next(self, newest: State, settings: Settings, number: int, why: str) -> State:
        about = {"cfgNum": number, "cfgDate": self._date, "cfgAuthor": "root", "cfgAuthorIP": "127.0.0.1"}
        return printed(settings | about | {"cfgLog": why}, newest)

    def undoing(self, was: dict[str, State], paths: Paths) -> Changes:
        """Take the files away that were added; where newer settings build on them, add one without ours."""
        client = clients.path_of(CLIENT, paths)
        added = [path for path in was if path != client]
        changes = self._undoing(added, paths) if added else {}
        if client in was:
            changes[client] = (self.look(client, paths), was[client])
        return {path: (old, new) for path, (old, new) in changes.items() if old != new}

    def _undoing(self, added: list[str], paths: Paths) -> Changes:
        directory = os.path.dirname(added[0])
        ours = {number_of(os.path.basename(path)) for path in added}
        there = versions(directory)
        if {number for number in there if number >= min(ours)} <= ours:
            return {path: (self.look(path, paths), State()) for path in added}
        newest = self.look(version(directory, max(there)), paths)
        settings = parsed(newest, version(directory, max(there)))
        if not _URL.fullmatch(str(settings.get("rest2fVerifyUrl") or "")):
            return {}
        before = version(directory, max((each for each in there if each < min(ours)), default=0))
        old = self.look(before, paths)
        new = without(settings, parsed(old, before) if old.content is not None else {})
        path = version(directory, max(there) + 1)
        return {path: (State(), self._next(newest, new, max(there) + 1, "pam-totp verify setup --undo"))}

    def restart(self) -> str:
        """Have it read its settings now: else each process uses what it has read before for some minutes."""
        if not os.path.exists(COMMAND):
            return ""
        code, said = programs.answered("", COMMAND, "update-cache")
        number = re.search(r"updated to configuration (\d+)", said)
        if code or number is None or int(number[1]) != max(versions(store()), default=0):
            raise SetupError(f"{COMMAND} update-cache says: {'; '.join(said.strip().splitlines()[-3:])}")
        # One that has not come up with settings that are now taken back is to run again, whatever state it is in.
        if systemd.running():
            self._running = [unit for unit in UNITS if unit in self._running or systemd.active(unit)]
        for unit in self._running:
            programs.run("systemctl", "reload-or-restart", unit)
        if self._running:
            return f"its configuration {number[1]} is in force; reloaded: {', '.join(self._running)}"
        return f"it uses its configuration {number[1]} when its processes are started again, or within 10 minutes"


# -- where its settings are


def store() -> str:
    """The directory of the portal's settings. Raises SetupError where there is none."""
    try:
        with open(INI, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        raise SetupError(f"{INI} is missing: apt install lemonldap-ng") from None
    section = re.search(r"^\[configuration\]$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    values: dict[str, str] = dict(
        re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", section[1] if section else "", re.MULTILINE)
    )
    kind, directory = values.get("type", ""), values.get("dirName", "").strip("\"'")
    if kind != "File" or not directory.startswith("/"):
        raise SetupError(
            f"the portal keeps its settings in {kind or 'an unknown place'}, not in files: "
            "make the settings in the manager, as /usr/share/doc/pam-totp/lemonldap.md.gz says"
        )
    return os.path.normpath(directory)


def versions(directory: str) -> list[int]:
    """The versions that are there, in no order. Raises OSError."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [number for number in map(number_of, names) if number]


def number_of(name: str) -> int:
    """The version that a file is; 0 for another file."""
    found = _FILE.fullmatch(name)
    return int(found[1]) if found else 0


def version(directory: str, number: int) -> str:
    """The file of a version."""
    return f"{directory}/lmConf-{number}.json"


def parsed(state: State, path: str) -> Settings:
    """The settings in a file. Raises SetupError."""
    try:
        # Perl reads bytes here, each as a character; so does this, and gives back the same bytes.
        found = json.loads((state.content or b"").decode("latin-1"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not str(found.get("cfgNum", "")).isdecimal():
        raise SetupError(f"{path} is not understood: see whether the manager opens it")
    return found


def printed(settings: Settings, like: State) -> State:
    """A file with settings, in the form that LemonLDAP::NG gives it; of the same owner, and closed to others."""
    text = json.dumps(settings, indent=3, separators=(",", " : "), sort_keys=True, ensure_ascii=False)
    text = re.sub(r"[^\0-\xff]", _escaped, text)
    return State(f"{text}\n".encode("latin-1"), like.mode & 0o640, like.uid, like.gid)


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


# -- the settings


def wanted(settings: Settings, url: str) -> Settings:
    """What has to be set. A rule that the site has given for who is asked stays, and so do more arguments."""
    rule, arguments = settings.get("rest2fActivation"), settings.get("rest2fVerifyArgs")
    found: Settings = {
        "rest2fActivation": 1 if rule in _OFF else rule,
        "rest2fVerifyUrl": url,
        # So that wrong codes are charged to where they come from.
        "rest2fVerifyArgs": {"source": "ipAddr"} | (arguments if isinstance(arguments, dict) else {}),
    }
    for name in ("rest2fCodeActivation", "rest2fInitUrl"):
        if settings.get(name):
            found[name] = ""  # with either of these the portal would make a code itself
    kinds = settings.get("available2F")
    if isinstance(kinds, str) and "REST" not in re.split(r",\s*", kinds):
        found["available2F"] = f"{kinds},REST"  # there is no other where a site names some
    return found


def without(settings: Settings, old: Settings) -> Settings:
    """Settings that have ours, with what was there before in its place."""
    kept = {name: value for name, value in settings.items() if name not in SETTINGS}
    return kept | {name: old[name] for name in SETTINGS if name in old}


def described(old: Settings, new: Settings) -> str:
    """What changes, a line each, without a token."""
    lines = ["Settings of the portal:"]
    for name in SETTINGS:
        if old.get(name) != new.get(name):
            value = new.get(name)
            shown = json.dumps(_URL.sub(rf"http://{CLIENT}:TOKEN@\2{PATH}", value) if isinstance(value, str) else value)
            lines.append(f"  {name} = {shown}")
    return "\n".join(lines if len(lines) > 1 else ["The settings of the portal stay as they are."])
