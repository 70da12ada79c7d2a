"""What the portal itself keeps: who has tried how many passwords."""

from __future__ import annotations

from django.db import models


class Tries(models.Model):
    """The ledger of wrong passwords for one name, known or not, or of one network for all names together.

    ``who`` is a keyed hash: what somebody typed as a name may be a password.
    """

    who = models.CharField(max_length=64, unique=True)
    ledger = models.BinaryField()
    latest = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.who
