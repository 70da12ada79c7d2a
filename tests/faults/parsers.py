"""What is read from disk, each with a function that tries one input, for test_parsers.py and fuzzing.py.

An input is tried as a host would meet it: as a file or a row of an installation of its own. What is wrong with it may
be said by an error of this package only; and whatever it is, nobody who is enrolled gets in with a wrong code or without
being asked.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import pwd
import random
import re
import sqlite3
import struct
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING
from unittest import mock

from pam_totp import config as configuration
from pam_totp import keys, otp, policy, publickeys, recovery, self_server, stack, store, summary, volatile
from pam_totp.accounts import ACTIVE, PENDING, Account, Accounts, Authenticator, _context, seal_bucket
from pam_totp.cli import explain, status
from pam_totp.errors import CacheError, ConfigError, DamageError, HostKeyError, PamTotpError, UsageError
from pam_totp.ledger import Ledger
from pam_totp.login import Verdict
from pam_totp.policy import Action, Facts
from tests.faults.inside.host import attempt, wrong
from tests.unit.host import ALICE, BOB, HERE, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pam_totp.seal import Sealer

    Try = Callable[[bytes], object]
    # What starts the fuzzing, as the package itself writes it, and what tries an input.
    Target = tuple[list[bytes], Try]

KEY_LINE = "AAAAC3NzaC1lZDI1NTE5AAAAIIsdnGF5gcR1sCEBcKLqr3wAHOPYmMP4XUFNBdAZVBMH"
CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com"


@contextmanager
def always_the_same() -> Iterator[None]:
    """Two users, few roster buckets and events, the same key each time: an input alone then says what happens."""
    users = {each.name: _entry(each.name, each.uid) for each in (ALICE, BOB)}
    uids = {each.uid: users[each.name] for each in (ALICE, BOB)}
    with (
        mock.patch.object(os, "urandom", random.Random(0).randbytes),
        mock.patch.object(pwd, "getpwnam", users.__getitem__),
        mock.patch.object(pwd, "getpwuid", uids.__getitem__),
        mock.patch.object(store, "BUCKETS", 1),
        mock.patch.object(store, "EVENTS", 2),
    ):
        yield


def _entry(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/sh"))


# Files of one parser


def key(root: str) -> Target:
    """The host key."""
    host = Host(root)

    def read(data: bytes) -> None:
        _write(host.paths.key, data)
        with suppress(HostKeyError):
            keys.load(host.paths.key, host.paths.owner).seal(b"", "")

    return [_read(host.paths.key)], read


CONFIG = b"""prompt = "Code: "
window = 2
max_drift = 3
lock_after = 20
unenrolled = "deadline"
issuer = 'Example'
qr = "utf8"
remember = "12h"

[enrollment]
period = "14d"
after = "invite"
pending = "1d"

[[rule]]
users = ["bob", "carol"]
services = ["sshd"]
networks = ["10.0.0.0/8", "fd00::/8"]
mfa = "skip"

