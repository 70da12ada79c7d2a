"""The shorter way by which hosts are answered gives the same answers as Django's."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pam_totp.directory import asgi

if TYPE_CHECKING:
    import pytest

IDENT = "0" * 32


def ask(path: str, host: str = "dir.example.org", body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content, by the application that the web process runs."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST" if body else "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "scheme": "https",
        "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 443),
    }
    asyncio.run(asgi.application(scope, receive, send))
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each["body"] for each in sent[1:])


def test_an_answer_has_the_headers_that_every_answer_has() -> None:
    status, headers, content = ask("/api/v1/claim", body=b"{}")
    assert status == 401
    assert json.loads(content)["error"].startswith("the token is not valid")
    assert headers["content-length"] == str(len(content))
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "set-cookie" not in headers


def test_a_name_that_is_not_the_directorys_is_refused() -> None:
    assert ask(f"/tree/{IDENT}/manifest", host="evil.example")[0] == 400


def test_a_path_that_there_is_not_is_not_found() -> None:
    for path in ("/tree/", "/tree/../manifest", f"/tree/{IDENT}", f"/tree/{IDENT}/objects/keys", "/api/v1/claims"):
        assert ask(path)[0] == 404, path


def test_an_error_tells_a_host_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("pam_totp.directory.hosts.with_bearer", broken)
    status, _, content = ask(f"/tree/{IDENT}/manifest")
    assert status == 500
    assert b"secret" not in content
