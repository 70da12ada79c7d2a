"""Requests to a directory: pinned, bounded, and ended in time."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from pam_totp.errors import FleetError
from pam_totp.fleet import web
from tests.lab.directory import Directory, served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.directory import Directory as Running


def ca_of(directory: Running) -> str:
    return (directory.folder / "ca.pem").read_text()


def digest_of(directory: Running) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca_of(directory))).hexdigest()


def test_the_ca_is_taken_where_its_digest_is_the_token_s(directory: Running) -> None:
    assert web.fetch_ca(directory.url, digest_of(directory), 5).split() == ca_of(directory).split()
    with pytest.raises(FleetError, match="another one") as caught:
        web.fetch_ca(directory.url, "0" * 64, 5)
    assert caught.value.reason == "fleet-tls"


def test_a_server_with_another_ca_is_not_spoken_to(directory: Running, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for running in served(Directory(other)):
        server = web.Web(running.url, ca_of(directory))
        with pytest.raises(FleetError) as caught:
            server.get("/tree", 100, 5)
        assert caught.value.reason == "fleet-tls"


def test_without_a_pin_the_system_s_cas_count(directory: Running) -> None:
    with pytest.raises(FleetError) as caught:
        web.Web(directory.url, "").get("/api/v1/ca", 10_000, 5)
    assert caught.value.reason == "fleet-tls"


def test_a_name_that_is_not_the_certificate_s_is_refused(directory: Running) -> None:
    url = directory.url.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(FleetError) as caught:
        web.Web(url, ca_of(directory)).get("/api/v1/ca", 10_000, 5)
    assert caught.value.reason in ("fleet-tls", "fleet-unreachable")


def test_a_connection_is_kept_and_opened_anew_where_the_server_has_closed_it(directory: Running) -> None:
    server = web.Web(directory.url, ca_of(directory))
    assert server.get("/api/v1/ca", 10_000, 5).status == 200
    (kept,) = server._kept
    assert server.get("/api/v1/ca", 10_000, 5).status == 200
    assert server._kept == [kept]
    directory.misbehave("error")
    assert server.post("/api/v1/claim", {}, 5).status == 500
    directory.misbehave()
    assert server.post("/api/v1/claim", {}, 5).status == 403


@pytest.mark.parametrize("mode", ["slow", "silent", "huge", "no-http"])
def test_every_request_ends_in_time(directory: Running, mode: str) -> None:
    directory.misbehave(mode)
    begin = time.monotonic()
    with pytest.raises(FleetError):
        web.Web(directory.url, ca_of(directory)).get("/tree", 1000, 0.7)
    assert time.monotonic() - begin < 4


def test_a_connection_that_is_kept_ends_in_time_as_well_and_is_not_asked_twice(directory: Running) -> None:
    server = web.Web(directory.url, ca_of(directory))
    server.get("/api/v1/ca", 10_000, 5)
    assert server._kept
    directory.misbehave("slow")
    with pytest.raises(FleetError) as caught:
        server.get("/tree", 10_000_000, 0.7)
    assert caught.value.reason == "fleet-unreachable"
    assert not server._kept


def test_a_server_that_does_not_speak_tls_at_all_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = web.Web(f"https://127.0.0.1:{mute.getsockname()[1]}", "")
        with pytest.raises(FleetError) as caught:
            server.get("/tree", 1000, 0.3)
    assert caught.value.reason == "fleet-unreachable"


def test_who_asks_while_another_waits_has_a_connection_of_its_own_and_the_next_takes_the_last(
    directory: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = web.Web(directory.url, ca_of(directory))
    during: list[int] = []
    answered = web._Connection.getresponse

    def meanwhile(self: web._Connection) -> object:
        if self is first and not during:
            during.append(len(server._kept))
            server.get("/api/v1/ca", 10_000, 5)
        return answered(self)

    server.get("/api/v1/ca", 10_000, 5)
    (first,) = server._kept
    monkeypatch.setattr(web._Connection, "getresponse", meanwhile)
    server.get("/api/v1/ca", 10_000, 5)
    assert during == [0]
    other, last = server._kept
    assert last is first
    assert other is not first
    server.get("/api/v1/ca", 10_000, 5)
    assert server._kept == [other, first]
    server.close()
    assert not server._kept
    assert first.sock is other.sock is None


def test_another_path_of_a_server_is_asked_for_over_the_same_connections_and_another_server_is_not(
    directory: Running,
) -> None:
    server = web.Web(directory.url, ca_of(directory), "token")
    api = server.at(f"{directory.url}/api")
    assert api is not None
    assert api.get("/v1/ca", 10_000, 5).status == 200
    assert server._kept
    for other in ("https://127.0.0.1:1/api", "https://localhost" + directory.url.removeprefix("https://127.0.0.1")):
        assert server.at(other) is None


def test_a_request_goes_out_in_one_piece(directory: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    send = web._Socket.send

    def noted(self: web._Socket, data: bytes, flags: int = 0) -> int:
        sent.append(bytes(data))
        return send(self, data, flags)

    monkeypatch.setattr(web._Socket, "send", noted)
    assert web.Web(directory.url, ca_of(directory)).post("/api/v1/claim", {"step": 7}, 5).status == 403
    (whole,) = sent
    head, _, body = whole.partition(b"\r\n\r\n")
    assert body == b'{"step": 7}'
    assert b"\r\nContent-Length: 11\r\n" in head + b"\r\n"


def test_what_is_no_json_object_is_not_understood(directory: Running) -> None:
    for content in (b"", b"[]", b"7", b"\xff", b"[" * 100_000):
        with pytest.raises(FleetError):
            web.Answer(200, "", content).fields()


@pytest.mark.parametrize(
    "url",
    [
        *("", "dir.example.org", "http://dir.example.org", "https://", "https://a@b", "https://a:x", "file:///"),
        *("https://a/?q", "https://a/ b", "https://a/\u00e9", "https://a/#f"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(FleetError) as caught:
        web.split(url)
    assert caught.value.reason == "fleet-address"


def test_an_address_may_have_a_port_and_a_path() -> None:
    assert web.split("https://dir.example.org:8443/totp/") == ("dir.example.org", 8443, "/totp")
    assert web.split("https://[::1]") == ("::1", 443, "")
