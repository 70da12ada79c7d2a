"""Key, cache, configuration and their directories: owner, mode, links, damage, room, and how they are backed up."""

from __future__ import annotations

import glob
import os

from pam_totp.cache import keys
from pam_totp.cache.upkeep import Upkeep
from pam_totp.doctor.findings import Finding, quoted
from pam_totp.doctor.stacks import command_in
from pam_totp.errors import CacheError, ConfigError, HostKeyError, NameServiceError, PamTotpError
from pam_totp.host import config as configuration
from pam_totp.host import files, nss, users
from pam_totp.login import rules

LEAST_ROOM = 16 << 20  # bytes
_ETCKEEPER = "/etc/etckeeper"
_RSNAPSHOT = "/etc/rsnapshot.conf"
_BORGMATIC = ("/etc/borgmatic/config.yaml", "/etc/borgmatic.d/*.yaml")
_KEY_MARK = b"pam-totp-key-"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths


def findings(paths: Paths) -> list[Finding]:
    """What is wrong with key, cache and what lies around them."""
    found = _directories(paths)
    if not found:
        found = _key(paths) or _cache(paths)
    found += _room(paths)
    found += _copies(paths)
    return found


def of_configuration(paths: Paths) -> tuple[Config | None, list[Finding]]:
    """The configuration, None where there is none to be had; and what is wrong with it."""
    try:
        config = configuration.load(paths.config, paths.owner)
    except ConfigError as error:
        text = str(error)
        if mend := command_in(text):
            return None, [Finding("config-unsafe", text, mend)]
        if os.path.islink(paths.config):
            return None, [Finding("config-unsafe", f"{paths.config} is a link", _one_name(paths.config))]
        unsafe = "is not safe" in text
        return None, [Finding("config-unsafe" if unsafe else "config-invalid", text, "pam-totp config edit")]
    try:
        with Upkeep(paths) as accounts:
            accounts.configured.require(config.found, paths.config)
    except ConfigError as error:
        return None, [Finding("config-missing", str(error), "pam-totp config reset")]
    except PamTotpError:
        pass  # is found elsewhere
    return config, _rules(config, paths)


def _directories(paths: Paths) -> list[Finding]:
    found: dict[str, Finding] = {}
    for path in (paths.key, paths.cache, paths.config):
        try:
            files.check_parents(path, paths.owner)
        except files.UnsafeFileError as error:
            found.setdefault(str(error), Finding("directory-unsafe", str(error), command_in(str(error))))
        except OSError:
            pass  # what is missing is found below
    directory = os.path.dirname(paths.cache)
    if os.path.isdir(directory) and os.stat(directory).st_mode & 0o077 and not found:
        text = f"{directory} is open to others"
        found[text] = Finding("directory-unsafe", text, f"chmod go= {quoted(directory)}")
    return list(found.values())


def _key(paths: Paths) -> list[Finding]:
    try:
        keys.find(paths)
    except HostKeyError as error:
        text = str(error)
        if os.path.islink(paths.key):
            return [Finding("key-unsafe", f"{paths.key} is a link", _one_name(paths.key))]
        if error.reason == "key-missing":
            return [Finding("key-missing", text)]
        if error.reason == "key-sealed":
            return [Finding("key-sealed", text, "pam-totp key unseal --boot")]
        if "is not safe" in text:
            return [Finding("key-unsafe", text, command_in(text) or _one_name(paths.key))]
        # Only a backup has another one, and only a person knows where that is.
        return [Finding("key-malformed", text)]
    return []


def _one_name(path: str) -> str:
    """What makes a plain file of one name of a link."""
    if os.path.isfile(path):
        return f"cp -pL {quoted(path)} {quoted(path + '.new')} && mv {quoted(path + '.new')} {quoted(path)}"
    return ""


def _cache(paths: Paths) -> list[Finding]:
    try:
        with Upkeep(paths) as accounts:
            accounts.check_key()
            damage = accounts.damage()
    except HostKeyError as error:
        return [Finding("key-wrong", str(error))]
    except CacheError as error:
        return [_unusable(error, paths)]
    found = []
    for each in damage:
        if "older version" in each:
            found.append(Finding("cache-old", each, "pam-totp migrate"))
        else:
            found.append(Finding("cache-damaged", each, _reset(each)))
    return found


