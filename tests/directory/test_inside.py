"""The tests of inside/, each file by pytest in a Debian 13 with its own Django."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.directory import lane

if TYPE_CHECKING:
    from tests.lab.machine import Machine

FILES = sorted(path.name for path in Path(__file__).parent.joinpath("inside").glob("test_*.py"))


@pytest.mark.parametrize("file", FILES)
def test_what_needs_django(debian: Machine, file: str) -> None:
    done = lane.pytest(debian, f"tests/directory/inside/{file}")
    # 5 is pytest's word for a file without tests.
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
