"""A backup: one tar file with configuration, keys and database. The database is in a form that any database takes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
from typing import TYPE_CHECKING

from pam_totp import __version__
from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.directory.keeper import keys, state
from pam_totp.errors import UsageError
from pam_totp.host import clock

if TYPE_CHECKING:
    import argparse

FORM = 1
MANIFEST, DATA, SETTINGS = "manifest.json", "database.jsonl", "etc"
KEEPER = (keys.FILE, state.FILE)
# Sessions and what Django itself makes anew are left out.
MODELS = "directory"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("file", metavar="FILE", help="a file that is not there yet, or - for standard output")


def run(arguments: argparse.Namespace) -> int:
    """Write it."""
    common.need_root()
    if arguments.file == "-" and sys.stdout.isatty():
        raise UsageError("a backup holds every secret, and is not for a terminal: name a file")
    with tempfile.TemporaryDirectory(prefix="pam-totp-backup-") as place:
        # Taken while everything runs: first what the keeper has signed, so that the database is not older than that.
        state.copy(os.path.join(config.KEYS, state.FILE), os.path.join(place, state.FILE))
        parts = {state.FILE: common.read(os.path.join(place, state.FILE))}
    parts[keys.FILE] = common.read(os.path.join(config.KEYS, keys.FILE))
    for name in sorted(os.listdir(config.CONFIGURATION)):
        path = os.path.join(config.CONFIGURATION, name)
        if os.path.isfile(path) and not name.endswith((".new", "~")):
            parts[f"{SETTINGS}/{name}"] = common.read(path)
    common.django()
    parts[DATA] = _data()
    with common.back_to_root():
        content = _tar(parts)
        if arguments.file == "-":
            sys.stdout.buffer.write(content)
        else:
            descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
    print("This has every secret of the directory: keep it encrypted, and away from here.", file=sys.stderr)
    return 0


def _data() -> bytes:
    from django.core.management import call_command
    from django.db import transaction

    text = io.StringIO()
    with transaction.atomic():
        call_command("dumpdata", MODELS, format="jsonl", stdout=text)
    return text.getvalue().encode("utf-8")


def _tar(parts: dict[str, bytes]) -> bytes:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    about = {"form": FORM, "version": __version__, "made": int(clock.now().wall), "files": sums}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in {MANIFEST: json.dumps(about, indent=1, sort_keys=True).encode("ascii"), **parts}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o600, about["made"]  # type: ignore[assignment]  # an int
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()
