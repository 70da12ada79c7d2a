"""Where a host's folder of the tree can be read: over HTTPS, in a directory (a USB stick), or in a tar file.

Nothing of what is read is believed: the tree is signed and sealed. It is only bounded.
"""

from __future__ import annotations

import os
import stat
import tarfile
import time

from pam_totp.errors import FleetError
from pam_totp.fleet import tree

_SECONDS = 20.0  # of a request
_LARGE_SECONDS = 60.0  # of one whose answer may be large
_IN_ALL = 600.0  # from a manifest to its last object
_MOST_MEMBERS = 1_000_000

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.fleet.web import Web


class Source:
    """A folder of the tree. ``etag``, where it is known, names the manifest that was read last."""

    etag = ""

    def manifest(self) -> bytes | None:
        """The content of the manifest; None where it is the one with the ETag. Raises FleetError."""
        raise NotImplementedError

    def thing(self, name: str, limit: int = tree.OBJECT_LIMIT) -> bytes:
        """The content of an object, or of a bundle, of at most so many bytes. Raises FleetError."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open."""


class WebTree(Source):
    """A folder on a web server."""

    def __init__(self, web: Web, path: str) -> None:
        self._web = web
        self._path = path
        self._end = 0.0

    def manifest(self) -> bytes | None:
        """The content of the manifest; None where the server says that it is unchanged. Raises FleetError."""
        self._end = time.monotonic() + _IN_ALL
        answer = self._web.get(f"{self._path}/manifest", tree.MANIFEST_LIMIT, _SECONDS, self.etag)
        if answer.status == 304 and self.etag:
            return None
        if answer.status != 200:
            raise _refusal(answer.status)
        self.etag = answer.etag
        return answer.content

    def thing(self, name: str, limit: int = tree.OBJECT_LIMIT) -> bytes:
        """The content of an object, or of a bundle, of at most so many bytes. Raises FleetError."""
        seconds = self._seconds(_SECONDS if limit == tree.OBJECT_LIMIT else _LARGE_SECONDS)
        answer = self._web.get(f"{self._path}/objects/{name}", limit, seconds)
        if answer.status != 200:
            raise FleetError(
                f"the manifest names an object that is not there ({name}): the server answers {answer.status}",
                "fleet-incomplete",
            )
        return answer.content

    def _seconds(self, most: float) -> float:
        """How long the next request may take. Raises FleetError: a server that is slow each time ends, too."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise FleetError(f"the tree is not there after {_IN_ALL:.0f} seconds", "fleet-unreachable")
        return min(most, left)

    def close(self) -> None:
        """Close the connection."""
        self._web.close()


class FolderTree(Source):
    """A directory: the host's folder, or one that holds it under the host's id."""

    def __init__(self, path: str, host: str) -> None:
        inner = os.path.join(path, host)
        self._path = inner if os.path.isdir(inner) else path

    def manifest(self) -> bytes:
        """The content of the manifest. Raises FleetError."""
        return self._read("manifest", tree.MANIFEST_LIMIT)

    def thing(self, name: str, limit: int = tree.OBJECT_LIMIT) -> bytes:
        """The content of an object, or of a bundle, of at most so many bytes. Raises FleetError."""
        return self._read(f"objects/{name}", limit)

    def _read(self, name: str, limit: int) -> bytes:
        path = f"{self._path}/{name}"
        try:
            # A FIFO or a device, which a stick can hold, must not block.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FleetError(f"{path} is not a plain file", "fleet-incomplete")
                content = file.read(limit + 1)
        except OSError as error:
            raise FleetError(f"{path} cannot be read: {error.strerror}", "fleet-incomplete") from None
        return _bounded(content, limit, path)


class TarTree(Source):
    """A tar file, not compressed, of such a directory. It is read once, into memory."""

    def __init__(self, path: str, host: str) -> None:
        """Read it. Raises FleetError."""
        self._path = path
        self._found: dict[str, bytes] = {}
        total = 0
        try:
            with tarfile.open(path, "r:") as archive:
                for number, member in enumerate(archive):
                    words = member.name.strip("/").removeprefix("./").removeprefix("tree/").split("/")
                    name = "/".join(words[1:] if words[0] == host else words)
                    kind = name.partition("/")[0]
                    if not member.isreg() or kind not in ("manifest", "objects") or name in self._found:
                        continue
                    limit = tree.MANIFEST_LIMIT if kind == "manifest" else tree.BUNDLE_LIMIT
                    total += member.size
                    if number > _MOST_MEMBERS or member.size > limit or total > tree.TREE_LIMIT:
                        raise FleetError(f"{path} is larger than any host's tree", "fleet-size")
                    file = archive.extractfile(member)
                    self._found[name] = b"" if file is None else file.read(limit)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise FleetError(f"{path} cannot be read as a tar file: {error}", "fleet-incomplete") from None

    def manifest(self) -> bytes:
        """The content of the manifest. Raises FleetError."""
        return self._member("manifest")

    def thing(self, name: str, limit: int = tree.OBJECT_LIMIT) -> bytes:
        """The content of an object, or of a bundle, of at most so many bytes. Raises FleetError."""
        return _bounded(self._member(f"objects/{name}"), limit, name)

    def _member(self, name: str) -> bytes:
        if name not in self._found:
            raise FleetError(f"{self._path} does not hold {name} of this host", "fleet-incomplete")
        return self._found[name]


def _bounded(content: bytes, limit: int, what: str) -> bytes:
    if len(content) > limit:
        raise FleetError(f"{what} is larger than {limit} bytes", "fleet-size")
    return content


def _refusal(status: int) -> FleetError:
    if status == 404:
        return FleetError("the directory has published nothing for this host: look there", "fleet-unpublished")
    if status in (401, 403):
        return FleetError(
            f"the directory does not serve this host (it answers {status}): was it revoked there? "
            "pam-totp leave, and join anew",
            "fleet-denied",
        )
    return FleetError(f"the directory answers {status}: try again later", "fleet-answer")
