from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PROBE = """
import subprocess
from tests.conftest import interruptible
interruptible()
print(subprocess.run(["sh", "-c", "kill -INT $$; kill -QUIT $$; kill -HUP $$; echo ignored"]).returncode)
"""


def test_what_a_test_starts_can_be_interrupted_though_the_run_was_started_in_the_background() -> None:
    script = 'trap "" INT QUIT HUP; exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, "-c", PROBE]
    done = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, encoding="ascii", timeout=60)
    assert done.stdout == "-2\n"
