"""People who log in to a machine with their authenticators, and what of theirs must never be in its log."""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.lab import setup
from tests.lab.code import STEP, code, left
from tests.login.admin import Admin
from tests.login.transactions import Transaction, transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine
    from tests.lab.setup import Variant
    from tests.lab.ssh import Result
    from tests.lab.user import User

CONFIG = "/etc/pam-totp/config.toml"
DECISION = re.compile(r"pam_totp\((?P<service>[^:()]*):auth\): (?P<fields>.*)")
# How far around now pam_totp looks when it tells why a code was refused.
FAR = 25
# Seconds in which a code that is typed now has been looked at, on a busy machine too.
ARRIVAL = 6


def steady(seconds: float) -> None:
    """Have at least so many seconds of the current step left: for a test that must not cross its end."""
    if left() < seconds:
        time.sleep(left() + 0.05)


def kinds(result: Result) -> list[str]:
    """The prompts of a login without what ssh puts before them."""
    return [re.sub(r"^\(.*?\) ", "", prompt) for prompt in result.asked]


class Host:
    """A machine with one of the two variants in force."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.variant: Variant = "key-and-code"
        self.confidential: set[str] = set()
        self._admin = Admin(machine)
        self._people = 0

    def close(self) -> None:
        """End what runs in the machine on the tests' behalf."""
        self._admin.close()

    def use(self, variant: Variant) -> None:
        """Put a variant in force.

        pam_unix has PAM wait 2 s after each refusal, whoever refused; here that would only cost time.
        """
        self.variant = variant
        setup.use(self.machine, variant)
        self.machine.sh("sed -i 's/pam_unix.so nullok$/& nodelay/' /etc/pam.d/common-auth")

    @property
    def first_prompts(self) -> list[str]:
        """What everybody is asked before the code."""
        return ["Password:"] if self.variant == "password-and-code" else []

    def person(self, *, enrolled: bool = True, pending: bool = False, spent: int = -1) -> Person:
        """A new user. `spent` is the step, counted from now, whose code confirmed the enrolment: -1 or less."""
        self._people += 1
        person = Person(self, self.machine.user(f"user{self._people}"), "")
        return self.enroll(person, pending=pending, spent=spent) if enrolled or pending else person

    def person_of_the_fleet(self) -> Person:
        """A new user with an authenticator that this host knows nothing of yet."""
        secret = base64.b32encode(os.urandom(20)).decode("ascii")
        self.confidential |= spelled(secret)
        return Person(self, self.person(enrolled=False).user, secret)

    def enroll(self, person: Person, *, pending: bool = False, spent: int = -1, label: str = "") -> Person:
        """The same user with a (further) authenticator."""
        options = ["--label", label] if label else []
        secret = str(self._admin.read("enroll", "--no-confirm", *options, person.name)["secret"])
        self.confidential |= spelled(secret)
        person = Person(self, person.user, secret)
        if not pending:
            self.confirm(person, spent)
        return person

    def confirm(self, person: Person, spent: int = -1) -> None:
        """Activate the pending authenticator; a step before the last one needs a wider window for the moment."""
        # Should the step end just now, the second line is what the first one was meant to be. Both are of one moment:
        # had the step ended between them, the second would spend the code that the test is about to type.
        now = time.time()
        typed = f"{person.code(spent, now)}\n{person.code(spent + 1, now)}\n"
        if spent == -1:
            self._admin.run("confirm", person.name, typed=typed)
        else:
            with self.config(f"window = {-spent}"):
                self._admin.run("confirm", person.name, typed=typed)

    @contextmanager
    def config(self, text: str) -> Iterator[None]:
        """Have another configuration file for a while."""
        before = self.machine.run(["cat", CONFIG], check=False)
        self.machine.write(CONFIG, text + "\n")
        try:
            yield
        finally:
            if before.returncode:
                self.machine.run(["rm", CONFIG])
                self._admin.run("config", "reset", "--yes")
            else:
                self.machine.write(CONFIG, before.stdout)

    def run_is_old(self) -> None:
        """Have /run/pam-totp note that it was made right after the boot."""
        self.machine.sh(
            """
            mkdir -p -m 700 /run/pam-totp
            echo "0 $(cat /proc/sys/kernel/random/boot_id) 0" >/run/pam-totp/made
            chmod 600 /run/pam-totp/made
            """
        )

    def status(self, person: Person) -> Any:
        """What `pam-totp status --json` says of a user."""
        return self._admin.read("status", person.name)[0]

    def guess(self, person: Person, *rhosts: str, auth_info: str = "") -> None:
        """Have a wrong code counted from each of these addresses (or from a public key), without sshd."""
        wrong = person.wrong()
        guesses = [Transaction(person.name, wrong, rhost, auth_info) for rhost in rhosts]
        for result in transactions(self.machine, *guesses):
            assert (result.code, result.prompts) == ("PAM_AUTH_ERR", 1), result

    def recovery_codes(self, person: Person) -> list[str]:
        """New recovery codes of a user, from the administrator."""
        codes = self.machine.run(["pam-totp", "recovery", person.name]).stdout.split()
        assert len(set(codes)) == 10
        self.confidential |= {form for code in codes for form in (code, code.replace("-", ""))}
        return codes

    def unlock(self, person: Person) -> None:
        """Run `pam-totp unlock`, the command itself."""
        self.machine.run(["pam-totp", "unlock", person.name])

    def decisions(self, since: int) -> list[dict[str, str]]:
        """The fields of every line that the module has logged since a mark."""
        lines = [DECISION.fullmatch(record.message) for record in self.machine.log(since)]
        return [dict(word.split("=", 1) for word in shlex.split(line["fields"])) for line in lines if line]

    def leaks(self) -> list[str]:
        """Every record of the log that has a code, a secret or another answer in it."""
        words = "|".join(sorted(map(re.escape, self.confidential)))
        pattern = re.compile(rf"(?<![0-9A-Za-z])({words})(?![0-9A-Za-z])", re.IGNORECASE)
        return [str(record) for record in self.machine.log() if pattern.search(str(record))] if words else []


