"""`./run demo`: real logins with and without a code, in a throwaway Debian, as a transcript for people."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab import cache, recording
from tests.lab.code import code, wrong
from tests.lab.machine import Machine, MachineError
from tests.lab.package import CHECKOUT, BuildError, debs, installed
from tests.lab.roots import SUITES, RootError
from tests.lab.setup import EXAMPLES, confirm
from tests.lab.sources import NoSourcesError, own_suite
from tests.lab.ssh import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.user import User

LINE = "auth required pam_totp.so"
DROP_IN = "00-pam-totp-password-and-code.conf"
RELEASES = {"bookworm": "Debian 12", "trixie": "Debian 13"}


@dataclass(frozen=True)
class Login:
    """One login of the demo: who, with which code at hand, and what has to come of it."""

    title: str
    user: User
    code: str | None
    asked: bool
    ok: bool


def main() -> int:
    """Run the demo. The exit status is 0 if every login went as it should, 1 if not or if the demo could not run."""
    parser = argparse.ArgumentParser(prog="./run demo", description="Show real logins in a throwaway Debian.")
    parser.add_argument("--suite", choices=SUITES, default=own_suite(), help="default: this machine's own")
    parser.add_argument("--pictures", action="store_true", help="draw docs/*.svg anew, from real sessions, instead")
    arguments = parser.parse_args()
    suite = arguments.suite
    paint = Paint()
    try:
        packages = debs()
        root = installed(suite, packages)
        with Machine(root) as machine:
            cache.say(f"{RELEASES[suite]} ({suite}) is up, with {packages[0].name} and its module installed in it")
            if arguments.pictures:
                for picture in recording.draw(machine):
                    print(picture.relative_to(CHECKOUT))
                return 0
            right = show(machine, paint)
    except (BuildError, MachineError, NoSourcesError, RootError, SessionError, subprocess.SubprocessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; nothing is left running", file=sys.stderr)
        return 130
    print(paint.dim(f"The machine is gone; {cache.home()} keeps what makes the next run quick."))
    return 0 if right else 1


def show(machine: Machine, paint: Paint) -> bool:
    """Print the transcript; return whether every login went as it has to."""
    machine.replace("/etc/pam.d/sshd", "@include common-auth\n", f"@include common-auth\n{LINE}\n")
    machine.run(["cp", f"{EXAMPLES}/sshd_config.d/{DROP_IN}", "/etc/ssh/sshd_config.d/"])
    alice, bob = machine.user("alice"), machine.user("bob")
    machine.sshd.start()
    cache.say("its sshd is running; only loopback is up, so every login here is an offline one")
    print(f"\n{paint.dim('/etc/pam.d/sshd, after @include common-auth:')}\n  {LINE}\n", flush=True)

    mark = machine.mark()
    right = [
        paint.show(number, login, machine) for number, login in enumerate(logins(machine, alice, bob, paint), start=1)
    ]

    print(paint.dim("what the log says (authpriv):"))
    for record in machine.log(mark):
        if record.message.startswith("pam_totp("):
            clock = time.strftime("%H:%M:%S", time.localtime(record.received))
            print(f"  {paint.dim(clock)} {record.message}")
    print(f"\n{paint.verdict(all(right), f'{sum(right)} of {len(right)} logins went as they should')}")
    return all(right)


def logins(machine: Machine, alice: User, bob: User, paint: Paint) -> Iterator[Login]:
    """The logins. Each is carried out before the next one is asked for: in between, alice's enrolment goes on."""
    yield Login("bob has not enrolled", bob, None, asked=False, ok=True)

    secret = enroll(machine, alice, paint)
    yield Login(
        "alice has been given a key, and has not confirmed it with a code yet", alice, None, asked=False, ok=True
    )

    confirm(machine, alice, secret)
    right = code(secret)
    yield Login(
        "alice has confirmed it: from now on she is asked, and types the right code", alice, right, asked=True, ok=True
    )
    yield Login("somebody who looked over her shoulder types the same code again", alice, right, asked=True, ok=False)
    yield Login("somebody who knows her password guesses a code", alice, wrong(secret), asked=True, ok=False)


def enroll(machine: Machine, user: User, paint: Paint) -> str:
    """Enrol a user as an administrator does, and show it; the secret in base32, pending."""
    style = "utf8" if sys.stdout.encoding.lower() == "utf-8" else "ascii"
    command = ["pam-totp", "enroll", str(user), "--no-confirm"]
    print(f"  {paint.dim(time.strftime('%H:%M:%S'))} # {' '.join(command)}")
    shown = machine.run([*command, "--qr", style]).stdout
    print("".join(f"           {line}".rstrip() + "\n" for line in shown.splitlines()))
    return str(re.findall(r"[?&]secret=([A-Z2-7]+)", shown)[-1])


class Paint:
    """Prints; with colours on a terminal only."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def show(self, number: int, login: Login, machine: Machine) -> bool:
        """Carry out a login and print it; return whether it went as it has to."""
        clock = time.strftime("%H:%M:%S")
        print(f"{self.title(f'{number}. {login.title}')}\n  {self.dim(clock)} $ ssh {login.user}@127.0.0.1", flush=True)
        result = machine.login(login.user, password=login.user.password, code=login.code)
        for line in filter(None, map(str.strip, result.screen.splitlines())):
            typed = ""
            if line.endswith("Password:"):
                typed = "*" * len(login.user.password)
            elif line.endswith("code:"):
                typed = f"{login.code or ''} (not shown as it is typed)"
            print(f"           {line} {self.dim(typed)}".rstrip())
        asked = "asked for a code" if result.asked_code else "not asked for a code"
        got_in = "got in" if result.ok else "did not get in"
        print(f"           {self.verdict(result.ok, f'{asked}, {got_in}')} {self.dim(f'({result.seconds:.1f} s)')}")
        right = (result.asked_code, result.ok) == (login.asked, login.ok)
        if not right:
            wanted = f"{'' if login.asked else 'not '}asked, {'' if login.ok else 'not '}let in"
            print(f"           {self._in('1;31', f'this is wrong: she or he has to be {wanted}')}")
        print(flush=True)
        return right

    def title(self, text: str) -> str:
        """The beginning of a part."""
        return self._in("1", text)

    def dim(self, text: str) -> str:
        """Text that matters less."""
        return self._in("2", text)

    def verdict(self, good: bool, text: str) -> str:
        """Green or red."""
        return self._in("32" if good else "31", text)

    def _in(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._coloured else text


if __name__ == "__main__":
    sys.exit(main())
