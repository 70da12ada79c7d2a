"""The web process's connections: what a stranger sends has an end."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from pam_totp.directory import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    """Where a server with these connections listens."""
    found = str(tmp_path / "socket")
    settings: Any = {"http": serve.Connection, "lifespan": "off", "ws": "none", "log_level": "error"}
    server = uvicorn.Server(uvicorn.Config(_app, uds=found, **settings))
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    while not server.started:
        time.sleep(0.01)
    yield found
    server.should_exit = True
    running.join(10)


def connected(path: str) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(30)
    end.connect(path)
    return end


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /", b"GET / HTTP/1.1\r\nX: "])
def test_a_head_without_an_end_is_cut_off(path: str, begin: bytes) -> None:
    line = b"X: " + b"x" * 1000 + b"\r\n" if begin.endswith(b"\n") else b"x" * 1000
    with connected(path) as end, pytest.raises(ConnectionError):
        send(end, begin, line)


def send(end: socket.socket, begin: bytes, line: bytes) -> None:
    """Send twice of what is allowed, and as much as may lie in between."""
    end.sendall(begin)
    for _ in range(2 * serve.LONGEST_HEAD // 1000 + 500):
        end.sendall(line)
        time.sleep(0.001)


def test_requests_one_after_the_other_have_a_limit_each(path: str) -> None:
    with connected(path) as end, end.makefile("rb") as answers:
        for _ in range(200):
            end.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nX: " + b"x" * 900 + b"\r\n\r\nabc")
            while (line := answers.readline()) != b"\r\n":
                assert not line.startswith(b"HTTP") or b" 200 " in line
            assert answers.read(2) == b"ok"
