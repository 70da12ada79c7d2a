"""What several verbs need: finding the user, reading a code, telling syslog of a change, showing times."""

from __future__ import annotations

import difflib
import os
import sys
from contextlib import contextmanager

from pam_totp.cache import summary
from pam_totp.cache.accounts import Accounts
from pam_totp.cache.volatile import Volatile
from pam_totp.doctor import stacks
from pam_totp.errors import LockTimeoutError, UsageError
from pam_totp.host import terminal, users
from pam_totp.host.clock import now
from pam_totp.host.pinned import SetupError
from pam_totp.host.settings import date, duration
from pam_totp.login import log, policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pam_totp.cache.accounts import Account
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths
    from pam_totp.host.rewrite import State
    from pam_totp.login.attempt import Attempt

ACTIONS = {
    "ask": "is asked for a code",
    "ask-recovery": "must wait; only a recovery code is looked at",
    "skip": "is not asked for a code",
    "enroll": "enrols at the prompt",
    "invite": "enrols at the prompt, with an invitation code",
    "refuse": "is refused",
}

WHEN = "a time from now (7d), a day (2027-01-31, its end in UTC), or a time (2027-01-31T18:00:00Z)"
# Seconds that another set-up is waited for.
_PATIENCE = 10.0
rfc3339 = summary.rfc3339
minute = summary.minute


def user_argument(parser: argparse.ArgumentParser) -> None:
    """The USER that most verbs take."""
    parser.add_argument("user", metavar="USER", help="login name, as getent passwd knows it")


def known_user(name: str) -> users.User:
    """The user NSS knows by this name. Raises UsageError."""
    user = users.find(name)
    if user is None:
        raise UsageError(f"no such user: {name!r}; see getent passwd for the names this host knows")
    return user


def caution(paths: Paths, service: str = "sshd") -> None:
    """Say so where no line of PAM's asks for codes: what else is said would be taken for true of the next login."""
    reason = stacks.not_asked(service, paths)
    if reason:
        print(f"pam-totp: no login to {service} is certain to ask: {reason}; see pam-totp doctor", file=sys.stderr)


def next_login(attempt: Attempt, account: Account, accounts: Accounts) -> str:
    """What happens at the next login over SSH of a user, in words, with the policy of now."""
    return ACTIONS[policy.decide(account, attempt.config, attempt.facts(account, accounts), now()).action]


def person(name: str, paths: Paths) -> users.User:
    """The user NSS knows by this name, or somebody without a Unix account who has a record. Raises UsageError."""
    user = users.find(name)
    if user is None and users.possible(name):
        with Accounts(paths) as accounts:
            account = accounts.get(name)
        if account is not None and account.uid < 0:
            return users.User(account.name, account.uid)
    return user or known_user(name)


def recorded_name(accounts: Accounts, name: str) -> str:
    """The name a record is kept under: also one that NSS no longer knows or that is gone, and the own name of an alias.

    Raises UsageError when the name is neither known nor recorded.
    """
    if name in accounts.names() or accounts.listed(name):
        return name
    user = users.find(name)
    if user is None:
        raise UsageError(f"no such user and no such record: {name!r}; see getent passwd and pam-totp status")
    return accounts.find(user).name


def account_of(accounts: Accounts, name: str) -> Account:
    """The account of a user, or of a record that NSS no longer knows. Raises UsageError for an unknown name."""
    recorded = recorded_name(accounts, name)
    account = accounts.get(recorded)
    return account if account is not None else accounts.find(known_user(name))


@contextmanager
def changing(paths: Paths, name: str) -> Iterator[tuple[Accounts, Account]]:
    """The account of a user, locked; it is saved at the end of the block. Raises UsageError for an unknown name."""
    with Accounts(paths) as accounts:
        recorded = recorded_name(accounts, name)
        with accounts.lock(recorded):
            account = accounts.get(recorded)
            if account is None or _of_a_former_owner(account):
                account = accounts.find(known_user(name))
            yield accounts, account
            accounts.save(account)


