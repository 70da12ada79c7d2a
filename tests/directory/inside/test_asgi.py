"""The shorter way by which hosts are answered gives the same answers as Django's."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from pam_totp.directory import api, asgi, hosts, people
from pam_totp.directory.models import Claim, Host
from tests.directory.inside.conftest import enrolled, joined, publish_all

if TYPE_CHECKING:
    from tests.directory.inside.conftest import Keeper

IDENT = "0" * 32


def ask(path: str, host: str = "dir.example.org", body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content, by the application that the web process runs."""
    return asyncio.run(answered(path, host, body))


async def answered(path: str, host: str = "dir.example.org", body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """The same, beside others."""
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
    await asgi.application(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each["body"] for each in sent[1:])


def claims(*asked: tuple[str, object]) -> list[bytes | None]:
    """What is answered to claims that wait together, each a bearer token and fields; None: Django's way answers."""
    waiting = []
    for token, fields in asked:
        scope = scope_of(asgi.CLAIM, {"authorization": f"Bearer {token}"}, "POST")
        waiting.append(asgi._Claim(asgi._bearer(scope), json.dumps(fields).encode()))
        asgi._waiting.put(waiting[-1])
    asgi._claims()
    found = [each.answer.result(0) for each in waiting]
    return [None if each is None else each.content for each in found]


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
    short = asgi._file(scope_of(path, bearer))
    assert short is not None
    assert (short.status, short.content) == (long.status_code, long.content) == (200, short.content)
    said = {name.decode().lower(): value.decode() for name, value in asgi._ALWAYS}
    said |= {name.lower(): value for name, value in short.headers}
    assert said == {name.lower(): value for name, value in long.headers.items()}
    again = asgi._file(scope_of(path, bearer | {"if-none-match": said.get("etag", "")}))
    assert again is not None
    assert (again.status, again.content) == ((304, b"") if name == "manifest" else (200, short.content))


def test_the_shorter_way_has_no_file_for_who_may_not_have_it(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    host, other = joined("web1"), joined("web2")
    publish_all()
    path, bearer = f"/tree/{host.ident}/manifest", {"authorization": f"Bearer {host.token}"}

    def there(path: str = path, headers: dict[str, str] = bearer) -> bool:
        return asgi._file(scope_of(path, headers)) is not None

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
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 0.0)
    assert not there()


def test_that_a_manifest_is_unchanged_is_said_without_the_database_to_who_was_there_lately(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 3600.0)
    monkeypatch.setattr(hosts, "bearers", hosts.Bearers())
    monkeypatch.setattr(hosts, "seen", hosts.Seen())
    host, other = joined("web1"), joined("web2")
    people.add("root", "alice")
    publish_all()
    path = f"/tree/{host.ident}/manifest"

    def asked(path: str = path, token: str = host.token, etag: str = "") -> api.File | None:
        return asgi._unchanged(scope_of(path, {"authorization": f"Bearer {token}", "if-none-match": etag}))

    first = asgi._file(scope_of(path, {"authorization": f"Bearer {other.token}"}))
    assert first is None  # which looks at the trail
    etag = dict(api._read(host.ident, "manifest", "").headers)["ETag"]  # type: ignore[union-attr]  # it is there
    assert asked(etag=etag) is None  # nobody has looked up who that is
    scope = scope_of(path, {"authorization": f"Bearer {host.token}", "if-none-match": etag})
    by_thread = asgi._file(scope)
    assert by_thread is not None
    assert by_thread.status == 304
    with CaptureQueriesContext(connection) as queries:
        assert asked(etag=etag) == by_thread
    assert not queries.captured_queries
    for wrong in ("", "guessed", other.token):
        assert asked(token=wrong, etag=etag) is None, wrong
    assert asked(f"/tree/{other.ident}/manifest", etag=etag) is None
    assert asked(f"/tree/{host.ident}/objects/{'0' * 64}", etag=etag) is None
    for wrong in ("", '"0-0-0"'):
        assert asked(etag=wrong) is None, wrong
    for module, name, value in ((api._hosts, "count", lambda _: 1), (hosts.seen, "lately", lambda _: False)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert asked(etag=etag) is None, name
    people.lock("root", people.find("alice"), locked=True)
    publish_all()
    assert asked(etag=etag) is None
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 0.0)
    assert asked(etag=dict(api._read(host.ident, "manifest", "").headers)["ETag"]) is None  # type: ignore[union-attr]  # the same


def test_who_reads_its_tree_is_looked_up_once_a_minute_and_anew_when_something_happens_to_a_host(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 3600.0)
    host, other = joined("web1"), joined("web2")
    bearers = hosts.Bearers()
    found = bearers.find(host.token)
    assert found is not None
    assert found[1] == host.ident
    with CaptureQueriesContext(connection) as queries:
        assert bearers.find(host.token) == found
    assert not queries.captured_queries
    for _ in range(2):
        assert bearers.find("guessed") is None  # which is not kept
    with CaptureQueriesContext(connection) as queries:
        bearers.find("guessed")
    assert len(queries.captured_queries) == 1

    def looked(token: str) -> int:
        """How often a second later the host is looked up, beside the trail."""
        bearers._looked = time.monotonic() - 7200
        with CaptureQueriesContext(connection) as queries:
            bearers.find(token)
        return len(queries.captured_queries) - 1

    assert looked(host.token) == 0
    people.add("root", "alice")
    assert looked(host.token) == 0  # it is in the trail, and about no host
    hosts.revoke("root", Host.objects.get(name="web2"))
    assert bearers.find(other.token) is None
    assert looked(host.token) == 1
    assert looked(host.token) == 0
    with monkeypatch.context() as patch:
        patch.setattr(bearers, "_latest", (bearers._latest or 0) + 1)  # the database is another one by now
        assert looked(host.token) == 1
    with monkeypatch.context() as patch:
        patch.setattr(hosts, "KNOWN_SECONDS", 0.0)
        bearers._known.clear()
        assert [looked(host.token) for _ in range(2)] == [1, 1]  # that long it is known
    with monkeypatch.context() as patch:
        patch.setattr(hosts, "_MOST_KNOWN", 1)
        last = joined("web3")
        for token in (last.token, host.token):
            bearers.find(token)
        assert [bearers.known(token) is None for token in (last.token, host.token)] == [True, False]
    hosts.revoke("root", Host.objects.get(name="web1"))
    assert bearers.find(host.token) == found  # until it is looked
    assert looked(host.token) == 1
    assert bearers.find(host.token) is None


def test_who_is_looked_up_while_another_is_revoked_is_not_kept(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 0.0)
    host, bearers, known_by = joined("web1"), hosts.Bearers(), hosts.known_by

    def slow(token: str) -> tuple[int, str] | None:
        found = known_by(token)
        hosts.revoke("root", Host.objects.get(name="web1"))
        bearers.find("somebody else's")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(hosts, "known_by", lambda token: slow(token) if token == host.token else None)
        assert bearers.find(host.token) is not None
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 3600.0)
    assert bearers.find(host.token) is None


