"""`./run demo fleet`: a directory, three hosts and a browser in throwaway Debians, as a transcript with pictures.

One person enrols once, in the portal, and is asked for the same codes on every host: also while the directory is dead,
and no longer once she is revoked.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.directory import lane
from tests.directory.site import NAME as DIRECTORY
from tests.directory.site import Site
from tests.lab import booted, cache, roots
from tests.lab.booted import Booted
from tests.lab.browser import PACKAGES as BROWSER
from tests.lab.browser import Browser, BrowserError
from tests.lab.code import code
from tests.lab.demo import DROP_IN, LINE, RELEASES, Paint
from tests.lab.demo_doors import NAME, Entry, attempt, wait
from tests.lab.fleet import AGENT
from tests.lab.machine import Machine, MachineError
from tests.lab.package import CHECKOUT, DIST, BuildError, debs, directory_deb, give_to_owner, installed
from tests.lab.roots import SUITES, RootError
from tests.lab.setup import EXAMPLES
from tests.lab.sources import NoSourcesError, own_suite
from tests.lab.ssh import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.user import User

# The directory and the browser are in roots of the same packages: one is quicker to make than two.
PACKAGES = (*lane.PACKAGES, *BROWSER, "zbar-tools")
URL = f"https://{DIRECTORY}"
ADDRESSES = {
    DIRECTORY: "192.0.2.1",
    "laptop": "192.0.2.2",
    "web1": "192.0.2.11",
    "web2": "192.0.2.12",
    "db1": "192.0.2.13",
}
KNOWN = "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
HOSTS = ("web1", "web2", "db1")
UNITS = (
    "pam-totp-directory.service",
    "pam-totp-publisher.service",
    "pam-totp-keeper.socket",
    "pam-totp-keeper.service",
)
PATIENCE = 60


class Host:
    """A host of the fleet, to which she logs in from her laptop."""

    def __init__(self, name: str, machine: Machine, laptop: Machine) -> None:
        self.name, self.machine = name, machine
        self.title, self.command = f"ssh to {name}", f"ssh {NAME}@{name}"
        self._laptop = laptop
        self._user: User = machine.user(NAME, key=False)
        machine.replace("/etc/pam.d/sshd", "@include common-auth\n", f"@include common-auth\n{LINE}\n")
        machine.run(["cp", f"{EXAMPLES}/sshd_config.d/{DROP_IN}", "/etc/ssh/sshd_config.d/"])
        machine.sshd.start()

    def enter(self, typed: str) -> Entry:
        """Log in over the network."""
        result = self._laptop.login(self._user, "-o", f"HostName={self.name}", password=self._user.password, code=typed)
        asked = len([prompt for prompt in result.asked if "code" in prompt])
        return Entry([line for line in result.screen.splitlines() if line.strip()], asked, result.ok)

    def status(self) -> str:
        """What the host knows of her."""
        return self.machine.run(["pam-totp", "status", NAME], check=False).stdout


def main() -> int:
    """Run it. The exit status is 0 if everything went as it should, 1 if not or if it could not run."""
    parser = argparse.ArgumentParser(
        prog="./run demo fleet", description="Show a directory, three hosts, and a browser."
    )
    parser.add_argument(
        "--suite", choices=SUITES, default=own_suite(), help="of the hosts; default: this machine's own"
    )
    parser.add_argument("--pictures", action="store_true", help="draw docs/fleet-*.png anew, not dist/fleet-*.png")
    arguments = parser.parse_args()
    suite = arguments.suite
    paint = Paint()
    show = Show(paint, CHECKOUT / "docs" if arguments.pictures else DIST)
    try:
        # The hosts are made while the directory is, and while she enrols: both take long the first time.
        with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
            making = pool.submit(lambda: installed(suite, debs()))
            base = roots.root(lane.SUITE, (*booted.PACKAGES, *PACKAGES))
            package = directory_deb()
            directory = stack.enter_context(Booted(lane.SUITE, PACKAGES))
            laptop = stack.enter_context(Machine(base))
            laptop.sh(
                'ip link add lan type bridge; ip address add "$1/24" dev lan; ip link set lan up', ADDRESSES["laptop"]
            )
            laptop.sh("cat >>/etc/hosts", input=KNOWN)
            connect(laptop, DIRECTORY, directory)
            cache.say("a directory and her laptop, with Debian 13 each, have a network of their own")
            show.directory(directory, package)
            browser = stack.enter_context(Browser(laptop))
            show.enrolment(browser, laptop)
            machines = {name: stack.enter_context(Machine(making.result())) for name in HOSTS}
            for name, machine in machines.items():
                connect(laptop, name, machine)
            # The hosts are of one root, and have the keys of one sshd.
            laptop.write("/etc/ssh/ssh_known_hosts", machine.read("/etc/ssh/ssh_known_hosts"))
            cache.say(f"three hosts with {RELEASES[suite]} are up")
            show.hosts([Host(name, machine, laptop) for name, machine in machines.items()], stack)
            show.logins(browser)
    except (
        *(AssertionError, BrowserError, BuildError, MachineError, NoSourcesError, RootError, SessionError),
        subprocess.SubprocessError,
    ) as error:
        print(f"demo fleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo fleet: interrupted; nothing is left running", file=sys.stderr)
        return 130
    for path in show.pictures:
        print(f"{path.relative_to(CHECKOUT)}: what her browser showed")
    print(paint.dim(f"The machines are gone; {cache.home()} keeps what makes the next run quick."))
    return 0 if all(show.right) else 1


def connect(laptop: Machine, name: str, machine: Machine) -> None:
    """Put a machine on the network, whose switch is in the laptop: it is there to the end. Tell it all names."""
    port = f"to-{name[:8]}"
    command = ["ip", "link", "add", port, "type", "veth", "peer", "name", "lan", "netns", str(machine.pid)]
    subprocess.run([*laptop.around("--net"), *command], check=True)
    laptop.sh('ip link set "$1" master lan up', port)
    machine.sh('hostname "$1"; ip address add "$2/24" dev lan; ip link set lan up', name, ADDRESSES[name])
    machine.sh("cat >>/etc/hosts", input=KNOWN)


class Show:
    """The transcript, part by part, and whether each went as it has to."""

    def __init__(self, paint: Paint, pictures: Path) -> None:
        self.right: list[bool] = []
        self.pictures: list[Path] = []
        self._paint, self._where, self._part = paint, pictures, 0

    def directory(self, machine: Booted, package: Path) -> None:
        """Two commands."""
        self._title("a directory, in two commands")
        self._command(DIRECTORY, "apt install ./pam-totp-directory_*.deb")
        self._site = Site(machine, package)
        self._command(DIRECTORY, f"pam-totp-directory init --name {DIRECTORY}")
        self._lines(self._site.said)

    def enrolment(self, browser: Browser, laptop: Machine) -> None:
        """From the invitation to the recovery codes; the key is read from the picture of the page."""
        self._title("alice enrols, once, in her browser")
        for words in (("user", "add", NAME), ("user", "invite", NAME)):
            self._command(DIRECTORY, f"pam-totp-directory {' '.join(words)}")
            said = self._site.command(*words).stdout
            self._lines(said)
        link = next(word for word in said.split() if word.startswith(URL))
        self._command("laptop", f"chromium {link}", "$")
        browser.open(link)
        browser.press("main button")
        browser.wait(".key")
        self._lines(browser.text("main"))
        picture = self._picture(browser, "enrol")
        laptop.write("/root/enrol.png", picture.read_bytes())
        read = laptop.run(["zbarimg", "-q", "--raw", "/root/enrol.png"]).stdout.strip()
        self._note(f"the QR code says {read}")
        secret = parse_qs(urlsplit(read).query)["secret"][0]
        if secret != browser.text(".key").replace(" ", ""):
            raise MachineError("the QR code and the page have different keys")
        browser.fill("[name=label]", "phone")
        typed = code(secret)
        browser.fill("[name=code]", typed)
        browser.press("main form button")
        browser.wait(".codes")
        self._note(f"her app shows {typed}, which she types; then the page says:")
        self._lines(browser.text("main"))
        self._secret, self._spent = secret, typed

    def hosts(self, hosts: list[Host], stack: ExitStack) -> None:
        """One command each; the token goes from one machine to the other without being shown."""
        self._title("three hosts join, in one command each, and know her")
        self._hosts = hosts
        for host in hosts:
            self._command(host.name, f"pam-totp join {URL}")
            token = self._site.command("token", "new", "--host", host.name).stdout
            self._lines(f"Join token: (what `pam-totp-directory token new --host {host.name}` has printed)")
            said = host.machine.run(["pam-totp", "join", URL], input=token)
            self._lines(said.stdout + said.stderr)
            self._command(host.name, f"{' '.join(AGENT)} &")
            agent = host.machine.popen(AGENT)
            stack.callback(agent.wait)
            stack.callback(host.machine.end, agent)

    def logins(self, browser: Browser) -> None:
        """With the directory, without it, and revoked."""
        web1, web2, db1 = self._hosts
        secret = self._secret
        self._title("she logs in on one host; the same code is refused on another one, where the next one is good")
        spent = self._next(secret, self._spent)
        self._attempt(web1, spent, lets_in=True)
        self._attempt(web2, spent, lets_in=False)
        spent = self._next(secret, spent)
        self._attempt(web2, spent, lets_in=True)

        self._title("the directory is killed; the third host asks for codes all the same")
        spent = self._next(secret, spent)
        self._command(DIRECTORY, f"systemctl kill --signal=KILL {' '.join(UNITS)}")
        self._site.machine.run(["systemctl", "kill", "--signal=KILL", *UNITS], check=False)
        self._site.machine.run(["systemctl", "stop", *UNITS])  # systemd would start them again
        self._attempt(db1, spent, lets_in=True)
        self._attempt(db1, spent, lets_in=False)

        self._title("the directory is back, and hears of it")
        self._command(DIRECTORY, f"systemctl start {' '.join(UNITS[:3])}")
        self._site.machine.run(["systemctl", "start", *UNITS[:3]])

        def heard() -> bool:
            browser.open(f"{URL}/logins/")
            return "db1" in browser.text()

        self._until("her page in the portal has the login on db1", heard)
        self._lines(browser.text("main"))
        self._picture(browser, "logins")

        self._title("she is revoked")
        self._command(DIRECTORY, f"pam-totp-directory user remove {NAME} --yes")
        self._lines(self._site.command("user", "remove", NAME, "--yes").stdout)
        self._until(
            "no host has her secret any more", lambda: not any("active" in host.status() for host in self._hosts)
        )
        for host in self._hosts:
            self._attempt(host, code(secret), lets_in=False, asks=False)
        said = f"{sum(self.right)} of {len(self.right)} logins went as they should"
        print(f"\n{self._paint.verdict(all(self.right), said)}")

    def _next(self, secret: str, spent: str) -> str:
        wait(secret, spent, self._paint)
        return code(secret)

    def _attempt(self, host: Host, typed: str, *, lets_in: bool, asks: bool = True) -> None:
        mark = host.machine.mark()
        self.right.append(attempt(host, typed, self._paint, lets_in=lets_in, asks=asks))
        for record in host.machine.log(mark):
            if record.message.startswith("pam_totp("):
                print(f"           {self._paint.dim(f'{host.name} logs: {record.message}')}")

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        begin = time.monotonic()
        while not holds():
            if time.monotonic() > begin + PATIENCE:
                raise MachineError(f"not after {PATIENCE} s: {what}")
            time.sleep(0.5)
        self._note(f"{time.monotonic() - begin:.0f} s later {what}")

    def _title(self, text: str) -> None:
        self._part += 1
        print(f"\n{self._paint.title(f'{self._part}. {text}')}", flush=True)

    def _command(self, name: str, command: str, prompt: str = "#") -> None:
        print(f"  {self._paint.dim(time.strftime('%H:%M:%S'))} {name}{prompt} {command}", flush=True)

    def _lines(self, text: str) -> None:
        print("".join(f"           {line}".rstrip() + "\n" for line in text.strip().splitlines()), end="", flush=True)

    def _note(self, text: str) -> None:
        print(f"  {self._paint.dim(f'... {text}')}", flush=True)

    def _picture(self, browser: Browser, name: str) -> Path:
        path = self._where / f"fleet-{name}.png"
        browser.picture(path)
        give_to_owner(path)
        self.pictures.append(path)
        return path


if __name__ == "__main__":
    sys.exit(main())
