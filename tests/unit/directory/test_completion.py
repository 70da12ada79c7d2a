"""What bash completes of a command line of pam-totp-directory: what the command takes, all of it and nothing else."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pam_totp.directory.cli import VERBS, parser
from tests.unit.directory.test_documents import options, subparsers
from tests.unit.test_completion import COMPLETIONS
from tests.unit.test_completion import completed as completed_for

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

completed = partial(completed_for, program="pam-totp-directory")
TEXT = (COMPLETIONS / "pam-totp-directory").read_text(encoding="utf-8")
# Each verb, and each word of one, with its own parser.
PARSERS: dict[tuple[str, ...], argparse.ArgumentParser] = {}
for _verb, _each in subparsers(parser()).items():
    PARSERS.update({(_verb, what): parsed for what, parsed in subparsers(_each).items()})
    if not subparsers(_each):
        PARSERS[(_verb,)] = _each


def test_a_verb_is_completed() -> None:
    assert completed("ren") == ["renew"]
    assert set(completed("")) == {*VERBS, "--help", "--version"}


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_each_option_of_each_verb_is_completed_and_no_other(words: tuple[str, ...]) -> None:
    assert set(completed(*words, "-")) == {*options(PARSERS[words]), "--help"}


@pytest.mark.parametrize("verb", sorted({words[0] for words in PARSERS if len(words) == 2}))
def test_what_a_verb_does_is_completed(verb: str) -> None:
    assert set(completed(verb, "")) == {*(words[1] for words in PARSERS if words[0] == verb), "--help"}


def test_the_choices_of_each_option_are_completed_and_what_one_takes_is_no_option() -> None:
    for words, parsed in PARSERS.items():
        for action in parsed._actions:
            for option in action.option_strings:
                if action.choices:
                    assert completed(*words, option, "") == list(action.choices), option
                elif action.nargs != 0:
                    # It takes a value: which one is not known here, or a file, and it is not another option.
                    assert not [each for each in completed(*words, option, "-") if each.startswith("--")], option


def test_roles_and_files_are_completed(tmp_path: Path) -> None:
    assert completed("user", "role", "alice", "h") == ["helpdesk"]
    assert completed("user", "role", "h") == []
    (tmp_path / "backup.tar.gz").touch()
    for words in (("restore",), ("backup",), ("restore", "--yes"), ("init", "--certificate")):
        assert completed(*words, "b", directory=tmp_path) == ["backup.tar.gz"]


def test_the_package_has_it() -> None:
    rules = (COMPLETIONS.parent / "rules").read_text(encoding="utf-8")
    assert re.search(r"debian/completions/pam-totp-directory\s", rules)
    assert "complete -F _pam_totp_directory pam-totp-directory" in TEXT
