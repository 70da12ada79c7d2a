"""The table of the threat model: the tests that it names are there, and nobody is let in unasked by any row of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs/threat-model.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Each input of a decision")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ")
][1:]
DOORS = ("Enrolment", "The verify service", "A host of a fleet")
SITUATIONS = ("absent", "empty", "failing", "slow", "forged", "stale")


def existing() -> set[str]:
    found = set()
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def test_(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_every_test_that_the_table_names_is_there() -> None:
    named = {name for row in ROWS for name in re.findall(r"`(\w{15,})`", row[3])}
    assert len(named) > 40
    assert named - existing() == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}"[:40])
def test_a_row_has_a_test_or_says_why_it_needs_none(row: list[str]) -> None:
    assert len(row) == 4
    assert row[3] or re.search(r"does not apply|see |is not$|at each login", row[2])


def test_every_input_has_each_situation() -> None:
    inputs: dict[str, str] = {}
    current = ""
    for name, situation, *_ in ROWS:
        current = name or current
        inputs[current] = inputs.get(current, "") + situation + " "
    assert len(inputs) == 15
    for name, situations in inputs.items():
        assert (name, [word for word in SITUATIONS if word not in situations]) == (name, [])


def test_what_is_said_to_be_not_protected_is_named_there() -> None:
    words = PAGE.partition("## What is not protected")[2].partition("\n## ")[0]
    about = {"exemption", "snapshot", "trusted|believed"}
    assert len([row for row in ROWS if "What is not protected" in row[2] + row[3]]) == len(about)
    assert [each for each in about if not re.search(each, words)] == []


def test_no_row_skips() -> None:
    assert [row for row in ROWS if re.search(r"\bskips\b|let in|gets in", row[2])] == []


def test_every_test_that_the_tables_of_the_doors_name_is_there() -> None:
    parts = [PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0] for title in DOORS]
    named = [set(re.findall(r"`(test_\w+)`", part)) for part in parts]
    assert all(len(names) > 8 for names in named)
    assert {name.removeprefix("test_") for names in named for name in names} - existing() == set()


def test_no_line_is_too_long_to_be_read() -> None:
    assert [number for number, line in enumerate(PAGE.splitlines(), 1) if len(line) > 511] == []  # lintian's limit
