"""Renewing the TLS certificate by the directory's own CA. A timer does it every day; another CA's is left alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.directory.cli.init import AUTHORITY_KEY
from pam_totp.host import clock

if TYPE_CHECKING:
    import argparse


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Renew it where it ends soon."""
    common.need_root()
    from pam_totp.directory import certificates

    found = config.load()
    now = datetime.fromtimestamp(clock.now().wall, UTC)
    present = common.read(found.certificate)
    end = common.shown(certificates.ends(present))
    if not found.authority or not certificates.issued(present, common.read(found.authority)):
        print(f"{found.certificate} is of another CA, and left alone; it ends at {end}")
        return 0
    if certificates.ends(present) - now > certificates.SOON:
        print(f"{found.certificate} is good until {end}")
        return 0
    # With the key that there is, so that one file is replaced in one step: a certificate beside another one's key would
    # keep the web process from starting.
    key = common.read(found.certificate_key)
    renewed, _key = certificates.server(found.name, common.read(found.authority), common.read(AUTHORITY_KEY), now, key)
    common.write(found.certificate, renewed, 0o644, 0, 0)
    # Processes that run answer what they have begun; new ones have the new certificate. Sessions are in the database.
    common.systemctl("reload", "pam-totp-directory.service")
    print(f"{found.certificate} is renewed, and good until {common.shown(certificates.ends(renewed))}")
    return 0
