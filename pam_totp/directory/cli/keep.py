"""The keeper, as systemd starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory.keeper import server

if TYPE_CHECKING:
    import argparse


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Serve."""
    return server.main()
