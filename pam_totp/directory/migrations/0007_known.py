"""Whose secrets a host has had."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """A table of its own."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0006_sources")]
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.CreateModel(
            name="Known",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("until", models.DateTimeField()),
                (
                    "host",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="known", to="directory.host"
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="known", to="directory.person"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="known", constraint=models.UniqueConstraint(fields=("host", "person"), name="known_once")
        ),
    ]
