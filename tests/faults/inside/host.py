"""The installation of this machine, as tests see it: its state on disk, its users' secrets, a login in this process."""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import stat
import struct
import time
from typing import TYPE_CHECKING

from pam_totp.cache.ledger import Ledger
from pam_totp.cache.upkeep import Upkeep
from pam_totp.errors import PamTotpError
from pam_totp.factors import enroll, otp, recovery
from pam_totp.host import users
from pam_totp.host.clock import now
from pam_totp.host.config import Arguments
from pam_totp.host.paths import Paths
from pam_totp.login import login

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.host.clock import Moment

STEP = 30
PATHS = Paths()
DIRECTORIES = (os.path.dirname(PATHS.key), os.path.dirname(PATHS.cache), PATHS.run)
# What pam_authenticate returns (Linux-PAM's _pam_types.h); PAM_IGNORE becomes 27, see tests/lab/pam.py.
SUCCESS, SERVICE_ERR, AUTH_ERR, AUTHINFO_UNAVAIL, USER_UNKNOWN, CONV_ERR, IGNORE = 0, 3, 7, 9, 10, 19, 27
Kept = dict[str, tuple[int, bytes]]


def code(secret: bytes, step: int) -> str:
    """RFC 4226, section 5.3, without a line of the package's."""
    digest = hmac.new(secret, struct.pack(">Q", step), hashlib.sha1).digest()
    (number,) = struct.unpack_from(">I", digest, digest[-1] & 15)
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"


def step_now() -> int:
    """The step of this moment."""
    return int(time.time()) // STEP


def wrong(secret: bytes, around: int) -> str:
    """A code that is not right for any step near `around`."""
    right = {code(secret, step) for step in range(max(0, around - 40), around + 41)}
    return next(f"{number:06}" for number in range(1_000_000) if f"{number:06}" not in right)


def removed(name: str) -> None:
    """Make sure that a user has no record, and that nothing of an earlier one is remembered."""
    # Before, too: an older cache that a test has put back does not open beside what is remembered.
    _forget()
    with Upkeep(PATHS) as accounts:
        account = accounts.get(name)
        if account is not None:
            account.authenticators, account.ledger = [], Ledger()
            accounts.save(account)
    _forget()


def _forget() -> None:
    for file in os.listdir(PATHS.run) if os.path.isdir(PATHS.run) else ():
        os.unlink(os.path.join(PATHS.run, file))


def enrolled(name: str, *, pending: bool = False) -> bytes:
    """Enrol a user, in the place of whatever was; the code of the step before this one is the one that is spent."""
    removed(name)
    with Upkeep(PATHS) as accounts:
        return _enrolled(accounts, name, pending)


def enrolled_all(names: list[str]) -> dict[str, bytes]:
    """The same for many users without a record."""
    with Upkeep(PATHS) as accounts:
        return {name: _enrolled(accounts, name, False) for name in names}


def _enrolled(accounts: Upkeep, name: str, pending: bool) -> bytes:
    user = users.find(name)
    if user is None:
        raise KeyError(name)
    with accounts.lock(name):
        account = accounts.find(user)
        authenticator = enroll.begin(account, "phone", int(time.time()))
        if not pending:
            step = step_now() - 1
            if not enroll.confirm(account, code(authenticator.secret, step), step, 0):
                raise AssertionError
        accounts.save(account)
    return authenticator.secret


def enrolled_again(name: str) -> bytes:
    """Put a new secret in the place of an active one; what was noted of the user stays."""
    user = users.find(name)
    if user is None:
        raise KeyError(name)
    with Upkeep(PATHS) as accounts, accounts.lock(name):
        account = accounts.find(user)
        authenticator = enroll.begin(account, "phone", int(time.time()))
        step = step_now() - 1
        if not enroll.confirm(account, code(authenticator.secret, step), step, 0):
            raise AssertionError
        accounts.save(account)
    return authenticator.secret


def issued(name: str) -> list[str]:
    """New recovery codes of a user, as good as shown."""
    user = users.find(name)
    if user is None:
        raise KeyError(name)
    with Upkeep(PATHS) as accounts, accounts.lock(name):
        account = accounts.find(user)
        codes = recovery.issue(account.ledger, accounts.sealer)
        recovery.acknowledge(account.ledger, codes, accounts.sealer)
        accounts.save(account)
    return codes


