"""sshd: what its effective settings let in without PAM's questions, in general and in each Match block."""

from __future__ import annotations

import fnmatch
import glob
import ipaddress
import os

from pam_totp.doctor.findings import Finding, quoted
from pam_totp.host import logins, sshd, users
from pam_totp.host.programs import ProgramError

ENOUGH_TO_ENROL = 120  # seconds
_DEEPEST = 16
_LIMIT = 1 << 20
# A connection like any other, for what no Match block asks about.
_CONNECTION = {
    "user": "nobody",
    "host": "client.invalid",
    "addr": "192.0.2.1",
    "laddr": "192.0.2.2",
    "lport": "22",
    "rdomain": "",
}
_CRITERIA = {
    "user": "user",
    "host": "host",
    "address": "addr",
    "localaddress": "laddr",
    "localport": "lport",
    "rdomain": "rdomain",
}
# What goes on without PAM's auth stack.
_ALONE = {
    "publickey": "key-alone",
    "gssapi-with-mic": "gssapi-alone",
    "gssapi-keyex": "gssapi-alone",
    "hostbased": "hostbased-alone",
}
_BY_PAM = {"keyboard-interactive", "password"}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths


class Setting:
    """A line of sshd's configuration; ``match`` is the criteria of its Match block, None outside of one."""

    __slots__ = ("keyword", "match", "number", "path", "value")

    def __init__(self, path: str, number: int, keyword: str, value: str, match: str | None) -> None:
        self.path = path
        self.number = number
        self.keyword = keyword
        self.value = value
        self.match = match


class Wanted:
    """What the PAM service of sshd needs of it. ``robots`` have their key alone because ``setup`` was told so."""

    __slots__ = ("combined", "key", "robots")

    def __init__(self, key: bool, combined: bool, robots: Sequence[str] = ()) -> None:
        self.key = key
        self.combined = combined
        self.robots = list(robots)

    @property
    def methods(self) -> str:
        """The AuthenticationMethods that suit it."""
        variant = "combined" if self.combined else "key" if self.key else "password"
        return sshd.SETTINGS[variant]["AuthenticationMethods"]


def config_path(paths: Paths) -> str:
    """Sshd's own configuration file."""
    return f"{os.path.dirname(paths.drop_ins)}/sshd_config"


def settings_of(path: str, match: str | None = None, depth: int = 0) -> Iterator[Setting]:
    """All lines of a configuration file and of what it includes, in sshd's order. What cannot be read has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(_LIMIT).split("\n")
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        words = line.strip().replace("=", " ", 1).split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        keyword, value = words[0].lower(), words[1].strip() if len(words) > 1 else ""
        if keyword == "match":
            match = value
        elif keyword == "include" and depth < _DEEPEST:
            for pattern in value.replace('"', "").split():
                base = os.path.dirname(path) if depth == 0 else "/etc/ssh"
                for each in sorted(glob.glob(pattern if pattern.startswith("/") else f"{base}/{pattern}")):
                    yield from settings_of(each, match, depth + 1)
        yield Setting(path, number, keyword, value, match)


def key_comes_first(settings: Mapping[str, str]) -> bool:
    """Whether sshd asks for a key before PAM asks its questions."""
    return any(_key_first(each) for each in _lists(settings))


def findings(wanted: Wanted, settings: Mapping[str, str], paths: Paths, config: Config | None) -> list[Finding]:
    """What is wrong with the sshd that reads ``config_path``, whose settings outside of Match blocks these are."""
    path = config_path(paths)
    written = list(settings_of(path))
    in_general = _of_settings(wanted, settings, written, path)
    found = list(in_general)
    known = {each.identifier for each in in_general}
    if config is not None:
        found += _of_policy(settings, written, path, config)
    for match in dict.fromkeys(each.match for each in written if each.match is not None):
        connection = connection_for(match)
        if connection is None or _is_robot(connection, wanted.robots):
            continue
        try:
            here = sshd.effective(connection)
        except ProgramError as error:
            found.append(Finding("sshd-config-invalid", str(error)))
            continue
        for each in _of_settings(wanted, here, written, path, match):
            if each.identifier not in known:
                found.append(Finding(each.identifier, f"Match {match}: {each.text}", each.mend))
    found += _root(wanted, settings, written, path)
    found += _running(wanted, path, written)
    return found


def invalid(error: ProgramError) -> Finding:
    """What sshd does not take of its own configuration; mended by a # before the line that it names."""
    text = str(error)
    for separator in (" line ", ": line "):
        path, found, rest = text.partition(separator)
        number = rest.partition(":")[0]
        path = path.rpartition(" ")[2].rstrip(":")
        if found and number.isdigit() and path.startswith("/"):
            return Finding("sshd-config-invalid", text, f"sed -i {quoted(f'{number}s/^/#/')} {quoted(path)}")
    return Finding("sshd-config-invalid", text)


# -- one set of settings


