"""Everything that is read from disk, each with a function that tries one input. fuzzing.py makes up the inputs.

An input is tried as a host would meet it, in a file or a row of an installation of its own. What is wrong with it is
said by an error of the package, and by no other; and nobody who is enrolled gets in unasked or with a wrong code.
"""

from __future__ import annotations

import itertools
import os
import pwd
import random
import re
import shutil
import sqlite3
import struct
from argparse import Namespace
from binascii import b2a_base64
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from typing import TYPE_CHECKING
from unittest import mock

from pam_totp.cache import keys, schema, store, summary
from pam_totp.cache.accounts import ACTIVE, PENDING, Account, Accounts, Authenticator, secret_context
from pam_totp.cache.ledger import Ledger
from pam_totp.cache.seal import Sealer
from pam_totp.cli import explain, reset, status
from pam_totp.errors import ConfigError, DamageError, HostKeyError, PamTotpError, UsageError
from pam_totp.factors import invitation, otp, publickeys, recovery
from pam_totp.host import config as configuration
from pam_totp.host import stack
from pam_totp.host.users import User
from pam_totp.login import policy
from pam_totp.login.policy import Facts
from pam_totp.selfservice import server
from tests.faults.inside.host import attempt, let_in, wrong
from tests.unit.pretend import ALICE, BOB, HERE, Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_totp.login.attempt import Outcome

    # What the fuzzing starts from, as the package itself would write or read it, and what tries an input.
    Target = tuple[list[bytes], Callable[[bytes], None]]


HOT = bytes.fromhex("d9d505f920a163d7")  # how a journal begins that SQLite plays back


def be_always_the_same() -> None:
    """Two users, one roster bucket, two events, and the same key each time: an input alone says what happens."""
    users = {user.name: pwd.struct_passwd((user.name, "x", user.uid, 0, "", "/", "/bin/sh")) for user in (ALICE, BOB)}
    for module, name, instead in (
        (os, "urandom", random.Random(0).randbytes),
        (pwd, "getpwnam", users.__getitem__),
        (pwd, "getpwuid", {entry.pw_uid: entry for entry in users.values()}.__getitem__),
        (store, "BUCKETS", 1),
        (store, "EVENTS", 2),
        (Sealer, "slow_hash", _quick_hash),
    ):
        setattr(module, name, instead)


def _quick_hash(_: Sealer, text: str, salt: bytes) -> bytes:
    _expect(len(salt) == 16, "libsodium would read beyond the end of a shorter salt")
    return text.encode().ljust(16)[:16]


# Files


def key(root: str) -> Target:
    """The host key."""
    host = Host(root)

    def read(data: bytes) -> None:
        _write(host.paths.key, data)
        with suppress(HostKeyError):
            keys.load(host.paths.key, host.paths.owner)

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
keys = ["any", "certificate", "ca:SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"]
enrolled_within = "2d"
remember = "never"
unenrolled = "deny"
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIsdnGF5gcR1sCEBcKLqr3wAHOPYmMP4XUFNBdAZVBMH"


def config(root: str) -> Target:
    """config.toml, and what it decides for somebody who is enrolled."""
    host = Host(root)
    enrolled = _account(ACTIVE, Ledger())
    facts = Facts(ALICE.name, f"net:{HERE}", "sshd", HERE)
    facts.keys = publickeys.parse(f"publickey {KEY}")

    def read(data: bytes) -> None:
        _write(host.paths.config, data)
        with suppress(ConfigError):
            found = configuration.load(host.paths.config, host.paths.owner)
            decision = policy.decide(enrolled, found, facts, host.now())
            _expect(decision.action == "ask" or any(rule.mfa == "skip" for rule in found.rules), "not asked")

    return [CONFIG], read


def services(root: str) -> Target:
    """A service's file in /etc/pam.d."""
    host = Host(root)
    os.makedirs(host.paths.services)

    def read(data: bytes) -> None:
        _write(f"{host.paths.services}/sshd", data)
        with suppress(ConfigError):
            stack.require_verification("sshd", host.paths)
            _expect(data.count(b"combined=verify") > 1, "a stack that verifies nothing is good")

    lines = (
        b"auth required pam_python.so pam_totp.py combined=split\n@include common-auth\n"
        b"auth required pam_python.so \\\n  pam_totp.py combined=verify # twice\n"
        b"account required pam_python.so /lib/security/pam_totp.py combined=verify\n"
    )
    return [lines], read