@dataclass(frozen=True)
class Person:
    """A user and the secret of the user's authenticator (base32; empty without one)."""

    host: Host
    user: User
    secret: str

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The login name."""
        return self.user.name

    def code(self, steps: int = 0, now: float | None = None) -> str:
        """The code of this step (of `now`, in seconds since the epoch), or of one so many steps later or earlier.

        That of this step or the next is good wherever in the step it is typed. For any other one, whether it is depends
        on the step in which it arrives, so that is this one.
        """
        if steps not in (0, 1) and now is None:
            steady(ARRIVAL)
        found = code(self.secret, (time.time() if now is None else now) + steps * STEP)
        self.host.confidential |= {found, f"{found[:3]} {found[3:]}"}
        return found

    def wrong(self) -> str:
        """A code that no step within many minutes has."""
        right = _codes(self.secret, time.time() - FAR * STEP, 2 * FAR)
        found = next(text for text in (f"{number:06}" for number in range(271_828, 10**6)) if text not in right)
        self.host.confidential.add(found)
        return found

    def elsewhere(self) -> dict[str, str]:
        """How to log in from another source: with another key of this user, or from another address."""
        if self.host.variant == "password-and-code":
            return {"source": "127.0.0.9"}
        self.host.machine.sh(
            """
            test -e "/root/.ssh/$1-laptop" || ssh-keygen -q -t ed25519 -N '' -f "/root/.ssh/$1-laptop"
            cat "/root/.ssh/$1-laptop.pub" >>"/home/$1/.ssh/authorized_keys"
            """,
            self.name,
        )
        return {"key": f"{self}-laptop"}

    def fail(self, times: int = 3) -> None:
        """Have wrong codes counted from where this user logs in from."""
        self.host.guess(self, *["127.0.0.1"] * times, auth_info=self.first_factor())

    def first_factor(self) -> str:
        """What sshd tells PAM of this user's first factor, in the variant in force."""
        if self.host.variant != "key-and-code":
            return ""
        return " ".join(["publickey", *self.host.machine.read(f"/home/{self}/.ssh/authorized_keys").split()[:2]])

    def log_in(
        self,
        answer: str | None = None,
        *options: str,
        password: str | None = "",
        key: bool | str = True,
        source: str = "",
        command: str = "true",
    ) -> Result:
        """Log in with the first factor of the variant in force and this answer to the question for the code."""
        if answer:
            self.host.confidential.add(answer)
        if self.host.variant == "password-and-code":
            key, password = False, self.user.password if password == "" else password
        else:
            password = password or None
        return self.host.machine.login(
            self.user, *options, password=password, code=answer, key=key, source=source, command=command
        )


def spelled(secret: str) -> set[str]:
    """The ways in which a base32 secret may be written."""
    raw = base64.b32decode(secret)
    groups = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    return {secret, groups, raw.hex(), base64.b64encode(raw).decode("ascii"), repr(raw)[2:-1]}


def _codes(secret: str, start: float, steps: int) -> list[str]:
    command = ["/usr/bin/oathtool", "--totp", "--base32", f"--now=@{int(start)}", f"--window={steps}", "-"]
    return subprocess.run(
        command, input=secret + "\n", check=True, stdout=subprocess.PIPE, encoding="ascii"
    ).stdout.split()
