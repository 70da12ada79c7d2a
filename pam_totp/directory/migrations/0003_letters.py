"""Mails that wait, were sent, or were given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

if TYPE_CHECKING:
    from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    """The table of letters."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0002_rows")]

    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name="Letter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("invitation", "invitation"), ("reminder", "reminder"), ("notice", "notice")],
                        max_length=16,
                    ),
                ),
                ("once", models.CharField(max_length=64, null=True)),
                ("address", models.EmailField(max_length=254)),
                ("detail", models.JSONField(default=dict)),
                ("created", models.DateTimeField()),
                ("due", models.DateTimeField(db_index=True)),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("sent", models.DateTimeField(null=True)),
                ("given_up", models.DateTimeField(null=True)),
                ("problem", models.CharField(blank=True, max_length=200)),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="letters",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"ordering": ["created", "id"]},
        ),
        migrations.AddConstraint(
            model_name="letter",
            constraint=models.UniqueConstraint(fields=("person", "once"), name="letter_once"),
        ),
    ]
