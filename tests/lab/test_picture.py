from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.lab import picture
from tests.lab.picture import COLUMNS, Window, note

if TYPE_CHECKING:
    from pathlib import Path

WINDOWS = [
    Window("a <b> & c's", f"a@b:~$ ls  <-l> & x\n\n  two  blanks\nPassword: {note('not shown')}\n"),
    Window("wide", "x" * (COLUMNS + 1) + "\n"),
]


def test_a_picture_says_what_it_was_drawn_from() -> None:
    first, wide = picture.windows(picture.draw("of <tests>", WINDOWS))
    assert (first.title, first.screen + "\n") == (WINDOWS[0].title, WINDOWS[0].screen)
    assert wide.screen == "x" * COLUMNS + "\nx"


def test_a_picture_of_what_a_picture_says_is_the_same() -> None:
    drawn = picture.draw("twice", WINDOWS)
    assert picture.draw("twice", picture.windows(drawn)) == drawn


def test_a_picture_is_drawn_in_its_size(tmp_path: Path) -> None:
    file = tmp_path / "drawn.svg"
    file.write_text(picture.draw("size", WINDOWS), encoding="utf-8")
    done = subprocess.run(["rsvg-convert", file, "-o", tmp_path / "drawn.png"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
