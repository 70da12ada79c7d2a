"""What bash completes of a command line, with the functions of Debian's bash-completion."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
COMPLETIONS = CHECKOUT / "debian/completions"
FUNCTIONS = "/usr/share/bash-completion/bash_completion"
SCRIPT = """
source "$1" && source "$2" && shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=$*
COMP_POINT=${#COMP_LINE}
"_${1//-/_}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str, directory: Path = CHECKOUT, program: str = "pam-totp") -> list[str]:
    """What is offered for the last word."""
    command = ["bash", "--norc", "-c", SCRIPT, "bash", FUNCTIONS, str(COMPLETIONS / program), program, *words]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=True, encoding="utf-8")
    assert done.stderr == ""
    return done.stdout.split()


def test_a_verb_is_completed() -> None:
    assert completed("enr") == ["enroll"]


@pytest.mark.parametrize("words", [["check"], ["reset", "--yes"], ["log", "--since", "2h"], ["status", "daemon"]])
def test_a_user_is_completed(words: list[str]) -> None:
    assert "root" in completed(*words, "ro")


@pytest.mark.parametrize("words", [["check", "daemon"], ["reset", "daemon", "--yes"], ["rename", "daemon", "bin"]])
def test_one_user_only_is_completed(words: list[str]) -> None:
    assert "root" in completed("rename", "daemon", "ro")
    assert completed(*words, "ro") == []


def test_files_are_completed_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "id.pub").touch()
    (tmp_path / "id").touch()
    assert completed("explain", "root", "--key", "i", directory=tmp_path) == ["id.pub"]
