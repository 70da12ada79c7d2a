"""Fuzzes one parser with coverage guidance: python -m tests.faults.fuzzing TARGET SECONDS. With atheris, see fuzz.txt.

An input that was found is tried again by python -m tests.faults.fuzzing TARGET BASE64, for which any Python will do.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.parsers import Target


def fuzz(name: str, seconds: int, directory: str) -> None:
    """Try inputs for so long. Ends the process: with 0 where nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["pam_totp", "tomllib"]):
        seeds, tried = prepared(name, directory)
        for seed in seeds:  # what is imported late is imported now
            tried(seed)
    corpus = f"{directory}/corpus"
    os.mkdir(corpus)
    for number, seed in enumerate(seeds):
        with open(f"{corpus}/{number}", "wb") as file:
            file.write(seed)
    longest = max(256, 2 * max(map(len, seeds)))
    options = (f"-max_total_time={seconds}", f"-max_len={longest}", "-len_control=0", "-print_final_stats=1")
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={directory}/", corpus], tried)
    atheris.Fuzz()


def prepared(name: str, directory: str) -> Target:
    """The seeds of a target, and what tries an input and says which one it was where something is found."""
    from tests.faults import parsers

    parsers.be_always_the_same()
    seeds, read = parsers.TARGETS[name](directory)

    def tried(data: bytes) -> None:
        try:
            read(data)
        except BaseException:
            print(f"again with: {name} {base64.b64encode(data).decode('ascii')}", file=sys.stderr)
            raise

    return seeds, tried


if __name__ == "__main__":
    target, what = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="pam-totp-") as root:
        if what.isdecimal():
            fuzz(target, int(what), root)
        else:
            prepared(target, root)[1](base64.b64decode(what))