def _of_a_former_owner(account: Account) -> bool:
    """Whether nothing is enrolled in a record that was made for another uid: what it grants is not this user's."""
    user = users.find(account.name)
    return user is not None and user.uid != account.uid and not account.authenticators


def sure(question: str) -> bool:
    """Whether somebody at the terminal says yes. Raises UsageError where there is no terminal."""
    if not sys.stdin.isatty():
        raise UsageError("this asks before it changes anything, and there is no terminal: add --yes")
    print(question, end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def one_setup(paths: Paths, seconds: float | None = None) -> Iterator[None]:
    """One set-up at a time. Raises SetupError where another one does not end."""
    try:
        lock = Volatile(paths.run, paths.owner).lock("setup", _PATIENCE if seconds is None else seconds)
    except LockTimeoutError:
        raise SetupError("another pam-totp setup is running: try again") from None
    with lock:
        yield


def show_change(path: str, old: State, new: State, *, context: int = 2) -> None:
    """Print how a file is to change, with so many lines of context."""
    if new.link is not None:
        print(f"{path} -> {new.link}")
        return
    lines = list(difflib.unified_diff(old.text.splitlines(), new.text.splitlines(), path, path, n=context, lineterm=""))
    if new.content is None:
        lines[:2] = [f"--- {path}", "+++ (removed)"]
    # Nothing of a file can move the cursor or colour the terminal.
    print("\n".join("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines))


def read_code(prompt: str) -> str | None:
    """A line typed at the terminal, or the next one of standard input; None at its end."""
    if sys.stdin.isatty():
        print(prompt, end="", flush=True, file=sys.stderr)
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        return None  # bytes that are not text: there is no further line to be had
    return line.rstrip("\r\n") if line else None


def secret_file(path: str, limit: int) -> bytes:
    """A file that an administrator named, or standard input for ``-``. Raises UsageError, or OSError."""
    if path == "-":
        content = sys.stdin.buffer.read(limit + 1)
    else:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o044:
                print(f"pam-totp: {path} can be read by others: run chmod go= on it", file=sys.stderr)
            content = file.read(limit + 1)
    if len(content) > limit:
        raise UsageError(f"{'standard input' if path == '-' else path} is larger than {limit} bytes: split it")
    return content


def passphrase(path: str) -> bytes:
    """The first line of a file. Raises UsageError where it is empty, or OSError."""
    line = secret_file(path, 4096).partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise UsageError(f"{path} has no passphrase in its first line")
    return line


def record(action: str, account: Account, detail: str = "") -> None:
    """Tell syslog who changed what of an account."""
    note(action, detail, user=account.name)


def note(action: str, detail: str = "", *, user: str = "", service: str = "", priority: int = log.NOTICE) -> None:
    """Tell syslog who did what."""
    by = os.environ.get("SUDO_USER", "root")
    log.send(priority, "pam-totp", log.line(user=user, service=service, action=action, by=by, detail=detail))


def qr_style(asked: str | None) -> str:
    """How to draw a QR code here (``factors.enroll.qr``): as asked for, or as suits the terminal.

    A terminal that cannot show blocks gets plain characters in any case: it would show escapes.
    """
    style = asked or "utf8"
    if asked is None and sys.stdout.isatty() and terminal.light_background():
        style = "utf8-light"
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        style = style.replace("utf8", "ascii")
    return style


def duration_argument(text: str) -> int:
    """Seconds in an argument like "72h" or "7d". Raises UsageError."""
    seconds = duration(text)
    if seconds is None:
        raise UsageError(f"{text!r} is not a duration: write minutes, hours or days, like 30m, 72h or 7d, up to 365d")
    return seconds


def when_argument(text: str, moment: Moment) -> int:
    """Seconds since the epoch in an argument like "7d", "2027-01-31" or "2027-01-31T18:00:00Z". Raises UsageError."""
    seconds = duration(text)
    until = date(text) if seconds is None else int(moment.wall) + seconds
    if until is None:
        raise UsageError(
            f"{text!r} is neither a time from now nor a date: write 7d, 2027-01-31 or 2027-01-31T18:00:00Z"
        )
    if until <= moment.wall:
        raise UsageError(f"{text} is over: give a date in the future")
    return until


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
