"""HTTPS to the directory, over connections that are kept open.

What comes back may be anybody's: sizes, times and types are bounded. The one module that opens network connections.
"""

from __future__ import annotations

import copy
import hashlib
import http.client
import json
import socket
import ssl
import time
from urllib.parse import urlsplit

from pam_totp import __version__
from pam_totp.errors import FleetError

ANSWER_LIMIT = 1 << 20
_AGENT = f"pam-totp/{__version__}"
_UNUSABLE = (OSError, http.client.HTTPException, ValueError, AttributeError)
# What a connection fails with that the server has closed, which may not have said goodbye to TLS.
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Answer:
    """A response: the status, the ETag (empty: none), and the content."""

    __slots__ = ("content", "etag", "status")

    def __init__(self, status: int, etag: str, content: bytes) -> None:
        self.status = status
        self.etag = etag
        self.content = content

    def fields(self) -> dict[str, Any]:
        """The JSON object in it. Raises FleetError."""
        try:
            found = json.loads(self.content.decode("utf-8"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise FleetError("the directory's answer is not understood: is this its address?", "fleet-answer")
        return found


class Web:
    """Requests to one server. ``ca`` is the only CA that counts, as PEM; empty: the system's.

    Several threads may ask. Each takes the connection that was used last, which the server has hardly closed yet: so
    one that asks often keeps it open for all. Redirections are not followed.
    """

    def __init__(self, url: str, ca: str, token: str = "") -> None:
        """Take the address of a server, with a path that all requests begin with. Raises FleetError."""
        self._host, self._port, self._path = split(url)
        try:
            self._context = ssl.create_default_context(cadata=ca or None)
        except (ssl.SSLError, ValueError):
            raise FleetError("the CA's certificate is not readable: leave, and join anew", "fleet-tls") from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._shown = f"{self._host}:{self._port}"
        self._headers = {"User-Agent": _AGENT} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._kept: list[_Connection] = []

    def at(self, url: str) -> Web | None:
        """The same connections, for a path of this server; None where that is another one's. Raises FleetError."""
        host, port, path = split(url)
        if (host, port) != (self._host, self._port):
            return None
        other = copy.copy(self)
        other._path = path  # noqa: SLF001  # this class's
        return other

    def close(self) -> None:
        """Close the connections that nobody uses now; the next request opens another one."""
        while (connection := self._last()) is not None:
            connection.close()

    def get(self, path: str, limit: int, seconds: float, etag: str = "") -> Answer:
        """GET, with If-None-Match where an ETag is given. Raises FleetError as ``request``."""
        return self.request("GET", path, None, {"If-None-Match": etag} if etag else {}, limit, seconds)

    def post(self, path: str, fields: dict[str, Any], seconds: float) -> Answer:
        """POST JSON. Raises FleetError as ``request``."""
        body = json.dumps(fields).encode("ascii")
        kind = {"Content-Type": "application/json"}
        return self.request("POST", path, body, kind, ANSWER_LIMIT, seconds)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        limit: int,
        seconds: float,
    ) -> Answer:
        """One request that ends, one way or the other, within ``seconds``, with at most ``limit`` bytes of content.

        Raises FleetError: not reached in time, no TLS as it is pinned, no HTTP, too large.
        """
        kept = self._last()
        connection = _Connection(self._host, self._port, self._context) if kept is None else kept
        connection.ends = time.monotonic() + seconds
        try:
            return self._exchange(connection, method, path, body, headers, limit)
        except _UNUSABLE as error:
            if kept is None or not isinstance(error, _CLOSED):
                raise self._failed(error) from None
        # The server has closed the connection since the last request: every request may be made twice.
        try:
            return self._exchange(connection, method, path, body, headers, limit)
        except _UNUSABLE as error:
            raise self._failed(error) from None

    def _last(self) -> _Connection | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        limit: int,
    ) -> Answer:
        try:
            length = {} if body is None else {"Content-Length": str(len(body))}
            connection.body = body or b""
            connection.request(method, self._path + path, None, self._headers | headers | length)
            response = connection.getresponse()
            content = response.read(limit + 1)
            if len(content) > limit:
                raise ValueError(f"the answer is larger than {limit} bytes")
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except BaseException:
            # Nobody shall take what still comes for the answer to another request.
            connection.close()
            raise
        if not response.isclosed():
            connection.close()
        elif connection.sock is not None:
            self._kept.append(connection)
        return Answer(response.status, response.getheader("ETag", "")[:256], content)

    def _failed(self, error: BaseException) -> FleetError:
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"its certificate is not good ({error.verify_message}): is it another server, or a clock wrong?"
            return FleetError(f"{self._shown}: {text}", "fleet-tls")
        if isinstance(error, ssl.SSLError):
            return FleetError(f"{self._shown}: no TLS ({error.reason})", "fleet-tls")
        if isinstance(error, OSError):
            what = error.strerror or type(error).__name__
            return FleetError(f"{self._shown} cannot be reached ({what}): check the network", "fleet-unreachable")
        return FleetError(
            f"{self._shown} answers with something else than HTTP ({type(error).__name__})", "fleet-answer"
        )


