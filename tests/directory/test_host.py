"""A host and the directory, both from their packages, on one machine that systemd has booted: the whole way round."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.directory.site import NAME
from tests.lab.code import STEP, code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.directory.site import Host, Site

pytestmark = pytest.mark.full

AGENT = "pam-totp-agent.service"
SILENCE = 5.5  # for which a directory that did not answer is not asked
# A login, and what is told of it, as the engine does.
LOGIN = """
import json, sys
from pam_totp.host import clock
from pam_totp.host.config import Arguments
from pam_totp.host.paths import Paths
from pam_totp.login import log, login
user, code = json.load(sys.stdin)
class Talk(login.Conversation):
    def ask(self, prompt, echo=False):
        return code
    def tell(self, text):
        pass
request = login.Request(user, "sshd", "192.0.2.7")
outcome = login.attempt(request, Arguments([]), Paths(), clock.now, Talk())
login.keep(outcome, log.decision(request, outcome), Paths(), clock.now)
print(json.dumps([outcome.verdict, outcome.reason, outcome.detail]))
"""


# The same at another door: a VPN that asks the verify service.
DOOR = """
import http.client, json, socket, sys
token, user, code = json.load(sys.stdin)
connection = http.client.HTTPConnection("localhost", timeout=40)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/pam-totp-verify.sock")
fields = json.dumps({"user": user, "source": "192.0.2.8", "code": code})
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
connection.request("POST", "/v1/verify", fields, headers)
print(connection.getresponse().read().decode())
"""


def login(site: Site, user: str, answer: str) -> list[str]:
    done = site.machine.run(["/usr/bin/python3", "-I", "-c", LOGIN], input=json.dumps([user, answer]))
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def door(site: Site, token: str, user: str, answer: str) -> str:
    command = ["/usr/bin/python3", "-I", "-c", DOOR]
    told = json.loads(site.machine.run(command, input=json.dumps([token, user, answer])).stdout)
    assert told["result"] == (told["outcome"] == "accepted")
    return str(told["reason"])


def claim(host: Host, user: str, step: int) -> None:
    """Have another host use a code up."""
    identifier = host.wait(lambda records: user in records)[user].authenticators[0].identifier
    fields = {"authenticator": identifier, "step": step, "login": "e" * 32}
    status, content = host.site.ask("/api/v1/claim", host, fields)
    assert (status, json.loads(content)) == (200, {"claimed": True})


def fleet(site: Site) -> Any:
    return json.loads(site.machine.run(["pam-totp", "fleet", "--json"], check=False).stdout)


def wait(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.5)


def sources_of(site: Site, name: str) -> list[str]:
    """Where a user's authenticators on the host have come from."""
    script = """
import json, sys
from pam_totp.cache.accounts import Accounts
from pam_totp.host.paths import Paths
with Accounts(Paths()) as accounts:
    account = accounts.get(sys.argv[1])
print(json.dumps([each.source for each in account.active] if account else []))
"""
    found = json.loads(site.machine.run(["/usr/bin/python3", "-I", "-c", script, name]).stdout)
    assert isinstance(found, list)
    return found


def test_enrolled_there_asked_here_enrolled_here_known_there_alone_and_revoked(
    site: Site, debs: tuple[Path, ...]
) -> None:
    machine = site.machine
    for package in debs:
        machine.write(f"/root/{package.name}", package.read_bytes())
    names = " ".join(f"./root/{package.name}" for package in debs)
    machine.sh(f"cd / && apt-get install -q -y {names} 2>&1", env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
    assert machine.run(["systemctl", "is-enabled", AGENT], check=False).stdout.strip() == "disabled"
    for name in ("alice", "bob"):
        machine.run(["useradd", "-m", name])
        site.command("user", "add", name)
    secret = base64.b32encode(site.enroll("alice")).decode()
    token = site.command("token", "new", "--host", "host1").stdout
    machine.run(["pam-totp", "join", f"https://{NAME}", "--name", "host1"], input=token, timeout=120)
    assert machine.run(["systemctl", "is-active", AGENT]).stdout.strip() == "active"
    wait(lambda: fleet(site)["state"] == "fresh")
    machine.write("/etc/pam-totp/config.toml", "window = 8\n")  # several codes in a row need not be waited for
    assert login(site, "alice", "000000")[0] == "refused"
    used = code(secret, time.time() + 30)
    assert login(site, "alice", used) == ["accepted", "code", ""]
    # At another door of this host: used here, used on another host, and good.
    machine.run(["pam-totp", "verify", "enable"])
    vpn = json.loads(machine.run(["pam-totp", "verify", "add", "vpn", "--may-know", "--json"]).stdout)["token"]
    assert door(site, vpn, "alice", used) == "spent-code"
    assert door(site, vpn, "alice", code(secret, time.time() + 60)) == "code"
    other = site.join("other")
    for seconds in (90, 120):
        ahead = time.time() + seconds
        claim(other, "alice", int(ahead // STEP))
        reason = door(site, vpn, "alice", code(secret, ahead))
        if reason == "spent-elsewhere":
            break
        time.sleep(SILENCE)  # the directory was too slow to say so, on a busy machine
    assert reason == "spent-elsewhere"
    # Enrolled on the host, and the directory's after a while.
    document = json.loads(machine.run(["pam-totp", "enroll", "bob", "--no-confirm", "--json"]).stdout)
    machine.run(["pam-totp", "confirm", "bob"], input=code(document["secret"]) + "\n")
    wait(lambda: sources_of(site, "bob") == ["directory"])
    # The directory is gone, and comes back.
    machine.run(["systemctl", "stop", "pam-totp-directory.service"])
    verdict, _, detail = login(site, "alice", code(secret, time.time() + 150))
    assert verdict == "accepted"
    assert "decided by this host alone" in detail
    assert door(site, vpn, "alice", code(secret, time.time() + 180)) == "code"
    machine.run(["systemctl", "start", "pam-totp-directory.service"])
    site.command("user", "remove", "alice", "--yes")
    wait(lambda: login(site, "alice", "")[1] == "fleet-revoked")
    assert door(site, vpn, "alice", code(secret)) == "fleet-revoked"
    machine.run(["pam-totp", "leave", "--yes"])
    assert login(site, "alice", "")[1] == "fleet-revoked"
    assert fleet(site) == {"joined": False}
    assert machine.run(["systemctl", "is-active", AGENT], check=False).stdout.strip() == "inactive"
