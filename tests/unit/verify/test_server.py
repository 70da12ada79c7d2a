"""The verify service over real sockets: who is listened to, what is answered, and what a rude client can spoil."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.verify import api, clients, server, wire, workers
from pam_totp.verify.clients import Client
from pam_totp.verify.workers import WorkerError
from tests.unit.pretend import HERE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pam_totp.host.paths import Paths
    from pam_totp.login.attempt import Clock
    from pam_totp.verify.api import Answer, Question
    from tests.unit.pretend import Host

    Journal = list[tuple[int, str]]

VPN = Client("radius", ["vpn", "wifi"], may_know=True)
PORTAL = Client("portal", ["web"])
SAME = {"result": False, "message": "That code was not accepted."}


class InProcess:
    """A worker in the test's own process, whose log the test can read."""

    broken = False
    made = 0

    def __init__(self, paths: Paths, now: Clock) -> None:
        self._paths, self._now = paths, now
        InProcess.made += 1

    async def ask(self, client: Client, question: Question, code: str | None) -> Answer:
        await asyncio.sleep(0)
        if InProcess.broken:
            raise WorkerError
        message = {
            "client": [client.name, client.services, client.identity, client.may_know],
            "question": [question.user, question.service, question.source],
            "code": code,
        }
        return workers.answer_to(json.loads(json.dumps(message)), self._paths, self._now)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is forked, and nobody waits for the grid."""
    InProcess.broken = False
    InProcess.made = 0
    monkeypatch.setattr(server, "Worker", InProcess)
    monkeypatch.setattr(server, "GRID", 0.01)


@pytest.fixture
def tokens(host: Host) -> dict[str, str]:
    """The tokens of two clients."""
    return {client.name: clients.add(client, host.paths) for client in (VPN, PORTAL)}


class Asker:
    """Somebody who talks to the service."""

    def __init__(self, path: str, tokens: dict[str, str]) -> None:
        self.path = path
        self._tokens = tokens

    async def raw(self, content: bytes, *, end: bool = True) -> bytes:
        """All that is answered to these bytes, until the service hangs up."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(content)
            if end:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def ask(self, path: str, client: str = "radius", **fields: str) -> tuple[int, Any]:
        """The status and the object that are answered to a request of a client."""
        body = json.dumps(fields).encode()
        return read(await self.raw(request(path, self._tokens.get(client, client), body)))