def split(url: str) -> tuple[str, int, str]:
    """Host, port, and path without a slash at its end, of an https address. Raises FleetError."""
    wrong = FleetError(f"{url[:200]!r} is no address of a directory: write https://dir.example.org", "fleet-address")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        raise wrong from None
    if parts.scheme != "https" or not host or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    if not parts.path.isascii() or not parts.path.isprintable() or " " in parts.path:
        raise wrong
    return host, port, parts.path.rstrip("/")


def fetch_ca(url: str, digest: str, seconds: float) -> str:
    """The directory's own CA, as PEM, if its SHA-256 is ``digest``. Raises FleetError.

    Nothing is known of the server before: only the digest, which the join token has brought, says that it is the CA.
    """
    web = Web(url, "")
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    web._context = unverified  # noqa: SLF001  # this module's
    try:
        content = web.get("/api/v1/ca", ANSWER_LIMIT, seconds).content
    finally:
        web.close()
    try:
        certificate = ssl.PEM_cert_to_DER_cert(content.decode("ascii").strip())
    except ValueError:
        raise FleetError("the directory's CA is not a certificate: is this its address?", "fleet-answer") from None
    if hashlib.sha256(certificate).hexdigest() != digest:
        raise FleetError("this is not the directory that the token is for: its CA is another one", "fleet-tls")
    return ssl.DER_cert_to_PEM_cert(certificate)


class _Connection(http.client.HTTPSConnection):
    """A connection on which all that is done ends at ``ends``, by the monotonic clock.

    However many addresses the server's name has, and however little it sends at a time. A thread that cuts a connection
    would do the same, and takes a claim as long again.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, context=context)
        self.ends = 0.0
        self.body = b""
        self._tls = context
        context.sslsocket_class = _Socket

    def connect(self) -> None:
        """Called by the first request, and by the first one after the connection was closed."""
        plain = socket.create_connection((self.host, self.port), _left(self.ends))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(_left(self.ends))  # which the handshake takes for the whole of it
            secured = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        assert isinstance(secured, _Socket)
        secured.of = self
        self.sock = secured

    def send(self, data: Any) -> None:
        """Send the head of a request, and the body with it: one packet, for which the other end wakes up once."""
        data, self.body = data + self.body, b""
        super().send(data)


class _Socket(ssl.SSLSocket):
    of: _Connection

    def send(self, data: Any, flags: int = 0) -> int:
        self.settimeout(_left(self.of.ends))
        return super().send(data, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self.settimeout(_left(self.of.ends))
        return super().recv_into(buffer, nbytes, flags)


def _left(ends: float) -> float:
    """How long there is until then. Raises TimeoutError."""
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
