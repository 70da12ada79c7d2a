"""Pages for users, to print or to mail: what to do, and the key or the invitation for it. Pure.

A page is an SVG picture of the size A4, which browsers show and print.
"""

from __future__ import annotations

import html
import textwrap

from pam_totp.factors import enroll

# In mm
_WIDTH, _HEIGHT, _MARGIN = 210, 297, 22
_QR, _LINE, _INDENT = 75, 7, 5
_COLUMNS = 72  # of a line of text
_CODE = "\t"  # before a line that is to be typed as it stands
_PICTURE = "\f"  # stands for the QR code
_APP = "1. Install an authenticator app on your phone. Any app for TOTP codes will do."


def of_key(user: str, host: str, key: str, uri: str, *, pending: bool) -> str:
    """The page with a key in base32. ``pending``: the key counts once its first code was right."""
    login = f"3. Log in to {host} as {user}, as you always do."
    destroy = "once your first login with a code has worked" if pending else "once the app has it"
    paragraphs = (
        _APP,
        "2. Scan this picture with the app,",
        _PICTURE,
        "   or type this key into it (time-based, six digits):",
        _CODE + enroll.grouped(key),
        f"{login} When you are asked for a code, type the six digits that the app shows.",
        "",
        "Whoever has this page has your codes: show it to nobody, and take no photograph of it.",
        f"Destroy it {destroy}.",
    )
    return _page(f"Verification codes for {user} at {host}", paragraphs, uri)


def of_invitation(user: str, host: str, code: str, end: str) -> str:
    """The page with an invitation code, which is good until ``end``, a time in words."""
    paragraphs = (
        _APP,
        f"2. Log in to {host} as {user}, as you always do, before {end}.",
        "3. When you are asked for an invitation, type:",
        _CODE + code,
        "4. Scan the picture that is shown with the app, or type the key into it; then type the app's code.",
        "5. Write down the recovery codes that are shown: they are for the day the phone is gone.",
        "",
        "The invitation works once, and for you only: show it to nobody.",
    )
    return _page(f"Set up verification codes for {user} at {host}", paragraphs, "")


def _page(title: str, paragraphs: tuple[str, ...], uri: str) -> str:
    size = f'width="{_WIDTH}mm" height="{_HEIGHT}mm" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n',
    ]
    y = _MARGIN + _LINE
    for line in textwrap.wrap(title, 45, break_on_hyphens=False):
        parts.append(_text(0, y, "sans-serif", 6, line))
        y += _LINE + 2
    for paragraph in paragraphs:
        y += 2
        if paragraph == _PICTURE:
            parts.append(_picture(uri, y - _LINE))
            y += _QR
        elif paragraph.startswith(_CODE):
            parts.append(_text(_INDENT, y, "monospace", 4.2, paragraph.removeprefix(_CODE)))
            y += _LINE
        else:
            for number, line in enumerate(textwrap.wrap(paragraph, _COLUMNS, break_on_hyphens=False)):
                hanging = paragraph.startswith(" ") or (number > 0 and paragraph[1:2] == ".")
                parts.append(_text(_INDENT if hanging else 0, y, "sans-serif", 4, line.strip()))
                y += _LINE
    return "".join([*parts, "</svg>\n"])


def _text(indent: int, y: int, font: str, size: float, text: str) -> str:
    return f'<text x="{_MARGIN + indent}" y="{y}" font-family="{font}" font-size="{size}">{html.escape(text)}</text>\n'


def _picture(uri: str, y: int) -> str:
    """The QR code: one path of unit squares."""
    modules = enroll.modules(uri)
    squares = "".join(
        f"M{column} {row}h1v1h-1z" for row, dark in enumerate(modules) for column, each in enumerate(dark) if each
    )
    place = f"translate({_MARGIN} {y}) scale({_QR / len(modules):.4f})"
    return f'<path transform="{place}" shape-rendering="crispEdges" d="{squares}"/>\n'
