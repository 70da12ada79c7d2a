"""The portals' sign-in at a real LemonLDAP::NG, which asks for the code of the very directory, in a real browser."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.directory import lane
from tests.directory.site import NAME, Site
from tests.lab.browser import Browser
from tests.lab.code import code
from tests.lab.sso import PACKAGES, PORTAL, Sso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.machine import Machine

# The root with Chromium, LemonLDAP::NG and the directory takes minutes to build.
pytestmark = pytest.mark.full

HOME = f"https://{NAME}/"
SECRET = "/etc/pam-totp-directory/oidc.secret"
TABLE = f"""
[oidc]
issuer = "{PORTAL}"
client_id = "directory"
"""


class Circle:
    """A directory, LemonLDAP::NG on a host of it, and that as the directory's provider."""

    def __init__(self, site: Site, sso: Sso, secret: str) -> None:
        self.site, self.sso, self.secret = site, sso, secret
        self._last = 0.0

    def code(self) -> str:
        """A code of alice's that was never typed: each is of a later step, at most one ahead of the clock."""
        self._last = max(time.time(), self._last + 30)
        wait(lambda: self._last < time.time() + 30)
        return code(self.secret, self._last)

    def configure(self, table: str) -> None:
        """Have the directory take these settings."""
        machine = self.site.machine
        machine.write("/etc/pam-totp-directory/directory.toml", f'name = "{NAME}"\nlisten = "127.0.0.1:443"\n{table}')
        machine.sh('chgrp pam-totp-directory "$1" && chmod 640 "$1"', "/etc/pam-totp-directory/directory.toml")
        machine.run(["systemctl", "restart", "pam-totp-directory.service"], timeout=60)
        wait(
            lambda: (
                self.site.machine.sh('curl -sf --cacert "$1" "$2"', CA, f"{HOME}login/", check=False).returncode == 0
            )
        )

    def sign_in(self, browser: Browser, name: str = "alice", typed: str | None = None) -> str:
        """Go from the directory to the portal and back. Returns the heading of the page where that ends."""
        browser.open(f"{HOME}login/")
        browser.press("a[href='/login/provider/']")
        if browser.wait("input[name=user]", "h1") == "input[name=user]":
            browser.fill("input[name=user]", name)
            browser.fill("input[name=password]", "correct horse")
            browser.press("button[type=submit]")
            if typed is not None:
                browser.fill("input[name=code]", typed)
                browser.press("button[type=submit]")
        # Both are seen where a test fails.
        print(browser.url, browser.text())
        print(self.site.machine.sh("journalctl -u pam-totp-directory -o cat | tail -n 3").stdout)
        wait(lambda: browser.text("h1") not in ("", "Signing in"))
        return browser.text("h1")


# What the token then says as amr.
AMR = {"oidcServiceMetaDataAmrRules": {"otp": '$_2f eq "rest"'}}
CA = "/etc/pam-totp-directory/ca.crt"


def wait(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.3)


