"""The shorter way by which hosts are answered gives the same answers as Django's."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from django.test import RequestFactory

from pam_totp.directory import api, asgi, hosts, people
from pam_totp.directory.models import Claim, Host
from tests.directory.inside.conftest import enrolled, joined, publish_all

if TYPE_CHECKING:
    from tests.directory.inside.conftest import Keeper

IDENT = "0" * 32


def ask(path: str, host: str = "dir.example.org", body: bytes = b"", **more: str) -> tuple[int, dict[str, str], bytes]:
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


def scope_of(path: str, headers: dict[str, str], method: str = "GET") -> dict[str, Any]:
    found = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"method": method, "path": path, "headers": found, "client": ("192.0.2.1", 1)}


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


@pytest.mark.parametrize("name", ["manifest", "objects"])
def test_a_file_of_the_tree_goes_out_as_by_djangos_way(keeper: Keeper, name: str) -> None:
    people.add("root", "alice")
    host = joined("web1")
    publish_all()
    path = f"/tree/{host.ident}/" + (name if name != "objects" else f"objects/{host.manifest(keeper).records[0]}")
    bearer = {"authorization": f"Bearer {host.token}"}
    headers: Any = {"HTTP_HOST": "dir.example.org", **host.headers}
    long = asgi._answer(RequestFactory(**headers).get(path, secure=True))
    short = asgi._short(scope_of(path, bearer), b"")
    assert short is not None
    assert (short.status, short.content) == (long.status_code, long.content) == (200, short.content)
    said = {name.decode().lower(): value.decode() for name, value in asgi._ALWAYS}
    said |= {name.lower(): value for name, value in short.headers}
    assert said == {name.lower(): value for name, value in long.headers.items()}
    again = asgi._short(scope_of(path, bearer | {"if-none-match": said.get("etag", "")}), b"")
    assert again is not None
    assert (again.status, again.content) == ((304, b"") if name == "manifest" else (200, short.content))


def test_the_shorter_way_has_no_file_for_who_may_not_have_it(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    host, other = joined("web1"), joined("web2")
    publish_all()
    path, bearer = f"/tree/{host.ident}/manifest", {"authorization": f"Bearer {host.token}"}

    def there(path: str = path, headers: dict[str, str] = bearer) -> bool:
        return asgi._short(scope_of(path, headers), b"") is not None

    assert there()
    for wrong in ("", "Bearer", "Bearer guessed", f"Basic {host.token}", f"Bearer {other.token}", "Bearer \xff"):
        assert not there(headers={"authorization": wrong}), wrong
    for wrong in (f"{path}/", f"/tree/{host.ident}/bundle", f"/tree/{host.ident}/objects/keys", path.upper()):
        assert not there(wrong), wrong
    assert not there(f"/tree/{host.ident}/../{other.ident}/manifest")
    with monkeypatch.context() as patch:
        patch.setattr(api._hosts, "count", lambda _: 1)
        assert not there()
    hosts.revoke("root", Host.objects.get(name="web1"))
    assert not there()


def test_a_claim_is_answered_as_by_djangos_way_and_won_once_by_both(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    host, (authenticator,) = joined("web1"), person.authenticators.all()
    publish_all()
    bearer: Any = {"authorization": f"Bearer {host.token}"}

    def claim(**fields: object) -> Any:
        asked = {"authenticator": authenticator.ident, "step": keeper.time.step, "login": "1" * 32, **fields}
        return asgi._short(scope_of(asgi.CLAIM, bearer, "POST"), json.dumps(asked).encode())

    def long(**fields: object) -> Any:
        asked = {"authenticator": authenticator.ident, "step": keeper.time.step, "login": "1" * 32, **fields}
        headers: Any = {"HTTP_HOST": "dir.example.org", **host.headers}
        return asgi._answer(RequestFactory(**headers).post(asgi.CLAIM, asked, "application/json", secure=True))

    assert claim().content == b'{"claimed": true}'
    again = long()
    assert (again.status_code, again.content) == (200, claim().content)  # this very login
    said = {name.decode().lower(): value.decode() for name, value in asgi._ALWAYS}
    said |= {name.lower(): value for name, value in claim().headers}
    assert said == {name.lower(): value for name, value in again.headers.items()}
    assert claim(login="2" * 32).content == long(login="2" * 32).content == b'{"claimed": false}'
    # What is refused, Django's way refuses, and nothing was used up before.
    used = Claim.objects.count()
    wrongs: list[dict[str, object]] = [{"step": keeper.time.step + 1000}, {"authenticator": "0" * 32}, {"step": "1"}]
    wrongs += [{"login": "x"}, {"recovery": "0" * 32}]
    for wrong in wrongs:
        assert claim(**wrong) is None, wrong
        assert long(**wrong).status_code in (400, 404), wrong
    assert asgi._short(scope_of(asgi.CLAIM, bearer, "POST"), b"[") is None
    bearer["authorization"] = "Bearer guessed"
    assert claim() is None
    assert Claim.objects.count() == used


def test_an_error_tells_a_host_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("pam_totp.directory.hosts.with_bearer", broken)
    status, _, content = ask(f"/tree/{IDENT}/manifest")
    assert status == 500
    assert b"secret" not in content
