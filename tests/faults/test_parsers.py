"""The parser of everything that is read from disk, fuzzed with coverage guidance."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.parsers import TARGETS
from tests.unit.conftest import tmp_path

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["tmp_path"]  # a fixture

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 60
LEAST = 1000  # inputs


@pytest.mark.full
@pytest.mark.row("parsers")
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_read_from_disk_is_understood_or_refused(
    target: str, tmp_path: Path, tally: Callable[..., None]
) -> None:
    python = os.environ.get("PAM_TOTP_FUZZ_PYTHON")
    assert python, "no interpreter with atheris: ./run test full has one"
    done = subprocess.run(
        [python, "-m", "tests.faults.fuzzing", target, str(SECONDS)],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=3 * SECONDS,
    )
    said = done.stdout[-5000:]
    assert done.returncode == 0, said
    inputs = int(re.findall(r"^stat::number_of_executed_units: (\d+)$", done.stdout, re.MULTILINE)[0])
    assert inputs > LEAST, said
    # Guided: some inputs reached lines that those it began with had not.
    reached = [int(each) for each in re.findall(r" cov: (\d+) ", done.stdout)]
    assert reached[-1] > reached[0] > 0, said
    tally(inputs, **{target: f"{inputs:,} inputs, {reached[0]} branches at first, {reached[-1]} in the end"})
