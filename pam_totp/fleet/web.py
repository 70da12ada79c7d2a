"""HTTPS to the directory, over one connection that is kept open.

What comes back may be anybody's: sizes, times and types are bounded. The one module that opens network connections.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import threading
from contextlib import contextmanager
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
    from collections.abc import Iterator
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
    """Requests to one server. ``ca`` is the only CA that counts, as PEM; empty: the system's. Not for several threads.

    Redirections are not followed.
    """

    def __init__(self, url: str, ca: str, token: str = "") -> None:
        """Take the address of a server, with a path that all requests begin with. Raises FleetError."""
        host, port, self._path = split(url)
        try:
            context = ssl.create_default_context(cadata=ca or None)
        except (ssl.SSLError, ValueError):
            raise FleetError("the CA's certificate is not readable: leave, and join anew", "fleet-tls") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._shown = f"{host}:{port}"
        self._headers = {"User-Agent": _AGENT} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._connection = http.client.HTTPSConnection(host, port, context=context)

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        self._connection.close()

    def get(self, path: str, limit: int, seconds: float, etag: str = "") -> Answer:
        """GET, with If-None-Match where an ETag is given. Raises FleetError as ``request``."""
        return self.request("GET", path, None, {"If-None-Match": etag} if etag else {}, limit, seconds)

    def post(self, path: str, fields: dict[str, Any], seconds: float) -> Answer:
        """POST JSON. Raises FleetError as ``request``."""
        body = json.dumps(fields).encode("ascii")
        return self.request("POST", path, body, {"Content-Type": "application/json"}, ANSWER_LIMIT, seconds)

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], limit: int, seconds: float
    ) -> Answer:
        """One request that ends, one way or the other, within ``seconds``, with at most ``limit`` bytes of content.

        Raises FleetError: not reached in time, no TLS as it is pinned, no HTTP, too large.
        """
        kept = self._connection.sock is not None
        try:
            return self._exchange(method, path, body, headers, limit, seconds)
        except _UNUSABLE as error:
            self.close()
            if not (kept and isinstance(error, _CLOSED)):
                raise self._failed(error) from None
        # The server has closed the connection since the last request: every request may be made twice.
        try:
            return self._exchange(method, path, body, headers, limit, seconds)
        except _UNUSABLE as error:
            self.close()
            raise self._failed(error) from None

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], limit: int, seconds: float
    ) -> Answer:
        connection = self._connection
        with _ending(connection, seconds):
            connection.timeout = seconds
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            connection.request(method, self._path + path, body, self._headers | headers)
            response = connection.getresponse()
            content = response.read(limit + 1)
            if len(content) > limit:
                raise ValueError(f"the answer is larger than {limit} bytes")
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            if not response.isclosed():
                self.close()
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
    web._connection = http.client.HTTPSConnection(*split(url)[:2], context=unverified)  # noqa: SLF001  # this module's
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


@contextmanager
def _ending(connection: http.client.HTTPSConnection, seconds: float) -> Iterator[None]:
    """Cut the connection after so many seconds: a server that sends a byte now and then does not hold anybody up."""

    def cut() -> None:
        end = connection.sock
        if end is not None:
            try:
                # Of the TCP connection: the TLS layer belongs to the thread that reads.
                socket.socket.shutdown(end, socket.SHUT_RDWR)
            except OSError:
                pass  # closed meanwhile

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