def _enabled(settings: Mapping[str, str]) -> list[str]:
    found = []
    if settings.get("pubkeyauthentication") != "no":
        found.append("publickey")
    if settings.get("gssapiauthentication") == "yes":
        found += ["gssapi-with-mic", "gssapi-keyex"]
    if settings.get("hostbasedauthentication") == "yes":
        found.append("hostbased")
    if settings.get("passwordauthentication") != "no":
        found.append("password")
    if settings.get("kbdinteractiveauthentication") != "no":
        found.append("keyboard-interactive")
    return found


def _lists(settings: Mapping[str, str]) -> list[list[str]]:
    """Each list of methods that lets in. Those with a method that is off count for nothing."""
    enabled = _enabled(settings)
    methods = settings.get("authenticationmethods", "any")
    if methods in ("any", ""):
        return [[each] for each in enabled]
    lists = [[each.partition(":")[0] for each in one.split(",")] for one in methods.split()]
    return [one for one in lists if set(one) <= set(enabled)]


def _key_first(methods: Sequence[str]) -> bool:
    by_pam = [number for number, each in enumerate(methods) if each in _BY_PAM]
    return bool(by_pam) and "publickey" in methods[: by_pam[0]]


def _of_settings(
    wanted: Wanted, settings: Mapping[str, str], written: list[Setting], path: str, match: str | None = None
) -> list[Finding]:
    found = []

    def add(identifier: str, text: str, keyword: str, value: str) -> None:
        found.append(Finding(identifier, text, _set(written, path, keyword, value, match)))

    if settings.get("usepam") != "yes":
        add("use-pam-off", "UsePAM no: PAM is not asked at all", "UsePAM", "yes")
    lists = _lists(settings)
    methods = settings.get("authenticationmethods", "any")
    for name in dict.fromkeys(one[-1] for one in lists if not set(one) & _BY_PAM):
        text = f"AuthenticationMethods {methods}: {name} lets in without PAM's questions"
        if match is None or wanted.methods == methods:
            add(_ALONE[name], text, "AuthenticationMethods", wanted.methods)
        else:
            found.append(Finding(_ALONE[name], text, _set(written, path, "AuthenticationMethods", "", match)))
    if settings.get("kerberosauthentication") == "yes" and settings.get("passwordauthentication") != "no":
        text = "KerberosAuthentication yes: a password that Kerberos knows lets in without PAM's auth lines"
        add("kerberos-alone", text, "KerberosAuthentication", "no")
    if settings.get("kbdinteractiveauthentication") == "no" and not (wanted.combined and "password" in _flat(lists)):
        text = "KbdInteractiveAuthentication no: PAM cannot ask for a code"
        add("keyboard-interactive-off", text, "KbdInteractiveAuthentication", "yes")
    elif (
        wanted.key
        and not any(_key_first(one) for one in lists)
        and not any(each.identifier in _ALONE.values() for each in found)
    ):
        text = f"AuthenticationMethods {methods}: PAM's line has first_factor=publickey, and no key is asked for"
        add("first-factor-not-asked", text, "AuthenticationMethods", wanted.methods)
    if not wanted.combined and "password" in _flat(lists):
        text = "PasswordAuthentication yes: clients fall back to it, and it answers the question for the code"
        add("password-method", text, "PasswordAuthentication", "no")
    if settings.get("permitemptypasswords") == "yes" and not wanted.key:
        add("empty-passwords", "PermitEmptyPasswords yes", "PermitEmptyPasswords", "no")
    return found


def _flat(lists: list[list[str]]) -> set[str]:
    return {each for one in lists for each in one}


def _of_policy(settings: Mapping[str, str], written: list[Setting], path: str, config: Config) -> list[Finding]:
    found = []
    words = {config.unenrolled, *(rule.unenrolled for rule in config.rules)}
    enrols = bool(words & {"enroll", "invite"}) or ("deadline" in words and config.enrollment.after != "deny")
    seconds = settings.get("logingracetime", "120")
    if enrols and seconds.isdigit() and 0 < int(seconds) < ENOUGH_TO_ENROL:
        text = f"LoginGraceTime {seconds}: users enrol at the prompt, and have so many seconds for all of it"
        found.append(Finding("grace-time-short", text, _set(written, path, "LoginGraceTime", "300", None)))
    if settings.get("usedns") == "yes" and any(rule.networks for rule in config.rules):
        text = "UseDNS yes: a rule with networks then applies to nobody whose address has a name"
        found.append(Finding("dns-names", text, _set(written, path, "UseDNS", "no", None)))
    return found


