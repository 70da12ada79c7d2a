"""Many hosts of a fleet in one process, over real HTTPS; runs inside a machine. The formats are the package's own.

Usage: fleet_hosts.py NAME CA HOSTS. Each host keeps a connection and asks for its manifest as the agent does; it checks
signature, order and hashes, and opens what is new. What its first manifest names it has already. Then, for each line on
standard input, one of JSON on standard output:
    ready                all hosts have a manifest: seconds since the start
    idle SECONDS         what was asked and transferred in that time
    change               "looking", and then, when all hosts have a newer manifest and opened what is new, at what times
    new TOKEN GROUP      one more host joins, and fetches everything with the agent's own client
"""

import asyncio
import base64
import hashlib
import json
import os
import random
import resource
import ssl
import sys
import time
from contextlib import suppress
from typing import Any

sys.path.insert(0, "/usr/lib/pam-totp-directory")

import uvloop

from pam_totp.errors import FleetError
from pam_totp.fleet import sources, tree, web

POLL = 15.0  # as pam_totp.fleet.agent has it, and its jitter
AT_ONCE = 200  # connections that are being opened
PATIENCE = 900.0


class Connection:
    """A connection that is kept; it counts what goes over it."""

    sent = received = asked = 0

    def __init__(self, name: str, context: ssl.SSLContext, token: str) -> None:
        self._name = name
        self._context = context
        self._token = token
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: str | None = None, etag: str = "") -> tuple[int, str, bytes]:
        """Status, ETag and content. The server may have closed the connection since: it is opened once more."""
        for again in (False, True):
            if self._ends is None:
                self._ends = await asyncio.open_connection(
                    "127.0.0.1", 443, ssl=self._context, server_hostname=self._name
                )
            try:
                return await self._exchange(path, body, etag)
            except (OSError, asyncio.IncompleteReadError):
                self.close()
                if again:
                    raise
        raise AssertionError

    async def _exchange(self, path: str, body: str | None, etag: str) -> tuple[int, str, bytes]:
        assert self._ends is not None
        reader, writer = self._ends
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {self._name}\r\n"
        head += f"Accept-Encoding: identity\r\nUser-Agent: pam-totp/bench\r\nAuthorization: Bearer {self._token}\r\n"
        head += f"If-None-Match: {etag}\r\n" if etag else ""
        head += "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = f"{head}\r\n{body or ''}".encode()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status = int(lines[0].split()[1])
        content = b"" if status == 304 else await reader.readexactly(int(fields.get("content-length", "0")))
        Connection.asked += 1
        Connection.sent += len(request)
        Connection.received += len(answer) + len(content)
        if fields.get("connection", "").lower() == "close":
            self.close()
        return status, fields.get("etag", ""), content

    def close(self) -> None:
        """Close it; the next request opens another one."""
        if self._ends is not None:
            self._ends[1].close()
        self._ends = None


class Host:
    """One host: what it has, and since when."""

    def __init__(self, fleet: "Fleet", ident: str, token: str, private: bytes) -> None:
        self._fleet = fleet
        self.ident = ident
        self.token = token
        self._private = private
        self._connection = Connection(fleet.name, fleet.context, token)
        self._etag = ""
        self._last: tuple[int, int, str] | None = None
        self._has: set[str] = set()
        self.sequence = 0
        self.since = 0.0

    async def live(self) -> None:
        """Ask for ever."""
        await asyncio.sleep(random.uniform(0, POLL))
        while True:
            try:
                await self._look()
            except (OSError, asyncio.IncompleteReadError) as error:
                self._fleet.failed(type(error).__name__)
            await asyncio.sleep(POLL * random.uniform(0.8, 1.1))

    async def _look(self) -> None:
        if self._last is None:
            async with self._fleet.opening:
                status, etag, content = await self._connection.ask(f"/tree/{self.ident}/manifest")
        else:
            status, etag, content = await self._connection.ask(f"/tree/{self.ident}/manifest", None, self._etag)
        if status == 304:
            return
        if status != 200:
            self._fleet.failed(str(status))
            return
        manifest = tree.open_manifest(content, self._fleet.key)
        digest = tree.digest(content)
        tree.order(manifest, digest, self._fleet.directory, self.ident, self._last)
        for name in set(manifest.files) - self._has if self._last is not None else ():
            status, _, found = await self._connection.ask(f"/tree/{self.ident}/objects/{name}")
            if status != 200:
                self._fleet.failed(f"object {status}")
                return
            if name == manifest.bundle:
                # A host opens those of them that it does not have: what the change before brought.
                manifest.in_force(tree.unbundle(found, name))
                continue
            tree.check_object(found, name)
            tree.open_record(found, self.ident, self._private)
        self._etag, self._last = etag, (manifest.epoch, manifest.sequence, digest)
        self._has, self.sequence, self.since = set(manifest.files), manifest.sequence, time.time()


