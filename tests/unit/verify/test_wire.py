"""What of HTTP is understood, and that nothing else is taken for it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.verify import wire
from pam_totp.verify.wire import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

POST = b"POST /v1/verify HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


def asked(*lines: bytes, first: bytes = b"POST /v1/verify HTTP/1.1") -> wire.Head:
    return wire.head(b"\r\n".join([first, *lines, b"", b""]))


def status(content: bytes) -> int:
    with pytest.raises(RequestError) as caught:
        wire.head(content)
    return caught.value.status


def test_a_request_is_read() -> None:
    head = asked(b"Host: localhost", b"Content-Length:  12 ", b"X-Name: J\xc3\xb6rg")
    assert (head.method, head.path, head.length, head.keep) == ("POST", "/v1/verify", 12, True)
    assert head.headers == {"host": "localhost", "content-length": "12", "x-name": "Jörg"}


@pytest.mark.parametrize(
    ("first", "header", "keep"),
    [
        (b"POST / HTTP/1.1", b"", True),
        (b"POST / HTTP/1.1", b"Connection: close", False),
        (b"POST / HTTP/1.1", b"Connection: x, Close", False),
        (b"POST / HTTP/1.0", b"", False),
        (b"POST / HTTP/1.0", b"Connection: keep-alive", True),
    ],
)
def test_a_connection_is_kept_as_the_client_wants(first: bytes, header: bytes, keep: bool) -> None:
    assert asked(*([header] if header else []), first=first).keep is keep


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"POST /",
        b"POST / HTTP/2",
        b"POST / HTTP/1.2",
        b"post / HTTP/1.1",
        b"POST  / HTTP/1.1",
        b"POST http://x/ HTTP/1.1",
        b"POST /a b HTTP/1.1",
        b"POST /\x00 HTTP/1.1",
        b"POST /\xe4 HTTP/1.1",
        b"POST /" + b"x" * 300 + b" HTTP/1.1",
        b" POST / HTTP/1.1",
        b"POST / HTTP/1.1 ",
        b"\x16\x03\x01",
    ],
)
def test_another_first_line_is_refused(first: bytes) -> None:
    assert status(first + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "line",
    [
        b"no colon",
        b"Name : value",
        b" folded: value",
        b"\tfolded",
        b": value",
        b"Na\xe4me: value",
        b"Name: va\x00lue",
        b"Name: va\rlue",
        b"Name: va\nContent-Length: 5",
        b"Name: \xff",
        b"Name: \x7f",
        b"Content-Length: -1",
        b"Content-Length: +1",
        b"Content-Length: 1, 1",
        b"Content-Length: 0x1",
        b"Content-Length: ",
        b"Content-Length: \xc2\xb2",
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Authorization: Bearer a\r\nAUTHORIZATION: Bearer b",
    ],
)
def test_a_header_that_two_could_read_in_two_ways_is_refused(line: bytes) -> None:
    assert status(POST + line + b"\r\n\r\n") == 400


def test_what_is_too_much_is_refused() -> None:
    assert status(POST + b"Content-Length: 16385\r\n\r\n") == 413
    assert status(POST + b"Content-Length: 999999999\r\n\r\n") == 413
    assert status(POST + b"Content-Length: 9999999999\r\n\r\n") == 400
    assert status(POST + b"".join(b"X-%d: 1\r\n" % number for number in range(64)) + b"\r\n") == 431
    assert status(POST + b"Transfer-Encoding: chunked\r\n\r\n") == 411


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (b"X: y", None),
        (b"Authorization: Bearer vpn.x", "vpn.x"),
        (b"Authorization: bearer vpn.x", "vpn.x"),
        (b"Authorization: Basic " + base64.b64encode(b"anything:vpn.x:y"), "vpn.x:y"),
        (b"Authorization: Basic !!!", ""),
        (b"Authorization: Basic /w==", ""),
        (b"Authorization: Basic", ""),
        (b"Authorization: Digest x", ""),
        (b"Authorization:", ""),
    ],
)
def test_a_client_shows_its_token_as_bearer_or_as_password(header: bytes, token: str | None) -> None:
    assert asked(header).token == token


def fields(body: bytes, kind: bytes = b"application/json") -> dict[str, str]:
    return wire.fields(asked(b"Content-Type: " + kind), body)


def test_a_body_is_an_object_of_strings() -> None:
    assert fields('{"user": "jörg", "code": "1"}'.encode(), b"Application/JSON; charset=utf-8") == {
        "user": "jörg",
        "code": "1",
    }
    assert fields(b"{}") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"NaN",
        b"{",
        b'{"a": 1}',
        b'{"a": null}',
        b'{"a": true}',
        b'{"a": ["b"]}',
        b'{"a": {"b": "c"}}',
        b'{"user": "a", "user": "b"}',
        b'{"a": "\xff"}',
        rb'{"a": "\ud800"}',
        b'{"a": "b"} x',
        b"\xef\xbb\xbf{}",
        b"[" * 9000,
        b'{"a":' * 5000,
        b'{"a": ' + b"9" * 9000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        fields(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-www-form-urlencoded", b""])
def test_what_a_browser_would_send_to_another_site_is_refused(kind: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        fields(b"{}", kind)
    assert caught.value.status == 415


def test_an_answer_can_be_read_and_is_kept_by_nobody() -> None:
    head, _, body = wire.response(200, {"result": True, "message": "Jörg\r\nX: y"}, True).partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert f"Content-Length: {len(body)}" in lines
    assert "Cache-Control: no-store" in lines
    assert "Connection: keep-alive" in lines
    assert json.loads(body) == {"result": True, "message": "Jörg\r\nX: y"}
    assert len(lines) == 5
    assert b'WWW-Authenticate: Bearer realm="pam-totp"' in wire.response(401, {}, False)
    assert b"Allow: POST" in wire.response(405, {}, False)


# Whatever is sent: it is understood, or refused with a status, and nothing else happens.

Read = TypeVar("Read")


def outcome(read: Callable[[], Read]) -> Read | RequestError:
    try:
        return read()
    except RequestError as error:
        return error


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Length", b"content-length", b"Host", b"Authorization", b"Transfer-Encoding", b"X "]),
        st.binary(max_size=20),
    ).map(b": ".join),
    max_size=6,
)


@given(st.one_of(st.binary(max_size=200), HEADERS.map(lambda lines: POST + b"\r\n".join(lines))))
def test_any_bytes_are_a_request_or_refused(content: bytes) -> None:
    head = outcome(lambda: wire.head(content + b"\r\n\r\n"))
    if isinstance(head, RequestError):
        assert 400 <= head.status < 500
    else:
        assert 0 <= head.length <= wire.LONGEST_BODY
        assert "transfer-encoding" not in head.headers
        assert head.token is None or isinstance(head.token, str)


PARTS = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), st.lists, max_leaves=4)


@given(
    st.one_of(
        st.binary(max_size=100), st.dictionaries(st.text(max_size=5), PARTS).map(lambda x: json.dumps(x).encode())
    )
)
def test_any_body_is_strings_or_refused(body: bytes) -> None:
    found = outcome(lambda: fields(body))
    if isinstance(found, RequestError):
        assert found.status == 400
    else:
        assert all(type(value) is str and value.encode("utf-8") is not None for value in found.values())
