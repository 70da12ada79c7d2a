"""What hosts were published for with, so that only what differs is published.

All hosts are published for once anew after it, since what they have is of no edition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import django.db.models.deletion
from django.db import migrations, models

if TYPE_CHECKING:
    from django.apps.registry import Apps
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def anew(apps: Apps, _: BaseDatabaseSchemaEditor) -> None:
    """Have every host published for."""
    apps.get_model("directory", "Published").objects.filter(person=None).delete()
    apps.get_model("directory", "Host").objects.update(changes=models.F("changes") + 1)


class Migration(migrations.Migration):
    """A table of its own, and what it takes the place of."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0007_known")]
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="Edition",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("digests", models.JSONField()),
            ],
        ),
        migrations.AddField(
            model_name="host",
            name="edition",
            field=models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="hosts",
                to="directory.edition",
            ),
        ),
        migrations.RunPython(anew, migrations.RunPython.noop),
        migrations.RemoveConstraint(model_name="published", name="published_policy_once"),
        migrations.RemoveField(model_name="published", name="digest"),
        migrations.AlterField(
            model_name="published",
            name="person",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="published",
                to="directory.person",
            ),
        ),
        migrations.AlterField(
            model_name="published",
            name="host",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="published",
                to="directory.host",
            ),
        ),
    ]
