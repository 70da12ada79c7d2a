"""An OpenID Connect provider of the tests' own, over TLS, that says what it is told to, and a browser's way there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import ssl
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from django.test import Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLIENT = "directory"
SECRET = "a secret: of the client's / own"
# What comes back to the browser.
BACK = "https://dir.example.org/login/provider/back/"
EVENT = "http://schemas.openid.net/event/backchannel-logout"
Claims = dict[str, Any]


@dataclass
class Code:
    """A code, and what it was given for."""

    nonce: str
    challenge: str


@dataclass
class Provider:
    """A context manager: it listens while it is entered.

    claims      what its tokens say beside what every token says
    sign        makes a token of the claims
    metadata    what it says of itself in another way than it should
    keys        what it publishes
    """

    scratch: Path
    claims: Claims = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    forgetful: bool = False
    status: int = 200
    asked: list[str] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.keys = [jwk(self.rsa.public_key(), "rsa"), jwk(self.ec.public_key(), "ec")]
        self.sign: Callable[[Claims], Any] = self.rs256
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.answer(outer.published(self.path))

            def do_POST(self) -> None:
                outer.asked.append(self.path)
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.answer(outer.token(self.headers.get("Authorization", ""), dict(parse_qsl(form))))

            def answer(self, found: Any) -> None:
                content = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(outer.status if found is not None else 400)
                self.send_header("Location", "https://localhost/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._leave = ExitStack()
        self._server = self._leave.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority = certificate(self.scratch)
        context.load_cert_chain(self.authority, self.scratch / "provider.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._leave.callback(self._server.shutdown)
        self.issuer = f"https://localhost:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def published(self, path: str) -> Any:
        if path == "/keys":
            return {"keys": self.keys}
        if path != "/.well-known/openid-configuration":
            return None
        places = ("authorization", "token", "end_session")
        said = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        return said | {f"{each}_endpoint": f"{self.issuer}/{each}" for each in places} | self.metadata

    def token(self, known: str, form: dict[str, str]) -> Any:
        """What the token endpoint answers; it demands what a careful provider does."""
        id_and_secret = urlencode({CLIENT: SECRET}).replace("=", ":", 1).replace("+", "%20")
        code = self.codes.get(form["code"]) if self.forgetful else self.codes.pop(form["code"], None)
        challenge = b64(hashlib.sha256(form["code_verifier"].encode()).digest())
        right = known == f"Basic {base64.b64encode(id_and_secret.encode()).decode()}"
        if "token_endpoint_auth_methods_supported" in self.metadata:
            right = (known, form["client_id"], form["client_secret"]) == ("", CLIENT, SECRET)
        right = right and form["redirect_uri"] == BACK
        if code is None or not right or code.challenge != challenge or form["grant_type"] != "authorization_code":
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "alice", "nonce": code.nonce, "iat": now, "exp": now + 300}
        claims |= self.claims
        return {"id_token": self.sign({name: value for name, value in claims.items() if value is not None})}

    # -- signing

    def rs256(self, claims: Claims, **header: Any) -> str:
        return str(jwt.encode(claims, self.rsa, "RS256", {"kid": "rsa", **header}))

    def es256(self, claims: Claims) -> str:
        return str(jwt.encode(claims, self.ec, "ES256", {"kid": "ec"}))

    def public_pem(self) -> bytes:
        pem = serialization.Encoding.PEM
        return self.rsa.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)

    # -- the browser

    def go(self, browser: Client, path: str = "/login/provider/") -> dict[str, str]:
        """Go to the provider; it gives the browser a code at once. Returns what comes back with the browser."""
        response = browser.get(path, secure=True)
        assert response.status_code == 302, response.content
        place = urlsplit(response.headers["Location"])
        query = dict(parse_qsl(place.query))
        assert place._replace(query="").geturl() == f"{self.issuer}/authorization"
        assert (query["redirect_uri"], query["response_type"], query["client_id"]) == (BACK, "code", CLIENT)
        assert query["code_challenge_method"] == "S256"
        code = f"code {len(self.codes) + 1}"
        self.codes[code] = Code(query["nonce"], query["code_challenge"])
        return {"code": code, "state": query["state"]}

    def come_back(self, browser: Client, query: dict[str, str]) -> Any:
        return browser.get(f"{urlsplit(BACK).path}?{urlencode(query)}", secure=True)

    def end(self, **claims: Any) -> Any:
        """Tell the directory that a session has ended, in a browser that has no cookie. None takes a claim away."""
        said = {"iss": self.issuer, "aud": CLIENT, "iat": int(time.time()), "jti": os.urandom(8).hex()}
        said |= {"events": {EVENT: {}}, **claims}
        token = self.sign({name: value for name, value in said.items() if value is not None})
        return Client(enforce_csrf_checks=True).post("/login/provider/ended/", {"logout_token": token}, secure=True)

    def visit(self, browser: Client, path: str = "/login/provider/") -> Any:
        """There and back."""
        return self.come_back(browser, self.go(browser, path))


def onward(response: Any) -> str:
    """Where the page in between leads; empty where it is another page."""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', response.content.decode())
    return unescape(found[1]) if response.status_code == 200 and found else ""


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwk(key: Any, name: str) -> dict[str, Any]:
    kind: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPublicKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key)), "kid": name, "use": "sig"}


def by_hand(claims: Claims, algorithm: str, key: bytes = b"") -> str:
    """A token that no library makes: unsigned, or signed with a public key as if it were a shared one."""
    header = {"alg": algorithm, "kid": "rsa", "typ": "JWT"}
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), 'sha256')) if key else ''}"


def certificate(scratch: Path) -> Path:
    """A certificate for localhost, which is its own authority, beside its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (scratch / "provider.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    pkcs8 = serialization.PrivateFormat.PKCS8
    (scratch / "provider.key").write_bytes(key.private_bytes(pem, pkcs8, plain))
    return scratch / "provider.crt"
