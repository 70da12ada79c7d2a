"""What a service's PAM stack says about this module: read as text, never changed."""

from __future__ import annotations

import os

from pam_totp.errors import ConfigError
from pam_totp.host import files

_LIMIT = 1 << 16
# Our own engine, and the script that pam_python.so runs.
MODULES = ("pam_totp.so", "pam_totp.py")
# Programs that a user starts with privileges: pam_python's interpreter would be led by that user's environment.
STARTED_BY_USERS = ("su", "su-l", "sudo", "sudo-i", "login", "chsh", "chfn", "passwd", "runuser", "runuser-l")
_DEEPEST = 8
# What a line may do so that PAM goes on with the next one, or refuses.
_GOES_ON = ("ok", "ignore", "bad", "die")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.paths import Paths


def lines_of_ours(text: str) -> list[tuple[str, list[str]]]:
    """The lines that load this module, in order: the kind of line (auth, account, ...) and the module's arguments."""
    found = []
    for words in _lines(text):
        arguments = _arguments(words)
        if arguments is not None:
            found.append((words[0].lstrip("-").lower(), arguments))
    return found


def services_of_ours(paths: Paths) -> list[str]:
    """The services whose own files have a line that loads this module; not what dpkg or an editor put aside."""
    found = []
    for name in sorted(os.listdir(paths.services)) if os.path.isdir(paths.services) else ():
        path = f"{paths.services}/{name}"
        if name.endswith("~") or ".dpkg-" in name or ".ucf-" in name or not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            if lines_of_ours(file.read(_LIMIT)):
                found.append(name)
    return found


def require_verification(service: str, paths: Paths) -> None:
    """Make sure that a stack that takes a code off the password also verifies it, and denies where it was not.

    The first of the three lines alone would let the password alone in, so it refuses to work without the other two:
    an ``auth`` and an ``account`` line with ``combined=verify``, in the service's own file.

    Raises ConfigError.
    """
    path = f"{paths.services}/{service}"
    try:
        text = _read(service, paths)
    except (OSError, files.UnsafeFileError):
        raise ConfigError(f"combined=split: {path} cannot be read safely: make it a plain file of root's") from None
    ours = lines_of_ours(text)
    split = [number for number, (_, arguments) in enumerate(ours) if "combined=split" in arguments]
    after = ours[split[-1] + 1 :] if split else []
    for kind in ("auth", "account"):
        if (kind, ["combined=verify"]) not in after:
            raise ConfigError(
                f"combined=split needs a line with combined=verify of the kind {kind} after it in {path}: add it there"
            )


def verification_is_certain(service: str, paths: Paths) -> bool:
    """Whether this stack, as it is written, never lets anybody in whose code ``combined=verify`` has not let in.

    That is so where the line with ``combined=verify`` is ``required`` or ``requisite``, no line before it can end the
    stack well or jump over it, and none takes a refusal back. Whatever is not understood makes it uncertain.
    """
    try:
        lines = _auth_lines(_read(service, paths), paths)
    except (OSError, files.UnsafeFileError, ValueError):
        return False
    for number, (control, words) in enumerate(lines):
        if control in ("required", "requisite") and _arguments(words) == ["combined=verify"]:
            return all(stays_before(number - at, each) for at, (each, _) in enumerate(lines[:number])) and all(
                "=reset" not in each for each, _ in lines[number:]
            )
    return False


def stays_before(distance: int, control: str) -> bool:
    """Whether a line, so many before another, can neither end the stack well nor jump over that other one."""
    if control in ("required", "requisite", "optional"):
        return True
    if not control.startswith("["):
        return False
    for each in control.strip("[]").split():
        action = each.partition("=")[2]
        if action not in _GOES_ON and not (action.isascii() and action.isdigit() and int(action) < distance):
            return False
    return True


def _auth_lines(text: str, paths: Paths, depth: int = 0) -> list[tuple[str, list[str]]]:
    """The ``auth`` lines of a file and of what it includes: the control, in lower case, and all words.

    Raises ValueError where a line is not understood, OSError and UnsafeFileError where a file cannot be read safely.
    """
    if depth > _DEEPEST:
        raise ValueError
    found = []
    for words in _lines(text):
        kind = words[0].lstrip("-").lower()
        if kind == "@include":
            found += _auth_lines(_read(words[1] if len(words) > 1 else "", paths, inside=True), paths, depth + 1)
        elif kind == "auth":
            control = words[1].lower() if len(words) > 2 else ""
            if control.startswith("["):
                control = " ".join(words[1:]).lower().partition("]")[0]
            if control == "include":
                found += _auth_lines(_read(words[2], paths, inside=True), paths, depth + 1)
            else:
                found.append((control, words))
    return found


def _lines(text: str) -> list[list[str]]:
    """The words of each line that has any."""
    lines = text.replace("\\\n", " ").split("\n")
    return [words for line in lines if (words := line.partition("#")[0].split())]


def _arguments(words: list[str]) -> list[str] | None:
    """The arguments that a line gives to this module, or None where it is another module's."""
    ours = [number for number, word in enumerate(words) if word.rpartition("/")[2] in MODULES]
    return words[ours[0] + 1 :] if ours else None


def _read(name: str, paths: Paths, *, inside: bool = False) -> str:
    """The text of a service's file, or of one that a file includes, which may be anywhere."""
    if not name or ((name[0] != "/" if inside else True) and "/" in name):
        raise FileNotFoundError
    path = name if name[0] == "/" else f"{paths.services}/{name}"
    return files.read(path, paths.owner, _LIMIT, private=False).decode("utf-8", "replace")
