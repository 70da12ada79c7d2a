"""A host below a directory: its files, clock and logins, and a user who types what a test says."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
import shutil
from typing import TYPE_CHECKING

import pyotp

from pam_totp.cache import configured, keys, roster, schema, seal
from pam_totp.cache.accounts import ACTIVE, PENDING, Authenticator
from pam_totp.cache.upkeep import Upkeep
from pam_totp.errors import PamTotpError
from pam_totp.factors import otp
from pam_totp.host.clock import Moment
from pam_totp.host.config import Arguments
from pam_totp.host.paths import Paths
from pam_totp.host.users import User
from pam_totp.login import login

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.cache.accounts import Account
    from pam_totp.login.login import Outcome

    Answer = str | None | Callable[[], str | None]

# What a test writes need not survive it: in memory no commit waits for a disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
STEP = otp.STEP_SECONDS
MIDDLE_OF_A_STEP = 1_700_000_010.0 + STEP / 2
BOOT = "11111111-2222-3333-4444-555555555555"
VERDICTS = ("accepted", "skipped", "refused", "unknown-user", "no-answer", "unavailable", "misconfigured")
HERE, ELSEWHERE = "192.0.2.7", "198.51.100.9"
ALICE = User("alice", 1001)
BOB = User("bob", 1002)


class Script(login.Conversation):
    """A user who answers in order. Fails on a question nobody foresaw; ``end`` fails on an answer nobody asked for."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.echoed: list[str] = []
        self.told: list[str] = []

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        assert self._answers, f"unexpected question {prompt!r}"
        (self.echoed if echo else self.asked).append(prompt)
        answer = self._answers.pop(0)
        return answer() if callable(answer) else answer

    def tell(self, text: str) -> None:
        self.told.append(text)

    def end(self) -> None:
        assert not self._answers, f"{len(self._answers)} answers were never asked for"


class Visitor(Script):
    """A user with an authenticator app, who scans what is shown."""

    def __init__(self, host: Host, *answers: Answer | int) -> None:
        """Where an answer is a whole number, it is what the app shows so many steps from now."""
        super().__init__(*(self.app(answer) if isinstance(answer, int) else answer for answer in answers))
        self.host = host

    @property
    def said(self) -> str:
        """All that was shown, in whichever way."""
        return "\n".join([*self.asked, *self.echoed, *self.told])

    @property
    def secret(self) -> bytes:
        """The key on the screen."""
        key = re.findall(r"^  key  ([A-Z2-7 ]+)$", self.said, re.MULTILINE)[-1].replace(" ", "")
        return base64.b32decode(key)

    def app(self, steps: int) -> Callable[[], str]:
        return lambda: self.host.code(self.secret, steps)


