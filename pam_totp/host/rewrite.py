"""Files of the system that are changed and put back: always in one step, with owner, mode and extended attributes."""

from __future__ import annotations

import base64
import os
import stat

from pam_totp.host import files

LIMIT = 1 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class State:
    """A file as it is, or was, at a path: its content and what goes with it. ``content`` is None where none was.

    A symbolic link has a ``link``, what it points to, and nothing else.
    """

    __slots__ = ("attributes", "content", "gid", "link", "mode", "uid")

    def __init__(
        self,
        content: bytes | None = None,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        attributes: dict[str, bytes] | None = None,
        link: str | None = None,
    ) -> None:
        self.content = content
        self.link = link
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.attributes = attributes or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.plain() == other.plain()

    __hash__ = None  # type: ignore[assignment] # it can be compared, and has no other use

    @property
    def text(self) -> str:
        """The content; bytes that are no UTF-8 go through unchanged."""
        return (self.content or b"").decode("utf-8", "surrogateescape")

    def with_text(self, text: str) -> State:
        """The same file with another content."""
        return State(text.encode("utf-8", "surrogateescape"), self.mode, self.uid, self.gid, self.attributes)

    def plain(self) -> dict[str, Any]:
        """As JSON keeps it."""
        if self.link is not None:
            return {"content": None, "link": self.link}
        if self.content is None:
            return {"content": None}
        return {
            "content": base64.b64encode(self.content).decode("ascii"),
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "attributes": {name: base64.b64encode(value).decode("ascii") for name, value in self.attributes.items()},
        }

    @classmethod
    def from_plain(cls, kept: dict[str, Any]) -> State:
        """What ``plain`` has made. Raises KeyError, TypeError or ValueError for anything else."""
        if kept["content"] is None:
            return cls(link=None if kept.get("link") is None else str(kept["link"]))
        attributes = {str(name): base64.b64decode(value) for name, value in kept["attributes"].items()}
        content = base64.b64decode(kept["content"], validate=True)
        return cls(content, int(kept["mode"]), int(kept["uid"]), int(kept["gid"]), attributes)


def look(path: str, owner: int, *, links: bool = False) -> State:
    """The file at ``path`` now: a plain one of ``owner`` that nobody else can write, or none.

    With ``links`` it can be a symbolic link.
    Raises UnsafeFileError, or OSError.
    """
    try:
        files.check_parents(path, owner)
        if links and os.path.islink(path):
            return State(link=os.readlink(path))
        content = files.read(path, owner, LIMIT, private=False)
    except FileNotFoundError:
        return State()
    status = os.lstat(path)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        names = []  # a file system without any
    attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return State(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, attributes)


def put(path: str, state: State) -> None:
    """Have the file at ``path`` be this, in one step and durably: who reads it sees the old one or the new one.

    Raises OSError; the old one is there then.
    """
    if state.content is None and state.link is None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        files.sync_directory(os.path.dirname(path))
        return
    # Neither PAM nor sshd reads a name like this one.
    temporary = f"{path}.pam-totp-new"
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        pass
    try:
        if state.link is not None:
            os.symlink(state.link, temporary)
        else:
            _write(temporary, state)
        os.rename(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        raise
    files.sync_directory(os.path.dirname(path))


def _write(path: str, state: State) -> None:
    """Write a new file with all that goes with it.

    It is named once: in a directory of somebody else's, as FreeRADIUS has one, the name could be another file later.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(state.content or b"")
        file.flush()
        os.fchown(descriptor, state.uid, state.gid)
        os.fchmod(descriptor, state.mode)
        for name, value in state.attributes.items():
            os.setxattr(descriptor, name, value)
        os.fsync(descriptor)
