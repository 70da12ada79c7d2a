"""What series of measurements say: medians, how two series compare, and how sure that is; and tables to show it in."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESAMPLES = 2000
SURE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value, and the interval that it lies in with 95 % confidence."""

    value: float
    low: float
    high: float


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def ratio(values: Sequence[float], base: Sequence[float]) -> Estimate:
    """The ratio of two medians."""
    return _compared(values, base, lambda above, below: above / below)


def difference(values: Sequence[float], base: Sequence[float]) -> Estimate:
    """The difference of two medians."""
    return _compared(values, base, lambda above, below: above - below)


def _compared(values: Sequence[float], base: Sequence[float], compare: Callable[[float, float], float]) -> Estimate:
    """Compare two medians. What was measured in the same round stays together, so what disturbs both cancels out.

    The interval is the percentile bootstrap's, over rounds.
    """
    pairs = list(zip(values, base, strict=True))
    dice = random.Random(0)
    found = sorted(_of(dice.choices(pairs, k=len(pairs)), compare) for _ in range(RESAMPLES))
    cut = int(RESAMPLES * (1 - SURE) / 2)
    return Estimate(_of(pairs, compare), found[cut], found[-1 - cut])


def _of(pairs: Sequence[tuple[float, float]], compare: Callable[[float, float], float]) -> float:
    above, below = zip(*pairs, strict=True)
    return compare(statistics.median(above), statistics.median(below))


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text: the first column to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([title, "", *(line.rstrip() for line in (text[0], "-" * len(text[0]), *text[1:])), ""])
