"""nginx and Apache with the examples, before an application, and curl with the command of docs/verify.md."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.setup import EXAMPLES
from tests.lab.verify import Verify
from tests.login.host import Host, steady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine
    from tests.login.host import Person

# The root with the web servers takes a minute to build.
pytestmark = pytest.mark.full

PACKAGES = ("apache2", "apache2-utils", "curl", "libapache2-mod-authnz-external", "nginx-light")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/verify.md"
SITE = "http://127.0.0.1:8080"
# It says what the server has told it, and gives a cookie.
APPLICATION = """
import http.server, json
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(200)
        self.send_header("Set-Cookie", "session=1")
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Answer)
print("listening", flush=True)
server.serve_forever()
"""
NGINX = """
set -e
cp "$1/nginx/totp.conf" /etc/nginx/snippets/
rm -f /etc/nginx/sites-enabled/*
cat >/etc/nginx/sites-enabled/site <<END
server {
    listen 127.0.0.1:8080;
    include snippets/totp.conf;
}
END
: >/etc/nginx/passwords
nginx -q -t
"""
APACHE = """
set -e
cp "$1/apache/totp.conf" /etc/apache2/conf-available/
install -m 755 "$1/apache/totp-check" /usr/local/sbin/totp-check
echo 'Listen 127.0.0.1:8080' >/etc/apache2/ports.conf
install -m 640 -g www-data /dev/null /etc/apache2/totp-passwords
a2enmod -q authnz_external headers proxy_http
a2enconf -q totp
echo 'ServerName localhost' >>/etc/apache2/apache2.conf
apache2ctl -t
"""
# How each is set up, where its passwords are, and how it is started.
SERVERS = {
    "nginx": (NGINX, "/etc/nginx/passwords", "nginx -g 'daemon off;'"),
    "apache": (APACHE, "/etc/apache2/totp-passwords", "apache2ctl -D FOREGROUND"),
}
WAIT = """
for _ in $(seq 200); do
    curl -s -o /dev/null "$1/nothing" && exit
    sleep 0.1
done
exit 1
"""


@contextmanager
def site(machine: Machine, name: str, *people: Person) -> Iterator[None]:
    """A web server with its example, before an application."""
    set_up, passwords, server = SERVERS[name]
    machine.sh(set_up, EXAMPLES)
    for person in people:
        machine.run(["htpasswd", "-i", passwords, person.name], input=f"{person.user.password}\n")
    with Verify(machine) as verify:
        verify.client(name, "--runs-as", "www-data", "--may-know")
        application = machine.popen(["/usr/bin/python3", "-I", "-c", APPLICATION])
        assert application.stdout is not None
        assert application.stdout.readline() == "listening\n"
        running = machine.popen(["sh", "-c", f"exec {server}"])
        try:
            machine.sh(WAIT, SITE)
            yield
        finally:
            machine.end(running)
            machine.end(application)
            machine.run(["pam-totp", "verify", "remove", name])


def begin(machine: Machine, user: str, password: str, code: str = "") -> tuple[int, dict[str, str]]:
    """Begin a session: the status, and what the application was told if it was asked."""
    lines = [f'user = "{user}:{password}"', f'url = "{SITE}/session"', 'write-out = "\\n%{http_code}"', "silent"]
    if code:
        lines.append(f'header = "X-Code: {code}"')
    text, _, status = machine.run(["curl", "--config", "-"], input="\n".join(lines)).stdout.rpartition("\n")
    return int(status), json.loads(text) if text.startswith("{") else {}


def test_nginx_serves_after_password_and_code(host: Host) -> None:
    machine, alice = host.machine, host.person()
    password = alice.user.password
    with site(machine, "nginx", alice):
        steady(15)
        spent = alice.code()
        mark = machine.mark()
        assert begin(machine, alice.name, "wrong", spent) == (401, {})
        assert host.decisions(mark) == []  # without the password nobody is asked about
        assert begin(machine, alice.name, password) == (403, {})
        assert begin(machine, alice.name, password, alice.wrong()) == (403, {})
        mark = machine.mark()
        status, told = begin(machine, alice.name, password, spent)
        assert (status, told["remote-user"]) == (200, alice.name)
        assert not {"authorization", "x-code"} & set(told)
        [line] = host.decisions(mark)
        assert (line["service"], line["rhost"], line["reason"]) == ("nginx", "127.0.0.1", "code")
        assert begin(machine, alice.name, password, spent) == (403, {})
        assert not alice.log_in(spent).ok  # and at another door
        # The place where nginx asks is nobody else's.
        assert machine.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{SITE}/totp"]).stdout == "404"


def test_apache_serves_after_password_and_code(host: Host) -> None:
    machine, alice = host.machine, host.person()
    password = alice.user.password
    with site(machine, "apache", alice):
        steady(15)
        spent = alice.code()
        mark = machine.mark()
        assert begin(machine, alice.name, f"wrong{spent}") == (401, {})
        assert begin(machine, alice.name, password) == (401, {})
        assert begin(machine, f"{alice.name}x", f"{password}{spent}") == (401, {})
        assert host.decisions(mark) == []  # without the password nobody is asked about
        assert begin(machine, alice.name, f"{password}{alice.wrong()}") == (401, {})
        mark = machine.mark()
        status, told = begin(machine, alice.name, f"{password}{spent}")
        assert (status, told["remote-user"]) == (200, alice.name)
        assert "authorization" not in told
        [line] = host.decisions(mark)
        assert (line["service"], line["rhost"], line["reason"]) == ("apache", "127.0.0.1", "code")
        assert begin(machine, alice.name, f"{password}{spent}") == (401, {})
        assert not alice.log_in(spent).ok  # and at another door


def test_curl_asks_as_the_page_says(host: Host) -> None:
    machine, alice = host.machine, host.person()
    [command] = re.findall(r"^### curl\n\n```\n(.*?)\n```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    with Verify(machine) as verify:
        token = verify.client("page")
        spent = alice.code()
        filled = command.replace('"alice"', f'"{alice.name}"').replace("123456", spent)
        assert filled.count(spent) == filled.count(alice.name) == 1
        for right in (True, False):
            answer = json.loads(machine.sh(filled, env={"TOKEN": token}).stdout)
            assert answer["result"] is right
        machine.run(["pam-totp", "verify", "remove", "page"])


def test_without_the_service_no_web_server_serves(host: Host) -> None:
    machine, alice = host.machine, host.person()
    password = alice.user.password
    with site(machine, "nginx", alice):
        machine.run(["mv", "/run/pam-totp-verify.sock", "/run/away"])
        assert begin(machine, alice.name, password, alice.code()) == (500, {})
        machine.run(["rm", "/run/away"])
    with site(machine, "apache", alice):
        machine.run(["mv", "/run/pam-totp-verify.sock", "/run/away"])
        assert begin(machine, alice.name, f"{password}{alice.code()}") == (401, {})
