"""The web process, as systemd starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory import config

if TYPE_CHECKING:
    import argparse


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Serve."""
    found = config.load()
    from pam_totp.directory.serve import Web

    Web(found).run()
    return 0