def shells(root: str) -> Target:
    """/etc/shells, by which the self-service knows who can log in."""
    path = f"{root}/shells"

    def read(data: bytes) -> None:
        _write(path, data)
        with mock.patch.object(server, "SHELLS", path):
            user = server._user(ALICE.uid)
        _expect(user is None or b"/bin/sh" in data, "a shell that is not listed is good")

    return [b"# shells\n/bin/sh\n/usr/bin/bash\n"], read


def public_key(root: str) -> Target:
    """The key or certificate that `pam-totp explain` is given."""
    path = f"{root}/key.pub"

    def read(data: bytes) -> None:
        _write(path, data)
        with suppress(UsageError):
            for each in publickeys.parse(explain._auth_info(path)) or ():
                _expect(bool(each.identity()), "no identity")
                for found in (each.fingerprint(), each.authority()):
                    _expect(found is None or found.startswith("SHA256:"), "no fingerprint")

    kind = b"ssh-ed25519-cert-v01@openssh.com"
    authority = _fields(b"ssh-ed25519", b"authority")
    before, after = (kind, b"nonce", b"key"), (b"", b"", b"", authority, b"signature")
    blob = _fields(*before) + bytes(8 + 4) + _fields(b"id", b"alice") + bytes(8 + 8) + _fields(*after)
    return [KEY.encode(), kind + b" " + b2a_base64(blob)], read


