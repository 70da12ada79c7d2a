"""A small directory for tests of the host's side: it publishes real trees, and serves them and its API over HTTPS.

Everything of it is in one folder, so that a test can publish from outside a machine in which the server runs. It is
told to misbehave by the file ``mode``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pam_totp.fleet import tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

YEAR = 365 * 86_400
PORT = 8443


class Directory:
    """The directory in a folder: keys, tokens, hosts, and trees."""

    def __init__(self, folder: Path, url: str = f"https://127.0.0.1:{PORT}") -> None:
        self.folder = folder
        self.url = url
        kept = folder / "keys.json"
        if not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            seed, key = tree.new_signing_key()
            private, box = tree.new_box_key()
            keys = {"seed": seed.hex(), "key": key.hex(), "private": private.hex(), "box": box.hex()}
            kept.write_text(json.dumps({"id": tree.new_identifier()} | keys))
        found = json.loads(kept.read_text())
        self.identifier = str(found["id"])
        self.seed, self.key, self.private, self.box = (
            bytes.fromhex(found[name]) for name in ("seed", "key", "private", "box")
        )

    # Joining

    def certify(self) -> None:
        """Make a CA, and a certificate of it for 127.0.0.1 and localhost."""
        if (self.folder / "server.pem").exists():
            return
        from datetime import UTC, datetime, timedelta
        from ipaddress import ip_address

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        begin = datetime.now(UTC) - timedelta(days=1)
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        signer, subject = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Directory CA")])
        server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])

        def made(name: x509.Name, key: Any) -> x509.CertificateBuilder:
            builder = x509.CertificateBuilder().subject_name(name).issuer_name(authority).public_key(key)
            builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin)
            return builder.not_valid_after(begin + timedelta(days=3650))

        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        ca = made(authority, signer.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        ca = ca.add_extension(usage, True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(signer.public_key()), False
        )
        leaf = (
            made(server, subject.public_key())
            .add_extension(names, False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        )
        (self.folder / "ca.pem").write_bytes(ca.sign(signer, hashes.SHA256()).public_bytes(pem))
        certificate = leaf.sign(signer, hashes.SHA256()).public_bytes(pem)
        key = subject.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        (self.folder / "server.pem").write_bytes(certificate + key)

    def token(self) -> str:
        """A join token, good once."""
        secret = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        self.state(lambda state: state["tokens"].append(secret))
        ca = ssl.PEM_cert_to_DER_cert((self.folder / "ca.pem").read_text())
        return tree.token_text(tree.JoinToken(self.identifier, self.key, hashlib.sha256(ca).hexdigest(), secret))

    def state(self, change: Any = None) -> dict[str, Any]:
        """What is known of hosts and tokens, after a change to it."""
        path = self.folder / "state.json"
        state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"tokens": [], "hosts": {}}
        if change is not None:
            change(state)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(state))
            new.rename(path)
        return state

    @property
    def host(self) -> str:
        """The id of the host that joined last."""
        return str(list(self.state()["hosts"])[-1])

    # Publishing

    def sealed(self, record: tree.Record, host: str = "") -> bytes:
        """A record, sealed to a host; each time something else."""
        host = host or self.host
        return tree.seal_record(record, host, base64.b64decode(self.state()["hosts"][host]["key"]))

    def publish(
        self,
        records: Iterable[tree.Record | bytes],
        policy: tree.Policy | None = None,
        *,
        host: str = "",
        epoch: int = 0,
        sequence: int = 0,
        issued: int = 0,
        expires: int = 0,
        bundled: bool = False,
    ) -> tree.Manifest:
        """Publish for a host; what is not given follows what was published before. Returns the manifest.

        With ``bundled`` all records are in one file. A record that is sealed already is the one that it was.
        """
        host = host or self.host
        folder = self.folder / "tree" / host
        (folder / "objects").mkdir(parents=True, exist_ok=True)
        known = self.state()["hosts"][host]
        box = base64.b64decode(known["key"])
        sealed = [each if isinstance(each, bytes) else tree.seal_record(each, host, box) for each in records]
        ruled = tree.seal_policy(policy, host, box) if policy is not None else None
        objects = {tree.digest(content): content for content in sealed}
        bundle, files = None, objects
        if bundled:
            bundle, files = tree.bundle_name(objects), {tree.bundle_name(objects): tree.bundle(objects)}
        if ruled:
            files = files | {tree.digest(ruled): ruled}
        for name, content in files.items():
            (folder / "objects" / name).write_bytes(content)
        issued = issued or int(time.time())
        last = known.get("last", [1, 0])
        manifest = tree.Manifest(
            self.identifier,
            host,
            epoch or last[0],
            sequence or last[1] + 1,
            issued,
            expires or issued + YEAR,
            tree.digest(ruled) if ruled else None,
            () if bundled else tuple(sorted(objects)),
            bundle,
        )
        self.state(lambda state: state["hosts"][host].update(last=[manifest.epoch, manifest.sequence]))
        self.put(tree.sign_manifest(manifest, self.seed), host)
        return manifest

    def put(self, manifest: bytes, host: str = "") -> None:
        """Have this be the file ``manifest`` of a host, whatever it is."""
        path = self.folder / "tree" / (host or self.host) / "manifest"
        new = path.with_suffix(".new")
        new.write_bytes(manifest)
        new.rename(path)

    def manifest(self, host: str = "") -> bytes:
        """The file ``manifest`` of a host."""
        return (self.folder / "tree" / (host or self.host) / "manifest").read_bytes()

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """What hosts have handed up."""
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if kind in ("", event["kind"])]

    def misbehave(self, mode: str = "") -> None:
        """Answer so from now on: "slow", "huge", "types", "error", "html", "silent", "no-claims"; empty: well."""
        (self.folder / "mode").write_text(mode)

    # Serving

    def server(self, port: int = PORT) -> ThreadingHTTPServer:
        """A server, not started. Port 0: any; ``url`` is what it listens on then."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        server = Server(("127.0.0.1", port), handler(self))
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{server.server_address[1]}"
        return server


