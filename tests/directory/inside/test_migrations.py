"""A database of each earlier state of the schema, with something in every table, comes up to date with nothing lost.

What is tried is read from the migrations themselves: a new one, a new table and a new column come along by themselves.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connections, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.utils import load_backend

from pam_totp.directory import audit, hosts, people
from pam_totp.directory.models import Audit, State, hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPS = ("directory", "portal")
ROWS = 3
TIME = datetime(2026, 11, 3, 12, 30, 59, 123000, tzinfo=UTC)
# What is in the tree, and what that was made of: a migration may have all of it be made anew, and tells hosts so.
MADE_ANEW = {"directory.published", "directory.edition"}
GROWS = {("directory.host", "changes")}
GRAPH = MigrationLoader(None).graph
[LATEST] = GRAPH.leaf_nodes("directory")
EARLIER = [name for app, name in GRAPH.forwards_plan(LATEST) if app == "directory"]

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _database() -> None:
    """Not the one of the other tests, which is up to date."""


@pytest.fixture
def empty(tmp_path: Path, django_db_blocker: Any) -> Iterator[None]:
    """An empty database in the place of the directory's, on the same kind of server."""
    with django_db_blocker.unblock():
        usual = connections["default"]
        name = str(tmp_path / "old.db")
        if usual.vendor == "postgresql":
            name = "old"
            with usual.cursor() as cursor:
                cursor.execute("DROP DATABASE IF EXISTS old")
                cursor.execute("CREATE DATABASE old")
        made = load_backend(str(settings.DATABASES["default"]["ENGINE"])).DatabaseWrapper(
            {**usual.settings_dict, "NAME": name}, "default"
        )
        connections["default"] = made
        try:
            yield
        finally:
            made.close()
            connections["default"] = usual


def at(name: str) -> Any:
    """Bring the database to an earlier state; its models as they were."""
    plan = set(GRAPH.forwards_plan(("directory", name)))
    # The portal's, as far as they need nothing later.
    others = [
        leaf
        for leaf in GRAPH.leaf_nodes("portal")
        if {each for each in GRAPH.forwards_plan(leaf) if each[0] == "directory"} <= plan
    ]
    return MigrationExecutor(connections["default"]).migrate([("directory", name), *others]).apps


def models_of(apps: Any) -> list[Any]:
    """The models of ours, what is pointed at first."""
    waiting = [each for each in apps.get_models(include_auto_created=True) if each._meta.app_label in APPS]
    done: list[Any] = []
    while waiting:
        ready = [
            each for each in waiting if {to._meta.label for to in pointed(each)} <= {it._meta.label for it in done}
        ]
        assert ready, waiting
        done += ready
        waiting = [each for each in waiting if each not in ready]
    return done


def pointed(model: Any) -> list[Any]:
    return [each.related_model for each in model._meta.concrete_fields if each.is_relation]


def fill(apps: Any) -> None:
    """Put rows into every table."""
    made: dict[str, list[Any]] = {}
    for model in models_of(apps):
        label = model._meta.label_lower
        if label == "directory.state":
            # One row, which a migration makes; the counters of a directory that has been at work.
            model.objects.update(epoch=3, sequence=77)
        elif label == "directory.audit":
            trail(model)
        else:
            fields = [each for each in model._meta.concrete_fields if not each.primary_key]
            values = [{each.attname: value(each, number, made) for each in fields} for number in range(ROWS)]
            made[label] = [model.objects.create(**each) for each in values]


def value(field: Any, number: int, made: dict[str, list[Any]]) -> Any:
    """Something for a field: another one in each row."""
    if field.is_relation:
        # Of the last row nothing more is known than has to be.
        return None if field.null and number == ROWS - 1 else made[field.related_model._meta.label_lower][number].pk
    if field.choices:
        return field.choices[number % len(field.choices)][0]
    text = f"{field.name}{number}"
    if field.name == "token_hash":
        text = hash_of(f"{field.model._meta.model_name}{number}")
    kinds: list[tuple[type[models.Field[Any, Any]], Any]] = [
        (models.BooleanField, number == 0),
        (models.DateTimeField, TIME + timedelta(days=number)),
        (models.GenericIPAddressField, f"192.0.2.{number}"),
        (models.EmailField, f"{text}@example.org"),
        (models.JSONField, [text, "Ä"] if field.default is list else {text: ["Ä", number, None]}),
        (models.BinaryField, bytes(range(number, number + 32))),
        (models.IntegerField, 1000 + number),
        (models.CharField, text[: field.max_length]),
    ]
    return next(found for kind, found in kinds if isinstance(field, kind))