class Host:
    """One installation. Time stands still unless a test moves it; secrets follow from name and label."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.paths = Paths.below(root, os.geteuid())
        self.wall = MIDDLE_OF_A_STEP
        self.uptime = 50_000.0
        self.boot_id = BOOT
        self.talk = Script()
        for directory in map(os.path.dirname, (self.paths.key, self.paths.cache, self.paths.run)):
            os.makedirs(directory, mode=0o700)
        os.makedirs(self.paths.run, mode=0o700)
        with open(f"{self.paths.run}/made", "x", encoding="ascii") as file:
            file.write(f"{int(self.wall - self.uptime)} {self.boot_id} 0")
        os.chmod(file.name, 0o600)
        keys.create(self.paths.key)
        sealer = self.sealer()
        schema.create(self.paths.cache, roster.empty(sealer), configured.facts(sealer, present=False))

    # Time

    def now(self) -> Moment:
        return Moment(self.wall, self.boot_id, self.uptime)

    def later(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds

    def reboot(self, uptime: float = 600.0) -> None:
        """As long as it takes to be up for ``uptime`` seconds; what was in /run is gone."""
        shutil.rmtree(self.paths.run, ignore_errors=True)
        self.boot_id = f"{int(self.boot_id[:8]) + 1:08}{self.boot_id[8:]}"
        self.wall += uptime
        self.uptime = uptime

    # What an administrator does

    def sealer(self) -> seal.Sealer:
        return keys.load(self.paths.key, self.paths.owner)

    def accounts(self) -> Upkeep:
        return Upkeep(self.paths)

    def configure(self, text: str) -> None:
        with open(self.paths.config, "w", encoding="utf-8") as file:
            file.write(text or "# the defaults\n")
        os.chmod(self.paths.config, 0o644)
        try:
            with self.accounts() as accounts:
                accounts.configured.learn()
        except PamTotpError:
            pass  # a test that has broken the cache

    def enroll(self, user: User = ALICE, label: str = "phone", state: str = ACTIVE, issued: bool = False) -> bytes:
        """Give a user an authenticator; returns its secret. ``issued``: a pending one, by an administrator of now."""
        secret = hashlib.sha1(f"{user.name} {label}".encode()).digest()
        with self.accounts() as accounts:
            account = accounts.find(user)
            identifier = hashlib.sha1(secret).hexdigest()[:16]
            state = PENDING if issued else state
            account.authenticators.append(Authenticator(identifier, state, label, "local", int(self.wall), secret))
            account.ledger.issued = identifier if issued else None
            accounts.save(account)
        return secret

    def account(self, user: User = ALICE) -> Account:
        with self.accounts() as accounts:
            return accounts.find(user)

    def change(self, change: Callable[[Account], object], user: User = ALICE) -> None:
        with self.accounts() as accounts:
            account = accounts.find(user)
            change(account)
            accounts.save(account)

    def in_run(self) -> list[str]:
        """The files that logins left in /run."""
        return sorted(f"{self.paths.run}/{name}" for name in os.listdir(self.paths.run) if name != "made")

    def snapshot(self) -> bytes:
        with open(self.paths.cache, "rb") as file:
            return file.read()

    def put_back(self, snapshot: bytes) -> None:
        with open(self.paths.cache, "wb") as file:
            file.write(snapshot)

    # What a user does

    def code(self, secret: bytes, steps: int = 0) -> str:
        """What an app shows ``steps`` steps from now."""
        return code(secret, otp.step_at(self.wall) + steps)

    def wrong(self, *secrets: bytes) -> str:
        """A code that no app shows within 20 minutes of now."""
        shown = {self.code(secret, steps) for secret in secrets for steps in range(-45, 46)}
        return next(each for each in (f"{number:06}" for number in itertools.count(111_111)) if each not in shown)

    def login(
        self, user: str, *answers: Answer, rhost: str = HERE, auth_info: str = "", arguments: tuple[str, ...] = ()
    ) -> Outcome:
        """One login; the user must be asked for exactly these answers. No code may be in what is logged or shown."""
        self.talk = talk = Script(*answers)
        request = login.Request(user, "sshd", rhost, auth_info)
        outcome = login.attempt(request, Arguments(list(arguments)), self.paths, self.now, talk)
        talk.end()
        assert talk.told == ([outcome.message] if outcome.message else [])
        assert outcome.verdict in VERDICTS
        for answer in answers:
            if isinstance(answer, str) and len(answer) >= otp.DIGITS:
                assert answer not in f"{outcome.reason} {outcome.detail} {outcome.message}"
        return outcome

    def fail(
        self, times: int = 1, user: str = "alice", rhost: str = HERE, auth_info: str = "", apart: float = 0
    ) -> None:
        """So many wrong codes, and a pause after each. An hour is longer than every wait of one source."""
        for _ in range(times):
            outcome = self.login(user, self.wrong(self.secret(user)), rhost=rhost, auth_info=auth_info)
            assert outcome.reason == "wrong-code", outcome.reason
            self.later(apart)

    def secret(self, user: str) -> bytes:
        with self.accounts() as accounts:
            account = accounts.get(user)
        assert account is not None
        return account.active[0].secret


def code(secret: bytes, step: int) -> str:
    """The code of a step, by an independent implementation."""
    return str(pyotp.HOTP(base64.b32encode(secret).decode("ascii")).at(step))
