"""Charts of how something grows, as SVG: both axes logarithmic, one panel beside the other, in light and in dark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

# Pixels.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 340, 58, 118, 44, 44
# No line is told by its colour alone: each has its name at its end, and marks of its own.
STYLE = """
text { font: 13px system-ui, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.axis { fill: #59636e; font-size: 12px }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.back { fill: #ffffff }
path, .mark { fill: none; stroke-width: 2 }
.s0 { stroke: #0550ae } .s1 { stroke: #bc4c00; stroke-dasharray: 7 3 } .s2 { stroke: #1a7f37; stroke-dasharray: 2 3 }
.bound { stroke: #cf222e; stroke-width: 1; stroke-dasharray: 10 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .axis { fill: #9198a1 }
  .grid { stroke: #30363d }
  .back { fill: #0d1117 }
  .s0 { stroke: #79c0ff } .s1 { stroke: #ffa657 } .s2 { stroke: #7ee787 }
  .bound { stroke: #ff7b72 }
}
"""


@dataclass(frozen=True)
class Panel:
    """A chart: ``series`` are named lines of points, ``bound`` is a value that is not to be exceeded."""

    title: str
    across: str
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]]
    bound: float | None = None


def draw(description: str, panels: Sequence[Panel]) -> str:
    """The panels, one beside the other."""
    width = WIDTH * len(panels)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" role="img">',
            f"<title>{escape(description)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="back" width="{width}" height="{HEIGHT}"/>',
            *(line for number, panel in enumerate(panels) for line in _panel(panel, number * WIDTH)),
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, left: int) -> list[str]:
    points = [point for _, line in panel.series for point in line if min(point) > 0]
    if not points:
        return []
    columns = _decades([x for x, _ in points])
    rows = _decades([y for _, y in points] + ([panel.bound] if panel.bound else []))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - columns[0]) / (columns[-1] - columns[0])
        up = (math.log10(y) - rows[0]) / (rows[-1] - rows[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    lines = [f'<g transform="translate({left} 0)">', f'<text class="title" x="12" y="22">{escape(panel.title)}</text>']
    for each in columns:
        x, _ = place(10.0**each, 10.0 ** rows[0])
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        lines.append(f'<text class="axis" x="{x:.1f}" y="{HEIGHT - 26}" text-anchor="middle">{_number(each)}</text>')
    for each in rows:
        _, y = place(10.0 ** columns[0], 10.0**each)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="axis" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_number(each)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    lines.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.across)}</text>')
    ends: list[tuple[float, str]] = []
    if panel.bound:
        _, y = place(10.0 ** columns[0], panel.bound)
        lines.append(f'<line class="bound" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        ends.append((y, f"bound: {panel.bound:g}"))
    for number, (name, line) in enumerate(panel.series):
        placed = [place(x, y) for x, y in sorted(line) if min(x, y) > 0]
        if placed:
            path = " L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
            lines.append(f'<path class="s{number}" d="M{path}"/>')
            lines += [_mark(number, x, y) for x, y in placed]
            ends.append((placed[-1][1], name))
    return [*lines, *_names(ends), "</g>"]


def _mark(number: int, x: float, y: float) -> str:
    if number == 0:
        return f'<circle class="mark s0" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if number == 1:
        return f'<rect class="mark s1" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    return f'<path class="mark s{number}" d="M{x - 4:.1f} {y + 4:.1f} h8 l-4 -8 z"/>'


def _names(ends: list[tuple[float, str]]) -> list[str]:
    """What each line is, beside its end; none over another."""
    lines, last = [], -math.inf
    for y, name in sorted(ends):
        last = max(y + 4, last + 15)
        lines.append(f'<text x="{WIDTH - RIGHT + 10}" y="{last:.1f}">{escape(name)}</text>')
    return lines


def _decades(values: Sequence[float]) -> range:
    """The powers of ten around some values, two of them at least."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return range(low, max(high, low + 1) + 1)


def _number(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"
