"""A QR code on a terminal, looked at by a camera and read by zbarimg."""

from __future__ import annotations

import subprocess
import tempfile

# A character cell is 8 pixels wide and 16 high, as in the fonts of text consoles, light on dark.
WIDTH, HEIGHT = 8, 16
FULL, EMPTY = (0xFF,), (0x00,)
GLYPHS = {
    " ": EMPTY * 16,
    "█": FULL * 16,
    "▀": FULL * 8 + EMPTY * 8,
    "▄": EMPTY * 8 + FULL * 8,
    "|": EMPTY + (0x18,) * 14 + EMPTY,
    "#": EMPTY * 3 + (0x6C, 0x6C, 0xFE, 0x6C, 0x6C, 0x6C, 0xFE, 0x6C, 0x6C) + EMPTY * 4,
}
# From as far away as a phone is held, so many pixels each way are one to its camera.
BLUR = 4
AROUND = 3  # cells of dark terminal on each side


def is_part(line: str) -> bool:
    """Whether a line is one of a picture. PuTTY puts a bar before each line of a prompt."""
    drawn = line.removeprefix("| ")
    return len(drawn) > 20 and (set(drawn) <= set("█▀▄ ") or set(drawn) <= set("# ")) and not drawn.isspace()


def read(lines: list[str]) -> str:
    """What the QR code says; nothing where it cannot be read."""
    with tempfile.NamedTemporaryFile(suffix=".pgm") as file:
        file.write(_seen(lines))
        file.flush()
        command = ["zbarimg", "--quiet", "--raw", "-S*.enable=0", "-Sqrcode.enable=1", file.name]
        found = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    return found.stdout.strip()


def _seen(lines: list[str]) -> bytes:
    """The picture in shades of grey, as a portable grey map."""
    columns = max(map(len, lines)) + 2 * AROUND
    rows = (
        [" " * columns] * AROUND + [f"{' ' * AROUND}{line}".ljust(columns) for line in lines] + [" " * columns] * AROUND
    )
    grey = b"".join(_shades(row, y) for row in rows for y in range(0, HEIGHT, BLUR))
    return b"P5 %d %d 255\n" % (columns * WIDTH // BLUR, len(rows) * HEIGHT // BLUR) + grey


def _shades(row: str, top: int) -> bytes:
    """One line of what the camera sees: of each square of pixels, how much is lit."""
    mask = (1 << BLUR) - 1
    return bytes(
        255 * sum((GLYPHS[character][y] >> shift & mask).bit_count() for y in range(top, top + BLUR)) // BLUR**2
        for character in row
        for shift in range(WIDTH - BLUR, -1, -BLUR)
    )
