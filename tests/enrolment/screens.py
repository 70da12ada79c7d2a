"""What terminals show, and what they should: kept as text in `screens`, with a name for what differs every time."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.enrolment import picture

if TYPE_CHECKING:
    from tests.login.host import Person

SCREENS = Path(__file__).with_name("screens")
KEY = re.compile(r"\b(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}\b")
RECOVERY_CODE = re.compile(r"\b[a-km-np-z2-9]{5}-[a-km-np-z2-9]{5}\b")
ESCAPED = re.compile(r"(?:\\342\\226\\2[01]\d| )+")


def kept(name: str) -> str:
    """What a screen should show."""
    return (SCREENS / f"{name}.txt").read_text(encoding="utf-8")


def told(screen: str, person: Person) -> str:
    """A screen with a QR code as its text, and with USER, KEY, CODE and RECOVERY-CODE for what differs every time."""
    lines = [line.rstrip() for line in screen.splitlines()]
    text = "\n".join(
        line
        for part, group in itertools.groupby(lines, _kind)
        for line in ([_read(list(group), screen)] if part == "picture" else [part] if part else group)
    )
    text = RECOVERY_CODE.sub("RECOVERY-CODE", KEY.sub("KEY", text.replace(person.name, "USER")))
    return re.sub(r"\b\d{6}\b", "CODE", text).strip() + "\n"


def key(screen: str) -> str:
    """The key that was shown last, in base32."""
    return str(KEY.findall(screen)[-1]).replace(" ", "")


def recovery_codes(screen: str) -> list[str]:
    """The recovery codes that were shown last."""
    return RECOVERY_CODE.findall(screen)[-10:]


def pictures(screen: str) -> list[list[str]]:
    """The lines of each QR code."""
    groups = itertools.groupby([line.rstrip("\r") for line in screen.split("\n")], picture.is_part)
    return [list(group) for part, group in groups if part]


def _kind(line: str) -> str:
    if picture.is_part(line):
        return "picture"
    return "(escaped octets)" if len(line) > 80 and ESCAPED.fullmatch(line) else ""


def _read(lines: list[str], screen: str) -> str:
    text = picture.read(lines)
    return f"(QR code: {text.replace(f'secret={key(screen)}&', 'secret=KEY&')})"
