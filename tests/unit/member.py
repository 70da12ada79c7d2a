"""A host that has joined a directory which serves over HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.fleet import agent, sync
from pam_totp.fleet import identity as identities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pam_totp.fleet import tree
    from pam_totp.fleet.sync import Result
    from tests.lab.directory import Directory
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