def request(path: str, token: str, body: bytes, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *more]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += ["Content-Type: application/json"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def read(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), answer
    return int(head[9:12]), json.loads(body)


def run(host: Host, tokens: dict[str, str], body: Callable[[Asker], Coroutine[Any, Any, Any]]) -> Any:
    """Do something while the service runs."""
    path = f"{host.root}/verify.sock"

    async def both() -> Any:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.setblocking(False)
            serving = asyncio.create_task(server.Service(host.paths, host.now).run([listener]))
            await asyncio.sleep(0)
            try:
                return await asyncio.wait_for(body(Asker(path, tokens)), 60)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                os.unlink(path)

    return asyncio.run(both())


def one(host: Host, tokens: dict[str, str], path: str, client: str = "radius", **fields: str) -> tuple[int, Any]:
    answer: tuple[int, Any] = run(host, tokens, lambda asker: asker.ask(path, client, **fields))
    return answer


def test_a_user_begins_and_ends_with_a_state_that_is_good_once(host: Host, tokens: dict[str, str]) -> None:
    secret = host.enroll()

    async def body(asker: Asker) -> None:
        status, begun = await asker.ask("/v1/start", user="alice", source=HERE)
        assert (status, begun["action"], begun["prompt"]) == (200, "ask", "Verification code: ")
        status, told = await asker.ask("/v1/verify", state=begun["state"], code=host.code(secret))
        assert (status, told["result"], told["outcome"]) == (200, True, "accepted")
        status, told = await asker.ask("/v1/verify", state=begun["state"], code=host.code(secret, 1))
        assert (status, told["result"], told["reason"]) == (403, False, "unknown-state")
        # Nor is it good once a wrong code was tried with it.
        _, begun = await asker.ask("/v1/start", user="alice")
        assert (await asker.ask("/v1/verify", state=begun["state"], code=host.wrong(secret)))[0] == 403
        assert (await asker.ask("/v1/verify", state=begun["state"], code=host.code(secret, 1)))[0] == 403

    run(host, tokens, body)


def test_a_state_is_its_clients_and_its_users(host: Host, tokens: dict[str, str], journal: Journal) -> None:
    secret = host.enroll()

    async def body(asker: Asker) -> None:
        _, begun = await asker.ask("/v1/start", user="alice")
        stolen = await asker.ask("/v1/verify", "portal", state=begun["state"], code=host.code(secret))
        assert stolen == (403, SAME)
        status, told = await asker.ask("/v1/verify", state=begun["state"], user="alice", code=host.code(secret))
        assert (status, told["result"]) == (200, True)
        _, begun = await asker.ask("/v1/start", user="alice")
        status, told = await asker.ask("/v1/verify", state=begun["state"], user="bob", code=host.code(secret, 1))
        assert (status, told["reason"]) == (403, "state-of-another")

    run(host, tokens, body)
    assert any("reason=unknown-state" in line for _, line in journal)


def test_a_state_ends_after_some_minutes_and_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    states, question = server.States(), api.Question("alice", "vpn", "")
    state = states.keep(VPN, question, 100.0)
    assert states.take(PORTAL, state, 100.0) is None
    assert states.take(VPN, state, 399.0) is question
    assert states.take(VPN, state, 399.0) is None
    old = states.keep(VPN, question, 100.0)
    assert states.take(VPN, old, 400.0) is None
    monkeypatch.setattr(server, "MOST_STATES", 3)
    kept = [states.keep(VPN, question, 500.0) for _ in range(5)]
    assert [states.take(VPN, each, 500.0) is question for each in kept] == [False, False, True, True, True]


def test_without_a_state_a_user_and_a_code_are_enough(host: Host, tokens: dict[str, str]) -> None:
    secret = host.enroll()
    answer = one(host, tokens, "/v1/verify", user="alice", service="wifi", code=host.code(secret))
    assert answer == (200, {"result": True, "outcome": "accepted", "reason": "code", "message": ""})


def test_who_is_not_asked_is_told_to_a_client_that_may_know(host: Host, tokens: dict[str, str]) -> None:
    told = {"action": "skip", "outcome": "skipped", "reason": "not-enrolled", "message": ""}
    assert one(host, tokens, "/v1/start", user="bob") == (200, told)
    assert one(host, tokens, "/v1/verify", user="bob", code="")[0] == 200
    host.configure('unenrolled = "deny"\n')
    status, told = one(host, tokens, "/v1/start", user="bob")
    assert (status, told["action"], told["reason"]) == (403, "refuse", "not-enrolled")
    assert told["message"].startswith("A verification code is required here")


def test_to_another_client_all_names_look_alike(host: Host, tokens: dict[str, str]) -> None:
    secret = host.enroll()

    async def body(asker: Asker) -> None:
        seen = set()
        for name in ("alice", "bob", "mallory", "a/b"):
            status, begun = await asker.ask("/v1/start", "portal", user=name)
            assert len(begun.pop("state")) == 32
            seen.add((status, str(begun)))
            for code in (host.wrong(secret), "", "x"):
                assert await asker.ask("/v1/verify", "portal", user=name, code=code) == (403, SAME)
        for _ in range(3):
            assert await asker.ask("/v1/verify", "portal", user="alice", code=host.wrong(secret)) == (403, SAME)
        # She has to wait now, and that looks like the rest.
        assert await asker.ask("/v1/verify", "portal", user="alice", code=host.code(secret)) == (403, SAME)
        seen.add((status, str(begun)))
        assert len(seen) == 1

    run(host, tokens, body)


def test_and_their_refusals_take_the_same_time(
    host: Host, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GRID", 0.5)
    host.enroll()
    slow = InProcess.ask

    async def ask(self: InProcess, client: Client, question: Question, code: str | None) -> Answer:
        if question.user == "alice":
            await asyncio.sleep(0.2)
        return await slow(self, client, question, code)

    monkeypatch.setattr(InProcess, "ask", ask)

    async def body(asker: Asker) -> list[float]:
        found = []
        for name in ("alice", "mallory"):
            began = time.perf_counter()
            assert await asker.ask("/v1/verify", "portal", user=name, code="111111") == (403, SAME)
            found.append(time.perf_counter() - began)
        return found

    # A busy machine may miss a whole step of the grid, but comes to no time between two.
    assert all(seconds >= 0.5 for seconds in run(host, tokens, body))


def test_the_portal_gets_the_answer_that_it_wants(host: Host, tokens: dict[str, str]) -> None:
    secret = host.enroll()
    right = {"user": "alice", "code": host.code(secret), "mail": "alice@example.org"}
    status, told = one(host, tokens, "/v1/lemonldap", "portal", **right)
    assert (status, told["result"]) == (200, True)
    assert one(host, tokens, "/v1/lemonldap", "portal", **right) == (200, {"result": False})
    assert one(host, tokens, "/v1/lemonldap", "portal", user="mallory", code="1") == (200, {"result": False})
    assert one(host, tokens, "/v1/lemonldap", "nobody", **right)[0] == 401


def test_a_proxy_can_ask_with_headers(host: Host, tokens: dict[str, str]) -> None:
    secret = host.enroll()

    async def body(asker: Asker) -> None:
        more = ["Totp-User: alice", f"Totp-Code: {host.code(secret)}", f"Totp-Source: {HERE}"]
        asked = request("/v1/auth", tokens["portal"], b"", *more, method="GET")
        assert read(await asker.raw(asked))[0] == 200
        assert read(await asker.raw(asked)) == (403, SAME)
        assert read(await asker.raw(request("/v1/auth", tokens["portal"], b"", method="GET")))[0] == 400

    run(host, tokens, body)


@pytest.mark.parametrize("token", ["", "radius", "radius.x", "portal.x", "nobody.x", "."])
def test_who_shows_no_right_token_learns_nothing(
    token: str, host: Host, tokens: dict[str, str], journal: Journal
) -> None:
    secret = host.enroll()

    async def body(asker: Asker) -> None:
        content = json.dumps({"user": "alice", "code": host.code(secret)}).encode()
        for path in ("/v1/start", "/v1/verify", "/v1/lemonldap", "/", "/v2"):
            answer = await asker.raw(request(path, token, content))
            assert read(answer)[0] == 401
            assert b"Connection: close" in answer

    run(host, tokens, body)
    # Five times, and one line.
    assert [line for _, line in journal] == [
        'pam_totp(verify:auth): user=- service=verify rhost=- outcome=refused reason=unknown-client detail="1 times"'
    ]
    assert host.account().ledger.last_success is None


def test_a_client_on_the_unix_socket_is_known_by_its_uid(host: Host) -> None:
    secret = host.enroll()
    assert one(host, {}, "/v1/verify", "", user="alice", code=host.code(secret))[0] == 401
    clients.add(Client("me", ["web"], uid=os.geteuid()), host.paths)
    assert one(host, {}, "/v1/verify", "", user="alice", code=host.code(secret))[0] == 200
    # A token that is wrong is not made good by that.
    assert one(host, {}, "/v1/verify", "me.x", user="alice", code=host.code(secret, 1))[0] == 401


def test_over_tcp_nobody_is_known_by_a_uid(host: Host) -> None:
    clients.add(Client("root", ["web"], uid=os.geteuid()), host.paths)

    async def ask() -> bytes:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            serving = asyncio.create_task(server.Service(host.paths, host.now).run([listener]))
            await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(request("/v1/start", "", b'{"user": "alice"}'))
            answer = await reader.read()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return answer

    assert read(asyncio.run(ask()))[0] == 401


def test_a_client_whose_file_is_broken_is_told_nothing_and_the_log_says_why(
    host: Host, tokens: dict[str, str], journal: Journal
) -> None:
    os.chmod(f"{os.path.dirname(host.paths.config)}/verify/radius.json", 0o644)
    status, told = one(host, tokens, "/v1/start", user="alice")
    assert status == 503
    assert "administrator" in told["error"]
    assert "outcome=misconfigured reason=bad-config" in journal[-1][1]


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/", {}, 404),
        ("/v1", {}, 404),
        ("/v1/verify/", {"user": "alice", "code": "1"}, 404),
        ("/v2/verify", {"user": "alice", "code": "1"}, 404),
        ("/v1/verify", {}, 400),
        ("/v1/verify", {"code": "1"}, 400),
        ("/v1/verify", {"user": "", "code": "1"}, 400),
        ("/v1/verify", {"user": "alice", "code": "1" * 65}, 400),
        ("/v1/verify", {"user": "alice", "code": "1", "more": "x"}, 400),
        ("/v1/verify", {"user": "alice", "code": "1", "service": "sshd"}, 400),
        ("/v1/verify", {"user": "alice", "code": "1", "source": "a b"}, 400),
        ("/v1/verify", {"user": "alice", "code": "1", "source": "x" * 254}, 400),
        ("/v1/verify", {"user": "alice", "code": "1", "source": "a\nb"}, 400),
        ("/v1/start", {"user": "alice", "code": "1"}, 400),
        ("/v1/start", {"state": "x"}, 400),
    ],
)
def test_what_is_not_understood_is_refused(
    path: str, fields: dict[str, str], status: int, host: Host, tokens: dict[str, str]
) -> None:
    answer, told = one(host, tokens, path, **fields)
    assert answer == status
    assert told["error"]


