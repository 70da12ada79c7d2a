"""Runs in the machine: has its directory (tests/lab/directory.py, beside this file) publish, or misbehave."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pam_totp.fleet import tree

if TYPE_CHECKING:
    from tests.lab.directory import Directory
else:
    sys.path.append("/root")
    from directory import Directory

HOUR = 3600


def publish(directory: Directory, what: str) -> None:
    """Be good, or publish what a host must refuse, or must not like."""
    now = int(time.time())
    directory.misbehave("error" if what == "errors" else "")
    if what == "good":
        directory.publish([], tree.Policy())
    elif what == "rubbish":
        directory.put(b"rubbish")
    elif what == "forged":
        directory.publish([])
        directory.put(tree.sign_manifest(tree.open_manifest(directory.manifest(), directory.key), bytes(32)))
    elif what == "expired":
        directory.publish([], issued=now - HOUR, expires=now - 1)
    elif what == "silent":
        directory.publish([], tree.Policy(max_offline=60), issued=now - HOUR)
    elif what == "no-codes":
        directory.publish([], tree.Policy(mfa=False))


if __name__ == "__main__":
    publish(Directory(Path("/srv/directory")), sys.argv[1])
