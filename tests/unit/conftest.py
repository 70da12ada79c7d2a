"""Fixtures of the unit tests. Nothing here needs root, and nothing reaches the real syslog, user database or /etc."""

from __future__ import annotations

import hashlib
import pwd
import syslog
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from pam_totp.cache.seal import Sealer
from pam_totp.cache.store import Store
from pam_totp.errors import CacheReadOnlyError
from pam_totp.host import logins, nss, sshd
from pam_totp.login import log
from tests.lab.directory import Directory, served
from tests.unit.pretend import ALICE, BOB, MEMORY, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A busy machine is no reason to fail. What is drawn is the same in every run, but with --full.
hypothesis.settings.register_profile("fast", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("full", deadline=None, max_examples=2000)


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("full" if config.getoption("full") else "fast")


class Passwd(dict[str, pwd.struct_passwd]):
    """The user database: by the name that is looked up, the entry that is found."""

    def add(self, name: str, uid: int, spelled: str | None = None) -> None:
        self[name] = pwd.struct_passwd((spelled or name, "x", uid, uid, "", f"/home/{name}", "/bin/sh"))


@pytest.fixture(autouse=True)
def passwd(monkeypatch: pytest.MonkeyPatch) -> Passwd:
    """The users this host knows: alice and bob, and whom a test adds."""
    users = Passwd()
    users.add(ALICE.name, ALICE.uid)
    users.add(BOB.name, BOB.uid)
    monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: list(users.values()))
    monkeypatch.setattr(logins, "SHADOW", "/nowhere/shadow")
    monkeypatch.setattr(nss, "require_no_user", lambda _: None)
    return users


@pytest.fixture(autouse=True)
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What was sent to syslog: (facility and priority, line). There is no journald, and no sshd, but a test's own."""
    monkeypatch.setattr(log, "JOURNAL", "/nowhere")
    monkeypatch.setattr(sshd, "PROGRAM", "/nowhere")
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "openlog", lambda **_: None)
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: lines.append((priority, line)))
    monkeypatch.setattr(syslog, "closelog", lambda: None)
    return lines


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory of the test's own, in memory."""
    with tempfile.TemporaryDirectory(prefix="pam-totp-", dir=MEMORY) as directory:
        yield Path(directory)


class Disk:
    """Where the cache is; while it is ``full``, the cache takes no writes."""

    full = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that a test can fill."""
    disk = Disk()

    def limited(method: Callable[..., None]) -> Callable[..., None]:
        def write(*arguments: object) -> None:
            if disk.full:
                raise CacheReadOnlyError("the cache cannot be written (SQLITE_FULL): free space")
            method(*arguments)

        return write

    for name in ("update_ledger", "put_account", "put_authenticator", "put_bucket", "delete", "record_event"):
        monkeypatch.setattr(Store, name, limited(getattr(Store, name)))
    return disk


@pytest.fixture
def quick_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash recovery codes in no time. What Argon2id makes of them is tested where it is."""

    def slow_hash(_: Sealer, text: str, salt: bytes) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=16, salt=salt).digest()

    monkeypatch.setattr(Sealer, "slow_hash", slow_hash)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host after ``pam-totp init``."""
    return Host(str(tmp_path))


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and a certificate, made once."""
    folder = tmp_path_factory.mktemp("directory")
    Directory(folder).certify()
    return folder


@pytest.fixture
def directory(certified: Path, tmp_path: Path) -> Iterator[Directory]:
    """A directory that serves."""
    folder = tmp_path / "directory"
    folder.mkdir()
    for name in ("ca.pem", "server.pem"):
        (folder / name).write_bytes((certified / name).read_bytes())
    with contextmanager(served)(Directory(folder)) as running:
        yield running
