"""Backups of key and cache: a tar file of both or one of them, with a manifest; and putting one back.

``tar xf`` reads it without this program. The manifest has a SHA-256 of each file, so that one that has rotted is not
put back. Against somebody who can write to the backup it proves nothing; that the records open with the key does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from contextlib import ExitStack

from pam_totp.cache import binding, keys, schema, store
from pam_totp.cache.accounts import Account
from pam_totp.cache.upkeep import Upkeep
from pam_totp.errors import CacheError, HostKeyError, PamTotpError, UsageError
from pam_totp.host import files
from pam_totp.host.paths import Paths

KEY, CACHE = "key", "cache.db"
_MANIFEST = "manifest.json"
_FORM = 1
_LARGEST_MANIFEST = 1 << 16
_PIECE = 1 << 20
_AT_ONCE = 100

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO

    from pam_totp.cache.seal import Sealer
    from pam_totp.host.clock import Moment


class BackupError(PamTotpError):
    """A file is no backup, or not a whole one, or does not belong to what is here. Nothing was changed."""

    reason = "bad-backup"


class Backup:
    """One that was opened: its parts lie, checked, in a private directory. ``made`` in seconds since the epoch."""

    __slots__ = ("boot", "directory", "made", "names", "parts", "problems")

    def __init__(self, directory: str, made: int, boot: str, parts: Sequence[str]) -> None:
        self.directory = directory
        self.made = made
        self.boot = boot
        self.parts = tuple(parts)
        self.names: set[str] = set()
        self.problems: list[str] = []

    def path(self, part: str) -> str:
        """Where a part lies."""
        return f"{self.directory}/{part}"


def write(paths: Paths, target: str, parts: Sequence[str], moment: Moment) -> list[str]:
    """Write a backup to a new file, and read it back; returns what is wrong with the records, as they are.

    The cache is that of one moment, however many users log in meanwhile.

    Raises UsageError where the file is there, BackupError where what was written cannot be read back, CacheError,
    HostKeyError, or OSError.
    """
    if os.path.lexists(target):
        raise UsageError(f"{target} is there: backups are never overwritten, choose another name")
    with _workshop(paths) as directory:
        backup = Backup(directory, int(moment.wall), moment.boot_id, parts)
        if KEY in parts:
            files.write_new(backup.path(KEY), _key_in_force(paths), 0o400)
        if CACHE in parts:
            with Upkeep(paths) as accounts:
                accounts.copy(backup.path(CACHE))
        _inspect(backup, paths)
        unfinished = f"{target}.new"
        _forget(unfinished)
        try:
            _pack(backup, unfinished)
            with tempfile.TemporaryDirectory(dir=directory) as again:
                read = _unpack(unfinished, again)
            if (read.made, read.parts) != (backup.made, tuple(sorted(parts))):
                raise BackupError(f"{unfinished} cannot be read back: is the disk broken?")
            os.rename(unfinished, target)
        except BaseException:
            _forget(unfinished)
            raise
        files.sync_directory(os.path.dirname(os.path.abspath(target)))
        return backup.problems


class Restore:
    """Putting a backup back. A context manager: what it unpacks is gone when it is left.

    Entering it checks everything, and changes nothing: the file, that key and cache belong together, each record.
    """

    def __init__(self, paths: Paths, source: str, wanted: Sequence[str]) -> None:
        self._paths = paths
        self._source = source
        self._wanted = wanted
        self._workshop = _workshop(paths)

    def __enter__(self) -> Restore:
        """Raises BackupError, CacheError, HostKeyError, or OSError."""
        directory = self._workshop.__enter__()
        try:
            self.backup = backup = _unpack(self._source, directory)
            missing = [part for part in self._wanted if part not in backup.parts]
            if missing:
                raise BackupError(f"{self._source} does not hold the {missing[0]}")
            self.parts = [part for part in backup.parts if not self._wanted or part in self._wanted]
            _inspect(backup, self._paths, self.parts)
            if backup.problems:
                raise BackupError(
                    f"{self._source} is damaged, and nothing was changed: {backup.problems[0]}"
                    + (f", and {len(backup.problems) - 1} more" if len(backup.problems) > 1 else "")
                )
            self.former = self._names_here()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._workshop.__exit__(None, None, None)

    @property
    def unenrolled(self) -> list[str]:
        """Who is enrolled now and would not be any more, as far as the present cache can be read."""
        return sorted((self.former or set()) - self.backup.names) if CACHE in self.parts else []

    def carry_out(self) -> list[str]:
        """Put it back; returns what is wrong afterwards. Logins meanwhile see the old or the new cache.

        What the present cache and ``/run`` know to be spent or removed stays so: it is written into the cache put back.
        A key that is kept sealed here stays sealed; another one is put back in the clear.

        Raises CacheError, HostKeyError, or OSError; between key and cache logins are refused, and another try mends it.
        """
        paths, backup = self._paths, self.backup
        former_key = _sealer(paths)
        if CACHE in self.parts:
            self._remember_all()
            if os.path.lexists(paths.cache):
                self._keep_former()
            schema.replace(paths.cache, paths.owner, backup.path(CACHE))
        if KEY in self.parts:
            content = keys.read(backup.path(KEY), paths.owner)
            if not binding.restored(paths, content):
                _put_key(paths, content)
        with Upkeep(paths) as accounts:
            accounts.check_key()
            accounts.migrate(os.path.lexists(paths.config))
            if former_key is not None and former_key.key_id != accounts.sealer.key_id:
                accounts.reseal_copies(former_key, {*accounts.names(), *(self.former or ())})
            if CACHE in self.parts:
                _make_durable(accounts)
            return accounts.damage()

    def _names_here(self) -> set[str] | None:
        """Who is enrolled now; None where the present cache cannot be read."""
        try:
            with Upkeep(self._paths) as accounts:
                accounts.check_key()
                return _enrolled(accounts)
        except PamTotpError:
            return None

    def _remember_all(self) -> None:
        """Have ``/run`` know what each record knows that can be read."""
        if self.former is None:
            return
        with Upkeep(self._paths) as accounts:
            for name in accounts.names():
                with accounts.lock(name):
                    try:
                        account = accounts.get(name)
                    except CacheError:
                        continue  # it does not open: what /run knows of it stays as it is
                    if account is not None:
                        accounts.remember(account)

    def _keep_former(self) -> None:
        kept = f"{self._paths.cache}.before-restore"
        _forget(kept)
        try:
            with store.Store(self._paths.cache, self._paths.owner):
                schema.copy(self._paths.cache, kept)
        except CacheError:
            _forget(kept)  # it cannot be read: it is moved aside as it is


def _make_durable(accounts: Upkeep) -> None:
    """Write what ``/run`` knows of each record into the cache, so that it holds after a boot. Raises CacheError."""
    names = accounts.names()
    for start in range(0, len(names), _AT_ONCE):
        with ExitStack() as locks:
            found = []
            for name in names[start : start + _AT_ONCE]:
                locks.enter_context(accounts.lock(name))
                try:
                    account = accounts.get(name)
                except CacheError:
                    continue  # refused from now on, and told afterwards
                if account is not None:
                    found.append(account)
            accounts.save_all(found)


def _enrolled(accounts: Upkeep) -> set[str]:
    return {each.name for each in accounts.all() if isinstance(each, Account) and each.active}


def _sealer(paths: Paths) -> Sealer | None:
    try:
        return keys.find(paths)
    except HostKeyError:
        return None


def _key_in_force(paths: Paths) -> bytes:
    """The key as it is on this host, also where it is kept sealed. Raises BackupError, or HostKeyError."""
    if os.path.lexists(f"{paths.key}{keys.NEXT}") or os.path.lexists(f"{paths.unsealed}{keys.NEXT}"):
        raise BackupError("the host key is being rotated: finish that first, with pam-totp key rotate")
    sealed = not os.path.lexists(paths.key) and os.path.lexists(paths.unsealed)
    return keys.read(paths.unsealed if sealed else paths.key, paths.owner)


def _put_key(paths: Paths, content: bytes) -> None:
    """Have the key be this, in one step. Raises OSError."""
    os.makedirs(os.path.dirname(paths.key), mode=0o700, exist_ok=True)
    temporary = f"{paths.key}.restored"
    _forget(temporary)
    files.write_new(temporary, content, 0o400)
    os.rename(temporary, paths.key)
    files.sync_directory(os.path.dirname(paths.key))


def _forget(path: str) -> None:
    """Remove a file if it is there. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _workshop(paths: Paths) -> tempfile.TemporaryDirectory[str]:
    """A private directory beside the cache. Raises CacheError, or OSError."""
    directory = os.path.dirname(paths.cache)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="backup-", dir=directory)


