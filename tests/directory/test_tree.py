"""The tree on a web server of somebody else's: Debian's nginx, set up as docs/directory.md says, and a real host."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.directory.site import NAME, Site
from tests.lab.package import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.machine import Machine

# A machine with another root, for what rarely changes.
pytestmark = pytest.mark.full

PACKAGES = ("ca-certificates", "curl", "nginx-light", "openssl", "rsync")
TREE = "tree.example.org"
CERTIFICATE = f"""
set -e
cd /root
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=another \\
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
openssl req -newkey rsa:2048 -nodes -keyout tree.key -out tree.csr -subj /CN={TREE} -addext subjectAltName=DNS:{TREE}
openssl x509 -req -in tree.csr -CA ca.crt -CAkey ca.key -days 2 -copy_extensions copy -out /etc/ssl/tree.crt
install -m 600 tree.key /etc/ssl/private/tree.key
echo '127.0.0.1 {TREE}' >>/etc/hosts
"""
LOG = "/var/log/nginx/asked"
LOGGED = f"""log_format asked '$status "$http_authorization" "$http_cookie" "$http_if_none_match" $request';
access_log {LOG} asked;
"""
BEARER = """
from pam_totp.cache.accounts import Accounts
from pam_totp.fleet import identity
from pam_totp.host.paths import Paths
with Accounts(Paths()) as accounts:
    print(identity.require(accounts).token)
"""


def documented() -> tuple[dict[str, str], str]:
    """The files of the documentation, by path; and the line for directory.toml."""
    text = (CHECKOUT / "docs/directory.md").read_text("utf-8")
    [section] = re.findall(r"^## The tree on a web server\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```\n(.*?)^```\n", section, re.DOTALL | re.MULTILINE)
    files = {each.partition("\n")[0].removeprefix("# "): each for each in blocks if each.startswith("# /")}
    [line] = [each for each in blocks if each.startswith("tree = ")]
    assert len(files) == 3
    return files, line


def until(machine: Machine, script: str) -> None:
    """Wait until a shell script succeeds."""
    machine.sh(f"until {script}; do sleep 0.3; done", timeout=120)


def asked(machine: Machine) -> list[str]:
    """What nginx was asked."""
    return machine.read(LOG).splitlines()


def test_a_host_goes_on_from_nginx_with_the_web_process_down_and_hands_it_no_token(
    site: Site, debs: tuple[Path, ...]
) -> None:
    machine = site.machine
    machine.sh(CERTIFICATE)
    files, line = documented()
    for path, content in files.items():
        machine.write(path, content)
    machine.write("/etc/nginx/conf.d/asked.conf", LOGGED)
    machine.sh(
        f"""
        set -e
        sed -i '1i {line.strip()}' /etc/pam-totp-directory/directory.toml
        rm -f /etc/nginx/sites-enabled/default
        mkdir -p /srv/pam-totp/tree
        systemctl daemon-reload
        systemctl enable --now pam-totp-tree.timer
        systemctl restart nginx pam-totp-directory
        """
    )
    for package in debs:
        machine.write(f"/root/{package.name}", package.read_bytes())
    names = " ".join(f"/root/{package.name}" for package in debs)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    machine.sh(f"apt-get install -q -y --no-install-recommends {names} 2>&1", env=env, timeout=300)
    machine.sh("useradd alice; printf 'auth required pam_totp.so\n' >/etc/pam.d/try")
    site.command("user", "add", "alice")
    site.enroll("alice")
    # A certificate of somebody whom this host does not know: nothing is taken, and that is said.
    token = site.command("token", "new", "--host", "host1").stdout
    machine.run(["pam-totp", "join", f"https://{NAME}", "--name", "host1"], input=token, check=False, timeout=120)
    until(machine, "pam-totp fleet | grep -q 'its certificate is not good'")
    assert asked(machine) == []
    machine.sh("cp /root/ca.crt /usr/local/share/ca-certificates/another.crt; update-ca-certificates 2>&1")
    machine.run(["systemctl", "restart", "pam-totp-agent"])
    until(machine, "pam-totp status alice | grep -q active")
    # The directory says no more, and what changes comes all the same.
    machine.run(["systemctl", "stop", "pam-totp-directory"])
    site.command("user", "lock", "alice")
    until(machine, "pamtester try alice authenticate </dev/null 2>&1 | grep -q 'account is locked'")
    until(machine, f"grep -q ^304 {LOG}")
    lines = asked(machine)
    [ident] = {found[1] for each in lines if (found := re.search(r"/tree/([0-9a-f]{32})/manifest", each))}
    # No token and no cookie; and a manifest that is unchanged is asked for by its ETag, and not sent.
    paths = rf"/tree/{ident}/(?:manifest|objects/[0-9a-f]{{64}})"
    shape = rf'(?:(?:200|404) "-" "-" "(?:-|[^" ]+)"|304 "-" "-" "[^" ]{{8,}}") GET {paths} HTTP/1\.1'
    assert [each for each in lines if not re.fullmatch(shape, each)] == []
    # The copy had nothing for the host at first, and then it never lacked anything.
    statuses = [each[:3] for each in lines]
    assert "404" not in statuses[statuses.index("200") :]
    bearer = machine.run(["/usr/bin/python3", "-I", "-c", BEARER]).stdout.strip()
    assert len(bearer) >= 16
    assert machine.run(["grep", "-rqF", "-e", bearer, "/var/log/nginx"], check=False).returncode == 1
    # Nothing is told that was not asked for by its name.
    script = 'curl -s -o /dev/null -w "%{http_code}" --cacert /root/ca.crt "$1"'
    for path in ("", "tree/", f"tree/{ident}/", f"tree/{ident}/objects/", "tree/.lock"):
        assert machine.sh(script, f"https://{TREE}:8443/{path}").stdout in ("403", "404")
    machine.run(["systemctl", "start", "pam-totp-directory"])
    site.command("user", "unlock", "alice")
    until(machine, "! pamtester try alice authenticate </dev/null 2>&1 | grep -q 'account is locked'")
    # And what happened meanwhile goes up to the directory.
    until(machine, "pam-totp fleet | grep -q 'pending: *0 events'")
    assert json.loads(machine.run(["pam-totp", "fleet", "--json"]).stdout)["state"] == "fresh"
