"""The boxes' disk images, which are costly to make, and kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import cache
from tests.lab.machine import MachineError
from tests.lab.sources import sources_for, transport_options
from tests.lab.vagrant.host import Host
from tests.lab.vagrant.scratch import scratch

HERE = Path(__file__).parent
# Where the kept layer has the image.
BOX = "/srv/box"
IMAGE = f"{BOX}/box.img"


def layer(suite: str) -> Path:
    """A directory to be put over a host's root, with the disk image of a suite's box in it. Raises MachineError."""
    boxes = cache.home() / "boxes"
    recipe = (HERE / "box.sh").read_bytes()
    directory = boxes / f"{suite}-{cache.digest(suite, recipe)}"
    cache.kept(directory, lambda unfinished: _build(suite, unfinished))
    cache.forget(boxes, f"{suite}-*", keep=1)
    return directory


def _build(suite: str, directory: Path) -> None:
    cache.say(f"building a box of {suite} (once, takes a minute)")
    with scratch() as upper, Host(upper) as host:
        script = (HERE / "box.sh").read_text(encoding="utf-8")
        host.write("/srv/box.sh", script, mode=0o755)
        host.write("/srv/sources", sources_for(suite))
        options = ["Apt::Sandbox::User root", *transport_options()]
        host.follow(
            ["sh", "-c", 'exec "$@" </srv/sources', "sh", "/srv/box.sh", suite, BOX, "/srv/scratch", *options],
            cwd="/",
            env={},
            timeout=900,
            each=lambda line: cache.say(f"  {line}"),
        )
        made = upper / "upper" / BOX.removeprefix("/")
        if not (made / "box.img").is_file():
            raise MachineError("the box was not built")
        target = directory / BOX.removeprefix("/")
        target.parent.mkdir(parents=True)
        shutil.move(made, target)