def test_another_method_is_refused(host: Host, tokens: dict[str, str]) -> None:
    async def body(asker: Asker) -> None:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            answer = await asker.raw(request("/v1/verify", tokens["radius"], b"", method=method))
            assert read(answer)[0] == 405

    run(host, tokens, body)


def test_a_connection_is_kept_for_the_next_request(host: Host, tokens: dict[str, str]) -> None:
    asked = request("/v1/start", tokens["radius"], b'{"user": "alice"}')
    closing = request("/v1/start", tokens["radius"], b'{"user": "alice"}', "Connection: close", "Expect: 100-continue")

    async def body(asker: Asker) -> bytes:
        return await asker.raw(asked * 3 + closing + asked, end=False)

    answers = run(host, tokens, body)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.count(b"HTTP/1.1 100 Continue") == 1
    assert answers.count(b"Connection: close") == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 401),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 10_000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    ],
)
def test_what_is_no_request_is_answered_and_ends_the_connection(
    content: bytes, status: int, host: Host, tokens: dict[str, str]
) -> None:
    assert read(run(host, tokens, lambda asker: asker.raw(content, end=False)))[0] == status


def test_a_client_that_says_nothing_or_stops_in_the_middle_is_let_go(
    host: Host, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SECONDS_TO_ASK", 0.2)
    monkeypatch.setattr(server, "SECONDS_IDLE", 0.2)
    whole = request("/v1/start", tokens["radius"], b'{"user": "alice"}')

    async def body(asker: Asker) -> None:
        for part in (b"", b"P", whole[:40], whole[:-1]):
            assert await asker.raw(part, end=False) == b""
        assert (await asker.raw(whole, end=False)).count(b"200 OK") == 1  # and then it is idle

    run(host, tokens, body)


def test_those_who_only_connect_keep_no_client_out(
    host: Host, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 10)

    async def body(asker: Asker) -> None:
        reader, writer = await asyncio.open_unix_connection(asker.path)
        asked = request("/v1/start", tokens["radius"], b'{"user": "alice"}')
        writer.write(asked)
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        strangers = [await asyncio.open_unix_connection(asker.path) for _ in range(50)]
        assert (await asker.ask("/v1/start", user="alice"))[0] == 200
        # The client that was there before is still connected; the strangers went first.
        writer.write(asked)
        assert b"200 OK" in await reader.read(1 << 16) + await reader.readuntil(b"\r\n\r\n")
        for _, each in [*strangers, (reader, writer)]:
            each.close()

    run(host, tokens, body)


def test_a_worker_that_fails_is_replaced_and_lets_nobody_in(host: Host, tokens: dict[str, str]) -> None:
    secret = host.enroll()

    async def body(asker: Asker) -> None:
        InProcess.broken = True
        for _ in range(2 * server.WORKERS):
            status, told = await asker.ask("/v1/verify", user="alice", code=host.code(secret))
            assert (status, told["result"]) == (503, False)
        assert (await asker.ask("/v1/lemonldap", user="alice", code=host.code(secret)))[0] == 503
        assert (await asker.ask("/v1/start", user="alice"))[1]["action"] == "refuse"
        InProcess.broken = False
        assert (await asker.ask("/v1/verify", user="alice", code=host.code(secret)))[0] == 200

    run(host, tokens, body)
    assert InProcess.made == server.WORKERS + 2 * server.WORKERS + 2


def test_one_user_holds_one_worker_and_too_many_requests_are_turned_away(
    host: Host, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy: list[str] = []
    most = []
    go_on: list[asyncio.Event] = []

    async def ask(self: InProcess, client: Client, question: Question, code: str | None) -> Answer:
        busy.append(question.user)
        most.append(busy.count("alice"))
        if question.user == "alice":
            await go_on[0].wait()
        busy.remove(question.user)
        return api.Answer("accepted", "code")

    monkeypatch.setattr(InProcess, "ask", ask)

    async def body(asker: Asker) -> None:
        go_on.append(asyncio.Event())
        waiting = [
            asyncio.create_task(asker.ask("/v1/verify", user="alice", code="1"))
            for _ in range(server.MOST_OF_A_USER + 4)
        ]
        done, waiting_still = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 4:
            more, waiting_still = await asyncio.wait(waiting_still, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert {each.result()[0] for each in done} == {503}
        assert (await asker.ask("/v1/verify", user="bob", code="1"))[0] == 200
        go_on[0].set()
        assert {(await each)[0] for each in waiting_still} == {200}

    run(host, tokens, body)
    assert max(most) == 1


def test_a_bug_ends_the_connection_and_not_the_service(
    host: Host, tokens: dict[str, str], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a secret")

    fields = wire.fields

    async def body(asker: Asker) -> None:
        monkeypatch.setattr(wire, "fields", broken)
        assert await asker.raw(request("/v1/start", tokens["radius"], b"{}")) == b""
        monkeypatch.setattr(wire, "fields", fields)
        assert (await asker.ask("/v1/start", user="alice"))[0] == 200

    run(host, tokens, body)
    assert any("reason=internal-error" in line for _, line in journal)
    assert "a secret" not in str(journal)


def test_after_any_rubbish_it_still_serves(host: Host, tokens: dict[str, str]) -> None:
    """What is sent is drawn from parts of requests, cut, joined and spoiled; the same in every run."""
    secret = host.enroll()
    draw = random.Random(7)
    good = request("/v1/verify", tokens["radius"], b'{"user": "alice", "code": "111111"}')
    parts = [good, b"\r\n", b"\r\n\r\n", b"\x00" * 50, b"{" * 9000, b"Content-Length: 5\r\n", good[:60], good[-30:]]

    async def body(asker: Asker) -> None:
        for _ in range(300):
            content = b"".join(draw.choices(parts, k=draw.randint(1, 4)))
            spoiled = bytearray(content)
            for _ in range(draw.randint(0, 3)):
                spoiled[draw.randrange(len(spoiled))] = draw.randrange(256)
            answer = await asker.raw(bytes(spoiled))
            assert not answer or answer.startswith(b"HTTP/1.1 "), answer
            assert b"200 OK" not in answer
        host.later(7200)
        status, told = await asker.ask("/v1/verify", user="alice", code=host.code(secret))
        assert (status, told["result"]) == (200, True)

    run(host, tokens, body)


def test_it_listens_on_this_host_only() -> None:
    for family, address, local in (
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "127.3.2.1", True),
        (socket.AF_INET, "0.0.0.0", False),
    ):
        with socket.socket(family) as listener:
            listener.bind((address, 0))
            assert server.is_local(listener) is local
    with socket.socket(socket.AF_UNIX) as listener:
        assert server.is_local(listener)


def test_the_prompt_is_that_of_the_configuration_unless_it_is_broken(host: Host, tokens: dict[str, str]) -> None:
    host.configure('prompt = "Your code: "\n')
    assert one(host, tokens, "/v1/start", "portal", user="alice")[1]["prompt"] == "Your code: "
    host.configure("nonsense = 1\n")
    assert one(host, tokens, "/v1/start", "portal", user="alice")[1]["prompt"] == "Verification code: "


def test_started_by_hand_it_says_what_starts_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pam_totp.verify.server"],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "started by pam-totp-verify.socket" in done.stderr
