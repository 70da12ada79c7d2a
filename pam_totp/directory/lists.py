"""People as a CSV file, read and written: all of a file, or nothing of it.

The first line names the columns: ``name``, and any of ``display``, ``email``, ``groups`` (names with blanks between
them) and ``deadline`` (YYYY-MM-DD). A column that is not there is left as it is. Roles are given one by one, by hand.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction

from pam_totp.directory import people
from pam_totp.directory.models import Group, Person
from pam_totp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ("name", "display", "email", "groups", "deadline")
LONGEST = 64 << 20  # bytes of a file
# What a spreadsheet would take for a formula has this before it; it is taken off again.
_TEXT, _FORMULAS = "'", ("=", "+", "-", "@", "\t", "'")
_SHOWN = 20


class LinesError(UsageError):
    """Some lines cannot be taken."""


def read(content: bytes, actor: str, *, dry_run: bool) -> list[str]:
    """Add and change the people of a file; returns what was done. Raises UsageError with all that is wrong."""
    rows, wrong, done = list(_rows(content)), [], []
    names: dict[str, int] = {}
    with transaction.atomic():
        groups = set(Group.objects.values_list("name", flat=True))
        for line, row in rows:
            try:
                if row["name"] in names:
                    raise UsageError(f"{row['name']!r} is in line {names[row['name']]} already")
                names[row["name"]] = line
                done += _put(row, groups, actor)
            except UsageError as error:
                wrong.append(f"line {line}: {error}")
        if wrong:
            more = [f"and {len(wrong) - _SHOWN} more lines"] if len(wrong) > _SHOWN else []
            raise LinesError("nothing was changed:\n  " + "\n  ".join([*wrong[:_SHOWN], *more]))
        if dry_run:
            transaction.set_rollback(True)
    return done


def written() -> Iterator[str]:
    """Everybody, a line each, after a line of what the columns are."""
    yield _line(COLUMNS)
    for person in Person.objects.prefetch_related("memberships").order_by("name"):
        yield _line(
            (
                person.name,
                person.display,
                person.email,
                " ".join(sorted(each.name for each in person.memberships.all())),
                _date(person.deadline),
            )
        )


def _rows(content: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines with their numbers. Raises UsageError."""
    if len(content) > LONGEST:
        raise UsageError(f"the file is larger than {LONGEST >> 20} MiB: is it the right one?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"line {line} is not UTF-8: save the file in that encoding") from None
    head = text.partition("\n")[0]
    # Spreadsheets write semicolons where a comma is what numbers have.
    found = csv.reader(
        io.StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ",", strict=True
    )
    try:
        columns = [each.strip().lower() for each in next(found, [])]
        unknown = [each for each in columns if each not in COLUMNS]
        if "name" not in columns or unknown or len(set(columns)) != len(columns):
            about = f": {', '.join(map(repr, unknown))} is none" if unknown else ""
            raise UsageError(f"line 1 must name the columns, name and any of {', '.join(COLUMNS[1:])}{about}")
        for row in found:
            if any(each.strip() for each in row):
                if len(row) != len(columns):
                    raise UsageError(f"line {found.line_num}: there are {len(row)} fields, and {len(columns)} columns")
                yield found.line_num, dict(zip(columns, map(_plain, row), strict=True))
    except csv.Error as error:
        raise UsageError(f"line {found.line_num}: {error}") from None


def _put(row: dict[str, str], groups: set[str], actor: str) -> list[str]:
    """Add or change a person. Raises UsageError."""
    name = row["name"]
    fields: dict[str, Any] = {each: row[each] for each in ("display", "email") if each in row}
    if not row.get("display", "").isprintable():
        raise UsageError("the display name has a character that is not printable")
    if "deadline" in row:
        fields["deadline"] = _end_of(row["deadline"]) if row["deadline"] else None
    wanted = sorted(set(row["groups"].split())) if "groups" in row else None
    for each in wanted or ():
        if each not in groups:
            raise UsageError(f"there is no group {each!r}: make it with pam-totp-directory group add {each}")
    person = Person.objects.filter(name=name).first()
    if person is None:
        people.add(actor, name, wanted, **fields)
        return [f"{name}: added"]
    changed = {each: value for each, value in fields.items() if getattr(person, each) != value}
    if "deadline" in changed and row["deadline"] == _date(person.deadline):
        del changed["deadline"]  # the same day, at an hour that a file does not have
    if changed:
        people.set_fields(actor, person, **changed)
    if wanted is not None and wanted != sorted(each.name for each in person.memberships.all()):
        people.put_in(actor, person, wanted)
        changed["groups"] = wanted
    return [f"{name}: changed: {', '.join(changed)}"] if changed else []


def _plain(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith(_TEXT) and text[1:].startswith(_FORMULAS) else text


def _line(fields: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        [_TEXT + each if each.startswith(_FORMULAS) else each for each in fields]
    )
    return line.getvalue()


def _end_of(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r:.40} is no date: write YYYY-MM-DD") from None


def _date(end: datetime | None) -> str:
    """The last day before an end. A deadline that was given in another way ends with that day, then."""
    return "" if end is None else (end.astimezone(UTC) - timedelta(seconds=1)).strftime("%Y-%m-%d")