class Server(ThreadingHTTPServer):
    """Prints what goes wrong with a request, but not that its client hung up: hosts do so on one that misbehaves."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called in the middle of an exception."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError | TimeoutError):
            super().handle_error(request, client_address)


def handler(directory: Directory) -> type[BaseHTTPRequestHandler]:
    """What answers the requests of one directory."""
    claims: dict[tuple[str, str], tuple[str, str]] = {}
    guard = threading.Lock()
    folder = directory.folder

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # one packet for an answer

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, content: bytes = b"", etag: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if etag:
                self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def fields(self, status: int, fields: object) -> None:
            self.answer(status, json.dumps(fields).encode())

        def misbehaves(self) -> bool:
            path = folder / "mode"
            mode = path.read_text() if path.exists() else ""
            if mode == "slow":
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
            elif mode == "huge":
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                for _ in range(40):
                    self.wfile.write(bytes(1 << 20))
            elif mode == "types":
                self.answer(200, b'{"claimed": "yes", "taken": 7, "host": [], "token": {}}')
            elif mode == "html":
                self.answer(200, b"<html>" + b"x" * 5000)
            elif mode == "error":
                self.fields(500, {"error": "broken"})
            elif mode == "silent":
                time.sleep(5)
            elif mode == "no-http":
                self.wfile.write(b"\0" * 100)
            else:
                return False
            self.close_connection = True
            return True

        def caller(self) -> str:
            """The id of the host that asks; empty where the token is nobody's."""
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            digest, hosts = hashlib.sha256(token.encode()).hexdigest(), directory.state()["hosts"].items()
            return next((str(name) for name, known in hosts if known["token"] == digest), "")

        def do_GET(self) -> None:
            if self.path == "/api/v1/ca":
                self.answer(200, (folder / "ca.pem").read_bytes())
                return
            if self.misbehaves():
                return
            watched = folder / "watch"
            if watched.exists() and watched.read_text() in self.path:
                watched.rename(folder / "go")
            host = self.caller()
            path = (folder / self.path.lstrip("/")).resolve()
            if not host or not path.is_relative_to((folder / "tree" / host).resolve()) or not path.is_file():
                self.fields(404, {"error": "there is no such thing"})
                return
            content = path.read_bytes()
            etag = f'"{tree.digest(content)[:16]}"'
            if self.headers.get("If-None-Match") == etag:
                self.answer(304, etag=etag)
            else:
                self.answer(200, content, etag)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.misbehaves():
                return
            with guard:
                self.api(body)

        def api(self, body: Any) -> None:
            if self.path == "/api/v1/join":
                self.join(body)
                return
            host = self.caller()
            if not host:
                self.fields(403, {"error": "not a token of a host"})
            elif self.path == "/api/v1/claim":
                who = ("r", body["recovery"]) if "recovery" in body else (body["authenticator"], str(body["step"]))
                winner = claims.setdefault(who, (host, body["login"]))
                self.fields(200, {"claimed": winner == (host, body["login"])})
            elif self.path == "/api/v1/events" and any(event["kind"] == "nonsense" for event in body["events"]):
                self.fields(400, {"error": "kind must be another one"})
            elif self.path == "/api/v1/events":
                known = {event["id"] for event in directory.events()}
                with (folder / "events.jsonl").open("a") as file:
                    for event in body["events"]:
                        if event["id"] not in known:
                            file.write(json.dumps(event | {"host": host}) + "\n")
                taken = [event["id"] for event in body["events"]]
                path = folder / "refuse"  # for a test: the reason
                reason = path.read_text() if path.exists() else ""
                refused = {each["id"]: reason for each in body["events"] if reason and each["kind"] == "uploaded"}
                self.fields(200, {"taken": taken, "refused": refused})
            elif self.path == "/api/v1/line":
                with (folder / "lines.jsonl").open("a") as file:
                    file.write(json.dumps(body) + "\n")
                self.fields(200, {"alone": not (folder / "cloned").exists()})
            elif self.path == "/api/v1/leave":
                directory.state(lambda state: state["hosts"][host].update(token="", left=True))
                self.fields(200, {})
            else:
                self.fields(404, {"error": "there is no such thing"})

        def join(self, body: Any) -> None:
            if body["token"] not in directory.state()["tokens"]:
                self.fields(403, {"error": "the token was used already", "next": "ask for another one"})
                return
            host = tree.new_identifier()
            known = {"token": body["bearer"], "key": body["key"], "name": body["name"], "last": [1, 0]}

            def add(state: dict[str, Any]) -> None:
                state["tokens"].remove(body["token"])
                state["hosts"][host] = known

            directory.state(add)
            self.fields(
                200,
                {
                    "host": host,
                    "directory": directory.identifier,
                    "epoch": 1,
                    "box": base64.b64encode(directory.box).decode(),
                    "tree": f"{directory.url}/tree/{host}",
                },
            )

    return Handler


def served(directory: Directory) -> Iterator[Directory]:
    """Serve in threads of this process, on any port."""
    directory.certify()
    server = directory.server(0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield directory
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def person(name: str, secret: bytes, *more: bytes, **fields: Any) -> tree.Record:
    """A record of somebody with these authenticators."""
    authenticators = tuple(
        tree.Authenticator(hashlib.sha256(each).hexdigest()[:32], f"phone {number}", 1_600_000_000, each)
        for number, each in enumerate((secret, *more))
    )
    return tree.Record(name, authenticators, **fields)


if __name__ == "__main__":
    running = Directory(Path(sys.argv[1])).server()
    print("ready", flush=True)
    running.serve_forever()
