"""The database's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Migrate."""
    common.django()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    return 0
