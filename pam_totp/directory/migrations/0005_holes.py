"""An event is of its host, an invitation for a role; break-glass users are names."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import migrations, models

import pam_totp.directory.models

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.operations.base import Operation
    from django.db.migrations.state import StateApps


def roles(apps: StateApps, _: BaseDatabaseSchemaEditor) -> None:
    """Links that are out already stay good."""
    for each in apps.get_model("directory", "Invitation").objects.select_related("person"):
        each.role = each.person.role
        each.save(update_fields=["role"])


class Migration(migrations.Migration):
    """Three fields."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0004_lines")]

    operations: ClassVar[list[Operation]] = [
        migrations.AlterField("event", "ident", models.CharField(max_length=32)),
        migrations.AddConstraint("event", models.UniqueConstraint(fields=["host", "ident"], name="event_once")),
        migrations.AddField("invitation", "role", models.CharField(default="user", editable=False, max_length=16)),
        migrations.AlterField(
            "policy",
            "break_glass",
            models.JSONField(
                blank=True,
                default=list,
                help_text="login names, as a JSON list",
                validators=[pam_totp.directory.models.names],
            ),
        ),
        migrations.RunPython(roles, migrations.RunPython.noop),
    ]
