"""Reading a QR code as a phone does: the text as a dark terminal shows it, given to zbarimg."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

MODULE = 6  # pixels
MARGIN = 8  # modules of dark terminal around the code
# What each character lights up, in the upper and in the lower half of its cell
LIT = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


def scan(picture: str, directory: Path, *, light: bool = False) -> str:
    """The content of a QR code that is drawn with blocks (a character is one module wide and two high), or with ##.

    Of a light terminal too, where what is drawn is dark.
    """
    rows: list[list[int]] = []
    for line in picture.split("\n"):
        if "#" in picture:
            rows.append([int(character == "#") for character in line[::2]])
        else:
            rows += [[LIT[character][half] for character in line] for half in (0, 1)]
    width = max(map(len, rows))
    image = Image.new("L", (width + 2 * MARGIN, len(rows) + 2 * MARGIN), 255 * light)
    for y, row in enumerate(rows):
        for x, lit in enumerate(row):
            image.putpixel((x + MARGIN, y + MARGIN), 255 * (lit != light))
    file = directory / "screen.png"
    image.resize((image.width * MODULE, image.height * MODULE), Image.Resampling.NEAREST).save(file)
    found = subprocess.run(
        ["zbarimg", "--quiet", "--raw", "-S*.enable=0", "-Sqrcode.enable=1", str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout.rstrip("\n")
