"""What docs/directory.md shows: run by tests/directory/pictures.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.directory.browser.site import Browser, Site

WHERE = "/root/pictures"


def test_the_portals_are_drawn(site: Site, browser: Browser) -> None:
    os.makedirs(WHERE, exist_ok=True)

    def draw(name: str) -> None:
        browser.driver.save_screenshot(f"{WHERE}/portal-{name}.png")

    browser.scheme("light")
    browser.screen(390, 1420)
    browser.show_password("ben")
    draw("enrol")
    browser.scheme("dark")
    browser.screen(390, 1420)
    browser.sign_in(site.alice)
    draw("home")
    browser.scheme("light")
    browser.screen(1100, 760)
    browser.sign_in(site.boss)
    browser.open("/admin/")
    draw("admin")
    browser.open("/admin/directory/person/")
    draw("people")
