"""What the schema itself holds."""

from __future__ import annotations

import fcntl
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, OperationalError, connection, transaction

from pam_totp.directory.models import Access, Authenticator, Claim, Group, HostGroup, Person
from pam_totp.directory.sqlite.base import DatabaseWrapper

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_the_migrations_make_the_models() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "-a", "a:b", "a\n", "ä", "a" * 65])
def test_a_name_that_no_host_should_see_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Person.objects.create_user(name)


def test_a_person_without_a_password_logs_in_with_none() -> None:
    person = Person.objects.create_user("alice")
    assert not person.has_usable_password()
    assert not person.check_password("")


def test_a_password_is_hashed_with_argon2() -> None:
    person = Person.objects.create_user("alice", "correct horse battery")
    assert person.password.startswith("argon2$argon2id$")
    assert person.check_password("correct horse battery")


def test_a_claim_is_there_once() -> None:
    Claim.objects.create(authenticator="a" * 32, step=7, login="b" * 32)
    with pytest.raises(IntegrityError), transaction.atomic():
        Claim.objects.create(authenticator="a" * 32, step=7, login="c" * 32)
    Claim.objects.create(authenticator="a" * 32, step=8, login="c" * 32)


def test_a_group_has_access_to_a_host_group_once() -> None:
    pair = {"group": Group.objects.create(name="staff"), "host_group": HostGroup.objects.create(name="web")}
    Access.objects.create(**pair)
    with pytest.raises(IntegrityError), transaction.atomic():
        Access.objects.create(**pair)


def test_the_states_of_an_enrolment() -> None:
    person = Person.objects.create_user("alice")
    states = [person.state_at(NOW)]
    person.deadline = NOW + timedelta(days=7)
    states += [person.state_at(NOW), person.state_at(NOW + timedelta(days=7))]
    authenticator = Authenticator.objects.create(person=person, secret=b"sealed")
    states.append(person.state_at(NOW))
    authenticator.state = Authenticator.State.ACTIVE
    authenticator.save()
    states.append(person.state_at(NOW))
    person.exempt_until = NOW + timedelta(days=1)
    states.append(person.state_at(NOW))
    assert states == [
        Person.State.NOT_ENROLLED,
        Person.State.IN_ENROLLMENT,
        Person.State.ENROLLMENT_EXPIRED,
        Person.State.IN_ENROLLMENT,
        Person.State.ENROLLED,
        Person.State.EXEMPT,
    ]


@pytest.mark.parametrize(
    ("role", "looks", "changes"),
    [("user", False, False), ("auditor", True, False), ("helpdesk", True, False), ("administrator", True, True)],
)
def test_what_a_role_may_do(role: str, looks: bool, changes: bool) -> None:
    person = Person.objects.create_user("alice", role=role)
    assert (person.is_staff, person.has_perm("directory.view_host")) == (looks, looks)
    assert person.has_perm("directory.change_host") == changes
    person.locked = True
    assert not person.is_staff
    assert not person.has_perm("directory.view_host")


def test_who_comes_to_write_waits_for_those_who_wait_already(tmp_path: Path) -> None:
    settings = {**connection.settings_dict, "NAME": str(tmp_path / "directory.db"), "OPTIONS": {"timeout": 20}}
    with open(f"{settings['NAME']}.turn", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = threading.Event()

        def write() -> None:
            own = DatabaseWrapper(settings)
            with own.cursor() as cursor:
                own._start_transaction_under_autocommit()  # what Django calls
                cursor.execute("ROLLBACK")
            began.set()
            own.close()

        thread = threading.Thread(target=write)
        thread.start()
        assert not began.wait(0.2)
    thread.join(10)
    assert began.is_set()


def test_who_comes_to_write_waits_for_who_writes_and_not_for_ever(tmp_path: Path) -> None:
    settings = {**connection.settings_dict, "NAME": str(tmp_path / "directory.db"), "OPTIONS": {"timeout": 0.3}}
    one, other = DatabaseWrapper(settings), DatabaseWrapper({**settings, "OPTIONS": {"timeout": 60}})
    one.inc_thread_sharing()
    for each in (one, other):
        each.ensure_connection()
    other._start_transaction_under_autocommit()  # what Django calls
    with pytest.raises(OperationalError, match="locked"):
        one._start_transaction_under_autocommit()
    began = threading.Event()

    def write() -> None:
        one.settings_dict["OPTIONS"]["timeout"] = 60
        one._start_transaction_under_autocommit()
        began.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not began.wait(0.2)
    other.connection.execute("ROLLBACK")
    thread.join(60)
    assert began.is_set()
    # Statements of their own wait as long as before.
    assert one.connection.execute("PRAGMA busy_timeout").fetchone() == (60_000,)
    one.close()
    other.close()
