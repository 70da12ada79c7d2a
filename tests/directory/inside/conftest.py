"""Runs in a Debian 13 (tests/directory/lane.py): a database and a real keeper behind a real socket for each test."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from pam_totp.directory import config, hosts, people, publish, throttle
from pam_totp.directory.keeper import client, keys, server, state, work
from pam_totp.directory.models import HostGroup, Person, hash_of
from pam_totp.factors import otp
from pam_totp.fleet import tree
from pam_totp.host.clock import Moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = "192.0.2.1"


@pytest.fixture(autouse=True)
def _database(db: None) -> None:
    """A database of its own for each test."""


@pytest.fixture(autouse=True)
def _no_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle.Throttle, "count", lambda *_: 0)


@dataclass
class Time:
    """The keeper's clock, which a test can set forward."""

    ahead: float = 0.0

    def now(self) -> Moment:
        return Moment(time.time() + self.ahead, "boot", 1000 + self.ahead)

    @property
    def step(self) -> int:
        return otp.step_at(self.now().wall)


@dataclass
class Keeper:
    """A keeper at work: its keys, what it remembers, its clock, and what it has logged."""

    keys: keys.Keys
    state: state.State
    time: Time
    log: list[str] = field(default_factory=list)


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A real one, which root asks over its socket."""
    made = keys.new()
    (tmp_path / "identity").write_bytes(keys.identity_text(keys.identity_of(made)))
    for name in ("TREE", "SOCKET", "IDENTITY"):
        monkeypatch.setattr(config, name, str(tmp_path / name.lower()))
    os.mkdir(config.TREE)
    found = Keeper(made, state.State(str(tmp_path / "keeper.db")), Time())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(config.SOCKET)
    listener.listen()
    running = server.Server(work.Keeper(made, found.state, found.time.now), {0}, found.log.append)
    threading.Thread(target=running.run, args=(listener,), daemon=True).start()
    client.close()
    yield found
    client.close()


def key_of(text: str) -> bytes:
    """A key in base32 as bytes."""
    import base64

    return base64.b32decode(text + "=" * (-len(text) % 8))


def enrolled(keeper: Keeper, name: str) -> tuple[Person, bytes]:
    """A person with an authenticator, and its secret. The code of two steps ago is spent."""
    person = people.add("root", name)
    _, key = people.begin("root", person, "phone")
    keeper.time.ahead -= 60
    assert people.confirm("root", person, otp.hotp(key_of(key), keeper.time.step), SOURCE).accepted
    keeper.time.ahead += 60
    return person, key_of(key)


@dataclass
class JoinedHost:
    """A host: its id, its private key and its bearer token."""

    ident: str
    private: bytes
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"HTTP_AUTHORIZATION": f"Bearer {self.token}"}

    def manifest(self, keeper: Keeper) -> tree.Manifest:
        """Its manifest, as it takes it."""
        with open(os.path.join(config.TREE, self.ident, "manifest"), "rb") as file:
            content = file.read()
        manifest = tree.open_manifest(content, keys.identity_of(keeper.keys).signing)
        tree.order(manifest, tree.digest(content), keeper.keys.directory, self.ident, None)
        return manifest

    def records(self, keeper: Keeper) -> dict[str, tree.Record]:
        """Its records, by name."""
        found = [tree.open_record(each, self.ident, self.private) for each in self.objects(keeper).values()]
        tree.check_together(found)
        return {each.name: each for each in found}

    def objects(self, keeper: Keeper) -> dict[str, bytes]:
        """The objects of its records in force, by their hashes."""
        manifest = self.manifest(keeper)
        bundled = {}
        if manifest.bundle is not None:
            bundled = tree.unbundle(self._file(manifest.bundle), manifest.bundle)
        return {each: bundled.get(each) or self._object(each) for each in manifest.in_force(bundled)}

    def policy(self, keeper: Keeper) -> tree.Policy:
        """Its policy."""
        name = self.manifest(keeper).policy
        assert name is not None
        return tree.open_policy(self._object(name), self.ident, self.private)

    def _object(self, name: str) -> bytes:
        content = self._file(name)
        tree.check_object(content, name)
        return content

    def _file(self, name: str) -> bytes:
        with open(os.path.join(config.TREE, self.ident, "objects", name), "rb") as file:
            return file.read()


def joined(name: str, group: str = "hosts") -> JoinedHost:
    """A host that has joined."""
    text = hosts.new_token("root", HostGroup.objects.get(name=group), name, 1, "")
    private, public = tree.new_box_key()
    bearer = secrets.token_urlsafe(32)
    host = hosts.join(tree.parse_token(text).secret, name, public, hash_of(bearer), SOURCE)
    return JoinedHost(host.ident, private, bearer)


def publish_all() -> int:
    """Publish what has changed."""
    return publish.once(timezone.now(), root=config.TREE)
