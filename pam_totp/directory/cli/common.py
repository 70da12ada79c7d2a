"""What verbs have in common: being root, being the web process's user, and Django."""

from __future__ import annotations

import os
import pwd
import secrets
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.keeper import client, keys
from pam_totp.errors import ConfigError, PamTotpError, UsageError
from pam_totp.host import programs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

UNITS = (
    *("pam-totp-keeper.socket", "pam-totp-directory.service", "pam-totp-publisher.service"),
    *("pam-totp-mail.timer", "pam-totp-renew.timer"),
)
ACTOR = "root"


class RootError(PamTotpError):
    """Only root may do this."""

    reason = "not-root"


def need_root() -> None:
    """Raises RootError."""
    if os.geteuid() != 0:
        raise RootError("only root may do this: run it with sudo")


def account(name: str) -> tuple[int, int]:
    """The uid and gid of one of the two users. Raises ConfigError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"there is no user {name}: install the package pam-totp-directory again") from None
    return found.pw_uid, found.pw_gid


@contextmanager
def _as_root() -> Iterator[None]:
    own = os.geteuid()
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(own)


@contextmanager
def back_to_root() -> Iterator[None]:
    """Be root again for a while."""
    with _as_root():
        group, mask = os.getegid(), os.umask(0o077)
        os.setegid(0)
        try:
            yield
        finally:
            os.setegid(group)
            os.umask(mask)


def read(path: str) -> bytes:
    """A file's content. Raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def write(path: str, content: bytes, mode: int, uid: int, gid: int) -> None:
    """Write a file of this mode and owner: the whole of it, or nothing. Raises OSError."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.rename(f"{path}.new", path)


@contextmanager
def as_user(name: str) -> Iterator[None]:
    """Have the rights of one of the two users for a while, and no more: where it can put links to what is root's."""
    uid, gid = account(name)
    groups, mask = os.getgroups(), os.umask(0o027)
    os.initgroups(name, gid)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(mask)


def places() -> None:
    """Have the web process's directories, and the key of its sessions."""
    uid, gid = account(config.USER)
    # This one is in a directory of root's.
    os.makedirs(config.STATE, mode=0o750, exist_ok=True)
    os.chmod(config.STATE, 0o750)  # noqa: S103  # its group is the web process's own
    os.chown(config.STATE, uid, gid)
    with as_user(config.USER):
        os.makedirs(config.TREE, mode=0o750, exist_ok=True)
        if not os.path.exists(config.SESSION_KEY):
            write(config.SESSION_KEY, secrets.token_urlsafe(48).encode(), 0o600, uid, gid)


def django() -> None:
    """Have Django, as the user of the web process: what is written belongs to it. The keeper still sees root."""
    need_root()
    uid, gid = account(config.USER)
    keys.load_identity(config.IDENTITY)  # set up?
    config.load()
    os.initgroups(config.USER, gid)
    os.setegid(gid)
    os.seteuid(uid)
    os.umask(0o027)
    client.connecting = _as_root
    setup()


def setup() -> None:
    """Have Django in this process."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "pam_totp.directory.settings"
    import django as package

    package.setup()


def systemctl(*words: str) -> bool:
    """Run systemctl; False where systemd does not run here. Raises ProgramError."""
    if not os.path.isdir("/run/systemd/system"):
        return False
    programs.run("systemctl", *words)
    return True


def confirmed(arguments: argparse.Namespace, question: str) -> bool:
    """Whether the one who asks means it: by --yes, or on the terminal."""
    if arguments.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this: add --yes")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def date(text: str) -> datetime:
    """A date, its end in UTC; or so many days from now, such as 7d. Raises UsageError."""
    from datetime import timedelta

    from django.utils import timezone as clock

    try:
        if text.endswith("d") and text[:-1].isdigit():
            return clock.now() + timedelta(days=int(text[:-1]))
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        return day + timedelta(days=1)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no date: write YYYY-MM-DD, or days as 7d") from None


def shown(time: datetime | None) -> str:
    """A time as people read it."""
    return "-" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M")


def plain(text: str) -> str:
    """Text for a terminal: what hosts, people and a web process that was taken over have written could steer it."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, the first row as their heads."""
    rows = [tuple(map(plain, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