def _inspect(backup: Backup, paths: Paths, parts: Sequence[str] | None = None) -> None:
    """Open every record of the copy with the key that it is for, and note who is in it and what is wrong.

    Raises HostKeyError where the key is not that of the cache, CacheError where the cache cannot be read at all.
    """
    parts = backup.parts if parts is None else parts
    key = backup.path(KEY) if KEY in parts else paths.key
    cache = backup.path(CACHE) if CACHE in parts else paths.cache
    if CACHE not in parts and not os.path.lexists(cache):
        keys.load(key, paths.owner)
        return
    # With a directory of its own for /run: what is there now says nothing about the backup alone.
    nowhere = backup.path("unsealed")
    sealed_here = KEY not in parts and not os.path.lexists(key)
    there = Paths(
        key, paths.config, cache, backup.path("run"), paths.owner, unsealed=paths.unsealed if sealed_here else nowhere
    )
    with Upkeep(there) as accounts:
        accounts.check_key()
        if CACHE in parts:
            accounts.migrate(os.path.lexists(paths.config))
            backup.names = _enrolled(accounts)
            backup.problems = accounts.damage()


def _pack(backup: Backup, path: str) -> None:
    """Write the tar file. Raises FileExistsError, or another OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        described = {part: _described(backup.path(part)) for part in sorted(backup.parts)}
        manifest = {"pam-totp-backup": _FORM, "made": backup.made, "boot": backup.boot, "files": described}
        content = json.dumps(manifest, indent=1).encode("ascii")
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, _MANIFEST, io.BytesIO(content), len(content), backup.made)
            for part in sorted(backup.parts):
                with open(backup.path(part), "rb") as source:
                    _add(archive, part, source, os.fstat(source.fileno()).st_size, backup.made)
        file.flush()
        os.fsync(descriptor)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int, made: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = made
    member.mode = 0o400 if name == KEY else 0o600
    archive.addfile(member, content)


def _described(path: str) -> dict[str, object]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def _unpack(source: str, directory: str) -> Backup:
    """Write the parts of a backup, checked, into a private directory. Raises BackupError, or OSError."""
    try:
        with open(source, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            first = archive.next()
            if first is None or first.name != _MANIFEST or first.size > _LARGEST_MANIFEST:
                raise ValueError
            manifest = json.loads(_member(archive, first).read())
            described = dict(manifest["files"])
            if manifest["pam-totp-backup"] != _FORM or not described or not {KEY, CACHE}.issuperset(described):
                raise ValueError
            backup = Backup(directory, int(manifest["made"]), str(manifest["boot"]), sorted(described))
            left = set(described)
            while (member := archive.next()) is not None:
                if member.name not in left:
                    raise ValueError
                left.remove(member.name)
                _extract(archive, member, backup.path(member.name))
                if _described(backup.path(member.name)) != described[member.name]:
                    raise ValueError
            if left:
                raise ValueError
    except FileNotFoundError:
        raise BackupError(f"{source} is not there: name a file that pam-totp backup has written") from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, RecursionError):
        raise BackupError(
            f"{source} is not a whole backup of pam-totp, and nothing was changed: take another one"
        ) from None
    return backup


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    # Only the content is taken: name, mode and owner are ours.
    files.write_new(path, b"", 0o400 if member.name == KEY else 0o600)
    content = _member(archive, member)
    os.chmod(path, 0o600)
    with open(path, "wb") as file:
        _pieces(content, file)
    os.chmod(path, 0o400 if member.name == KEY else 0o600)


def _pieces(content: IO[bytes], file: IO[bytes]) -> None:
    pieces: Iterable[bytes] = iter(lambda: content.read(_PIECE), b"")
    for piece in pieces:
        file.write(piece)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise ValueError
    return content
