"""A proxy before the directory for a scanner that is signed in: it lets through everything but what ends the visit."""

from __future__ import annotations

import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PORT = 8444
# Of one connection, and not of what is asked for.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Proxy(ThreadingHTTPServer):
    """Over TLS, with the same certificate. ``spared`` are the paths that no POST reaches."""

    url = f"https://localhost:{PORT}"

    def __init__(self, scratch: Path, port: int, spared: set[str]) -> None:
        super().__init__(("127.0.0.1", PORT), _Handler)
        self.behind, self.spared = port, spared
        self.trusting = ssl._create_unverified_context()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(scratch / "tls.crt", scratch / "tls.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """Scanners hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "POST" and self.path.partition("?")[0] in self.server.spared:
            self._answer(204, [], b"")
            return
        behind = http.client.HTTPSConnection("localhost", self.server.behind, timeout=60, context=self.server.trusting)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        try:
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read())
        finally:
            behind.close()

    def __getattr__(self, name: str) -> Any:
        """Whatever the method is called: a scanner also asks with some that there are not."""
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
