"""Both portals in a real browser: enrolment from end to end, and every page for everybody, in light and dark."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pyotp
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pam_totp.directory import people
from pam_totp.directory.models import Authenticator, Host, Person
from tests.directory.inside.portal import PASSWORD, Somebody

if TYPE_CHECKING:
    from tests.directory.browser.site import Browser, Site

SCHEMES = ("light", "dark")


def test_a_person_enrols_and_signs_in_with_codes(site: Site, browser: Browser) -> None:
    ben = Somebody(Person.objects.get(name="ben"), site.keeper)
    browser.forget()
    browser.open("/")
    assert browser.path == "/login/"
    browser.fill(name="ben", password=PASSWORD)
    browser.press("Continue")
    assert browser.path == "/enrol/"
    assert "5 days left" in browser.text
    ben.key = browser.value("key")
    shown = re.search(r"^([A-Z2-7]{4} ?)+$", browser.text, re.MULTILINE)
    assert shown
    assert shown[0].replace(" ", "") == ben.key
    browser.fill(label="my phone", code=ben.code())
    browser.press("Finish")
    codes = re.findall(r"[a-z2-9]{5}-[a-z2-9]{5}", browser.text)
    assert len(codes) == 10
    browser.press("I have kept them")
    assert "my phone" in browser.text
    browser.press("Sign out")
    assert browser.path == "/login/"
    for typed in (ben.code(), codes[3]):
        browser.fill(name="ben", password=PASSWORD)
        browser.press("Continue")
        browser.fill(code=typed)
        browser.press("Sign in")
        assert browser.path == "/"
        browser.press("Sign out")
    browser.fill(name="ben", password=PASSWORD)
    browser.press("Continue")
    browser.fill(code=codes[3])
    browser.press("Sign in")
    assert "not accepted" in browser.text
    assert browser.complaints() == []


def test_the_qr_code_on_the_page_holds_the_key(site: Site, browser: Browser) -> None:
    browser.show_password("chris")
    key = browser.value("key")
    browser.screen(390, 1200, 2)
    browser.driver.save_screenshot("/root/qr.png")
    read = subprocess.run(["zbarimg", "-q", "--raw", "/root/qr.png"], check=True, capture_output=True, text=True).stdout
    parsed = pyotp.parse_uri(read.strip())
    assert (parsed.secret, parsed.name, parsed.issuer) == (key, "chris", "dir.example.org")


def test_everything_is_reached_with_the_keyboard(site: Site, browser: Browser) -> None:
    browser.forget()
    browser.open("/login/")
    for typed in (Keys.TAB, Keys.TAB, "alice", Keys.TAB, PASSWORD, Keys.ENTER):
        browser.driver.switch_to.active_element.send_keys(typed)
    browser.wait(lambda: browser.path == "/login/code/")
    browser.open("/login/code/")
    for typed in (Keys.TAB, Keys.TAB, site.alice.code(), Keys.ENTER):
        browser.driver.switch_to.active_element.send_keys(typed)
    browser.wait(lambda: browser.path == "/")
    wanted = {each.text for each in browser.driver.find_elements(By.CSS_SELECTOR, "main a, header a, header button")}
    reached = set()
    browser.open("/")
    for _ in range(len(wanted) + 5):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(browser.driver.switch_to.active_element.text)
    assert wanted <= reached


# Pages, by who looks at them

OPEN = ["/login/", "/invitation/{invitation}/", "/invitation/nothing/"]
OWN = ["/", "/logins/", "/confirm/?next=/", "/recovery/", "/password/", "/authenticators/add/"]
OWN += ["/authenticators/{authenticator}/remove/", "/authenticators/{authenticator}/replace/"]
THINGS = ("person", "group", "hostgroup", "host", "apitoken", "jointoken", "invitation", "event", "audit")
ADMIN = ["/admin/", *(f"/admin/directory/{thing}/" for thing in THINGS)]
ADMIN += [f"/admin/directory/{thing}/add/" for thing in ("person", "group", "hostgroup", "apitoken")]
ADMIN += ["/admin/directory/person/{person}/change/", "/admin/directory/person/{person}/delete/"]
ADMIN += ["/admin/directory/host/{host}/change/", "/admin/directory/person/?state=enrolled"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_on_any_page_and_nothing_is_wider_than_a_phone(
    site: Site, browser: Browser, scheme: str
) -> None:
    carol, _ = Person.objects.get_or_create(name="carol")
    places = {
        "invitation": people.invite("root", carol),
        "authenticator": Authenticator.objects.filter(person=site.alice.person)[0].ident,
        "person": str(site.alice.person.pk),
        "host": str(Host.objects.all()[0].pk),
    }
    browser.scheme(scheme)
    found: dict[str, list[str]] = {}  # a finding -> the pages that have it

    def look(path: str) -> None:
        for width in (360, 1280):
            browser.screen(width, 900)
            browser.open(path.format(**places))
            wide = browser.driver.execute_script("return document.documentElement.scrollWidth > innerWidth")
            seen = [*browser.complaints(), *browser.findings(), *(["wider than the screen"] if wide else [])]
            browser.complaints()  # axe's own styles are blocked as well
            for each in seen:
                found.setdefault(each, []).append(f"{path} at {width}")

    browser.forget()
    for path in OPEN:
        look(path)
    browser.show_password("dana")
    look("/enrol/")
    browser.show_password("alice")
    look("/login/code/")
    browser.sign_in(site.alice)
    for path in OWN:
        look(path)
    browser.sign_in(site.boss)
    for path in ADMIN:
        look(path)
    assert not found, "\n".join(f"{each}\n    {', '.join(where)}" for each, where in found.items())
