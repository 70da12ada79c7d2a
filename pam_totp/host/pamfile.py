"""What ``pam-totp setup`` does to the text of a service's PAM file, and how that is taken back. Pure.

Two marks say what is ours, so that every edit can be undone from the text alone: a line that ends in ``#pam-totp#`` was
put in, and a line that begins with it was put out of force. PAM takes both for comments.
"""

from __future__ import annotations

from itertools import pairwise

from pam_totp.errors import ConfigError
from pam_totp.host.stack import MODULES, stays_before

MARK = "#pam-totp#"
VARIANTS = ("key", "password", "combined")
# What a PAM line names, by engine; the first that is installed is taken.
ENGINES = {"pam_totp": "pam_totp.so", "pam_python": "pam_python.so pam_totp.py"}
COMMON_AUTH = "common-auth"
_DEEPEST = 8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Line:
    """One line as PAM reads it: where it stands (physical lines ``start`` up to ``end``) and its words."""

    __slots__ = ("control", "end", "kind", "start", "words")

    def __init__(self, start: int, end: int, words: list[str]) -> None:
        self.start = start
        self.end = end
        self.kind = words[0].lstrip("-").lower()
        self.control = words[1].lower() if len(words) > 1 else ""
        if self.control.startswith("["):
            self.control = " ".join(words[1:]).lower().partition("]")[0] + "]"
        self.words = words

    @property
    def arguments(self) -> list[str] | None:
        """What the line hands to this module; None where it loads another one."""
        ours = [number for number, word in enumerate(self.words) if word.rpartition("/")[2] in MODULES]
        return self.words[ours[0] + 1 :] if ours and not self.kind.startswith("@") else None

    @property
    def included(self) -> str:
        """The file whose ``auth`` lines the line takes in, or an empty string."""
        if self.kind == "@include":
            return self.words[1] if len(self.words) > 1 else ""
        if self.kind == "auth" and self.control in ("include", "substack"):
            return self.words[2] if len(self.words) > 2 else ""
        return ""


def parse(text: str) -> list[Line]:
    """The lines that are in force. A comment ends a line; a backslash before the end of one continues it."""
    found, words, start = [], [], None
    for number, physical in enumerate(text.split("\n")):
        code, comment, _ = physical.partition("#")
        code = code.rstrip()
        goes_on = code.endswith("\\") and not comment
        words += code.removesuffix("\\").split() if goes_on else code.split()
        start = number if start is None else start
        if not goes_on:
            if words:
                found.append(Line(start, number + 1, words))
            words, start = [], None
    if words and start is not None:
        found.append(Line(start, text.count("\n") + 1, words))
    return found


def lines_for(variant: str, engine: str) -> list[str]:
    """The PAM lines of a variant, in order; in `combined` the password is asked for between the first two."""
    module = ENGINES[engine]
    if variant == "key":
        return [f"auth required {module} first_factor=publickey", "auth required pam_permit.so"]
    if variant == "password":
        return [f"auth required {module}"]
    return [
        f"auth required {module} combined=split",
        f"auth required {module} combined=verify",
        f"account required {module} combined=verify",
    ]


def undone(text: str) -> str:
    """The text without what ``setup`` has put in, and with what it has put out of force. Exact, to the last byte."""
    return "\n".join(line.removeprefix(f"{MARK} ") for line in text.split("\n") if not line.endswith(f" {MARK}"))


def applied(text: str, variant: str, engine: str) -> str:
    """The text with a variant in force in place of what was there of ours, by hand or by ``setup``.

    Raises ConfigError where the place is not certain.
    """
    text = undone(text)
    lines = parse(text)
    auth = [line for line in lines if line.kind == "auth" and line.arguments is not None]
    # Where no password is asked for, what lets in those who are not asked goes with the line before it.
    by_key = [line for line in auth if line.arguments == ["first_factor=publickey"]]
    permits = [
        after
        for line, after in pairwise(lines)
        if line in by_key and after.kind == "auth" and "pam_permit.so" in after.words
    ]
    ours = [line for line in lines if line.arguments is not None] + permits
    anchors = [line for line in lines if line.included.rpartition("/")[2] == COMMON_AUTH]
    if len(anchors) > 1:
        raise ConfigError(f"it takes in {COMMON_AUTH} in lines {anchors[0].start + 1} and {anchors[1].start + 1}")
    if not anchors and not permits:
        raise ConfigError(f"it has no line @include {COMMON_AUTH}, which asks for the password")
    place = anchors[0] if anchors else permits[-1]
    off = ours + (anchors if variant == "key" else [])
    before, after = [], lines_for(variant, engine)
    if variant == "combined":
        before, after = after[:1], after[1:]
    if not anchors and variant != "key":
        # No line asks for the password yet: one of ours does.
        before, after = [], [*before, f"@include {COMMON_AUTH}", *after]
    physical = text.split("\n")
    for line in off:
        physical[line.start : line.end] = [f"{MARK} {each}" for each in physical[line.start : line.end]]
    physical[place.end : place.end] = [f"{each} {MARK}" for each in after]
    physical[place.start : place.start] = [f"{each} {MARK}" for each in before]
    return "\n".join(physical)


def walk(text: str, kind: str, read: Callable[[str], str], depth: int = 0) -> list[Line]:
    """The lines of a kind (``auth``, ``account``) as PAM walks through them, those of included files among them.

    A substack is one line: it can end itself only. Raises ValueError where includes have no end, and what ``read``
    raises.
    """
    if depth > _DEEPEST:
        raise ValueError("its includes have no end")
    found = []
    for line in parse(text):
        if line.kind == "@include":
            found += walk(read(line.words[1] if len(line.words) > 1 else ""), kind, read, depth + 1)
        elif line.kind == kind and line.control == "include":
            found += walk(read(line.words[2] if len(line.words) > 2 else ""), kind, read, depth + 1)
        elif line.kind == kind:
            found.append(line)
    return found


def obstacle(lines: list[Line], number: int) -> str:
    """What keeps a line of a stack from being asked, or from having the last word; an empty string where nothing does.

    Whatever is not understood counts as an obstacle.
    """
    for at, line in enumerate(lines[:number]):
        if line.control != "substack" and not stays_before(number - at, line.control):
            return f"the line {' '.join(line.words)!r} before it can skip it"
    for line in lines[number + 1 :]:
        if "=reset" in line.control:
            return f"the line {' '.join(line.words)!r} after it takes its refusal back"
    return ""
