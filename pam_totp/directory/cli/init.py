"""Setting a directory up. What is done already is left as it is, so that an interrupted one can be run again."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.directory.keeper import keys, state
from pam_totp.errors import ConfigError, UsageError
from pam_totp.host import clock

if TYPE_CHECKING:
    import argparse

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
AUTHORITY_KEY = f"{config.CONFIGURATION}/ca.key"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its name, and what differs from the usual."""
    parser.add_argument("--name", required=True, help="the DNS name by which hosts and browsers reach it")
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help="default: [::]:443")
    parser.add_argument("--admin", metavar="NAME", help="login name of the first administrator; default: yours")
    parser.add_argument("--certificate", metavar="FILE", help="a TLS certificate of another CA, in PEM")
    parser.add_argument("--certificate-key", metavar="FILE", help="its private key")


def run(arguments: argparse.Namespace) -> int:
    """Set up."""
    common.need_root()
    os.umask(0o077)
    found = _configuration(arguments)
    _keys()
    _certificate(found)
    common.places()
    common.django()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    with common.back_to_root():
        started = common.systemctl("enable", "--now", *common.UNITS)
        if started:
            # What ran before knew nothing of this.
            common.systemctl("restart", *common.UNITS)
    _administrator(arguments.admin or os.environ.get("SUDO_USER") or "admin", found)
    if not started:
        print("\nsystemd does not run here, so nothing was started: start " + ", ".join(common.UNITS))
    return 0


def _configuration(arguments: argparse.Namespace) -> config.Config:
    if not _NAME.fullmatch(arguments.name):
        raise UsageError(f"{arguments.name!r} is no DNS name: give the one by which hosts reach this machine")
    if (arguments.certificate is None) != (arguments.certificate_key is None):
        raise UsageError("--certificate and --certificate-key belong together: give both")
    if os.path.exists(config.FILE):
        found = config.load()
        if found.name != arguments.name:
            raise ConfigError(f"this is the directory {found.name} already: its settings are in {config.FILE}")
        return found
    content: dict[str, object] = {"name": arguments.name}
    if arguments.listen:
        content["listen"] = arguments.listen
    if arguments.certificate:
        content |= {"certificate": arguments.certificate, "certificate_key": arguments.certificate_key, "authority": ""}
    found = config.of(content)
    gid = common.account(config.USER)[1]
    os.makedirs(config.CONFIGURATION, mode=0o755, exist_ok=True)
    os.chmod(config.CONFIGURATION, 0o755)  # noqa: S103  # like any directory below /etc
    common.write(config.FILE, config.text(found).encode(), 0o640, 0, gid)
    return found


def _keys() -> None:
    path = os.path.join(config.KEYS, keys.FILE)
    uid, gid = common.account(config.KEEPER)
    if not os.path.exists(path):
        if os.path.exists(config.IDENTITY):
            raise ConfigError(f"{path} is lost, and {config.IDENTITY} is there: restore a backup")
        os.makedirs(config.KEYS, mode=0o700, exist_ok=True)
        os.chown(config.KEYS, uid, gid)
        common.write(path, keys.keys_text(keys.new()), 0o600, uid, gid)
    # Now, and not with the keeper's first request: a backup can be made at once.
    database = os.path.join(config.KEYS, state.FILE)
    with common.as_user(config.KEEPER):
        if not os.path.exists(database):
            state.State(database)
            os.chmod(database, 0o600)
    common.write(config.IDENTITY, keys.identity_text(keys.identity_of(keys.load_keys(path))), 0o644, 0, 0)


def _certificate(found: config.Config) -> None:
    from pam_totp.directory import certificates

    gid = common.account(config.USER)[1]
    if not found.authority:
        for path in (found.certificate, found.certificate_key):
            if not os.path.exists(path):
                raise ConfigError(f"{path} is missing: name the certificate and its key in {config.FILE}")
        return
    now = datetime.fromtimestamp(clock.now().wall, UTC)
    if not os.path.exists(AUTHORITY_KEY):
        authority, key = certificates.authority(found.name, now)
        common.write(found.authority, authority, 0o644, 0, 0)
        common.write(AUTHORITY_KEY, key, 0o600, 0, 0)
    if not os.path.exists(found.certificate_key) or not os.path.exists(found.certificate):
        certificate, key = certificates.server(
            found.name, common.read(found.authority), common.read(AUTHORITY_KEY), now
        )
        common.write(found.certificate, certificate, 0o644, 0, 0)
        common.write(found.certificate_key, key, 0o640, 0, gid)


def _administrator(name: str, found: config.Config) -> None:
    from pam_totp.directory import people
    from pam_totp.directory.models import Person

    print(f"\nThe directory is at {found.url}")
    if Person.objects.filter(role=Person.Role.ADMINISTRATOR, authenticators__state="active").exists():
        print("It has an administrator already.")
        return
    person = Person.objects.filter(name=name).first()
    if person is None:
        # Root of every host is nobody's to enrol by the way.
        groups: list[str] | None = [] if name == "root" else None
        person = people.add(common.ACTOR, name, groups, role=Person.Role.ADMINISTRATOR)
    elif person.role != Person.Role.ADMINISTRATOR:
        people.set_fields(common.ACTOR, person, role=Person.Role.ADMINISTRATOR)
    print(f"\nThe first administrator, {name}, enrols with this link, once, within {people.INVITATION_DAYS} days:\n")
    print(f"  {people.link(people.invite(common.ACTOR, person), found.url)}\n")
    if found.authority:
        print(f"Browsers trust it when they know its CA: {found.authority}")
    print("Then: pam-totp-directory user add NAME, and pam-totp-directory token new for each host.")