def _unusable(error: CacheError, paths: Paths) -> Finding:
    text = str(error)
    if os.path.islink(paths.cache):
        return Finding("cache-unsafe", f"{paths.cache} is a link", _one_name(paths.cache))
    if error.reason == "cache-missing":
        return Finding("cache-missing", text)
    if error.reason == "run-unusable":
        return Finding("run-unsafe", text, command_in(text) or f"rm -rf {quoted(paths.run)}")
    if error.reason == "cache-unsafe":
        journal = f"{paths.cache}-journal"
        return Finding("cache-unsafe", text, command_in(text) or _one_name(journal if journal in text else paths.cache))
    return Finding("cache-unusable", text)


def _reset(damage: str) -> str:
    """A record that does not open is removed as a whole, and its user enrolled again."""
    words = damage.split()
    if damage.startswith("the record of "):
        return f"pam-totp reset {quoted(words[3])}"
    return ""


def _room(paths: Paths) -> list[Finding]:
    directory = os.path.dirname(paths.cache)
    try:
        room = os.statvfs(directory)
    except OSError:
        return []
    free = room.f_bavail * room.f_frsize
    if free >= LEAST_ROOM and (not room.f_files or room.f_favail):
        return []
    text = f"{directory}: {free >> 10} KiB free; on a full disk logins go on from /run until the next boot only"
    return [Finding("disk-full", text, f"du -xh --max-depth=2 {quoted(directory)} /var | sort -h | tail")]


# -- copies


def _copies(paths: Paths) -> list[Finding]:
    near = glob.glob(f"{os.path.dirname(paths.cache)}/**", recursive=True)
    copies = [each for each in near if os.path.isfile(each) and _begins(each, _KEY_MARK)]
    found = [Finding("key-beside-cache", path, f"shred -u {quoted(path)}") for path in copies]
    ignored = "/etc/.gitignore"
    if os.path.isdir("/etc/.git") and os.path.exists(paths.key) and not _has(ignored, "pam-totp/key"):
        mend = f"echo pam-totp/key >>{ignored} && git -C /etc rm -q --cached --ignore-unmatch pam-totp/key"
        found.append(
            Finding("key-in-etckeeper", "/etc/.git keeps what is in /etc, and its .gitignore lacks the key", mend)
        )
    for path in (_RSNAPSHOT, *(each for pattern in _BORGMATIC for each in glob.glob(pattern))):
        if _backs_up_both(path, paths):
            mend = ""
            if path == _RSNAPSHOT:
                mend = f"printf 'exclude\\t{paths.key}\\n' >>{path}"
            found.append(Finding("backup-has-both", f"{path} takes {paths.key} and {paths.cache}", mend))
    return found


def _begins(path: str, mark: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(mark)) == mark
    except OSError:
        return False


def _has(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return text in file.read()
    except OSError:
        return False


def _backs_up_both(path: str, paths: Paths) -> bool:
    """Whether a backup program's configuration names directories above both, and the key nowhere by itself."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.partition("#")[0] for line in file]
    except OSError:
        return False
    if any(paths.key in line for line in lines):
        return False
    named = [
        word.strip("'\"").rstrip("/") for line in lines for word in line.split() if word.strip("'\"").startswith("/")
    ]
    return all(any(f"{wanted}/".startswith(f"{each}/") for each in named) for wanted in (paths.key, paths.cache))


# -- the configuration


def _rules(config: Config, paths: Paths) -> list[Finding]:
    edit = "pam-totp config edit"
    found = [Finding("config-obsolete", key, edit) for key in config.obsolete]
    for index, rule in enumerate(config.rules):
        where = f"rule {rule.number}"
        if takers := rules.takers(rule, config.rules[:index]):
            numbers = ", ".join(str(each.number) for each in takers)
            found.append(Finding("rule-never-reached", f"{where}: the earlier ones ({numbers}) take all", edit))
        try:
            unknown = [("user", name) for name in rule.users if users.find(name) is None]
            unknown += [("group", name) for name in rule.groups if not nss.group(name.encode("utf-8"))]
        except NameServiceError:
            unknown = []  # what cannot be asked now is not said to be unknown
        services = [name for name in rule.services if not os.path.exists(f"{paths.services}/{name}")]
        unknown += [("service", name) for name in services]
        found += [Finding(f"rule-unknown-{what}", f"{where}: {name}", edit) for what, name in unknown]
    return found
