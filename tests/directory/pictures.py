"""Draws docs/portal-*.png anew, from a real browser: sudo ./run demo portals."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

from PIL import Image

from tests.directory import browsers, lane
from tests.lab.package import CHECKOUT

# What a screenshot of text needs: small files.
COLOURS = 48


def main() -> None:
    """Draw them, and say where they are."""
    with browsers.machine() as machine:
        done = lane.pytest(machine, f"{browsers.TESTS}/pictures.py", timeout=600)
        if done.returncode:
            raise SystemExit(done.stdout)
        names = machine.sh("cd /root/pictures && ls").stdout.split()
        for name in names:
            content = subprocess.check_output(machine.inside(["cat", f"/root/pictures/{name}"]))
            picture = Image.open(io.BytesIO(content)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            path = Path(CHECKOUT, "docs", name)
            picture.save(path, optimize=True)
            print(f"{path.relative_to(CHECKOUT)}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
