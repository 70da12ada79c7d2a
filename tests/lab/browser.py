"""A real Chromium on a machine, without a screen."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.machine import Machine

PACKAGES = ("chromium", "chromium-driver", "fonts-dejavu-core", "python3-selenium")
SECONDS = 30
# A line of its input is [method, argument, ...], the output is [true, answer] or [false, error], all in JSON.
DRIVE = """
import json, sys, tempfile
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
seconds = int(sys.argv[1])
options = webdriver.ChromeOptions()
for argument in (
    "--headless=new",
    "--no-sandbox",  # it runs as root, in a machine that is thrown away
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--ignore-certificate-errors",
    "--lang=en",
    "--window-size=900,760",
    "--user-data-dir=" + tempfile.mkdtemp(),
):
    options.add_argument(argument)
browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
browser.set_page_load_timeout(seconds)
def find(selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)
def shown(selector):
    try:
        # A text can come later than what holds it.
        return any(each.is_displayed() and (each.tag_name == "input" or each.text) for each in find(selector))
    except WebDriverException:
        return False  # the page is just being left
def wait(*selectors):
    try:
        return WebDriverWait(browser, seconds, 0.05).until(
            lambda _: next((each for each in selectors if shown(each)), None)
        )
    except TimeoutException as error:
        text = browser.execute_script("return document.body ? document.body.innerText : ''")
        error.msg = "none of %r at %s: %s" % (selectors, browser.current_url, text[:500])
        raise
def fill(selector, text):
    wait(selector)
    [field] = [each for each in find(selector) if each.is_displayed()]
    field.clear()
    field.send_keys(text)
def press(selector):
    wait(selector)
    browser.execute_script("window.old = true")
    next(each for each in find(selector) if each.is_displayed()).click()
    WebDriverWait(browser, seconds, 0.05).until(lambda _: browser.execute_script("return !window.old"))
methods = {
    "open": browser.get,
    "wait": wait,
    "fill": fill,
    "press": press,
    "url": lambda: browser.current_url,
    "text": lambda selector: "\\n".join(each.text for each in find(selector)),
    "picture": browser.get_screenshot_as_base64,
    "run": browser.execute_script,
}
print("ready", flush=True)
for line in sys.stdin:
    method, *arguments = json.loads(line)
    try:
        answer = [True, methods[method](*arguments)]
    except WebDriverException as error:
        answer = [False, "%s: %s" % (type(error).__name__, error.msg)]
    print(json.dumps(answer), flush=True)
browser.quit()
"""


class BrowserError(Exception):
    """What was waited for did not come, or the browser failed."""


class Browser:
    """A context manager: a browser with an empty profile. What is waited for has 30 s to come."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> Self:
        command = ["/usr/bin/python3", "-I", "-c", DRIVE, str(SECONDS)]
        self._process = self._machine.popen(["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *command])
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise BrowserError("Chromium did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.end(self._process)

    def _do(self, *words: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        done, answer = json.loads(self._process.stdout.readline() or '[false, "Chromium has ended"]')
        if not done:
            raise BrowserError(answer)
        return answer

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page is there."""
        self._do("open", url)

    def wait(self, *selectors: str) -> str:
        """Wait until something that one of these CSS selectors matches can be seen; return that selector."""
        return str(self._do("wait", *selectors))

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._do("fill", selector, text)

    def press(self, selector: str) -> None:
        """Click a button or a link that leads to another page, and wait until it is there."""
        self._do("press", selector)

    @property
    def url(self) -> str:
        """Where the browser is."""
        return str(self._do("url"))

    def text(self, selector: str = "body") -> str:
        """What can be read there; a line for each element that matches."""
        return str(self._do("text", selector))

    def run(self, script: str) -> Any:
        """What a script returns that runs in the page."""
        return self._do("run", script)

    def picture(self, path: Path) -> None:
        """Keep what is on the screen as a PNG, with a palette: it is for documentation."""
        screen = Image.open(BytesIO(base64.b64decode(self._do("picture")))).convert("RGB")
        screen.quantize(256).save(path, optimize=True)
