"""By what a cloned host is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.db import migrations, models

if TYPE_CHECKING:
    from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    """The ends of a host's line."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0003_letters")]

    operations: ClassVar[list[Operation]] = [
        migrations.AddField(
            model_name="host",
            name="line",
            field=models.CharField(blank=True, default="", editable=False, max_length=32),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="host",
            name="ends",
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.AddField(
            model_name="host",
            name="line_address",
            field=models.GenericIPAddressField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="host",
            name="cloned",
            field=models.DateTimeField(editable=False, help_text="since when two hosts have this identity", null=True),
        ),
    ]
