"""A user of a machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class User:
    """A user with a home and a password. It serves wherever a user's name is wanted."""

    name: str
    uid: int
    password: str

    def __str__(self) -> str:
        return self.name