def test_a_claim_is_answered_as_by_djangos_way_and_won_once_by_both(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    host, (authenticator,) = joined("web1"), person.authenticators.all()
    publish_all()

    def asked(fields: dict[str, object]) -> dict[str, object]:
        return {"authenticator": authenticator.ident, "step": keeper.time.step, "login": "1" * 32, **fields}

    def claim(**fields: object) -> bytes | None:
        (answer,) = claims((host.token, asked(fields)))
        return answer

    def long(**fields: object) -> Any:
        headers: Any = {"HTTP_HOST": "dir.example.org", **host.headers}
        return asgi._answer(RequestFactory(**headers).post(asgi.CLAIM, asked(fields), "application/json", secure=True))

    assert claim() == b'{"claimed": true}'
    again = long()
    assert (again.status_code, again.content) == (200, claim())  # this very login
    said = {name.decode().lower(): value.decode() for name, value in asgi._ALWAYS}
    said |= {name.lower(): value for name, value in asgi._CLAIMED[True].headers}
    assert said == {name.lower(): value for name, value in again.headers.items()}
    assert claim(login="2" * 32) == long(login="2" * 32).content == b'{"claimed": false}'
    # What is refused, Django's way refuses, and nothing was used up before.
    used = Claim.objects.count()
    wrongs: list[dict[str, object]] = [{"step": keeper.time.step + 1000}, {"authenticator": "0" * 32}, {"step": "1"}]
    wrongs += [{"login": "x"}, {"recovery": "0" * 32}]
    for wrong in wrongs:
        assert claim(**wrong) is None, wrong
        assert long(**wrong).status_code in (400, 404), wrong
    assert claims((host.token, []), ("guessed", asked({"step": keeper.time.step + 1}))) == [None, None]
    assert Claim.objects.count() == used


def test_of_claims_that_wait_together_each_has_its_answer(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    one, other, (authenticator,) = joined("web1"), joined("web2"), person.authenticators.all()
    publish_all()
    code = {"authenticator": authenticator.ident, "step": keeper.time.step}
    yes, no = b'{"claimed": true}', b'{"claimed": false}'
    assert claims(
        (one.token, {**code, "login": "1" * 32}),
        (other.token, {**code, "login": "2" * 32}),
        ("guessed", {**code, "step": keeper.time.step + 1}),
        (one.token, {**code, "step": 1 << 80}),
        (other.token, {**code, "step": keeper.time.step + 1, "login": "2" * 32}),
        (one.token, {**code, "login": "1" * 32}),
    ) == [yes, no, None, None, yes, yes]
    by_hosts = Claim.objects.exclude(host=None).order_by("step")
    assert list(by_hosts.values_list("host__name", flat=True)) == ["web1", "web2"]


def test_a_host_that_was_revoked_just_now_claims_nothing(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "LOOKED_SECONDS", 3600.0)
    person, _ = enrolled(keeper, "alice")
    host, (authenticator,) = joined("web1"), person.authenticators.all()
    publish_all()
    code = {"authenticator": authenticator.ident, "step": keeper.time.step, "login": "1" * 32}
    assert claims((host.token, code)) == [b'{"claimed": true}']
    hosts.revoke("root", Host.objects.get(name="web1"))
    assert hosts.bearers.find(host.token) is not None  # it is not known yet
    later = {**code, "step": keeper.time.step + 1}
    assert claims((host.token, later), (host.token, {**code, "login": "2" * 32})) == [None, None]
    assert Claim.objects.exclude(host=None).count() == 1


def test_nobody_has_a_code_where_the_database_fails(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    person, _ = enrolled(keeper, "alice")
    host, (authenticator,) = joined("web1"), person.authenticators.all()
    publish_all()
    took = people.claim

    def full(authenticator: str, step: int, *words: Any, **more: Any) -> bool:
        if step > keeper.time.step:
            raise OperationalError("database or disk is full")
        return took(authenticator, step, *words, **more)

    monkeypatch.setattr(people, "claim", full)
    code = {"authenticator": authenticator.ident, "step": keeper.time.step, "login": "1" * 32}
    # The first one was written, and is not any more: it must not be told that it has the code.
    assert claims((host.token, code), (host.token, {**code, "step": keeper.time.step + 1})) == [None, None]
    assert not Claim.objects.exclude(host=None).exists()


def test_a_claim_does_not_wait_for_files_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def slow(*_: object) -> api.File:
        end.wait(60)
        return asgi._CLAIMED[False]

    monkeypatch.setattr(api, "file", slow)
    monkeypatch.setattr(api, "claimant", lambda _: 1)
    monkeypatch.setattr(api, "claimed", lambda *_: True)
    monkeypatch.setattr(asgi, "_most_together", 1)  # no transaction: the test's own has the database

    async def all_of_them() -> None:
        files = [asyncio.create_task(answered(f"/tree/{IDENT}/manifest")) for _ in range(20)]
        try:
            await asyncio.sleep(0)
            async with asyncio.timeout(30):
                assert (await answered(asgi.CLAIM, body=b"{}"))[2] == b'{"claimed": true}'
            assert not any(each.done() for each in files)
        finally:
            end.set()
            await asyncio.gather(*files)

    asyncio.run(all_of_them())


def test_an_error_tells_a_host_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("pam_totp.directory.hosts.with_bearer", broken)
    status, _, content = ask(f"/tree/{IDENT}/manifest")
    assert status == 500
    assert b"secret" not in content
