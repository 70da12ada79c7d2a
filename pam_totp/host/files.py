"""Opening files that others must not be able to change or, where they are private, to read.

The rule everywhere: open without following a link, look at what was opened, and only then use it. Nothing here can
block: FIFOs and devices are recognised before they are opened for reading.
"""

from __future__ import annotations

import posix as os  # the system calls alone: os itself costs a login 1 to 2 ms
import stat

_GROUP_OTHER_WRITE = 0o022
_GROUP_OTHER_ALL = 0o077
_ATTEMPTS = 100
_CHUNK = 1 << 16  # more memory than this Python would ask the kernel for, and give back at once


class UnsafeFileError(Exception):
    """Something at a path is not what it has to be; the message says what and how to mend it."""


def parent(path: str) -> str:
    """The directory that an absolute path lies in; "/" lies in itself."""
    return path.rpartition("/")[0] or "/"


def exists(path: str) -> bool:
    """Whether there is something at a path, be it a link to nothing."""
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def check_parents(path: str, owner: int) -> None:
    """Make sure that nobody but root and ``owner`` can put another file at ``path`` (absolute).

    Every directory above must belong to one of them and be writable by them only; a sticky one (``/tmp``) passes,
    because there nobody can rename what belongs to somebody else, and what lies in it is checked as well.

    Raises UnsafeFileError, or OSError when a directory cannot be looked at.
    """
    directory = parent(path)
    while True:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode):
            raise UnsafeFileError(f"{directory} is not a directory: put a real directory in its place")
        if status.st_uid not in (0, owner):
            raise UnsafeFileError(f"{directory} belongs to uid {status.st_uid}: run chown root {directory}")
        if status.st_mode & _GROUP_OTHER_WRITE and not status.st_mode & stat.S_ISVTX:
            raise UnsafeFileError(f"{directory} can be written by others: run chmod go-w {directory}")
        if directory == "/":
            return
        directory = parent(directory)


def check_file(path: str, status: os.stat_result, owner: int, private: bool = True) -> None:
    """Make sure that an opened file is a plain one of ``owner``, under one name, closed to others.

    Raises UnsafeFileError.
    """
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFileError(f"{path} is not a plain file: remove it and restore the real one")
    if status.st_uid != owner:
        raise UnsafeFileError(f"{path} belongs to uid {status.st_uid}: run chown root {path}")
    if status.st_nlink != 1:
        raise UnsafeFileError(f"{path} has {status.st_nlink} names (hard links): keep one copy under this name only")
    if status.st_mode & (_GROUP_OTHER_ALL if private else _GROUP_OTHER_WRITE):
        rights = "go=" if private else "go-w"
        raise UnsafeFileError(f"{path} is open to others: run chmod {rights} {path}")


def inspect(path: str, owner: int, private: bool = True) -> os.stat_result:
    """Look at the file at ``path`` without opening it for reading (so that a FIFO or device does nothing).

    Raises UnsafeFileError, or OSError (FileNotFoundError when nothing is there).
    """
    descriptor, status = _open(path, os.O_PATH, owner, private)
    os.close(descriptor)
    return status


def read(path: str, owner: int, limit: int, private: bool = True) -> bytes:
    """The content of the file at ``path``, at most ``limit`` bytes.

    Raises UnsafeFileError, or OSError (FileNotFoundError when nothing is there).
    """
    inspect(path, owner, private)
    descriptor, _ = _open(path, os.O_RDONLY | os.O_NONBLOCK, owner, private)
    try:
        content = b""
        while chunk := os.read(descriptor, min(_CHUNK, limit + 1 - len(content))):
            content += chunk
            if len(content) > limit:
                raise UnsafeFileError(f"{path} is larger than {limit} bytes: this is not the file it should be")
        return content
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, owner: int, private: bool) -> tuple[int, os.stat_result]:
    """Open and check. What has no name was replaced or removed just now, so it is looked for again."""
    attempts = _ATTEMPTS
    while True:
        attempts -= 1
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if status.st_nlink or not attempts:
                check_file(path, status, owner, private)
                return descriptor, status
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def write_new(path: str, content: bytes, mode: int) -> None:
    """Write a new file and its directory entry durably; an existing one is never touched.

    Raises FileExistsError, or another OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(parent(path))


def replace(path: str, content: bytes, mode: int) -> None:
    """Have the file at ``path`` be this, in one step and durably. Raises OSError; the old one is there then."""
    temporary = f"{path}.new"
    try:
        os.unlink(temporary)  # left by a process that was killed
    except FileNotFoundError:
        pass
    write_new(temporary, content, mode)
    os.rename(temporary, path)
    sync_directory(parent(path))


def wipe(path: str) -> None:
    """Overwrite a file and remove it, durably; nothing where it is gone. Raises OSError.

    What the disk or the file system keeps of older versions is out of reach (flash memory, snapshots).
    """
    try:
        os.chmod(path, 0o600)
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(descriptor, bytes(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.unlink(path)
    sync_directory(parent(path))


def sync(path: str) -> None:
    """Make the content and the mode of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