def _root(wanted: Wanted, settings: Mapping[str, str], written: list[Setting], path: str) -> list[Finding]:
    if any(robot.partition("@")[0] == "root" for robot in wanted.robots):
        return []
    try:
        here = sshd.effective(_spelled({**_CONNECTION, "user": "root"})) if _matches(written) else settings
    except ProgramError:
        return []
    permit = here.get("permitrootlogin", "")
    if permit in ("yes", "no", ""):
        return []
    keys = logins.key_files(here)
    root = next((each for each in logins.all_of_them(keys) if each.uid == 0), None)
    if root is None or not root.keys:
        return []
    if not any(set(one) & _BY_PAM for one in _lists(here)):
        return []
    text = f"PermitRootLogin {permit}: root has a key, and sshd gives PAM no answer of root's"
    return [Finding("root-cannot-answer", text, _set(written, path, "PermitRootLogin", "yes", None))]


# -- Match blocks


def _matches(written: list[Setting]) -> bool:
    return any(each.match is not None for each in written)


def connection_for(match: str) -> str | None:
    """A connection that a Match line's criteria fit, as ``sshd -C`` takes it; None where there is none to be had."""
    words = match.replace('"', "").split()
    found = dict(_CONNECTION)
    while words:
        word = words.pop(0).lower()
        if word == "all":
            continue
        if not words:
            return None
        patterns = [each for each in words.pop(0).split(",") if not each.startswith("!")]
        if word == "group":
            user = _member(patterns)
            if user is None:
                return None
            found["user"] = user
        elif word in _CRITERIA and patterns:
            found[_CRITERIA[word]] = _fitting(word, patterns[0])
        else:
            return None
    return _spelled(found)


def _spelled(connection: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in connection.items())


def _fitting(criterion: str, pattern: str) -> str:
    if criterion == "user":
        for name, *_ in users.everybody():
            if fnmatch.fnmatchcase(name, pattern):
                return name
    if criterion in ("address", "localaddress"):
        try:
            return str(ipaddress.ip_network(pattern, strict=False)[0])
        except ValueError:
            return pattern.replace("*", "1").replace("?", "1")
    return pattern.replace("*", "x").replace("?", "x")


def _member(patterns: Sequence[str]) -> str | None:
    for name, uid, *_ in users.everybody():
        if users.groups(users.User(name, uid), patterns):
            return name
    return None


def _is_robot(connection: str, robots: Sequence[str]) -> bool:
    """Whether ``setup`` was told that this login has its key alone."""
    told = dict(each.split("=", 1) for each in connection.split(","))
    for robot in robots:
        user, _, address = robot.partition("@")
        if user != told["user"]:
            continue
        if not address or ipaddress.ip_address(told["addr"]) in ipaddress.ip_network(address, strict=False):
            return True
    return False


# -- changing a setting


def _set(written: list[Setting], path: str, keyword: str, value: str, match: str | None) -> str:
    """The command that gives a setting another value, where sshd reads it first; without a value, that removes it."""
    # What a block says comes before what is said outside of all, wherever it stands; Match all is for every login.
    places = ["all", None] if match is None else [match, "all", None]
    lines = [each for each in written if each.keyword == keyword.lower() and each.match in places]
    first = min(lines, key=lambda each: places.index(each.match), default=None)
    if first is not None:
        change = f"{first.number}c {keyword} {value}" if value else f"{first.number}s/^/#/"
        return f"sed -i {quoted(change)} {quoted(first.path)}{_reloading()}"
    return f"sed -i {quoted(f'1i {keyword} {value}')} {quoted(path)}{_reloading()}"


def _reloading() -> str:
    command = sshd.reload_command()
    return f" && {command}" if command else ""


# -- what runs


def _running(wanted: Wanted, path: str, written: list[Setting]) -> list[Finding]:
    found = []
    for each in sshd.running():
        if each.config and os.path.realpath(each.config) != os.path.realpath(path):
            found += _another(wanted, each)
            continue
        places = {path, *(one.path for one in written)}
        places |= {os.path.dirname(one) for one in places if one != path}
        changed = [one for one in sorted(places) if os.path.exists(one) and os.stat(one).st_ctime > each.since]
        if changed:
            text = f"process {each.pid} has read its configuration before {changed[0]} was changed"
            mend = sshd.reload_command() or f"kill -HUP {each.pid}"
            found.append(Finding("not-reloaded", text, mend))
    return found


def _another(wanted: Wanted, each: sshd.Running) -> list[Finding]:
    try:
        settings = sshd.effective(config=each.config)
    except ProgramError as error:
        return [invalid(error)]
    written = list(settings_of(each.config))
    wrong = [one for one in _of_settings(wanted, settings, written, each.config) if one.severity == "error"]
    if not wrong:
        return []
    values = sshd.SETTINGS["combined" if wanted.combined else "key" if wanted.key else "password"]
    lines = "\\n".join(f"{keyword} {value}" for keyword, value in values.items())
    mend = f"sed -i {quoted(f'1i {lines}')} {quoted(each.config)} && kill -HUP {each.pid}"
    text = f"process {each.pid} has {each.config}: {'; '.join(one.text for one in wrong)}"
    return [Finding("second-sshd", text, mend)]
