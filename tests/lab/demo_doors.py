"""`./run demo doors`: one person with one authenticator at four doors, in a throwaway Debian, as a transcript.

Each code that let her in at one door is refused at the next one, where she then waits for the app's next code.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.lab import cache, roots, sso, vpn
from tests.lab.browser import Browser, BrowserError
from tests.lab.code import code, left
from tests.lab.demo import DROP_IN, LINE, RELEASES, Paint, enroll
from tests.lab.machine import Machine, MachineError
from tests.lab.package import BuildError, debs, installed
from tests.lab.roots import SUITES, RootError
from tests.lab.setup import EXAMPLES, confirm
from tests.lab.sources import NoSourcesError, own_suite
from tests.lab.ssh import CODE, PASSWORD, SessionError
from tests.lab.verify import Verify

if TYPE_CHECKING:
    from tests.lab.ssh import Session
    from tests.lab.user import User

PACKAGES = ("iputils-ping", "openssl", "openvpn", *(name for name in sso.PACKAGES if name != "openssl"))
NAME = "alice"
HIDDEN = "*" * 13
# A shell that writes its prompt, and no control sequences.
PLAIN = {"TERM": "dumb"}
SHELL = r"\w+@lab:[^\r\n]*\$ "
REFUSED = "Sorry, try again"


@dataclass(frozen=True)
class Entry:
    """What came of a code at a door: what was shown there, how often a code was asked for, whether it let her in."""

    lines: list[str]
    asked: int
    ok: bool


class Door(Protocol):
    """Where somebody gets in with a password and a code."""

    title: str
    command: str

    def enter(self, typed: str) -> Entry:
        """Try with a code. Raises MachineError, SessionError or BrowserError."""


class Ssh:
    """The machine's sshd; a login that got in stays, and is where sudo is typed."""

    title = "SSH"
    command = f"ssh {NAME}@127.0.0.1"

    def __init__(self, machine: Machine, user: User, stack: ExitStack) -> None:
        self._machine, self._user, self._stack = machine, user, stack
        self.shell: Session | None = None

    def enter(self, typed: str) -> Entry:
        """Log in for a shell."""
        session = self._machine.ssh(self._user, "-o", "NumberOfPasswordPrompts=1", command=None, env=PLAIN)
        self._stack.callback(session.close)
        result = session.authenticate(password=self._user.password, code=typed, until=SHELL)
        if result.ok:
            self.shell = session
        shown = [line for line in result.screen.splitlines() if NAME in line or "code" in line]
        return Entry(shown, len([prompt for prompt in result.asked if "code" in prompt]), result.ok)


class Sudo:
    """sudo, in the shell that SSH has given."""

    title = "sudo, in that shell"
    command = "sudo id -un"

    def __init__(self, ssh: Ssh, user: User) -> None:
        self._ssh, self._user = ssh, user

    def enter(self, typed: str) -> Entry:
        """Become root for one command."""
        shell = self._ssh.shell
        if shell is None:
            raise SessionError("there is no shell to type sudo in")
        before, asked = len(shell.screen), 0
        shell.answer(self.command)
        while (which := shell.expect(PASSWORD, CODE, r"(?m)^root\b", REFUSED)) < 2:
            asked += which
            shell.hidden()
            shell.answer(typed if which else self._user.password)
        ok = which == 2
        shown = shell.screen[before:].splitlines()[1:]
        if not ok:  # it asks for the password again
            shell.expect(PASSWORD)
            shell.hidden()
            shell.send("\x03")
        shell.expect(SHELL)
        return Entry([line for line in shown if line != REFUSED], asked, ok)


class Vpn:
    """An OpenVPN server that asks PAM, and a client from another network."""

    title = "OpenVPN, from another network"
    command = "openvpn --config client.conf"

    def __init__(self, network: vpn.Network, user: User) -> None:
        self._network, self._user = network, user

    def enter(self, typed: str) -> Entry:
        """Have a tunnel, and send something through it."""
        name, password = self._user.name, self._user.password
        with self._network.openvpn_client(name, password, typed, challenge=True) as tunnel:
            kinds = {"user": "Enter Auth Username:", "password": "Enter Auth Password:", "code": "Verification code:"}
            shown = [f"{kinds[kind]} {name if kind == 'user' else ''}".strip() for kind in tunnel.asked]
            if not tunnel.up:
                shown.append("AUTH_FAILED")
            elif tunnel.carries():
                shown += ["Initialization Sequence Completed", f"ping {tunnel.inside}"]
                shown += [f"  {line}" for line in tunnel.ping().splitlines() if "icmp_seq" in line]
            return Entry(shown, tunnel.asked.count("code"), tunnel.up and len(shown) > len(tunnel.asked))


class Web:
    """Two web applications behind one portal, and a browser."""

    title = "web applications, behind LemonLDAP::NG"
    command = f"chromium {sso.OIDC}private/"

    def __init__(self, machine: Machine, portal: sso.Sso, user: User) -> None:
        self._machine, self._portal, self._user = machine, portal, user

    def enter(self, typed: str) -> Entry:
        """Go to an application by OpenID Connect, and then to one by SAML, which asks for nothing more."""
        name, password = self._user.name, self._user.password
        with Browser(self._machine) as browser:
            first = self._portal.log_in(browser, name, typed, site=sso.OIDC, password=password)
            shown = [f"{sso.PORTAL} asks for the name, {name}, and", "Password:"]
            if first.asked:
                shown.append("Verification code:")
            if not first.ok:
                return Entry([*shown, first.message], int(first.asked), ok=False)
            second = self._portal.log_in(browser, name, site=sso.SAML)
            shown.append(f"{sso.OIDC} (OpenID Connect): signed in as {first.user}")
            shown.append(f"{sso.SAML} (SAML): signed in as {second.user}, asked for nothing")
            return Entry(shown, int(first.asked) + int(second.asked), second.user == first.user == name)


