"""The directory as it is served, with something in it, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.request import urlopen

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.management import call_command
from django.utils import timezone
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from pam_totp.directory import config, people
from pam_totp.directory.keeper import keys, server, state, work
from pam_totp.directory.models import Access, Event, Group, Host, HostGroup, Person, Policy, hash_of
from tests.directory.inside.conftest import Keeper, Time
from tests.directory.inside.portal import PASSWORD, Somebody, somebody

if TYPE_CHECKING:
    from collections.abc import Callable

PORT = 8443
AXE = "/root/axe.min.js"
# All rules that there are, the best practices too.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOG = "/root/web.log"
_STARTED_WITHIN = 90


class Site:
    """Migrated database, keeper and gunicorn with TLS, as a context manager. Their clock can be set ahead."""

    url = f"https://localhost:{PORT}"

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._leave = ExitStack()

    def __enter__(self) -> Self:
        for path in (config.STATE, os.path.dirname(config.SOCKET)):
            os.makedirs(path, exist_ok=True)
        call_command("migrate", verbosity=0)
        self.keeper = _keeper()
        self._certificate()
        settings = f'name = "dir.example.org"\nlisten = "127.0.0.1:{PORT}"\nworkers = 1\n'
        settings += f'certificate = "{self._scratch}/tls.crt"\ncertificate_key = "{self._scratch}/tls.key"\n'
        Path(config.FILE).write_text(settings, encoding="utf-8")
        log = self._leave.enter_context(open(LOG, "wb"))
        program = "import sys; from pam_totp.directory.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "serve"]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._leave.callback(self._process.wait)
        self._leave.callback(self._process.terminate)
        self._wait()
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def _certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = timezone.now()
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        signed = made.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        self._scratch.joinpath("tls.crt").write_bytes(signed.public_bytes(pem))
        pkcs8 = serialization.PrivateFormat.PKCS8
        self._scratch.joinpath("tls.key").write_bytes(key.private_bytes(pem, pkcs8, plain))

    def _wait(self) -> None:
        """Until it answers. Raises AssertionError, with its log, if it never does."""
        trusting = ssl._create_unverified_context()
        end = time.monotonic() + _STARTED_WITHIN
        while True:
            try:
                with urlopen(f"{self.url}/login/", context=trusting, timeout=5):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(Path(LOG).read_text(encoding="utf-8")) from None
                time.sleep(0.1)

    def _fill(self) -> None:
        """An administrator, people in every state, and hosts."""
        now = timezone.now()
        self.boss = somebody(self.keeper, "root.admin", role="administrator", display="Ada Admin")
        self.alice = somebody(self.keeper, "alice", display="Alice Example", email="alice@example.org")
        people.new_recovery_codes("root", self.alice.person)
        staff = Group.objects.create(name="staff")
        web, db = (HostGroup.objects.create(name=name) for name in ("web", "database"))
        Policy.objects.create(host_group=web, unenrolled=Policy.Unenrolled.ENROLL)
        for group in (web, db):
            Access.objects.create(group=staff, host_group=group)
        staff.persons.add(self.boss.person, self.alice.person)
        hosts = [
            Host.objects.create(
                name=f"{kind}{number}.example.org",
                group=group,
                key=os.urandom(32),
                token_hash=hash_of(f"{kind}{number}"),
                last_seen=now - timedelta(minutes=age),
            )
            for group, kind, ages in ((web, "web", (0, 1, 1, 90)), (db, "db", (0, 3000)))
            for number, age in enumerate(ages, 1)
        ]
        for number, name in enumerate(("ben", "chris", "dana", "emil", "fatima")):
            deadline = now + timedelta(days=5 - 3 * number) if number < 3 else None
            person = Person.objects.create_user(name, PASSWORD, deadline=deadline)
            staff.persons.add(person)
        somebody(self.keeper, "george", locked=True)
        Person.objects.create_user("backup", exempt_until=now + timedelta(days=30))
        told = [
            ("login", "code", 4, 0),
            ("refused", "wrong-code", 180, 1),
            ("login", "code", 190, 1),
            ("refused", "spent-code", 1500, 4),
            ("login", "code", 1510, 4),
            ("refused", "wrong-code", 2900, 2),
            ("login", "recovery-code", 2950, 2),
        ]
        for number, (kind, reason, minutes, host) in enumerate(told):
            Event.objects.create(
                ident=f"{number:032x}",
                host=hosts[host],
                person=self.alice.person,
                name="alice",
                time=now - timedelta(minutes=minutes),
                kind=kind,
                service="sshd",
                reason=reason,
            )


def _keeper() -> Keeper:
    """A keeper at the place where the web process looks for it."""
    made = keys.new()
    found = Keeper(made, state.State(os.path.join(config.STATE, state.FILE)), Time())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(config.SOCKET)
    listener.listen()
    running = server.Server(work.Keeper(made, found.state, found.time.now), {0}, found.log.append)
    threading.Thread(target=running.run, args=(listener,), daemon=True).start()
    return found


class Browser:
    """Chromium without a window, as a context manager."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def __enter__(self) -> Self:
        options = ChromeOptions()
        options.accept_insecure_certs = True
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--lang=en"):
            options.add_argument(argument)
        self.driver = Chrome(options, ChromeService("/usr/bin/chromedriver"))
        self.driver.set_page_load_timeout(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def forget(self) -> None:
        """Begin without cookies."""
        self.driver.delete_all_cookies()

    def open(self, path: str) -> None:
        self.driver.get(self.site.url + path)

    @property
    def path(self) -> str:
        return str(self.driver.current_url).removeprefix(self.site.url)

    @property
    def text(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def value(self, field: str) -> str:
        return str(self.driver.find_element(By.NAME, field).get_attribute("value") or "")

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            found = self.driver.find_element(By.NAME, name)
            found.clear()
            found.send_keys(value)

    def press(self, text: str) -> None:
        """Press a button or a link with this text, and wait for the page that comes."""
        script = f"//main//*[self::button or self::a or self::input][normalize-space()='{text}' or @value='{text}']"
        script += f" | //header//button[normalize-space()='{text}']"
        self.driver.execute_script("window.seen = true")
        self.driver.find_element(By.XPATH, script).click()
        self.wait(lambda: self.driver.execute_script("return !window.seen && document.readyState === 'complete'"))

    def sign_in(self, who: Somebody) -> None:
        self.show_password(who.name)
        self.fill(code=who.code())
        self.press("Sign in")

    def scheme(self, scheme: str) -> None:
        """Prefer light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def screen(self, width: int, height: int, scale: float = 1) -> None:
        """Be a phone, or a desk."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def findings(self) -> list[str]:
        """What axe-core has to say of the page, one line for each thing."""
        self.driver.execute_script(Path(AXE).read_text(encoding="utf-8"))
        script = """
            const done = arguments[arguments.length - 1];
            axe.run(document, {runOnly: arguments[0]}).then(found => done(JSON.stringify(found.violations)));
        """
        found = json.loads(self.driver.execute_async_script(script, TAGS))
        return [
            f"{each['id']}: {node['html'][:160]}: {node['failureSummary']}" for each in found for node in each["nodes"]
        ]

    def wait(self, until: Callable[[], bool]) -> None:
        """Until something is so."""
        WebDriverWait(self.driver, 30, ignored_exceptions=[WebDriverException]).until(lambda _: until())

    def show_password(self, name: str) -> None:
        """Get as far as the code, or the enrolment."""
        self.forget()
        self.open("/login/")
        self.fill(name=name, password=PASSWORD)
        self.press("Continue")

    def complaints(self) -> list[str]:
        """What the browser has logged of the pages since the last time: what a policy blocked, or is missing."""
        found = [each["message"] for each in self.driver.get_log("browser")]
        return [each for each in found if f"{self.driver.current_url} - Failed to load" not in each]
