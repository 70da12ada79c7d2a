"""The process that asks PAM, as systemd starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_totp.directory import config, pam
from pam_totp.directory.cli import common

if TYPE_CHECKING:
    import argparse


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Serve."""
    common.need_root()
    return pam.main(common.account(config.USER)[0])