def main() -> int:
    """Run it. The exit status is 0 if every door did as it should, 1 if not or if it could not run."""
    parser = argparse.ArgumentParser(prog="./run demo doors", description="Show one person at four doors.")
    parser.add_argument("--suite", choices=SUITES, default=own_suite(), help="default: this machine's own")
    suite = parser.parse_args().suite
    paint = Paint()
    try:
        # Neither needs the other, and both take long the first time.
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(roots.root, suite, PACKAGES)
            packages = debs()
            building.result()
        root = installed(suite, packages, PACKAGES)
        with Machine(root) as machine:
            cache.say(f"{RELEASES[suite]} ({suite}) is up, with {packages[0].name} and its module installed in it")
            right = show(machine, paint)
    except (
        *(BrowserError, BuildError, MachineError, NoSourcesError, RootError, SessionError),
        subprocess.SubprocessError,
    ) as error:
        print(f"demo doors: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo doors: interrupted; nothing is left running", file=sys.stderr)
        return 130
    print(paint.dim(f"The machine is gone; {cache.home()} keeps what makes the next run quick."))
    return 0 if right else 1


def show(machine: Machine, paint: Paint) -> bool:
    """Print the transcript; return whether every door did as it has to."""
    user = machine.user(NAME, key=False)
    for service in ("sshd", "sudo"):
        machine.replace(f"/etc/pam.d/{service}", "@include common-auth\n", f"@include common-auth\n{LINE}\n")
    machine.run(["cp", f"{EXAMPLES}/sshd_config.d/{DROP_IN}", "/etc/ssh/sshd_config.d/"])
    machine.run(["cp", f"{EXAMPLES}/pam.d/openvpn", "/etc/pam.d/"])
    machine.run(["usermod", "-aG", "sudo", NAME])
    machine.sshd.start()
    secret = enroll(machine, user, paint)
    confirm(machine, user, secret)
    with ExitStack() as stack:
        network = stack.enter_context(vpn.Network(machine))
        stack.enter_context(network.openvpn("config server-pam.conf"))
        stack.enter_context(Verify(machine))
        portal = stack.enter_context(sso.Sso(machine))
        portal.protect()
        cache.say("sshd, OpenVPN, the verify service and the portal are running; the machine has no other network")
        mark = machine.mark()
        ssh = Ssh(machine, user, stack)
        right = visit([ssh, Sudo(ssh, user), Vpn(network, user), Web(machine, portal, user)], secret, paint)
        print(paint.dim("what the log says (authpriv), of all doors alike:"))
        for record in machine.log(mark):
            if record.message.startswith("pam_totp("):
                print(f"  {paint.dim(time.strftime('%H:%M:%S', time.localtime(record.received)))} {record.message}")
    print(f"\n{paint.verdict(all(right), f'{sum(right)} of {len(right)} attempts went as they should')}")
    return all(right)


def visit(doors: list[Door], secret: str, paint: Paint) -> list[bool]:
    """Go from door to door; a code that let in at one is tried at the next one first, and the last one at the first."""
    right, spent = [], ""
    for number, door in enumerate(doors, start=1):
        print(f"\n{paint.title(f'{number}. {door.title}')}")
        if spent:
            right.append(attempt(door, spent, paint, lets_in=False))
            wait(secret, spent, paint)
        spent = code(secret)
        right.append(attempt(door, spent, paint, lets_in=True))
    print(f"\n{paint.title(f'{len(doors) + 1}. {doors[0].title} again')}")
    right.append(attempt(doors[0], spent, paint, lets_in=False))
    print()
    return right


def wait(secret: str, spent: str, paint: Paint) -> None:
    """Wait until the app shows another code."""
    if code(secret) == spent:
        print(f"  {paint.dim(f'... {left():.0f} s until the app shows its next code')}", flush=True)
    while code(secret) == spent:
        time.sleep(left() + 0.05)


def attempt(door: Door, typed: str, paint: Paint, *, lets_in: bool, asks: bool = True) -> bool:
    """Try a code at a door and print it; return whether it went as it has to, with one question for a code if any."""
    print(f"  {paint.dim(time.strftime('%H:%M:%S'))} $ {door.command}", flush=True)
    started = time.monotonic()
    entry = door.enter(typed)
    for line in entry.lines:
        ends = {"code:": typed, "Password:": HIDDEN, f"for {NAME}:": HIDDEN}
        answer = next((answer for end, answer in ends.items() if line.strip().endswith(end)), "")
        print(f"           {line.strip()} {paint.dim(answer)}".rstrip())
    asked = {0: "not asked for a code", 1: "asked for a code once"}.get(entry.asked, f"asked {entry.asked} times")
    said = paint.verdict(entry.ok, f"{asked}, {'got in' if entry.ok else 'did not get in'}")
    print(f"           {said} {paint.dim(f'({time.monotonic() - started:.1f} s)')}", flush=True)
    return (entry.asked, entry.ok) == (int(asks), lets_in)


if __name__ == "__main__":
    sys.exit(main())
