from __future__ import annotations

import random

from tests.lab.figures import difference, quartiles, ratio, table


def noisy(median: float, count: int = 41) -> list[float]:
    dice = random.Random(1)
    return [median + dice.gauss(0, median / 20) for _ in range(count)]


def test_a_series_compared_with_itself_is_exactly_the_same() -> None:
    series = noisy(100)
    found = ratio(series, series)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_a_ratio_of_medians_lies_in_its_interval() -> None:
    base = noisy(100)
    found = ratio([value * 1.1 for value in reversed(base)], base)
    assert found.low < 1.1 < found.high
    assert round(found.value, 6) == 1.1


def test_what_disturbs_both_in_the_same_round_does_not_widen_the_interval() -> None:
    base = noisy(100)
    together = difference([value + 5 for value in base], base)
    shuffled = difference([value + 5 for value in random.Random(2).sample(base, len(base))], base)
    assert together.high - together.low < 1e-9 < shuffled.high - shuffled.low


def test_one_outlier_moves_no_median() -> None:
    assert ratio([1, 1, 1, 1, 900], [1, 1, 1, 1, 1]).value == 1


def test_quartiles_of_one_value_are_that_value() -> None:
    assert quartiles([7.0]) == (7.0, 7.0)
    assert quartiles([1, 2, 3, 4, 5]) == (2, 4)


def test_a_table_lines_its_columns_up() -> None:
    text = table("Title", ["", "ms"], [["short", "1.0"], ["much longer", "100.0"]])
    assert text.splitlines() == [
        "Title",
        "",
        "                ms",
        "------------------",
        "short          1.0",
        "much longer  100.0",
    ]
