"""The lines of the self-service: bounded, typed, and nothing else."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.errors import WireError
from pam_totp.selfservice import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = {"verb": "enroll", "label": "phone", "qr": None, "columns": 80, "json": False}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def received(raw: bytes, *shapes: wire.Shape, limit: int = wire.LONGEST_ANSWER) -> dict[str, Any] | None:
    """What a channel makes of these bytes, which are all that ever comes."""
    one, other = socket.socketpair()
    with one, other:
        one.sendall(raw)
        one.shutdown(socket.SHUT_WR)
        return wire.Channel(other, limit).receive(*shapes)


def line(fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


@given(st.text(), st.booleans())
def test_what_one_side_sends_the_other_receives(text: str, echo: bool) -> None:
    one, other = socket.socketpair()
    with one, other:
        wire.Channel(one, wire.LONGEST_ANSWER).send(ask=text, echo=echo)
        wire.Channel(one, wire.LONGEST_ANSWER).send(done=0)
        channel = wire.Channel(other, wire.LONGEST_MESSAGE)
        assert channel.receive(wire.TELL, wire.ASK, wire.DONE) == {"ask": text, "echo": echo}
        assert channel.receive(wire.TELL, wire.ASK, wire.DONE) == {"done": 0}


def test_a_request_is_taken_as_a_whole() -> None:
    assert received(line(REQUEST), wire.REQUEST) == REQUEST
    assert received(line(REQUEST | {"label": None, "qr": "ascii"}), wire.REQUEST) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        [],
        None,
        "status",
        7,
        {"verb": "status"},
        REQUEST | {"user": "root"},
        {key: value for key, value in REQUEST.items() if key != "json"},
        REQUEST | {"verb": None},
        REQUEST | {"label": 1},
        REQUEST | {"label": ["phone"]},
        REQUEST | {"qr": False},
        REQUEST | {"columns": True},
        REQUEST | {"columns": 80.0},
        REQUEST | {"columns": None},
        REQUEST | {"json": 0},
        {"answer": "123456"},
    ],
)
def test_anything_but_a_request_is_refused_where_one_is_expected(fields: object) -> None:
    with pytest.raises(WireError):
        received(line(fields), wire.REQUEST)


@pytest.mark.parametrize(
    "raw",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n",
        b'{"answer": "1"\n',
        b'{"answer": "1"} {}\n',
        b'{"answer": "\xff"}\n',
        b'{"answer": NaN}\n',
        b"[" * 2000 + b"\n",
        b"1" * 2000 + b"\n",
    ],
)
def test_a_line_that_is_no_json_or_something_else_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        received(raw, wire.ANSWER)


@given(st.binary(max_size=100))
def test_no_bytes_do_anything_but_fit_or_be_refused(raw: bytes) -> None:
    try:
        found = received(raw, wire.ANSWER)
    except WireError:
        return
    assert found is None or set(found) == {"answer"}


def test_a_message_has_a_longest_length() -> None:
    fits = line({"answer": "x" * (64 - len(line({"answer": ""})))})
    assert len(fits) == 64
    assert received(fits, wire.ANSWER, limit=64) is not None
    with pytest.raises(WireError, match="longer than 64 bytes"):
        received(fits[:-1] + b"x\n", wire.ANSWER, limit=64)
    with pytest.raises(WireError, match="longer than 64 bytes"):
        received(b"x" * 64, wire.ANSWER, limit=64)


def test_an_endless_line_is_not_read_to_its_end(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.setblocking(False)
    sent = one.send(b"x" * (1 << 20))
    assert sent > wire.LONGEST_ANSWER
    with pytest.raises(WireError):
        wire.Channel(other, wire.LONGEST_ANSWER).receive(wire.ANSWER)
    left = b""
    other.setblocking(False)
    while len(left) < sent - wire.LONGEST_ANSWER:
        left += other.recv(1 << 20)
    assert len(left) == sent - wire.LONGEST_ANSWER


def test_the_end_of_a_connection_is_no_message() -> None:
    assert received(b"", wire.ANSWER) is None
    assert received(b'{"answer": "1"}', wire.ANSWER) is None


def test_whoever_is_silent_for_too_long_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    channel = wire.Channel(other, wire.LONGEST_ANSWER, 0)
    one.sendall(b'{"answer"')
    start = time.monotonic()
    assert channel.receive(wire.ANSWER) is None
    assert time.monotonic() - start < 5
    assert channel.expired


def test_whoever_does_not_listen_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    one, _ = pair
    channel = wire.Channel(one, wire.LONGEST_ANSWER, 0)
    for _ in range(3):
        channel.send(tell="x" * 100_000)


def test_a_farewell_is_read_after_the_other_side_has_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    wire.Channel(one, wire.LONGEST_ANSWER).send(done=1)
    one.close()
    channel = wire.Channel(other, wire.LONGEST_MESSAGE)
    channel.send(**REQUEST)
    assert channel.receive(wire.DONE) == {"done": 1}
    assert channel.receive(wire.DONE) is None