def configure(text: str) -> None:
    """Have a configuration file with this text; none where it is empty, and none that is missed."""
    if not text:
        no_configuration()
        return
    with open(PATHS.config, "w", encoding="utf-8") as file:
        file.write(text + "\n")


class View:
    """What is kept about one user, as far as it decides about logins."""

    def __init__(self, name: str) -> None:
        with Upkeep(PATHS) as accounts:
            account = accounts.get(name)
            self.damage = accounts._store.damage()
        self.active = [] if account is None else [each.identifier for each in account.active]
        self.pending = 0 if account is None or account.pending is None else 1
        self.row = 0 if account is None else account.ledger.row
        self.locked = account is not None and account.ledger.locked
        self.wrong_recovery_codes = 0 if account is None else len(account.ledger.recent_recovery)
        self.codes = 0 if account is None else recovery.left(account.ledger)
        self.marks = {} if account is None else {key: mark.step for key, mark in account.ledger.marks.items()}

    def __repr__(self) -> str:
        marks = f"marks={self.marks} damage={self.damage}"
        return f"active={self.active} pending={self.pending} row={self.row} codes={self.codes} {marks}"


def spent(name: str, step: int) -> bool:
    """Whether this step of a user's only authenticator can never be accepted again."""
    view = View(name)
    return len(view.active) == 1 and view.marks[view.active[0]] >= step


class Answers(login.Conversation):
    """A user who gives one answer, whatever is asked."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.asked = 0
        self.told: list[str] = []

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        self.asked += 1
        return self.answer

    def tell(self, text: str) -> None:
        self.told.append(text)


def attempt(
    name: str, answer: str | None, *, moment: Moment | None = None, rhost: str = "127.0.0.1", paths: Paths = PATHS
) -> login.Outcome:
    """One login in this process, now or at another moment."""
    clock: Callable[[], Moment] = now if moment is None else lambda: moment
    return login.attempt(login.Request(name, "sshd", rhost), Arguments([]), paths, clock, Answers(answer))


def let_in(outcome: login.Outcome) -> bool:
    """Whether this outcome lets somebody in."""
    return outcome.verdict in ("accepted", "skipped")


def works(name: str, secret: bytes) -> list[str]:
    """Nothing if the next code gets in and then does not a second time; else what is wrong."""
    step = otp.step_at(time.time()) + 1
    first = attempt(name, code(secret, step))
    if first.verdict != "accepted":
        return [f"the next code is refused: {first.reason} {first.detail}"]
    second = attempt(name, code(secret, step))
    return ["the next code works twice"] if let_in(second) else []


def damage() -> list[str]:
    """What `pam-totp status` finds wrong."""
    try:
        with Upkeep(PATHS) as accounts:
            return accounts.damage()
    except PamTotpError as error:
        return [str(error)]


def no_configuration() -> None:
    """The defaults hold, and that is meant."""
    if os.path.lexists(PATHS.config):
        os.unlink(PATHS.config)
    with Upkeep(PATHS) as accounts:
        accounts.configured.note(False)


def keep() -> Kept:
    """Everything below the three directories of the installation."""
    kept: Kept = {}
    for top in DIRECTORIES:
        for directory, _, files in os.walk(top):
            kept[directory] = os.lstat(directory).st_mode, b""
            for file in files:
                path = os.path.join(directory, file)
                with open(path, "rb") as opened:
                    kept[path] = os.fstat(opened.fileno()).st_mode, opened.read()
    return kept


def put_back(kept: Kept) -> None:
    """Make the three directories what they were; anything else in them goes."""
    for top in DIRECTORIES:
        for path in _found(top):
            if path not in kept:
                _remove(path)
    for path, (mode, content) in kept.items():
        if stat.S_ISDIR(mode):
            os.makedirs(path, exist_ok=True)
        else:
            _remove(path)
            with open(path, "wb") as file:
                file.write(content)
        os.chmod(path, stat.S_IMODE(mode))
        os.chown(path, 0, 0)


def _found(top: str) -> list[str]:
    return [os.path.join(directory, name) for directory, *both in os.walk(top) for names in both for name in names]


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
