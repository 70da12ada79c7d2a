"""Pictures of terminals, as SVG: the words are text in them, and a QR code can be scanned from them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLUMNS = 100
# Pixels. Two halves of a cell are as high as a cell is wide, so that a QR code is square.
CELL, FONT, MARGIN, BAR = 8.4, 14, 18, 32
LINE = 2 * CELL
WIDTH = COLUMNS * CELL + 2 * MARGIN

ORIGIN = (
    "Drawn by ./run demo --pictures from a real session with a throw-away machine. The machine is gone, and with it "
    "all that its keys and codes were good for."
)

# Around what is said about the picture and was not on the screen.
NOTE = ("\ue000", "\ue001")
PROMPT = re.compile(r"^([\w-]+@[\w-]+:~[$#]) (.*)$")
BLOCKS = {"█": (0, 1), "▀": (0,), "▄": (1,), " ": ()}

STYLE = f"""
text {{ font: {FONT}px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #d7dce2; white-space: pre }}
.title {{ fill: #8b949e; text-anchor: middle }}
.prompt {{ fill: #7ee787 }}
.typed {{ fill: #ffffff; font-weight: bold }}
.note {{ fill: #e3b341; font-style: italic }}
.blocks {{ fill: none }}
.light {{ fill: #f0f3f6 }}
"""


@dataclass(frozen=True)
class Window:
    """A terminal: what stands in its title bar, and what is on its screen."""

    title: str
    screen: str


def note(text: str) -> str:
    """Words that are not part of a screen, for a place in it."""
    return text.join(NOTE)


def is_block(line: str) -> bool:
    """Whether a line is one of a QR code."""
    return len(line) > 20 and set(line) <= set(BLOCKS) and not line.isspace()


def draw(description: str, windows: list[Window]) -> str:
    """The windows, one below the other."""
    parts: list[str] = []
    top = 0.0
    for window in windows:
        lines = [part for line in window.screen.splitlines() for part in _wrapped(line)]
        height = BAR + MARGIN + len(lines) * LINE + MARGIN
        parts += _frame(window.title, top, height)
        parts += [_text(line, top + BAR + MARGIN + number * LINE) for number, line in enumerate(lines)]
        parts += _blocks(lines, top + BAR + MARGIN)
        parts.append("</g>")
        top += height + MARGIN
    size = f"{WIDTH:.0f} {top - MARGIN:.0f}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{WIDTH:.0f}" role="img">',
            f"<title>{escape(description)}</title>",
            f"<desc>{ORIGIN}</desc>",
            f"<style>{STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def windows(svg: str) -> list[Window]:
    """What `draw` was given; a line that was wrapped is two."""
    space = "{http://www.w3.org/2000/svg}"
    found = []
    for group in ET.fromstring(svg).iter(f"{space}g"):
        title, *lines = group.iter(f"{space}text")
        screen = "\n".join("".join(map(_said, [line, *line])) for line in lines)
        found.append(Window(title.text or "", screen))
    return found


def _said(element: ET.Element) -> str:
    text = element.text or ""
    return note(text) if element.get("class") == "note" else text


def _wrapped(line: str) -> list[str]:
    return [line[start : start + COLUMNS] for start in range(0, len(line), COLUMNS)] or [""]


def _frame(title: str, top: float, height: float) -> list[str]:
    middle = top + BAR / 2
    bar = f"M0 {top + BAR:g}v{10 - BAR}a10 10 0 0 1 10-10h{WIDTH - 20:g}a10 10 0 0 1 10 10v{BAR - 10}z"
    return [
        "<g>",
        f'<rect y="{top:g}" width="{WIDTH:g}" height="{height:g}" rx="10" fill="#0d1117"/>',
        f'<path d="{bar}" fill="#21262d"/>',
        *(
            f'<circle cx="{20 + 20 * number}" cy="{middle:g}" r="6" fill="{colour}"/>'
            for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
        ),
        f'<text class="title" x="{WIDTH / 2:g}" y="{middle + 5:g}">{escape(title)}</text>',
    ]


def _text(line: str, top: float) -> str:
    start, end = NOTE
    shown, _, said = line.partition(start)
    said = said.removesuffix(end)
    inside = escape(shown)
    if is_block(shown):
        kind = ' class="blocks"'
    else:
        kind = ""
        prompt = PROMPT.match(shown)
        if prompt:
            command = f'<tspan class="typed"> {escape(prompt[2])}</tspan>'
            inside = f'<tspan class="prompt">{escape(prompt[1])}</tspan>{command}'
    if said:
        inside += f'<tspan class="note">{escape(said)}</tspan>'
    # The same width in whatever font there is.
    length = f' textLength="{len(shown + said) * CELL:.4g}"' if shown + said else ""
    return f'<text xml:space="preserve" x="{MARGIN}" y="{top + FONT:.5g}"{kind}{length}>{inside}</text>'


def _blocks(lines: list[str], top: float) -> list[str]:
    """The light squares of a QR code, those of a row that touch as one."""
    half = LINE / 2
    squares = []
    for number, line in enumerate(lines):
        if is_block(line):
            for lower in (0, 1):
                row = "".join("x" if lower in BLOCKS[character] else " " for character in line)
                for run in re.finditer("x+", row):
                    x, y = MARGIN + run.start() * CELL, top + number * LINE + lower * half
                    squares.append(f"M{x:g} {y:g}h{len(run[0]) * CELL:g}v{half:g}h{-len(run[0]) * CELL:g}z")
    return [f'<path class="light" shape-rendering="crispEdges" d="{"".join(squares)}"/>'] if squares else []