def _fields(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


# What is sealed. Whoever has the key can seal anything, and so can an older or a newer version of the package.


def ledger(root: str) -> Target:
    """An account's ledger, and all that is done with one."""
    host = Host(root)
    accounts = host.accounts()

    def read(data: bytes) -> None:
        with suppress(DamageError):
            for merge in (lambda one: one, Ledger().merge):
                _look_at(accounts, merge(Ledger.decode(data)), host)
                _change(accounts, merge(Ledger.decode(data)), host)

    return [each.encode() for each in _ledgers(host)], read


def _ledgers(host: Host) -> list[Ledger]:
    """Ledgers with everything that can be noted in one."""
    tried, granted = Ledger(), Ledger()
    tried.mark("0011223344556677").spend(otp.step_at(host.wall) + 1, otp.step_at(host.wall), 10)
    tried.succeed("key:00ff", host.now())
    for _ in range(4):
        tried.fail("net:192.0.2.7", "192.0.2.7", host.now(), 100)
    tried.fail_recovery("net:192.0.2.7", "192.0.2.7", host.now())
    tried.enrolled = int(host.wall)
    tried.remember("ff00", 3600, host.now())
    recovery.issue(tried, host.sealer())
    granted.exemption = [int(host.wall) + 60, "on a ship"]
    granted.grace = [host.now().stamp(), 60]
    granted.invitation = [host.sealer().token("invitation"), int(host.wall) + 60]
    granted.issued = "0011223344556677"
    granted.locked = True
    return [Ledger(), tried, granted]


def _account(state: str, ledger: Ledger) -> Account:
    return Account(ALICE.name, ALICE.uid, [Authenticator("0011", state, "phone", "local", 0, b"")], ledger)


def _look_at(accounts: Accounts, ledger: Ledger, host: Host) -> None:
    """All that logins and commands read in it."""
    settings, facts, now = configuration.Config(), Facts(ALICE.name, "net:192.0.2.7"), host.now()
    facts.client = "ff00"
    settings.remember = 60
    for state in (ACTIVE, PENDING):
        account = _account(state, ledger)
        for settings.unenrolled in ("deadline", "invite"):
            policy.decide(account, settings, facts, now)
            policy.demand(account, settings, facts, now)
            policy.first_enrolment(account, settings, facts, now)
        invitation.matches(account, "abcde-fghjk", accounts.sealer)
        summary.fields(account, now, 1)
        status._row(account, now, 1)
        explain._fact(policy.Decision("skip", "exempt"), account)
    recovery.due(ledger)
    recovery.left(ledger)


def _change(accounts: Accounts, ledger: Ledger, host: Host) -> None:
    """All that they change in it."""
    now, step = host.now(), otp.step_at(host.wall)
    ledger.fail("net:192.0.2.7", "192.0.2.7", now, 100)
    ledger.fail_recovery("net:192.0.2.7", "192.0.2.7", now)
    recovery.acknowledge(ledger, ["abcde-fghjk"], accounts.sealer)
    recovery.spend(ledger, "abcdefghjk", accounts.sealer)
    ledger.mark("0011").spend(step, step, 10)
    ledger.forget_marks(set())
    ledger.succeed("net:192.0.2.7", now)
    ledger.remember("00ff", 60, now)
    ledger.unlock(step, 1)
    Ledger.decode(ledger.cleared().encode())


def record(root: str) -> Target:
    """A record's ledger and secret, and the ledger's copy in /run: what is behind the seal, and raw bytes."""
    here = Installation(root)
    host, sealer = here.host, here.host.sealer()
    phone = host.account().active[0]
    row = (phone.identifier, ACTIVE, phone.label, phone.source, phone.created, b"")
    context = secret_context(ALICE.name, ALICE.uid, row)

    def read(data: bytes) -> None:
        here.put_back()
        where, content = data[:1], data[1:]
        if where in b"LR":
            content = sealer.seal(content, "ledger", ALICE.name)
        elif where == b"S":
            content = sealer.seal(content, *context)
        if where in b"Rr":
            os.makedirs(host.paths.run, mode=0o700)
            _write(f"{host.paths.run}/{sealer.token(ALICE.name)}", content)
        elif where in b"Ss":
            here.sql("UPDATE authenticator SET secret = ? WHERE name = 'alice'", content)
        else:
            here.sql("UPDATE account SET ledger = ? WHERE name = 'alice'", content)
        # Only what opens can say that somebody is exempt.
        here.judge(exempt=where in b"LR", secret=data[1:] if where == b"S" else b"")

    ledgers = [each.encode() for each in _ledgers(host)]
    sealed = sealer.seal(ledgers[0], "ledger", ALICE.name)
    seeds = [where + each for where in (b"L", b"R") for each in ledgers]
    return [*seeds, b"l" + sealed, b"r" + sealed, b"S" + phone.secret, b"s" + sealer.seal(phone.secret, *context)], read


def roster(root: str) -> Target:
    """The roster, by which somebody is known to have no record."""
    here = Installation(root)
    sealer = here.host.sealer()

    def read(data: bytes) -> None:
        here.put_back()
        here.sql("UPDATE roster SET entries = ?", sealer.seal(data, "roster", "0"))
        here.judge()

    content = sealer.open(here.sql("SELECT entries FROM roster")[0][0], "roster", "0")
    return [content], read


# The cache file. Parts of it, or all of it, were changed by another program, or have rotted.


def rows(root: str) -> Target:
    """Values of any type in any column."""
    without_types = re.sub(r" (TEXT|INTEGER|BLOB)( NOT NULL)?\b| STRICT", "", schema._SCHEMA)
    with mock.patch.object(schema, "_SCHEMA", without_types):
        here = Installation(root)
    names = [
        (table, column)
        for table in ("account", "authenticator", "roster", "event")
        for _, column, *_ in here.sql(f"PRAGMA table_info({table})")
    ]

    def read(data: bytes) -> None:
        here.put_back()
        while data:
            head, data = data[:4].ljust(4, b"\0"), data[4:]
            where, which, kind, size = head
            value, data = data[:size], data[size:]
            table, column = names[where % len(names)]
            # The last of the rows: alice's too, where there are several.
            rowid = f"(SELECT rowid FROM {table} ORDER BY rowid LIMIT 1 OFFSET {which % 3})"
            expression = "CAST(? AS TEXT)" if kind % 5 == 4 else "?"
            with suppress(sqlite3.IntegrityError):  # there is such a name or number already
                here.sql(f"UPDATE {table} SET {column} = {expression} WHERE rowid = {rowid}", _value(kind, value))
        here.judge()

    places = itertools.product(range(len(names)), range(2), range(5))
    seeds = [bytes((*place, 8)) + b"16777216" for place in places]
    for where, (table, column) in enumerate(names):  # what is there, as text
        text = str(here.sql(f"SELECT {column} FROM {table} ORDER BY rowid LIMIT 1")[0][0]).encode()[:99]
        seeds.append(bytes((where, 0, 4, len(text))) + text)
    return seeds, read


def _value(kind: int, data: bytes) -> object:
    kinds: list[Callable[[], object]] = [
        lambda: None,
        lambda: int.from_bytes(data[:8], "big", signed=True),
        lambda: struct.unpack(">d", data[:8].ljust(8, b"\0"))[0],
        lambda: data,
        lambda: data,  # becomes text, UTF-8 or not
    ]
    return kinds[kind % len(kinds)]()


def cache(root: str) -> Target:
    """Bytes of the file."""
    return _edited(Installation(root), hot=False)


def journal(root: str) -> Target:
    """Bytes of the file and of a journal that a killed login has left, which SQLite plays back."""
    return _edited(Installation(root), hot=True)


def _edited(here: Installation, hot: bool) -> Target:
    if hot:
        here.interrupt()
    files = here.files
    whole = b"".join(files.values())

    def read(data: bytes) -> None:
        edited = bytearray(whole)
        while data:
            place, size = int.from_bytes(data[:3], "big") % len(whole), int.from_bytes(data[3:4], "big") % 16
            new, data = data[4 : 4 + size], data[4 + size :]
            edited[place : place + len(new)] = new
        start = 0
        for path, content in files.items():
            here.files[path] = bytes(edited[start : start + len(content)])
            start += len(content)
        here.put_back()
        here.judge()

    # The borders of pages and of what is in them say how all the rest is read.
    return [place.to_bytes(3, "big") + b"\4" + whole[place : place + 4] for place in range(0, len(whole), 512)], read


class Installation:
    """A host on which alice is enrolled and bob has a key shown, and which can be put back as it is now."""

    def __init__(self, root: str) -> None:
        self.host = host = Host(root)
        secret = host.enroll(ALICE)
        host.enroll(BOB, state=PENDING)
        with host.accounts() as accounts:
            accounts.record_event(int(host.wall), ALICE.name, "wrong-code")
        self.sql("PRAGMA page_size = 1024")
        self.sql("VACUUM")
        self.wrong = wrong(secret, otp.step_at(host.wall))
        self._keep({host.paths.cache: _read(host.paths.cache)})

    def _keep(self, files: dict[str, bytes]) -> None:
        """Put these back from now on. They have to be good."""
        self.files = files
        self.put_back()
        outcome = self.login(ALICE, self.wrong)
        _expect(outcome.reason == "wrong-code", outcome.detail)

    def login(self, user: User, code: str) -> Outcome:
        """A login of somebody who types this code."""
        return attempt(user.name, code, moment=self.host.now(), rhost=HERE, paths=self.host.paths)

    def put_back(self) -> None:
        """As it was, with nothing in /run."""
        shutil.rmtree(self.host.paths.run, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.unlink(f"{self.host.paths.cache}-journal")
        for path, content in self.files.items():
            _write(path, content)

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """What somebody with the sqlite3 tool can do."""
        connection = sqlite3.connect(self.host.paths.cache, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def interrupt(self) -> None:
        """Leave the cache as it is in the middle of a commit, with the journal that undoes it."""
        connection = sqlite3.connect(self.host.paths.cache, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = PERSIST",
            "PRAGMA cache_size = 1",
            "BEGIN",
            "UPDATE authenticator SET state = 'none', secret = zeroblob(4000)",
            "UPDATE account SET ledger = zeroblob(4000)",
            "UPDATE roster SET entries = zeroblob(4000)",
        ):
            connection.execute(statement)
        path = self.host.paths.cache
        before, files = self.files[path], {each: _read(each) for each in (path, f"{path}-journal")}
        connection.close()
        _expect(files[path] != before and files[f"{path}-journal"][:8] == HOT, "nothing is to be undone")
        self._keep(files)

    def judge(self, exempt: bool = False, secret: bytes = b"") -> None:
        """A wrong code lets nobody in; and the commands say what is wrong, and mend it, instead of breaking."""
        host = self.host
        code = wrong(secret, otp.step_at(host.wall)) if secret else self.wrong
        for user in (ALICE, BOB):
            outcome = self.login(user, code)
            unasked = outcome.verdict == "skipped" and (user is BOB or (exempt and outcome.reason == "exempt"))
            _expect(not let_in(outcome) or unasked, f"{user.name} gets in: {outcome.reason}")
        with suppress(PamTotpError), host.accounts() as accounts:
            accounts.find(User("alias", ALICE.uid))
        for names, json in ((), True), ((ALICE.name,), False):
            with suppress(PamTotpError), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                status.run(Namespace(users=names, json=json), host.paths)
        with suppress(PamTotpError), host.accounts() as accounts:
            accounts.record_event(int(host.wall), ALICE.name, "wrong-code")
        with suppress(PamTotpError), host.accounts() as accounts:
            account = reset._removed(accounts, ALICE.name, None)
            if account is not None:
                accounts.save(account)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o600)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


TARGETS: dict[str, Callable[[str], Target]] = {
    "key": key,
    "config": config,
    "services": services,
    "shells": shells,
    "public-key": public_key,
    "ledger": ledger,
    "record": record,
    "roster": roster,
    "rows": rows,
    "cache": cache,
    "journal": journal,
}