[[rule]]
keys = ["any", "certificate"]
enrolled_within = "2d"
remember = "never"
unenrolled = "deny"
"""


def config(root: str) -> Target:
    """config.toml, and a decision by what it says."""
    host = Host(root)
    phone = Authenticator("1", ACTIVE, "phone", "local", int(host.wall), b"")
    enrolled = Account(ALICE.name, ALICE.uid, [phone], Ledger())
    facts = Facts(ALICE.name, f"net:{HERE}", "sshd", HERE)
    facts.keys = publickeys.parse(f"publickey ssh-ed25519 {KEY_LINE}")

    def read(data: bytes) -> None:
        _write(host.paths.config, data)
        try:
            found = configuration.load(host.paths.config, host.paths.owner)
        except ConfigError:
            return
        decision = policy.decide(enrolled, found, facts, host.now())
        _expect(decision.action is Action.ASK or any(rule.mfa == "skip" for rule in found.rules), decision.reason)
        policy.required(found, facts)

    return [CONFIG, *CONFIG.splitlines()], read


def pam_stack(root: str) -> Target:
    """The file of a service in /etc/pam.d."""
    host = Host(root)
    path = f"{host.paths.services}/sshd"
    os.makedirs(host.paths.services)

    def read(data: bytes) -> None:
        _write(path, data)
        with suppress(ConfigError):
            stack.require_verification("sshd", host.paths)
            _expect(data.count(b"combined=verify") > 1, "a stack without verification is good")

    whole = (
        b"auth required pam_python.so pam_totp.py combined=split\n@include common-auth\n"
        b"auth required pam_python.so \\\n  pam_totp.py combined=verify # twice\n"
        b"account required pam_python.so /lib/security/pam_totp.py combined=verify\n"
    )
    return [whole, *whole.splitlines(keepends=True)], read


def shells(root: str) -> Target:
    """/etc/shells, by which the self-service knows who may log in."""
    path = f"{root}/shells"

    def read(data: bytes) -> None:
        _write(path, data)
        with mock.patch.object(self_server, "SHELLS", path):
            user = self_server._user(ALICE.uid)
        _expect(user is None or b"/bin/sh" in data, "a shell that is not listed is good")

    return [b"# shells\n/bin/sh\n/usr/bin/bash\n", b"/bin/false\n"], read


def public_key(root: str) -> Target:
    """The .pub file of `pam-totp explain --key`: keys and certificates."""
    path = f"{root}/key.pub"

    def read(data: bytes) -> None:
        _write(path, data)
        try:
            auth_info = explain._auth_info(path)
        except UsageError:
            return
        for each in publickeys.parse(auth_info):
            _expect(bool(each.identity()) and each.fingerprint().startswith("SHA256:"), "no identity")

    fields = [CERTIFICATE.encode(), b"nonce", b"key", bytes(12), b"id", b"alice", bytes(16), b"", b"", b"", b"ca"]
    blob = b"".join(each if set(each) == {0} else len(each).to_bytes(4, "big") + each for each in fields)
    certificate = f"{CERTIFICATE} {_base64(blob)} alice@example\n"
    return [f"ssh-ed25519 {KEY_LINE} alice\n".encode(), certificate.encode()], read


# What is behind a seal


def ledger(root: str) -> Target:
    """An account's ledger, and all that is done with one."""
    host = Host(root)
    seeds = [each.encode().rstrip() for each in _ledgers(host)]

    def read(data: bytes) -> None:
        with suppress(DamageError):
            Ledger.decode(Ledger.decode(data).encode())
            for use in (_look_at, _change):
                use(Ledger.decode(data).merge(Ledger()), host)
                use(Ledger().merge(Ledger.decode(data)), host)

    return seeds, read


def _ledgers(host: Host) -> list[Ledger]:
    """Ledgers of all that can be noted in one."""
    sealer = host.sealer()
    tried, granted = Ledger(), Ledger()
    tried.mark("0011223344556677").spend(56_666_667, 56_666_666, 10)
    tried.succeed("key:00ff", host.now())
    for source in ("net:192.0.2.7", "net:2001:db8:0:0::/64"):
        for _ in range(4):
            tried.fail(source, "192.0.2.7", host.now(), 100)
    tried.remember("ff00", 3600, host.now())
    with mock.patch.object(recovery, "COUNT", 2):
        recovery.issue(tried, sealer)
    granted.exemption = [int(host.wall) + 60, "on a ship"]
    granted.grace = [host.now().stamp(), 60]
    granted.invitation = [sealer.token("invitation"), int(host.wall) + 60]
    granted.locked = True
    return [Ledger(), tried, granted]


def _look_at(ledger: Ledger, host: Host) -> None:
    now, settings, facts = host.now(), configuration.Config(), Facts(ALICE.name, "net:192.0.2.7")
    settings.unenrolled = "deadline"
    for state in (ACTIVE, PENDING):
        phone = Authenticator("0011223344556677", state, "phone", "local", int(host.wall), b"")
        account = Account(ALICE.name, ALICE.uid, [phone], ledger)
        policy.decide(account, settings, facts, now)
        policy.first_enrolment(account, settings, facts, now)
        summary.fields(account, now)
        status._row(account, now)
        explain._fact(policy.Decision(Action.SKIP, "exempt"), account)
        ledger.remembers("ff00", 60, now)
        Accounts.invitation_matches(_Quick(), account, "abcde-fghjk")


def _change(ledger: Ledger, host: Host) -> None:
    now, step = host.now(), otp.step_at(host.wall)
    recovery.due(ledger)
    recovery.left(ledger)
    recovery.holds(ledger, "abcde-fghjk", _Quick())
    recovery.spend(ledger, "abcdefghjk", _Quick())
    ledger.mark("0011223344556677").spend(step, step, 10)
    ledger.forget_marks(set())
    ledger.fail("net:192.0.2.7", "", now, 100)
    ledger.remember("00ff", 60, now)
    ledger.unlock(step, 1)
    ledger.succeed("net:192.0.2.7", now)
    Ledger.decode(ledger.cleared().encode())


class _Quick(Accounts):
    """A sealer and accounts, as far as they hash, without what that costs."""

    def __init__(self) -> None:
        pass

    def token(self, text: str) -> str:
        return f"{len(text):032}"

    def slow_hash(self, text: str, salt: bytes) -> bytes:
        _expect(len(salt) == 16, "a salt of another size would be read beyond its end")
        return bytes(16)
