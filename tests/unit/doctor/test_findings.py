"""The kinds of findings, and docs/doctor.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pam_totp.doctor import findings
from pam_totp.doctor.findings import KINDS, SEVERITIES, Finding
from tests.doctor import broken

CHECKOUT = Path(__file__).resolve().parents[3]
DOCUMENT = (CHECKOUT / "docs/doctor.md").read_text(encoding="utf-8")


def test_the_document_has_one_line_for_each_kind_and_no_other() -> None:
    lines = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert lines == [(identifier, *kind) for identifier, kind in KINDS.items()]


def test_every_kind_is_found_by_some_module_and_has_a_severity() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (CHECKOUT / "pam_totp/doctor").glob("*.py")]
    code = "\n".join(text.partition("\n}\n")[2] if "KINDS: dict" in text else text for text in texts)
    of_rules = {"rule-unknown-user", "rule-unknown-group", "rule-unknown-service"}
    assert {each for each in KINDS if f'"{each}"' not in code} == of_rules
    assert {severity for severity, _ in KINDS.values()} == set(SEVERITIES)


def test_what_is_no_kind_cannot_be_found() -> None:
    with pytest.raises(KeyError):
        Finding("no-such-kind", "")


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ([], 0),
        (["pending", "locked"], 0),
        (["engine-not-tried"], 3),
        (["line-missing"], 1),
        (["engine-not-tried", "line-missing", "pending"], 1),
    ],
)
def test_only_errors_say_no_and_what_is_not_known_is_neither(kinds: list[str], status: int) -> None:
    assert findings.status([Finding(each, "") for each in kinds]) == status


def test_more_than_fifty_broken_set_ups_are_tried() -> None:
    assert len({each.name for each in broken.ROWS}) == len(broken.ROWS) > 50
    assert {each.found for each in broken.ROWS} <= set(KINDS)


@pytest.mark.parametrize(
    ("word", "quoted"), [("a/b.c", "a/b.c"), ("a b", "'a b'"), ("it's", "'it'\"'\"'s'"), ("", "''")]
)
def test_words_for_a_shell_are_quoted(word: str, quoted: str) -> None:
    assert findings.quoted(word) == quoted