def trail(model: Any) -> None:
    """An audit trail, as pam_totp.directory.audit makes it."""
    previous = audit.START
    for number in range(ROWS):
        detail = {"fields": ["Ä", number]}
        fields = {"time": TIME, "actor": "root", "action": f"a{number}", "target": "Ä", "detail": detail}
        entry = model(**fields, previous=previous)
        entry.hash = previous = Audit(**fields, previous=previous).computed()
        entry.save()


def rows(apps: Any) -> Rows:
    """Everything that there is."""
    return {each._meta.label_lower: list(each.objects.order_by("pk").values()) for each in models_of(apps)}


def lost(before: Rows, after: Rows) -> list[str]:
    """What is not there any more as it was, but for columns and tables that a migration has taken away."""
    found = []
    for label, some in before.items():
        if label in MADE_ANEW or label not in after:
            continue
        kept = {each["id"]: each for each in after[label]}
        for row in some:
            now = kept.get(row["id"])
            if now is None:
                found.append(f"{label} {row['id']}")
                continue
            for name in row.keys() & now.keys():
                grown = (label, name) in GROWS and now[name] >= row[name]
                if now[name] != row[name] and not grown:
                    found.append(f"{label} {row['id']}: {name} was {row[name]!r}, and is {now[name]!r}")
    return found


def latest() -> Any:
    """The models as the latest migration leaves them."""
    return MigrationLoader(connections["default"]).project_state([LATEST, *GRAPH.leaf_nodes("portal")]).apps


@pytest.mark.parametrize("name", EARLIER)
def test_a_database_of_an_earlier_state_comes_up_to_date_with_nothing_lost(empty: None, name: str) -> None:
    apps = at(name)
    fill(apps)
    before = rows(apps)
    assert {"directory.person", "directory.host", "directory.authenticator", "directory.event"} <= before.keys()
    assert all(some for label, some in before.items() if label != "directory.state" or name > "0002")
    call_command("migrate", interactive=False, verbosity=0)
    after = rows(latest())
    assert lost(before, after) == []
    # No table, and no column, went away unsaid.
    gone = {label: some[0].keys() - after[label][0].keys() for label, some in before.items() if some and after[label]}
    assert {label for label, columns in gone.items() if columns} <= MADE_ANEW
    # And the directory goes on with it.
    assert audit.broken() is None
    with pytest.raises(DatabaseError, match="append-only"):
        Audit.objects.filter(action="a1").update(target="eve")
    assert [people.find(f"name{number}").name for number in range(ROWS)] == ["name0", "name1", "name2"]
    host = before["directory.host"][ROWS - 1]
    found = hosts.with_bearer(f"host{ROWS - 1}")
    assert (found.ident if found else "", host["revoked"] is None) in ((host["ident"], True), ("", False))
    assert State.objects.get().pk == 1
    people.lock("root", people.find("name0"), locked=True)
    assert people.find("name0").locked
    assert audit.broken() is None
    assert Audit.objects.count() == ROWS + 1


def test_what_a_migration_would_lose_is_seen(empty: None) -> None:
    """The test of the test."""
    apps = at(LATEST[1])
    fill(apps)
    before = rows(apps)
    apps.get_model("directory", "Person").objects.filter(name="name1").update(email="")
    apps.get_model("directory", "Event").objects.filter(kind="kind2").delete()
    [address, event] = lost(before, rows(apps))
    assert "email was 'email1@example.org', and is ''" in address
    assert event.startswith("directory.event ")


def test_each_of_the_directory_s_migrations_follows_one_other() -> None:
    """So that each state is one that there was."""
    assert sorted(name for app, name in GRAPH.nodes if app == "directory") == EARLIER
    assert len(EARLIER) >= 7
