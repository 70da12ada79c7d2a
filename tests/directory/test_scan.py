"""Wapiti, of Debian 12, against both portals: as a stranger, as a user, and as an administrator."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

pytestmark = pytest.mark.full

# Of its levels: 1 is low.
MEDIUM = 2
# Without its module csrf, which does not know what Django calls its tokens: test_every_form_wants_its_token does.
MODULES = "common,methods,crlf,htaccess,backup"
# For looking around, and for each kind of attack.
TIMES = {"nobody": (90, 15), "user": (90, 15), "administrator": (240, 30)}
# What each has to have been shown, or it was not signed in.
SEEN = {
    "nobody": ["/login/"],
    "user": ["/authenticators/add/"],
    "administrator": ["/authenticators/add/"]
    + [f"/admin/directory/{thing}/add/" for thing in ("person", "group", "hostgroup", "apitoken")]
    + [f"/admin/directory/{thing}/" for thing in ("person", "host", "event", "audit", "invitation", "jointoken")],
}
SCRIPT = """
set -e
root=$1
shift
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/root"
mount --rbind /dev "$root/dev"
chroot "$root" env -i HOME=/root PATH=/usr/bin:/bin LANG=C.UTF-8 wapiti "$@" >&2
cat "$root/root/report"
"""


@pytest.mark.parametrize("role", SEEN)
def test_wapiti_finds_nothing_of_medium_or_above(role: str) -> None:
    from tests.directory import browsers, lane
    from tests.lab.roots import root

    scanner = root("bookworm", ("wapiti",)).layers[0]
    with browsers.machine() as machine, lane.popen(machine, "-m", "tests.directory.browser.serving") as serving:
        assert serving.stdout is not None
        served = json.loads(serving.stdout.readline())
        words = ["--url", f"{served['url']}{'/login/' if role == 'nobody' else '/'}", "--scope", "domain"]
        for path in served["pages"] if role == "administrator" else ():
            words += ["--start", f"{served['url']}{path}"]
        crawl, attack = TIMES[role]
        words += ["--flush-session", "--verify-ssl", "0", "--level", "1", "--no-bugreport", "--verbose", "2"]
        words += ["--max-scan-time", str(crawl), "--max-attack-time", str(attack), "--module", MODULES]
        words += ["--header", f"Origin: {served['url']}", "--format", "json", "--output", "/root/report"]
        if role in served["cookies"]:
            words += ["--header", f"Cookie: {served['cookies'][role]}"]
        around: list[str] = [*machine.around("--net"), "unshare", "--mount", "--propagation", "private"]
        command: list[str] = [*around, "sh", "-c", SCRIPT, "sh", str(scanner), *words]
        done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
        machine.end(serving)
    seen = set(re.findall(re.escape(served["url"]) + r"(/[^\s?(]*)", done.stderr))
    assert set(SEEN[role]) <= seen, done.stderr
    report = json.loads(done.stdout)
    found = [
        (kind, each["level"], each["method"], each["path"], each["info"])
        for kind, those in (report["vulnerabilities"] | report["anomalies"]).items()
        for each in those
        if each["level"] >= MEDIUM
    ]
    assert found == []
