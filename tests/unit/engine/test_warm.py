"""The process that stays warm: what its forks say and serve, and what it leaves alone."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.engine import helper, pam_entry
from pam_totp.engine import warm as module
from pam_totp.host.paths import Paths
from tests.unit.engine.test_helper import REQUEST, answer_with
from tests.unit.module import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Warm:
    """A process that stays warm behind a socket; what its forks found to be a failure is in `failures`."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = str(place / "login.sock")
        self._failures, said = os.pipe()
        monkeypatch.setattr(pam_entry, "failed", lambda error: os.write(said, type(error).__name__.encode()))
        monkeypatch.setattr(module, "_REHEARSAL", str(place / ".rehearsal"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen()
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    module.stay_warm(os.dup(listener.fileno()))
                finally:
                    os._exit(1)
        os.close(said)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        return connection

    def end(self) -> bytes:
        """End it, and say what failed."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with os.fdopen(self._failures, "rb") as file:
            return file.read()

    def children(self) -> list[str]:
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii").split()


@pytest.fixture
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warm]:
    answer_with(monkeypatch)
    running = Warm(tmp_path, monkeypatch)
    yield running
    assert running.end() == b""


def soon(holds: Callable[[], bool]) -> bool:
    """Whether it holds within some seconds."""
    end = time.monotonic() + 10
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_warm_helper_says_what_it_is_made_of_and_serves(warm: Warm) -> None:
    status = os.stat(helper.__file__)
    with warm.connect() as connection:
        wire = Wire(connection)
        kind, text = wire.receive()
        inode, changed = text.decode().split()
        assert (kind, int(inode)) == (b"H", status.st_ino)
        assert changed == f"{status.st_ctime_ns // 10**9}.{status.st_ctime_ns % 10**9:09}"
        wire.send(b"Q", REQUEST)
        assert wire.receive() == (b"P", b"Code: ")
        wire.send(b"A", b"123456")
        assert wire.receive() == (b"I", b"Thank you.")
        wire.send(b"D")
        assert wire.receive() == (b"R", b"PAM_SUCCESS")
        assert wire.receive() == (b"", b"")


def test_one_that_is_passed_over_ends_and_nothing_is_left_of_it(warm: Warm) -> None:
    for _ in range(3):
        with warm.connect() as connection:
            Wire(connection).receive()
    assert soon(lambda: warm.children() == [])


def test_each_login_has_a_process_in_a_session_of_its_own(warm: Warm) -> None:
    connections = [warm.connect() for _ in range(3)]
    for connection in connections:
        Wire(connection).receive()
        Wire(connection).send(b"Q", REQUEST)
        assert Wire(connection).receive()[0] == b"P"
    children = warm.children()
    assert len(children) == 3
    assert [os.getsid(int(child)) for child in children] == [int(child) for child in children]
    for child in children:
        assert sorted(os.listdir(f"/proc/{child}/fd"), key=int) == ["0", "1", "2", "3"]
    for connection in connections:
        connection.close()
    assert soon(lambda: warm.children() == [])


def test_the_warm_process_itself_opens_neither_key_nor_cache_nor_settings(warm: Warm) -> None:
    with warm.connect() as connection:
        Wire(connection).receive()
    assert soon(lambda: warm.children() == [])
    opened = [os.readlink(f"/proc/{warm.pid}/fd/{each}") for each in os.listdir(f"/proc/{warm.pid}/fd")]
    assert not [name for name in opened if name.endswith((".db", ".toml", "/key"))]


@pytest.mark.parametrize(("what", "imports"), [("config.toml", "_import_parsers"), ("agent", "_import_fleet")])
def test_what_only_some_hosts_need_is_imported_once_this_is_one(
    what: str, imports: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = tmp_path / "imported"
    first, _, cache, _, *others = Paths.__init__.__defaults__ or ()
    changed = (first, str(tmp_path / "config.toml"), cache, str(tmp_path), *others)
    monkeypatch.setattr(Paths.__init__, "__defaults__", changed)
    monkeypatch.setattr(module, imports, lambda: imported.open("a").write("x"))
    answer_with(monkeypatch)
    warm = Warm(tmp_path, monkeypatch)
    for found in (False, False, True, True):
        if found:
            (tmp_path / what).touch()
        # One that was waiting already looks before the next one.
        for _ in range(2):
            with warm.connect() as connection:
                assert Wire(connection).receive()[0] == b"H"
        assert imported.exists() == found
    assert warm.end() == b""
    assert imported.read_text() == "x"


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="socket"):
        module.stay_warm(descriptor)
    os.close(descriptor)
