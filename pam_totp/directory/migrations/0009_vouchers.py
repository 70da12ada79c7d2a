"""What a keeper says to other keepers with the same keys."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Kept with what it is about."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("directory", "0008_editions")]
    operations: ClassVar[list[migrations.operations.base.Operation]] = [
        migrations.AddField("host", "voucher", models.BinaryField(default=bytes, editable=False)),
        migrations.AddField("state", "voucher", models.BinaryField(default=bytes, editable=False)),
    ]
