"""Who can log in to this host over SSH, and with what: as far as its own files and its name services say."""

from __future__ import annotations

import fnmatch
import os
import stat

from pam_totp.host import files, users

SHADOW = "/etc/shadow"
SHELLS = "/etc/shells"
_LIMIT = 1 << 24
_LARGEST_KEYS = 1 << 20
_FIRST_HUMAN = 1000

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Login:
    """A user with a login shell. ``password`` is None where only another name service could say."""

    __slots__ = ("command", "keys", "name", "password", "uid")

    def __init__(self, name: str, uid: int, password: bool | None, keys: bool, command: bool) -> None:
        self.name = name
        self.uid = uid
        self.password = password
        self.keys = keys
        self.command = command

    @property
    def robot(self) -> bool:
        """Whether it looks like a program's: a key with a command of its own, or a system account with a key."""
        return self.keys and (self.command or 0 < self.uid < _FIRST_HUMAN)


def all_of_them(key_files: Sequence[str]) -> list[Login]:
    """Everybody with a login shell, by name. ``key_files`` are sshd's AuthorizedKeysFile."""
    passwords = _passwords()
    shells = _shells()
    found = []
    for name, uid, home, shell in users.everybody():
        if shell in shells:
            texts = [_keys(_place(each, name, uid, home)) for each in key_files if each != "none"]
            lines = [line.strip() for text in texts for line in text.splitlines()]
            lines = [line for line in lines if line and not line.startswith("#")]
            command = any('command="' in line.lower() for line in lines)
            found.append(Login(name, uid, passwords.get(name), bool(lines), command))
    return sorted(found, key=lambda each: each.name)


def key_files(settings: Mapping[str, str]) -> list[str]:
    """Where sshd's settings have it look for users' keys."""
    return settings.get("authorizedkeysfile", ".ssh/authorized_keys").split()


def able(settings: Mapping[str, str]) -> list[Login]:
    """Everybody who can log in over SSH, by name: who has a login shell, and a password or a key that sshd may take.

    ``settings`` are sshd's outside of its Match blocks; a user of whom they do not say for sure is named.

    Raises NameServiceError where AllowGroups or DenyGroups count, and NSS does not say who is in them.
    """
    keys = settings.get("pubkeyauthentication", "yes") == "yes"
    files_of_keys = key_files(settings) if keys else []
    elsewhere = keys and _other_keys(settings)
    root = settings.get("permitrootlogin", "prohibit-password")
    found = []
    for login in all_of_them(files_of_keys):
        by_key = login.keys or elsewhere
        if login.uid == 0 and (root == "no" or (root != "yes" and not by_key)):
            continue
        if (by_key or login.password is not False) and _allowed(login, settings):
            found.append(login)
    return found


def _other_keys(settings: Mapping[str, str]) -> bool:
    """Whether sshd takes keys that are in no file of the user's."""
    return any(settings.get(each, "none") != "none" for each in ("authorizedkeyscommand", "trustedusercakeys"))


def _allowed(login: Login, settings: Mapping[str, str]) -> bool:
    """Whether DenyUsers and its like let a user in, from somewhere at least (sshd_config(5))."""
    denied, allowed, no_groups, groups = (
        settings.get(each, "").split() for each in ("denyusers", "allowusers", "denygroups", "allowgroups")
    )
    if any(_is_like(login.name, each) for each in denied if "@" not in each):
        return False
    if allowed and not any(_is_like(login.name, each.partition("@")[0]) for each in allowed):
        return False
    plain = {each for each in (*no_groups, *groups) if not set(each) & set("*?!")}
    member = users.groups(users.User(login.name, login.uid), plain) if plain else frozenset()
    if member.intersection(no_groups):
        return False
    # With a pattern among them it is not known.
    return not groups or not plain.issuperset(groups) or bool(member.intersection(groups))


def _is_like(name: str, pattern: str) -> bool:
    # ssh knows * and ?, and no brackets.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def shut_out(variant: str, robots: Sequence[str], settings: Mapping[str, str]) -> list[tuple[str, str]]:
    """Users whom a variant would keep out over SSH, each with the reason; ``settings`` are sshd's before the change.

    A robot that is named has its key alone and is left out. Keys that sshd asks a command or a certificate for are not
    known here, and nobody is said to have none then.
    """
    named = {robot.partition("@")[0] for robot in robots}
    root = settings.get("permitrootlogin", "")
    more_keys = _other_keys(settings)
    found = []
    for login in all_of_them(key_files(settings)):
        if login.name in named:
            continue
        if login.uid == 0 and root == "no":
            continue
        if login.uid == 0 and root != "yes":
            if login.keys:
                found.append((login.name, f"PermitRootLogin {root}: sshd lets root answer no question"))
        elif login.robot:
            found.append((login.name, "has a key that looks like a program's, which cannot type a code"))
        elif variant == "key" and not login.keys and not more_keys and login.password is not False:
            found.append((login.name, "has no key in authorized_keys"))
        elif variant != "key" and login.keys and login.password is False:
            found.append((login.name, "has a key but no password"))
    return found


def _place(pattern: str, name: str, uid: int, home: str) -> str:
    """A file of AuthorizedKeysFile for a user (sshd_config(5), TOKENS)."""
    place = pattern.replace("%%", "\0").replace("%h", home).replace("%u", name).replace("%U", str(uid))
    place = place.replace("\0", "%")
    return place if place.startswith("/") else f"{home}/{place}"


def _keys(path: str) -> str:
    """The text of a user's file of keys; it is the user's, so nothing that it may be can stop us."""
    looked_at = opened = -1
    try:
        # Looked at before it is opened: opening a device can do something by itself.
        looked_at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(looked_at).st_mode):
            return ""
        opened = os.open(f"/proc/self/fd/{looked_at}", os.O_RDONLY | os.O_CLOEXEC)
        return os.read(opened, _LARGEST_KEYS).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        for descriptor in (looked_at, opened):
            if descriptor >= 0:
                os.close(descriptor)


def _passwords() -> dict[str, bool]:
    """Whether each user of the host's own file has a password that can be typed."""
    try:
        text = files.read(SHADOW, 0, _LIMIT, private=False).decode("utf-8", "replace")
    except (OSError, files.UnsafeFileError):
        return {}
    fields = [line.split(":") for line in text.splitlines() if line.count(":") > 1]
    return {each[0]: bool(each[1]) and each[1][0] not in "!*" for each in fields}


def _shells() -> set[str]:
    try:
        with open(SHELLS, encoding="utf-8", errors="replace") as file:
            lines = {line.strip() for line in file}
    except OSError:
        lines = {"/bin/sh", "/bin/bash"}
    return {line for line in lines if line.startswith("/")}
