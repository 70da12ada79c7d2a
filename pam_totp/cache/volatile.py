"""The user's lock and the copy of the ledger below ``/run/pam-totp``: what holds on a full or read-only disk.

It is gone after a boot, after the restart of a container, and where somebody wiped it; so it notes when it was made.
Files are named by a token, so no name can lead to another path.
"""

from __future__ import annotations

import fcntl
import posix as os
import stat
import time

from pam_totp.errors import CacheError, LockTimeoutError
from pam_totp.host import files

LOCK_SECONDS = 10.0
_LIMIT = 1 << 20
_MADE = "made"  # no token has this form
# With a thousand waiting, looking any sooner takes the processors from whoever holds the lock.
_FASTEST_POLL = 0.002
_SLOWEST_POLL = 0.080
# Of one who gives way, in all: logins without pause, or one that hangs, do not keep a revocation from being taken.
_WAY_SECONDS = 5.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from pam_totp.host.clock import Moment


class Lock:
    """The exclusive lock of one user, a flock that the kernel drops when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class Volatile:
    """The directory, made where it is missing (the first login after a boot).

    Raises CacheError when it is not a private directory of ``owner``.
    """

    def __init__(self, directory: str, owner: int) -> None:
        self._directory = directory
        self._owner = owner
        self._way = _WAY_SECONDS
        try:
            files.check_parents(directory, owner)
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                pass
            status = os.lstat(directory)
        except files.UnsafeFileError as error:
            raise CacheError(str(error), "run-unusable") from None
        except OSError as error:
            raise CacheError(f"{directory} cannot be made: {error.strerror}", "run-unusable") from None
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o077:
            raise CacheError(f"{directory} is not a private directory of root: remove it", "run-unusable")

    def lock(self, token: str, seconds: float = LOCK_SECONDS) -> Lock:
        """Wait for the lock, at most ``seconds``.

        Whoever has waited longest looks most often, so a crowd is served roughly in its order without a queue that a
        killed process could break; only its first looks come sooner, as most hold a lock for some ms alone. A timed
        flock would need a signal handler inside somebody else's program.

        Raises LockTimeoutError, or CacheError.
        """
        path = f"{self._directory}/{token}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(f"{path} cannot be opened: {error.strerror}", "run-unusable") from None
        try:
            files.check_file(path, os.fstat(descriptor), self._owner)
            start = time.monotonic()
            soon = _FASTEST_POLL
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return Lock(descriptor)
                except BlockingIOError:
                    waited = time.monotonic() - start
                    if waited >= seconds:
                        raise LockTimeoutError(
                            f"another login of this user held its lock for {seconds:.0f} s: try again"
                        ) from None
                    time.sleep(max(_FASTEST_POLL, min(soon, _SLOWEST_POLL * (1 - waited / seconds))))
                    soon *= 2
        except files.UnsafeFileError as error:
            os.close(descriptor)
            raise CacheError(str(error), "run-unusable") from None
        except OSError as error:
            os.close(descriptor)
            raise CacheError(f"{path} cannot be locked: {error.strerror}", "run-unusable") from None
        except BaseException:
            os.close(descriptor)
            raise

    def enter(self) -> Lock | None:
        """Be one of those whom ``give_way`` waits for, until the lock is released. Best effort; None where it failed.

        A shared lock of the directory, which nobody keeps to themselves: it is never waited for.
        """
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass  # somebody looks just now whether there is anybody
        return Lock(descriptor)

    def give_way(self) -> None:
        """Wait while there is somebody who has entered; for some seconds in all calls together. Best effort."""
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        start = time.monotonic()
        try:
            while time.monotonic() - start < self._way:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_FASTEST_POLL)
        except OSError:
            pass
        finally:
            os.close(descriptor)
            self._way -= time.monotonic() - start

    def age(self, now: Moment) -> float:
        """Seconds for which nothing here can have been lost: since the boot or since the directory was made.

        The first call after that notes the time; 0 where it cannot be noted. Raises CacheError.
        """
        try:
            wall, boot_id, uptime = (self.read(_MADE) or b"").decode("ascii").split()
            made = [int(wall), boot_id, int(uptime)]
        except ValueError:  # UnicodeError is one: it is not noted yet, or the note is half written
            self.write(_MADE, " ".join(map(str, now.stamp())).encode("ascii"))
            return 0.0
        return min(now.uptime, now.since(made))

    def read(self, token: str) -> bytes | None:
        """The copy kept under ``token``; None where there is none. Raises CacheError."""
        path = f"{self._directory}/{token}"
        try:
            return files.read(path, self._owner, _LIMIT)
        except FileNotFoundError:
            return None
        except files.UnsafeFileError as error:
            raise CacheError(str(error), "run-unusable") from None
        except OSError as error:
            raise CacheError(f"{path} cannot be read: {error.strerror}", "run-unusable") from None

    def write(self, token: str, content: bytes) -> bool:
        """Replace the copy in one step. False where the file system did not take it: the old one is still there."""
        path = f"{self._directory}/{token}"
        temporary = f"{path}.new"
        try:
            # Only the lock's holder writes here; a leftover of a killed one is of no use to anybody.
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass
            files.write_new(temporary, content, 0o600)
            os.rename(temporary, path)
        except OSError:
            return False
        return True

    def rename(self, former: str, token: str) -> None:
        """Have a copy under another name; one that has that name already is newer. Raises CacheError."""
        if files.exists(f"{self._directory}/{token}"):
            return
        try:
            os.rename(f"{self._directory}/{former}", f"{self._directory}/{token}")
        except OSError as error:
            raise CacheError(f"{self._directory} cannot be changed: {error.strerror}", "run-unusable") from None

    def tokens(self) -> set[str]:
        """The tokens of all who have a copy or a lock here. Raises CacheError."""
        try:
            names = {name.removesuffix(".lock") for name in os.listdir(self._directory)}
        except OSError as error:
            raise CacheError(f"{self._directory} cannot be listed: {error.strerror}", "run-unusable") from None
        return {name for name in names if "." not in name and name != _MADE}

    def forget(self, token: str) -> None:
        """Remove the copy. Raises CacheError."""
        try:
            os.unlink(f"{self._directory}/{token}")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CacheError(f"{self._directory} cannot be changed: {error.strerror}", "run-unusable") from None
