"""Every branch of what verifies and commits is tried by the unit tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = ("login/login", "cache/ledger", "login/policy", "factors/otp")


@pytest.mark.row("core")
def test_every_branch_of_the_core_is_tried(tmp_path: Path, tally: Callable[..., None]) -> None:
    settings = tmp_path / "coveragerc"
    settings.write_text("[run]\nbranch = true\n[report]\nexclude_lines =\n    if TYPE_CHECKING:\n", encoding="utf-8")
    environment = {
        "PATH": "/usr/bin:/bin",
        "COVERAGE_FILE": str(tmp_path / "coverage"),
        "COVERAGE_RCFILE": str(settings),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    tests = [f"tests/unit/{room}" for room in ("cache/test_ledger.py", "factors", "login", "engine")]
    coverage = [sys.executable, "-m", "coverage"]
    run = [*coverage, "run", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(run, cwd=CHECKOUT, env=environment, check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout
    report = tmp_path / "report.json"
    subprocess.run(
        [*coverage, "json", "-q", "-o", report, "--include", ",".join(f"pam_totp/{name}.py" for name in MODULES)],
        cwd=CHECKOUT,
        env=environment,
        check=True,
    )
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    assert len(files) == len(MODULES)
    missing = {
        name: (found["missing_lines"], found["missing_branches"])
        for name, found in files.items()
        if found["missing_lines"] or found["missing_branches"]
    }
    assert not missing
    branches = sum(found["summary"]["num_branches"] for found in files.values())
    tally(branches)
