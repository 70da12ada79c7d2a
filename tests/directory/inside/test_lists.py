"""People as a CSV file: all of it or nothing, what is wrong by its line, and what is written is read again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.conf import settings

from pam_totp.directory import config, lists, people
from pam_totp.directory.models import Audit, Group, Person
from pam_totp.errors import UsageError


def read(text: str, *, dry_run: bool = False) -> list[str]:
    return lists.read(text.encode(), "root", dry_run=dry_run)


def groups_of(name: str) -> list[str]:
    return sorted(Person.objects.get(name=name).memberships.values_list("name", flat=True))


@pytest.fixture(autouse=True)
def _staff() -> None:
    Group.objects.create(name="staff")


def test_people_are_added_with_what_the_columns_say() -> None:
    done = read(
        "name,display,email,groups,deadline\n"
        'alice,"Smith, Alice",alice@example.org,staff everyone,2027-01-31\n'
        "bob,,,,\n"
        "\n"
        "carol,Carol,,staff,\n"
    )
    assert done == ["alice: added", "bob: added", "carol: added"]
    alice = Person.objects.get(name="alice")
    assert (alice.display, alice.email) == ("Smith, Alice", "alice@example.org")
    assert alice.deadline == datetime(2027, 2, 1, tzinfo=UTC)
    assert (groups_of("alice"), groups_of("bob"), groups_of("carol")) == (["everyone", "staff"], [], ["staff"])
    assert [each.role for each in Person.objects.all()] == ["user"] * 3
    assert Audit.objects.filter(actor="root", action="person-added").count() == 3


def test_without_a_column_of_groups_people_are_in_the_group_of_everyone() -> None:
    read("name\nalice\n")
    assert groups_of("alice") == ["everyone"]


def test_who_is_there_is_changed_in_what_the_columns_say_and_nothing_else() -> None:
    people.add("root", "alice", ["staff"], display="Alice", email="a@example.org", role="helpdesk")
    assert read("name,display\nalice,Alice Smith\n") == ["alice: changed: display"]
    alice = Person.objects.get()
    assert (alice.display, alice.email, alice.role, groups_of("alice")) == (
        *("Alice Smith", "a@example.org", "helpdesk"),
        ["staff"],
    )
    assert read("name,groups\nalice,everyone\n") == ["alice: changed: groups"]
    assert groups_of("alice") == ["everyone"]


def test_what_is_written_is_read_again_and_changes_nothing() -> None:
    people.add("root", "alice", ["staff"], display='=HYPERLINK("x"), "A"', email="a@example.org")
    people.add("root", "bob", None, display="'quoted", deadline=datetime(2027, 1, 31, 15, tzinfo=UTC))
    people.add("root", "carol", None, display="-1+1", deadline=datetime(2027, 2, 1, tzinfo=UTC))
    text = "".join(lists.written())
    # A spreadsheet takes none of it for a formula.
    assert not any(field.startswith(("=", "+", "-", "@")) for line in text.splitlines() for field in line.split(","))
    count = Audit.objects.count()
    assert read(text) == []
    assert Audit.objects.count() == count
    before = list(Person.objects.values_list("name", "display", "email"))
    Person.objects.all().delete()
    read(text)
    assert list(Person.objects.values_list("name", "display", "email")) == before
    assert "".join(lists.written()) == text


def test_a_spreadsheets_file_with_semicolons_and_a_mark_at_its_beginning_is_read() -> None:
    assert lists.read("\ufeffName;Email\r\nalice;a@example.org\r\n".encode(), "root", dry_run=False) == ["alice: added"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    assert read("name\nalice\n", dry_run=True) == ["alice: added"]
    assert not Person.objects.exists()
    assert not Audit.objects.exists()


def test_one_line_that_is_wrong_keeps_all_others_out_and_each_is_said() -> None:
    with pytest.raises(UsageError) as refused:
        read(
            "name,email,groups,deadline\n"
            "alice,a@example.org,staff,\n"
            "two words,,,\n"
            "bob,not an address,,\n"
            "carol,,nowhere,\n"
            "dave,,,2027-02-30\n"
            "alice,,,\n"
            "../etc,,,\n"
        )
    said = str(refused.value).splitlines()
    assert said[0] == "nothing was changed:"
    assert [line.strip().partition(":")[0] for line in said[1:]] == [f"line {number}" for number in (3, 4, 5, 6, 7, 8)]
    assert "nowhere" in said[3]
    assert "in line 2 already" in said[5]
    assert not Person.objects.exists()
    assert not Audit.objects.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "line 1 must name the columns"),
        (b"alice\nbob\n", "line 1 must name the columns"),
        (b"name,role\nalice,administrator\n", "'role' is none"),
        (b"name,name\nalice,bob\n", "line 1 must name the columns"),
        (b"name,email\nalice\n", "line 2: there are 1 fields, and 2 columns"),
        (b"name\nalice,bob\n", "line 2: there are 2 fields, and 1 columns"),
        (b'name,display\nalice,"A"b\n', "line 2: "),
        (b'name,display\nalice,"A\n', "line 2: unexpected end"),
        (b"name\nalice\nb\xff\n", "line 3 is not UTF-8"),
        (b"name,display\nalice,a\x00b\n", "line 2: "),
        (b"name,display\nalice," + b"x" * 151 + b"\n", "line 2: "),
        (b"name\n" + b"x" * 200_000 + b"\n", "line 2: "),
    ],
)
def test_a_file_that_is_not_understood_changes_nothing_and_the_line_is_said(text: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        lists.read(text, "root", dry_run=False)
    assert not Person.objects.exists()


def test_who_comes_from_ldap_is_not_described_by_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CONFIG", replace(settings.CONFIG, ldap=config.Ldap(url="ldaps://ldap.example.org")))
    alice = people.add("root", "alice", None, display="Alice")
    alice.source = "ldap"
    alice.save()
    assert read("".join(lists.written())) == []
    with pytest.raises(
        UsageError, match="line 2: alice cannot be changed: display: this comes from ldap: change it there"
    ):
        read("name,display\nalice,Mallory\n")
