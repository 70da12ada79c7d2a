"""A stand-in for Active Directory's ranges, which OpenLDAP does not have: a real slapd behind a relay that makes them.

The relay ends TLS on both sides and understands LDAP (RFC 4511) as far as it has to. As [MS-ADTS], 3.1.1.3.1.3.3, has
it: who asks for an attribute that has more values than the server gives at once gets it without any, and beside it
"NAME;range=0-LAST" with as many; who asks for "NAME;range=FIRST-*" gets the next ones, which are named with "*" where
there are no more. Everything else goes through as it is.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.directory.ldap.server import Slapd

SEQUENCE, SET, OCTETS = 0x30, 0x31, 0x04
SEARCH, ENTRY, REFERENCE, UNBIND, ABANDON = 0x63, 0x64, 0x73, 0x42, 0x50
_ASKED = re.compile(rb"(\w+);range=([0-9]+)-[*]")


def encode(tag: int, content: bytes) -> bytes:
    """Something in BER."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def decode(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The things that stand one after the other in BER."""
    while data:
        head = 2
        size = data[1]
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[2:head], "big")
        yield data[0], data[head : head + size]
        data = data[head + size :]


class Relay:
    """The server that is asked. ``most`` values at once; ``spoil`` changes what it names, and what it gives."""

    def __init__(self, slapd: Slapd, most: int) -> None:
        self.most = most
        self.spoil: Callable[[int, bytes, list[bytes]], tuple[bytes, list[bytes]]] = lambda _, name, part: (name, part)
        self.asked: list[str] = []
        self._slapd = slapd
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(slapd.place / "server.crt", slapd.place / "server.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        other = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        other.check_hostname, other.verify_mode = False, ssl.CERT_NONE
        with (
            suppress(OSError),
            self._context.wrap_socket(end, server_side=True) as client,
            other.wrap_socket(socket.create_connection(("127.0.0.1", self._slapd.tls_port))) as server,
        ):
            first: dict[bytes, int] = {}
            # In turn: this client asks nothing before it has been answered.
            for message in _messages(client):
                asks, answered = self._question(message, first)
                server.sendall(asks)
                for answer in _messages(server) if answered else ():
                    found, kind = self._answer(answer, first)
                    client.sendall(found)
                    if kind not in (ENTRY, REFERENCE):
                        break

    def _question(self, message: bytes, first: dict[bytes, int]) -> tuple[bytes, bool]:
        """A request as slapd takes it; and whether it is one that is answered."""
        [(_, inside)] = decode(message)
        parts = list(decode(inside))
        kind, content = parts[1]
        first.clear()
        if kind == SEARCH:
            fields = list(decode(content))
            names = [name for _, name in decode(fields[-1][1])]
            self.asked += [name.decode() for name in names if b";" in name]
            for place, name in enumerate(names):
                if found := _ASKED.fullmatch(name):
                    first[found[1].lower()] = int(found[2])
                    names[place] = found[1]
            fields[-1] = SEQUENCE, b"".join(encode(OCTETS, name) for name in names)
            parts[1] = kind, _together(fields)
        return encode(SEQUENCE, _together(parts)), kind not in (UNBIND, ABANDON)

    def _answer(self, message: bytes, first: dict[bytes, int]) -> tuple[bytes, int]:
        [(_, inside)] = decode(message)
        parts = list(decode(inside))
        kind, content = parts[1]
        if kind == ENTRY:
            (_, dn), (_, attributes) = decode(content)
            made = b"".join(self._ranged(each, first) for _, each in decode(attributes))
            parts[1] = kind, encode(OCTETS, dn) + encode(SEQUENCE, made)
        return encode(SEQUENCE, _together(parts)), kind

    def _ranged(self, attribute: bytes, first: dict[bytes, int]) -> bytes:
        (_, name), (_, values) = decode(attribute)
        found = [value for _, value in decode(values)]
        begin = first.get(name.lower(), 0)
        if begin == 0 and len(found) <= self.most:
            return encode(SEQUENCE, attribute)
        part = found[begin : begin + self.most]
        end = b"*" if begin + self.most >= len(found) else b"%d" % (begin + self.most - 1)
        name_of_part, part = self.spoil(begin, b"%b;range=%d-%b" % (name, begin, end), part)
        empty = _attribute(name, []) if begin == 0 else b""
        return empty + _attribute(name_of_part, part)


def _attribute(name: bytes, values: list[bytes]) -> bytes:
    return encode(SEQUENCE, encode(OCTETS, name) + encode(SET, b"".join(encode(OCTETS, each) for each in values)))


def _together(parts: list[tuple[int, bytes]]) -> bytes:
    return b"".join(encode(tag, content) for tag, content in parts)


def _messages(end: ssl.SSLSocket) -> Iterator[bytes]:
    """What comes, a message at a time; the rest of a message that was not asked for stays for the next one."""
    with end.makefile("rb", buffering=0) as file:
        while head := _exactly(file, 2):
            size = head[1]
            if size & 0x80:
                more = _exactly(file, size & 0x7F)
                head, size = head + more, int.from_bytes(more, "big")
            yield head + _exactly(file, size)


def _exactly(file: object, size: int) -> bytes:
    content = b""
    while len(content) < size:
        some = file.read(size - len(content))  # type: ignore[attr-defined]  # a raw file
        if not some:
            return b""
        content += some
    return content