class Fleet:
    """All of them."""

    def __init__(self, name: str, ca: str, known: dict[str, Any]) -> None:
        self.name = name
        self.ca = ca
        self.context = ssl.create_default_context(cafile=ca)
        self.directory = known["directory"]
        self.key = base64.b64decode(known["key"])
        self.opening = asyncio.Semaphore(AT_ONCE)
        self.failures: dict[str, int] = {}
        self.hosts = [Host(self, ident, token, base64.b64decode(key)) for ident, token, key in known["hosts"]]

    def failed(self, what: str) -> None:
        """Count what went wrong."""
        self.failures[what] = self.failures.get(what, 0) + 1

    async def _until(self, holds: Any) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                raise SystemExit(f"it did not come to that: {self.failures}")
            await asyncio.sleep(0.05)

    async def ready(self) -> dict[str, Any]:
        """All have begun."""
        began = time.time()
        await self._until(lambda: all(each.sequence for each in self.hosts))
        return {"seconds": time.time() - began}

    async def idle(self, seconds: str) -> dict[str, Any]:
        """Nothing happens."""
        before = Connection.asked, Connection.sent, Connection.received
        await asyncio.sleep(float(seconds))
        after = Connection.asked, Connection.sent, Connection.received
        return dict(
            zip(("requests", "sent", "received"), (b - a for a, b in zip(before, after, strict=True)), strict=True)
        )

    async def change(self) -> dict[str, Any]:
        """Something is changed by somebody else."""
        before = {each.ident: each.sequence for each in self.hosts}
        print(json.dumps("looking"), flush=True)
        await self._until(lambda: all(each.sequence > before[each.ident] for each in self.hosts))
        return {"times": sorted(each.since for each in self.hosts)}

    async def new(self, token: str) -> dict[str, Any]:
        """A host joins."""
        return await asyncio.get_running_loop().run_in_executor(None, self._new, tree.parse_token(token))

    def _new(self, token: tree.JoinToken) -> dict[str, Any]:
        with open(self.ca, encoding="ascii") as file:
            ca = file.read()
        private, public = tree.new_box_key()
        url, began = f"https://{self.name}", time.perf_counter()
        bearer = os.urandom(32).hex()
        fields = {"token": token.secret, "name": f"new-{os.urandom(4).hex()}", "key": base64.b64encode(public).decode()}
        fields["bearer"] = hashlib.sha256(bearer.encode()).hexdigest()
        said = web.Web(url, ca).post("/api/v1/join", fields, 60.0).fields()
        joined = time.perf_counter()
        source = sources.WebTree(web.Web(url, ca, bearer), f"/tree/{said['host']}")
        content = None
        while content is None:
            try:
                content = source.manifest()
            except FleetError as error:
                if error.reason != "fleet-unpublished" or time.perf_counter() - joined > PATIENCE:
                    raise
                time.sleep(0.05)
        there = time.perf_counter()
        manifest = tree.open_manifest(content, self.key)
        # As fleet/sync.py does.
        bundled = {}
        if manifest.bundle is not None:
            bundled = tree.unbundle(source.thing(manifest.bundle, tree.BUNDLE_LIMIT), manifest.bundle)
        listed = manifest.in_force(bundled)
        for name in listed:
            found = bundled[name] if name in bundled else source.thing(name)
            tree.check_object(found, name)
            tree.open_record(found, said["host"], private)
        done = time.perf_counter()
        return {
            "records": len(listed),
            "bundled": len(bundled),
            "join": joined - began,
            "wait": there - joined,
            "fetch": done - there,
        }


async def main(name: str, ca: str, known: dict[str, Any]) -> None:
    """Do what is asked for."""
    fleet = Fleet(name, ca, known)
    living = [asyncio.create_task(each.live()) for each in fleet.hosts]
    loop = asyncio.get_running_loop()
    while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        answer = await getattr(fleet, words[0])(*words[1:])
        print(json.dumps({**answer, "failures": fleet.failures}), flush=True)
        fleet.failures = {}
    for each in living:
        each.cancel()


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The directory goes first where both want a processor: hosts have their own.
    os.nice(10)
    with suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as group:
        group.write("10")  # where each session counts as one
    with open(sys.argv[3], encoding="ascii") as lines:
        uvloop.run(main(sys.argv[1], sys.argv[2], json.load(lines)))
