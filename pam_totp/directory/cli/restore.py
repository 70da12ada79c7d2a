"""Putting a backup back: on a new machine, over a directory that is here, or into another database."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.directory.cli.backup import DATA, FORM, MANIFEST, SETTINGS
from pam_totp.directory.keeper import client, keys, state
from pam_totp.errors import PamTotpError

if TYPE_CHECKING:
    import argparse


class BackupError(PamTotpError):
    """A file is no backup, or not a whole one. Nothing was changed."""

    reason = "bad-backup"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and whether it is meant."""
    parser.add_argument("file", metavar="FILE", help="what backup has written")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--database-only", action="store_true", help="leave keys and settings as they are here")
    part.add_argument(
        "--no-database",
        action="store_true",
        help="put back keys and settings alone: for a second machine with the same PostgreSQL",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Put it back."""
    common.need_root()
    parts = opened(common.read(arguments.file))
    also = "" if arguments.no_database else ", and begin a new epoch"
    if not common.confirmed(arguments, f"Put this in the place of what is here{also}?"):
        return 1
    if arguments.no_database and b'\ndatabase = "postgres' not in parts[f"{SETTINGS}/directory.toml"]:
        raise BackupError(
            "this directory is not on PostgreSQL, which alone two machines can share: nothing was changed"
        )
    for unit in reversed(common.UNITS):
        common.systemctl("stop", unit)
    common.systemctl("stop", "pam-totp-keeper.service", "pam-totp-mail.service")
    if not arguments.database_only:
        _settings(parts)
        _keeper(parts)
    common.places()
    if arguments.no_database:
        common.systemctl("enable", "--now", *common.UNITS)
    else:
        _database(parts[DATA])
    return 0


def opened(content: bytes) -> dict[str, bytes]:
    """The files of a backup, all of them, as they were. Raises BackupError."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            parts = {entry.name: _content(archive, entry) for entry in archive}
        about = json.loads(parts.pop(MANIFEST))
        sums = {name: hashlib.sha256(each).hexdigest() for name, each in parts.items()}
        needed = {keys.FILE, state.FILE, DATA, f"{SETTINGS}/directory.toml"}
        if about["form"] != FORM or sums != about["files"] or not needed <= parts.keys():
            raise ValueError
    except (tarfile.TarError, ValueError, KeyError, TypeError, OSError, EOFError):
        raise BackupError("this is no backup of a directory, or it is damaged: nothing was changed") from None
    return parts


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    plain = entry.name.removeprefix(f"{SETTINGS}/")
    if file is None or "/" in plain or plain in ("", ".", ".."):
        raise ValueError
    return file.read()


def _settings(parts: dict[str, bytes]) -> None:
    gid = common.account(config.USER)[1]
    # What is not known to be for everybody is for the web process alone: a secret may be among it.
    known = {"ca.key": (0o600, 0), **dict.fromkeys(("ca.crt", "tls.crt", "identity"), (0o644, 0))}
    os.makedirs(config.CONFIGURATION, mode=0o755, exist_ok=True)
    for name, content in parts.items():
        if name.startswith(f"{SETTINGS}/"):
            plain = name.removeprefix(f"{SETTINGS}/")
            mode, group = known.get(plain, (0o640, gid))
            common.write(os.path.join(config.CONFIGURATION, plain), content, mode, 0, group)


def _keeper(parts: dict[str, bytes]) -> None:
    uid, gid = common.account(config.KEEPER)
    os.makedirs(config.KEYS, mode=0o700, exist_ok=True)
    os.chown(config.KEYS, uid, gid)
    here = os.path.join(config.KEYS, state.FILE)
    with tempfile.TemporaryDirectory(prefix="pam-totp-restore-") as place:
        then = os.path.join(place, state.FILE)
        common.write(then, parts[state.FILE], 0o600, 0, 0)
        same = os.path.exists(here) and common.read(os.path.join(config.KEYS, keys.FILE)) == parts[keys.FILE]
        signed = -1
        if same:
            with common.as_user(config.KEEPER):
                signed = state.State(here).counters().sequence
        # What was signed after the backup must not be signed again: the later of the two counts.
        if state.State(then).counters().sequence > signed:
            common.write(here, common.read(then), 0o600, uid, gid)
    common.write(os.path.join(config.KEYS, keys.FILE), parts[keys.FILE], 0o600, uid, gid)


def _database(data: bytes) -> None:
    common.systemctl("start", "pam-totp-keeper.socket")
    common.django()
    # With the rights of whom the directory belongs to: links that it has put there lead nowhere else.
    if config.load().database == "sqlite":
        for name in os.listdir(config.STATE):
            if name.startswith(os.path.basename(config.DATABASE)):
                # Kept until the new one is whole.
                os.replace(os.path.join(config.STATE, name), os.path.join(config.STATE, f"before-{name}"))
    from django.core.management import call_command

    from pam_totp.directory.cli import epoch

    call_command("migrate", interactive=False, verbosity=0)
    with tempfile.NamedTemporaryFile(suffix=".jsonl", dir=config.STATE) as file:
        file.write(data)
        file.flush()
        _load(file.name)
    epoch.hint()
    client.close()
    print(f"Epoch {epoch.begin()} has begun: hosts take what is here now.")
    for name in os.listdir(config.STATE):
        if name.startswith("before-"):
            os.unlink(os.path.join(config.STATE, name))
    with common.back_to_root():
        common.systemctl("enable", "--now", *common.UNITS)


def _load(path: str) -> None:
    from django.core.management import call_command
    from django.db import connection, transaction

    from pam_totp.directory.models import Group, HostGroup, Policy

    if connection.vendor != "sqlite":
        # A database that was used before; an SQLite file is a new one.
        call_command("flush", interactive=False, verbosity=0)
    with transaction.atomic():
        # What the migration makes for a new directory.
        for model in (Policy, HostGroup, Group):
            model.objects.all().delete()
        call_command("loaddata", path, format="jsonl", verbosity=0)
