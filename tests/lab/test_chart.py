"""Charts are SVG in which every line is told by its name, and places grow with values."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

from tests.lab.chart import HEIGHT, WIDTH, Panel, draw

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ET.Element:
    return ET.fromstring(draw("how <it> grows", panels))


def test_points_are_where_their_values_are_and_lines_have_names() -> None:
    panel = Panel("Time, s", "hosts", [("first", [(100, 1), (10_000, 100)]), ("later", [(100, 2)])], 30)
    found = drawn(panel)
    marks = [(float(each.get("cx", "")), float(each.get("cy", ""))) for each in found.iter(f"{SVG}circle")]
    assert marks[0][0] < marks[1][0]
    assert marks[0][1] > marks[1][1]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in marks)
    texts = [each.text for each in found.iter(f"{SVG}text")]
    assert {"Time, s", "hosts", "first", "later", "bound: 30", "100", "10,000"} <= set(texts)
    assert "prefers-color-scheme: dark" in "".join(each.text or "" for each in found.iter(f"{SVG}style"))


def test_names_are_not_over_each_other() -> None:
    found = drawn(Panel("x", "y", [("a", [(1, 1), (10, 5)]), ("b", [(1, 1), (10, 5)]), ("c", [(1, 1), (10, 5)])]))
    places = sorted(float(each.get("y", "")) for each in found.iter(f"{SVG}text") if each.text in ("a", "b", "c"))
    assert all(below - above >= 15 for above, below in pairwise(places))


def test_what_has_no_points_is_left_out() -> None:
    assert not list(drawn(Panel("x", "y", [("a", [(1, 0)])])).iter(f"{SVG}circle"))
