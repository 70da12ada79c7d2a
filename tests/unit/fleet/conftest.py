"""A host that has joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pam_totp.fleet import membership, tree
from tests.unit.member import Member

if TYPE_CHECKING:
    from tests.lab.directory import Directory
    from tests.unit.pretend import Host


@pytest.fixture
def member(host: Host, directory: Directory) -> Member:
    """A host that has joined; nothing is published yet."""
    membership.join(host.paths, directory.url, tree.parse_token(directory.token()), "host.example.org", host.now())
    return Member(host, directory)
