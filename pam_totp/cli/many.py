"""Many users at once, for ``enroll`` and ``invite``: whom a list or a group names, and the pages to hand out.

What is made is made for all of them or for none: everything is looked at first, then written in one transaction, and
only then a directory with the pages gets its name.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
import os
import resource
import shutil
import socket
import stat
import sys
from contextlib import ExitStack, contextmanager

from pam_totp.errors import PamTotpError, UsageError
from pam_totp.factors import enroll as enrolment
from pam_totp.host import arrange, files, users
from pam_totp.host.clock import now
from pam_totp.login import coverage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import TypeVar

    from pam_totp.cache.accounts import Account, Accounts
    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths
    from pam_totp.host.users import User
    from pam_totp.login.policy import Action

    T = TypeVar("T")
    Done = tuple["Row", Account, str]  # and how it went

_LARGEST_LIST = 1 << 24
_MOST_PROBLEMS = 20
# RFC 4226, section 4, R6, asks for 16 bytes, and many programs have made keys of 10. HMAC-SHA-1 takes any more.
_SHORTEST_SECRET, _LONGEST_SECRET = 10, 64
_SPARE_FILES = 64  # beside one for the lock of each user
_EVERY = 25
MEANWHILE = "somebody was enrolled, invited or removed meanwhile, and nothing was changed: start again"
_NAMED = 5


class Row:
    """One user of a list; ``where`` names the line. Without a label or a secret, None."""

    __slots__ = ("label", "secret", "user", "where")

    def __init__(self, where: str, user: User, label: str | None = None, secret: bytes | None = None) -> None:
        self.where = where
        self.user = user
        self.label = label
        self.secret = secret


class ManyError(UsageError):
    """A list that nothing can be made for; names the lines. Nothing was changed."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - _MOST_PROBLEMS
        lines = [*problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n  ".join(["nothing was changed, because of:", *lines]))


# -- who


def arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """--from FILE, --group G and --handout DIR; the verb's USER must be optional."""
    parser.add_argument("--from", dest="list", metavar="FILE", help=f"many users: {what}; - is standard input")
    parser.add_argument("--group", metavar="G", help="many users: the members of this group")
    parser.add_argument("--handout", metavar="DIR", help="with many: write a page for each user into a new directory")


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether many users are meant, and not one. Raises UsageError where that makes no sense."""
    ways = [arguments.user is not None, arguments.list is not None, arguments.group is not None]
    if sum(ways) > 1:
        raise UsageError("give one of USER, --from FILE and --group G")
    many = ways[1] or ways[2]
    if arguments.handout is not None and not many:
        raise UsageError("--handout goes with --from or --group: leave it out")
    return many


def rows(arguments: argparse.Namespace, columns: tuple[str, ...]) -> list[Row]:
    """Whom the command line names, in the order of the list. Raises UsageError, or NameServiceError."""
    if arguments.group is not None:
        members = users.members(arguments.group)
        if not members:
            raise UsageError(
                f"the group {arguments.group!r} has no members, or there is no such group: see getent group"
            )
        return _checked([(f"group {arguments.group}", {"user": name}) for name in members])
    text, private = _content(arguments.list)
    entries = _entries(text, columns)
    if not private and any("secret" in entry for _, entry in entries):
        raise UsageError(f"{arguments.list} holds secrets, and others may read it: run chmod go= {arguments.list}")
    return _checked(entries)


def _content(path: str) -> tuple[str, bool]:
    """The text of a list, and whether nobody else may read the file. Raises UsageError, or OSError."""
    private = True
    if path == "-":
        content = sys.stdin.buffer.read(_LARGEST_LIST + 1)
    else:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            private = not (stat.S_ISREG(mode) and mode & 0o077)
            content = file.read(_LARGEST_LIST + 1)
    if len(content) > _LARGEST_LIST:
        raise UsageError(f"{path} is larger than {_LARGEST_LIST} bytes: split it")
    try:
        return content.decode("utf-8-sig"), private  # spreadsheets write a mark at the beginning
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text: save it as UTF-8") from None


def _entries(text: str, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """The lines of a list, each with its number. Raises ManyError."""
    reader = _Reader(columns)
    found, problems = [], []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = reader.entry(line.strip())
        except (ValueError, RecursionError, csv.Error) as error:
            # The line itself may hold a secret, and is not repeated.
            reason = "not a JSON object" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
            problems.append(f"line {number}: {reason}")
        else:
            if entry is not None:
                found.append((f"line {number}", entry))
    if problems:
        raise ManyError(problems)
    if not found:
        raise UsageError("the list names nobody: write a line for each user")
    return found


class _Reader:
    """Reads lines of CSV, of which the first names the columns; JSON objects; or user names alone."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._head: list[str] | None = None

    def entry(self, line: str) -> dict[str, str] | None:
        """What a line says; None where it says nothing. Raises ValueError, RecursionError or csv.Error."""
        if not line or line.startswith("#"):
            return None
        entry = json.loads(line) if line.startswith("{") else self._row(line)
        if entry is None:
            return None
        self._check(entry)
        if not all(isinstance(value, str) for value in entry.values()):
            raise ValueError("every value must be a string")
        return {name: value for name, value in entry.items() if value}

    def _row(self, line: str) -> dict[str, str] | None:
        # A quoted cell cannot hold a line break here: no name, label or secret has one.
        cells = [cell.strip() for cell in next(csv.reader([line], strict=True))]
        if self._head is None:
            head = [cell.lower() for cell in cells]
            if "user" in head and len(set(head)) == len(head):
                if head == ["user"] and users.find("user") is not None:
                    raise ValueError("user may be a heading or a name here: write JSON lines instead")
                self._check(head)
                self._head = head
                return None
            self._head = ["user"]
        if len(cells) != len(self._head):
            raise ValueError(
                f"{len(cells)} cells, and not one for each of {','.join(self._head)}: "
                f"the first line names the columns, like {','.join(self._columns)}"
            )
        return dict(zip(self._head, cells, strict=True))

    def _check(self, names: Iterable[str]) -> None:
        if not set(names) <= set(self._columns):
            raise ValueError(f"there may be {', '.join(self._columns)}, and nothing else")


def _checked(entries: list[tuple[str, dict[str, str]]]) -> list[Row]:
    """The rows of users whom this host knows, each once. Raises ManyError, or NameServiceError."""
    found: list[Row] = []
    seen: dict[str, str] = {}
    problems = []
    for where, entry in entries:
        name = entry.get("user", "")
        user = users.find(name)
        if user is None:
            problems.append(f"{where}: no such user: {name!r}")
            continue
        if user.name in seen:
            problems.append(f"{where}: {user.name} is there already, in {seen[user.name]}")
            continue
        seen[user.name] = where
        try:
            label = enrolment.check_label(entry["label"]) if "label" in entry else None
            found.append(Row(where, user, label, _secret(entry["secret"]) if "secret" in entry else None))
        except UsageError as error:
            problems.append(f"{where}: {user.name}: {error}")
    if problems:
        raise ManyError(problems)
    return found


def _secret(text: str) -> bytes:
    """A secret in base32, as apps take it: in either case, with or without spaces and padding. Raises UsageError."""
    plain = "".join(text.split()).upper().rstrip("=")
    try:
        secret = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except binascii.Error:
        raise UsageError("the secret is not base32: write letters A to Z and digits 2 to 7") from None
    if not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
        raise UsageError(
            f"the secret has {len(secret)} bytes: it must have {_SHORTEST_SECRET} to {_LONGEST_SECRET}, at best 20"
        )
    return secret


# -- all or none


@contextmanager
def locked(accounts: Accounts, names: Iterable[str]) -> Iterator[None]:
    """Hold the locks of all these accounts. Raises LockTimeoutError, or CacheError."""
    # Always in the same order: two such commands must not wait for each other.
    order = sorted(set(names))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = len(order) + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and need > hard:
        raise UsageError(f"{len(order)} users are more than can be locked at once here ({hard} files): split the list")
    if need > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    with ExitStack() as locks:
        for name in order:
            locks.enter_context(accounts.lock(name))
        yield


def each(accounts: Accounts, found: Iterable[Row], change: Callable[[Row, Account], str]) -> list[Done]:
    """Make a change to the account of each row, and say how it went; nothing is saved.

    Raises ManyError where it is impossible for somebody.
    """
    done, problems = [], []
    for row in found:
        try:
            account = accounts.find(row.user)
            if account.name != row.user.name:
                raise UsageError(f"is another name of {account.name}: name that one")
            done.append((row, account, change(row, account)))
        except PamTotpError as error:
            problems.append(f"{row.where}: {row.user.name}: {error}")
    if problems:
        raise ManyError(problems)
    return done


def save(accounts: Accounts, changed: Sequence[Account], pages: Handout | None) -> None:
    """Save all of these or none, and give the directory of their pages its name. Call with the locks of all held."""
    with arrange.uninterrupted():
        accounts.save_all(changed)
        if pages is not None:
            pages.finish()


def progress(what: str, items: Sequence[T]) -> Iterator[T]:
    """The items; and for somebody at a terminal, how far it is."""
    shown = sys.stderr.isatty() and len(items) > _EVERY
    for number, item in enumerate(items):
        if shown and number % _EVERY == 0:
            print(f"\r{what}: {number} of {len(items)} ", end="", flush=True, file=sys.stderr)
        yield item
    if shown:
        print(f"\r{what}: {len(items)} of {len(items)} ", file=sys.stderr)


def tell(done: Sequence[Done], words: dict[str, str], pages: Handout | None) -> None:
    """Say in words how many went which way, and where the pages are."""
    for how, text in words.items():
        names = [account.name for _, account, each in done if each == how]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            count = "1 user" if len(names) == 1 else f"{len(names)} users"
            print(f"{count} {text}: {', '.join(names[:_NAMED])}{more}")
    if pages is not None:
        print(f"pages: {pages.path('USER')}, for root only")


def note_unasked(
    accounts: Accounts, config: Config, paths: Paths, done: Sequence[Done], what: str, actions: tuple[Action, ...]
) -> None:
    """Say where logins do not ask for what was made, because policy takes none of these actions first."""
    moment = now()
    unasked = [
        row for row, _, _ in done if coverage.of(accounts, config, paths, row.user, moment).action not in actions
    ]
    if unasked:
        print(
            f"pam-totp: logins of {len(unasked)} of them do not ask for {what}, as it is configured here: "
            f'set unenrolled = "{actions[0]}", see pam-totp.toml(5)',
            file=sys.stderr,
        )


# -- pages


class Handout:
    """A new directory with a page for each user, for root only. It has its name once ``finish`` was called.

    Until then it has another, and is removed at the end of the block. Raises UsageError, or OSError.
    """

    def __init__(self, directory: str, owner: int) -> None:
        self.directory = os.path.abspath(directory)
        self._part = f"{self.directory}.part"
        self._kept = False
        for path, why in ((self.directory, "name a new one"), (self._part, "it was broken off; remove it")):
            if os.path.lexists(path):
                raise UsageError(f"{path} is there already: {why}")
        try:
            files.check_parents(self.directory, owner)
        except files.UnsafeFileError as error:
            raise UsageError(f"pages with keys would not be safe there: {error}; or take one below /root") from None
        except FileNotFoundError:
            raise UsageError(f"{os.path.dirname(self.directory)} is not there: make it first") from None

    def __enter__(self) -> Handout:
        os.mkdir(self._part, 0o700)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            shutil.rmtree(self._part)

    def path(self, user: str) -> str:
        """Where the page of a user is in the end."""
        return f"{self.directory}/{user}.svg"

    def write(self, user: str, page: str) -> None:
        """Write the page of a user."""
        path = f"{self._part}/{user}.svg"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(page)

    def sync(self) -> None:
        """Make the pages durable, before what they tell is."""
        for name in os.listdir(self._part):
            files.sync(f"{self._part}/{name}")
        files.sync_directory(self._part)

    def finish(self) -> None:
        """Give the directory its name. What its pages tell is true now, whatever happens here."""
        self._kept = True
        try:
            os.rename(self._part, self.directory)
            files.sync_directory(os.path.dirname(self.directory))
        except OSError as error:
            print(f"pam-totp: the pages are in {self._part}: {error.strerror}", file=sys.stderr)


def host_name() -> str:
    """The name of this host, as pages tell it."""
    return socket.gethostname()
