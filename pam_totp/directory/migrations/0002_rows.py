"""The one row of counters, the groups that everything is in at first, and an audit trail that only grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import migrations

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import StateApps

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
_FUNCTION = "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
_TRIGGER = "BEFORE UPDATE OR DELETE ON directory_audit FOR EACH ROW EXECUTE FUNCTION directory_audit_guard()"
_GUARDS = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS audit_update BEFORE UPDATE ON directory_audit {_REFUSE}",
        f"CREATE TRIGGER IF NOT EXISTS audit_delete BEFORE DELETE ON directory_audit {_REFUSE}",
    ],
    "postgresql": [
        f"CREATE OR REPLACE FUNCTION directory_audit_guard() RETURNS trigger LANGUAGE plpgsql AS {_FUNCTION}",
        f"CREATE OR REPLACE TRIGGER audit_guard {_TRIGGER}",
    ],
}


def rows(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Everybody in one group may use the hosts of another: enough for a small fleet, and a beginning for a large one."""
    names = {"State", "Group", "HostGroup", "Access", "Policy"}
    models = {name: apps.get_model("directory", name) for name in names}
    models["State"].objects.create(id=1)
    group = models["Group"].objects.create(name="everyone")
    host_group = models["HostGroup"].objects.create(name="hosts")
    models["Access"].objects.create(group=group, host_group=host_group)
    models["Policy"].objects.create(host_group=host_group)
    for statement in _GUARDS[editor.connection.vendor]:
        editor.execute(statement)


class Migration(migrations.Migration):
    """Rows and triggers."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0001_initial")]

    operations: ClassVar[list[migrations.RunPython]] = [migrations.RunPython(rows, migrations.RunPython.noop)]
