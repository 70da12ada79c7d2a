"""Who may ask the verify service: what is kept of a client, and who is known by it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.errors import ConfigError, UsageError
from pam_totp.verify import clients
from pam_totp.verify.clients import Client
from tests.unit.places import KINDS, foreign, replace

if TYPE_CHECKING:
    from tests.unit.pretend import Host


def path(host: Host, name: str = "vpn") -> Path:
    return Path(host.paths.config).parent / "verify" / f"{name}.json"


def test_a_client_is_known_by_its_token_and_by_no_other(host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn", "wifi"], "record", True), host.paths)
    other = clients.add(Client("web", ["web"]), host.paths)
    found = clients.with_token(token, host.paths)
    assert found is not None
    assert (found.name, found.services, found.identity, found.may_know, found.uid) == (
        *("vpn", ["vpn", "wifi"], "record", True, None),
    )
    secret = other.partition(".")[2]
    for wrong in ("", "vpn", "vpn.", f"vpn.{secret}", token[:-1], token + "x", token.upper(), "-.x", "../key.x"):
        assert clients.with_token(wrong, host.paths) is None, wrong


def test_the_token_itself_is_kept_nowhere_and_the_file_is_closed(host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    assert len(token.partition(".")[2]) >= 43  # 256 bits
    assert token.partition(".")[2] not in path(host).read_text("ascii")
    assert path(host).stat().st_mode & 0o777 == 0o600
    assert path(host).parent.stat().st_mode & 0o777 == 0o700


def test_a_client_without_a_token_is_known_by_its_uid_only(host: Host) -> None:
    assert clients.add(Client("portal", ["web"], uid=33), host.paths) == ""
    found = clients.with_uid(33, host.paths)
    assert found is not None
    assert found.name == "portal"
    assert clients.with_uid(34, host.paths) is None
    for token in ("portal", "portal.", "portal." + "-" * 64):
        assert clients.with_token(token, host.paths) is None


def test_neither_a_name_nor_a_uid_is_given_twice(host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    clients.add(Client("portal", ["web"], uid=33), host.paths)
    with pytest.raises(UsageError, match="there is a client vpn already"):
        clients.add(Client("vpn", ["vpn"]), host.paths)
    with pytest.raises(UsageError, match="uid 33 is the client portal already"):
        clients.add(Client("other", ["web"], uid=33), host.paths)
    assert clients.with_token(token, host.paths) is not None


def test_a_client_that_is_removed_is_gone_at_once(host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    assert clients.remove("vpn", host.paths)
    assert clients.with_token(token, host.paths) is None
    assert not clients.remove("vpn", host.paths)
    assert not clients.remove("../config", host.paths)


@pytest.mark.parametrize("name", ["", "VPN", "v p n", "../vpn", "vpn.x", "1vpn", "x" * 33, "vpn\n", "ä"])
def test_a_name_that_could_be_a_path_or_part_of_a_token_is_refused(name: str, host: Host) -> None:
    with pytest.raises(UsageError, match="is no name of a client"):
        clients.add(Client(name, ["vpn"]), host.paths)
    assert clients.load(name, host.paths) is None


@pytest.mark.parametrize("services", [[], [""], ["a b"], ["x" * 65], ["vpn"] * 17, ["vpn\n"], ["-"]])
def test_services_are_like_those_of_pam(services: list[str], host: Host) -> None:
    with pytest.raises(UsageError, match="1 to 16 services"):
        clients.add(Client("vpn", services), host.paths)


BROKEN: list[dict[str, object]] = [
    {"version": 2},
    {"services": []},
    {"services": "vpn"},
    {"services": [1]},
    {"identity": "anybody"},
    {"may_know": "no"},
    {"may_know": 1},
    {"uid": 0},  # and a token
    {"uid": -1},
    {"uid": True},
    {"token_sha256": ""},
    {"token_sha256": "f" * 63},
    {"token_sha256": None},
    {"more": 1},
]


@pytest.mark.parametrize("change", BROKEN, ids=str)
def test_a_file_that_is_not_understood_lets_nobody_ask(change: dict[str, object], host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    good = clients.add(Client("web", ["web"]), host.paths)
    path(host).write_text(json.dumps(json.loads(path(host).read_text("ascii")) | change), "ascii")
    with pytest.raises(ConfigError, match="is not understood"):
        clients.with_token(token, host.paths)
    assert clients.with_token(good, host.paths) is not None
    assert [type(each) for each in clients.everybody(host.paths)] == [ConfigError, Client]


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 9000, b" " * (1 << 15)])
def test_nor_does_one_that_is_no_json_object(content: bytes, host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    path(host).write_bytes(content)
    with pytest.raises(ConfigError):
        clients.with_token(token, host.paths)


def test_a_file_of_somebody_else_or_open_to_others_lets_nobody_ask(host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    path(host).chmod(0o644)
    with pytest.raises(ConfigError, match="is not safe"):
        clients.with_token(token, host.paths)
    path(host).chmod(0o600)
    host.paths.owner = foreign(path(host))
    with pytest.raises(ConfigError, match=r"is not safe|cannot be read"):
        clients.with_token(token, host.paths)


@pytest.mark.parametrize("kind", KINDS)
def test_nor_does_what_is_no_plain_file(kind: str, host: Host) -> None:
    token = clients.add(Client("vpn", ["vpn"]), host.paths)
    replace(path(host), kind)
    with pytest.raises(ConfigError):
        clients.with_token(token, host.paths)


def test_without_a_directory_there_is_nobody(host: Host) -> None:
    assert clients.everybody(host.paths) == []
    assert clients.with_uid(os.geteuid(), host.paths) is None
    Path(path(host).parent).write_text("", "ascii")
    with pytest.raises(ConfigError, match="cannot be read"):
        clients.everybody(host.paths)
