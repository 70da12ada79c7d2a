"""A visit of the portal over TLS, in the machine that is the directory: a browser without scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.directory.site import CA, NAME

if TYPE_CHECKING:
    from tests.directory.site import Site

# Reads {"ca", "link", "then", "between"}: follows the invitation, enrols with oathtool's code, runs the script
# "between" where there is one, and then opens the pages "then".
PROGRAM = r"""
import http.cookiejar, json, re, ssl, subprocess, sys, urllib.error, urllib.parse, urllib.request
asked = json.load(sys.stdin)
context = ssl.create_default_context(cafile=asked["ca"])
jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), jar)
place = asked["link"]

def visit(address, **fields):
    global place
    data = urllib.parse.urlencode(fields).encode() if fields else None
    request = urllib.request.Request(urllib.parse.urljoin(place, address), data, {"Referer": place})
    try:
        with opener.open(request, timeout=30) as answer:
            place = answer.url
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()

def field(page, name):
    return re.search(f'name="{name}" value="([^"]*)"', page)[1]

_, page = visit(asked["link"])
_, page = visit(asked["link"], csrfmiddlewaretoken=field(page, "csrfmiddlewaretoken"))
key, token = field(page, "key"), field(page, "csrfmiddlewaretoken")
code = subprocess.run(["oathtool", "--totp", "--base32", "-"], input=key, text=True, capture_output=True).stdout.strip()
status, page = visit(place, csrfmiddlewaretoken=token, key=key, label="phone", code=code)
codes = re.findall(r"<li>([a-z2-9]{5}-[a-z2-9]{5})</li>", page)
if asked["between"]:
    subprocess.run(["sh", "-c", asked["between"]], check=True, stdout=subprocess.DEVNULL)
pages = {each: visit(each) for each in asked["then"]}
json.dump({"key": key, "status": status, "codes": codes, "pages": pages}, sys.stdout)
"""


def enrol(site: Site, link: str, *then: str, between: str = "") -> dict[str, Any]:
    """Follow an invitation to its end. Returns the key, the codes, and status and text of the pages ``then``."""
    asked = json.dumps({"ca": CA, "link": link, "then": then, "between": between})
    command = ["/usr/bin/python3", "-I", "-c", PROGRAM]
    found: dict[str, Any] = json.loads(site.machine.run(command, input=asked).stdout)
    return found


# Signs in; where that leads to the page of a new authenticator, it is set up. Prints the path, the page, and the key.
VISIT = r"""
import http.cookiejar, json, re, ssl, subprocess, sys, urllib.error, urllib.parse, urllib.request
asked = json.load(sys.stdin)
context = ssl.create_default_context(cafile=asked["ca"])
jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), jar)

def visit(address, **fields):
    data = urllib.parse.urlencode(fields).encode() if fields else None
    with opener.open(urllib.request.Request(address, data, {"Referer": address}), timeout=30) as answer:
        return answer.url, answer.read().decode()

def field(page, name):
    return re.search(f'name="{name}" value="([^"]*)"', page)[1]

place, page = visit(f"https://{asked['site']}/login/")
token = field(page, "csrfmiddlewaretoken")
place, page = visit(place, csrfmiddlewaretoken=token, name=asked["name"], password=asked["password"])
key = ""
if place.endswith("/enrol/"):
    key, token = field(page, "key"), field(page, "csrfmiddlewaretoken")
    said = subprocess.run(["oathtool", "--totp", "--base32", "-"], input=key, text=True, capture_output=True)
    place, page = visit(place, csrfmiddlewaretoken=token, key=key, label="phone", code=said.stdout.strip())
json.dump({"path": urllib.parse.urlsplit(place).path, "page": page, "key": key}, sys.stdout)
"""


def sign_in(site: Site, name: str, password: str) -> dict[str, Any]:
    """Sign in as far as a password leads. Returns where that is, the page, and the key that was set up."""
    asked = json.dumps({"ca": CA, "site": NAME, "name": name, "password": password})
    found: dict[str, Any] = json.loads(site.machine.run(["/usr/bin/python3", "-I", "-c", VISIT], input=asked).stdout)
    return found