def join(site: Site, debs: tuple[Path, ...]) -> None:
    """Make the machine a host of the directory, too."""
    machine = site.machine
    for package in debs:
        machine.write(f"/root/{package.name}", package.read_bytes())
    names = " ".join(f"./root/{package.name}" for package in debs)
    machine.sh(f"cd / && apt-get install -q -y {names} 2>&1", env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
    token = site.command("token", "new", "--host", "portal").stdout
    machine.run(["pam-totp", "join", f"https://{NAME}", "--name", "portal"], input=token, timeout=120)
    wait(lambda: json.loads(machine.run(["pam-totp", "fleet", "--json"], check=False).stdout)["state"] == "fresh")


@pytest.fixture(scope="module")
def circle(debs: tuple[Path, ...], pytestconfig: pytest.Config) -> Iterator[Circle]:
    """The directory whose portals take the word of a portal that asks for the directory's codes."""
    from tests.lab.booted import Booted
    from tests.lab.package import directory_deb

    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        package = directory_deb()
        machine = Booted(lane.SUITE, (*PACKAGES, *lane.PACKAGES))
    with machine:
        machine.sh("systemctl disable --now apache2.service 2>&1", check=False)
        site = Site(machine, package)
        people(site.machine)
        site.command("user", "add", "alice")
        secret = base64.b32encode(site.enroll("alice")).decode()
        join(site, debs)
        machine.run(["pam-totp", "verify", "enable", "--listen", "127.0.0.1:722"])
        machine.write("/etc/pam-totp/config.toml", "window = 8\n")  # several codes in a row need not be waited for
        running = Circle(site, Sso(machine), secret)
        running.configure("")  # so that the portal's address is free
        with running.sso as sso:
            sso.protect("--may-know")
            found = sso.settings()
            relying = dict(found["oidcRPMetaDataOptions"])
            relying["directory"] = relying["application"] | {
                "oidcRPMetaDataOptionsClientID": "directory",
                "oidcRPMetaDataOptionsClientSecret": "of the/lab",
                "oidcRPMetaDataOptionsRedirectUris": f"{HOME}login/provider/back/",
                "oidcRPMetaDataOptionsPostLogoutRedirectUris": f"{HOME}login/",
                "oidcRPMetaDataOptionsLogoutUrl": f"{HOME}login/provider/ended/",
                "oidcRPMetaDataOptionsLogoutType": "back",
                "oidcRPMetaDataOptionsLogoutSessionRequired": 1,
                "oidcRPMetaDataOptionsRequirePKCE": 1,
            }
            # The level that a session has after the second factor, which the token then says as acr.
            sso.settings({"oidcRPMetaDataOptions": relying, "rest2fAuthnLevel": 4, **AMR})
            # It tells the directory when a session ends.
            machine.sh('cp "$1" /usr/local/share/ca-certificates/directory.crt && update-ca-certificates 2>&1', CA)
            sso.restart()
            machine.sh('printf %s "of the/lab" >"$1" && chown root:pam-totp-directory "$1" && chmod 640 "$1"', SECRET)
            yield running


def people(machine: Machine) -> None:
    for name in ("alice", "bob"):
        machine.sh('useradd -m -s /bin/bash "$1" && echo "$1:correct horse" | chpasswd', name)


@pytest.fixture
def browser(circle: Circle) -> Iterator[Browser]:
    """A browser that has never been here."""
    with Browser(circle.site.machine) as running:
        yield running


def test_password_and_code_there_and_in_here(circle: Circle, browser: Browser) -> None:
    circle.configure(f'{TABLE}acr = ["loa-4"]\namr = ["otp"]\n')
    assert circle.site.command("doctor", check=False).stdout == "nothing is wrong\n"
    typed = circle.code()
    assert circle.sign_in(browser, typed=typed) == "alice"
    assert browser.url == HOME
    # What matters wants a code here, and one that was not typed there.
    browser.open(f"{HOME}password/")
    for answer, heading in ((typed, "Type a code again"), (circle.code(), "Choose a password")):
        browser.fill("input[name=code]", answer)
        browser.press("main button")
        assert browser.text("h1") == heading
    # Signing out, here and then there; and who comes next is asked by the portal again.
    browser.press("header button")
    assert browser.text("h1") == "You are signed out here"
    browser.press("a[href*=client_id]")
    browser.wait("button[type=submit]", "h1", "input[name=user]")
    if "auth.example.com" in browser.url:
        browser.press("button[type=submit]")
    wait(lambda: browser.url.startswith(f"{HOME}login/"))
    browser.press("a[href='/login/provider/']")
    assert browser.wait("input[name=user]", "h1") == "input[name=user]"


def test_who_signs_out_there_is_signed_out_here(circle: Circle, browser: Browser) -> None:
    circle.configure(f'{TABLE}acr = ["loa-4"]\n')
    assert circle.sign_in(browser, typed=circle.code()) == "alice"
    with Browser(circle.site.machine) as elsewhere:
        assert circle.sign_in(elsewhere, typed=circle.code()) == "alice"
        browser.open(f"{PORTAL}?logout=1")
        browser.open(HOME)
        assert browser.url == f"{HOME}login/"
        # Another session of hers there goes on, and the one that it began here.
        elsewhere.open(HOME)
        assert elsewhere.text("h1") == "alice"
    said = circle.site.machine.sh("journalctl -u pam-totp-directory -o cat").stdout
    assert "a session at auth.example.com has ended" in said


def test_who_used_no_second_factor_there_is_refused_here(circle: Circle, browser: Browser) -> None:
    circle.configure(f'{TABLE}amr = ["otp"]\n')
    rule = circle.sso.settings()["rest2fActivation"]
    circle.sso.settings({"rest2fActivation": 0})
    circle.sso.restart()
    try:
        assert circle.sign_in(browser) == "A second factor is needed"
        browser.open(HOME)
        assert browser.url == f"{HOME}login/"
        # Where the settings do not rely on the provider for that, the code is asked for here.
        circle.configure(TABLE)
        assert circle.sign_in(browser) == "Verification code"
        browser.fill("input[name=code]", circle.code())
        browser.press("main button")
        assert browser.text("h1") == "alice"
    finally:
        circle.sso.settings({"rest2fActivation": rule})
        circle.sso.restart()


def test_who_is_known_there_alone_is_not_let_in_and_not_made(circle: Circle, browser: Browser) -> None:
    circle.configure(TABLE)
    # The policy asks no code of who is not enrolled.
    assert circle.sign_in(browser, "bob", typed="-") == "You are known at auth.example.com, and not here"
    assert "bob" not in circle.site.command("user", "list").stdout
    said = circle.site.machine.sh("journalctl -u pam-totp-directory -o cat | grep refused").stdout
    assert "there is no person 'bob' here" in said


def test_while_the_portal_is_down_the_sign_in_here_works(circle: Circle, browser: Browser) -> None:
    circle.configure(TABLE)
    circle.sso.__exit__()
    try:
        assert circle.sign_in(browser) == "That sign-in did not work"
        assert "cannot be asked" in circle.site.command("doctor", check=False).stdout
        browser.open(f"{HOME}login/")
        browser.fill("input[name=name]", "alice")
        browser.fill("input[name=password]", "wrong")
        browser.press("main button")
        assert "do not belong together" in browser.text()
    finally:
        circle.sso.restart()
