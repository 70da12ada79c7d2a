"""A directory that serves over HTTPS, and a host that has joined it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pam_totp.fleet import agent, membership, sync, tree
from pam_totp.fleet import identity as identities
from tests.lab.directory import Directory, served

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pam_totp.fleet.sync import Result
    from tests.unit.pretend import Host


class Member:
    """A host of a directory."""

    def __init__(self, host: Host, directory: Directory) -> None:
        self.host = host
        self.directory = directory

    def publish(self, records: Iterable[tree.Record], policy: tree.Policy | None = None) -> None:
        """Publish for this host, at its own time."""
        self.directory.publish(records, policy, host=self.identifier, issued=int(self.host.wall))

    @property
    def identifier(self) -> str:
        with self.host.accounts() as accounts:
            return identities.require(accounts).host

    def sync(self) -> Result:
        """One pass."""
        with self.host.accounts() as accounts:
            identity = identities.require(accounts)
        source = agent.source_of(identity)
        try:
            return sync.run(self.host.paths, source, self.host.now(), 1)
        finally:
            source.close()

    def take(self, records: Iterable[tree.Record], policy: tree.Policy | None = None) -> Result:
        """Publish and sync."""
        self.publish(records, policy)
        return self.sync()


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


@pytest.fixture
def member(host: Host, directory: Directory) -> Member:
    """A host that has joined; nothing is published yet."""
    membership.join(host.paths, directory.url, tree.parse_token(directory.token()), "host.example.org", host.now())
    return Member(host, directory)
