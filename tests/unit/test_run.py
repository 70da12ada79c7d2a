"""What `./run test` says of its two processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "run"
PYTEST = "/usr/bin/python3 -m pytest -p no:cacheprovider"
# Stands in the place of pytest: each half ends as the environment says.
HALF = """
half() {
    case "$*" in
        *bookworm*) ended=$BOOKWORM ;;
        *) ended=$TRIXIE ;;
    esac
    [ "$ended" = 0 ] || echo "FAILED tests/test_of_$*"
    echo "= the end of $* ="
    return "$ended"
}
"""


@pytest.mark.parametrize("bookworm", [0, 1])
@pytest.mark.parametrize("trixie", [0, 2])
def test_a_whole_run_ends_with_0_if_both_halves_do_and_says_at_the_end_what_failed(bookworm: int, trixie: int) -> None:
    text = RUN.read_text("utf-8")
    function = text[text.index("both_halves() {") : text.index("\nverb=")]
    assert PYTEST in function
    script = f"set -eu\n{HALF}\n{function.replace(PYTEST, 'half')}\nboth_halves\n"
    done = subprocess.run(
        ["sh", "-c", script],
        check=False,
        env={"PATH": "/usr/bin:/bin", "BOOKWORM": str(bookworm), "TRIXIE": str(trixie)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert done.returncode == (trixie or bookworm)
    end = done.stdout.partition("what failed, of both halves:")[2]
    assert ("FAILED tests/test_of_tests --half bookworm" in end) == bool(bookworm)
    assert ("FAILED tests/test_of_tests --half trixie" in end) == bool(trixie)
