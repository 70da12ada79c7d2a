"""Where people and groups come from, and whether it was the synchronisation that has locked somebody."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Columns with a default: what there is, is local."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0005_holes")]
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.AddField("person", "entry", models.CharField(blank=True, editable=False, max_length=64, default="")),
        migrations.AddField(
            "person", "locked_by", models.CharField(blank=True, editable=False, max_length=16, default="")
        ),
        migrations.AddField(
            "person",
            "uid_number",
            models.PositiveBigIntegerField("uid number", null=True, blank=True, editable=False),
        ),
        migrations.AddField("group", "source", models.CharField(default="local", editable=False, max_length=16)),
    ]
