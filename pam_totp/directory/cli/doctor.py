"""What is wrong with the directory, and what mends it. It changes nothing."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

from pam_totp.directory import config
from pam_totp.directory.cli import common
from pam_totp.directory.keeper import client, keys, state
from pam_totp.errors import PamTotpError
from pam_totp.host import programs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

LATE = timedelta(days=7)
QUIET = timedelta(hours=1)
GIVEN_UP_FOR = timedelta(days=7)
MOST_NAMED = 10


def arguments(_: argparse.ArgumentParser) -> None:
    """None."""


def run(_: argparse.Namespace) -> int:
    """Look at everything; 1 where something is wrong."""
    common.need_root()
    found = list(_files())
    found += _units()
    try:
        common.django()
        for check in CHECKS:
            found += check()
    except PamTotpError as error:
        found.append(str(error))
    for each in found:
        print(f"WRONG: {each}")
    if not found:
        print("nothing is wrong")
    return 1 if found else 0


def _files() -> Iterator[str]:
    """Who may read what."""
    keeper, web = common.account(config.KEEPER)[0], common.account(config.USER)[0]
    for path, owner, most in (
        (config.KEYS, keeper, 0o700),
        (os.path.join(config.KEYS, keys.FILE), keeper, 0o600),
        (os.path.join(config.KEYS, state.FILE), keeper, 0o600),
        (config.STATE, web, 0o750),
        (config.SESSION_KEY, web, 0o600),
        (config.FILE, 0, 0o640),
    ):
        try:
            about = os.stat(path)
        except FileNotFoundError:
            yield f"{path} is missing: restore a backup, or run pam-totp-directory init"
            continue
        if about.st_uid != owner or stat.S_IMODE(about.st_mode) & ~most:
            yield f"{path} is not as it has to be: chown {owner} {path}; chmod {most:o} {path}"


def _units() -> Iterator[str]:
    if os.path.isdir("/run/systemd/system"):
        for unit in common.UNITS:
            said = programs.run("systemctl", "is-active", unit, fail=False).strip()
            if said != "active":
                yield f"{unit} is {said}: look at systemctl status {unit}; then systemctl enable --now {unit}"


def _keeper() -> Iterator[str]:
    from pam_totp.directory.models import State

    said, kept = client.ask("status"), State.objects.get()
    if said["directory"] != keys.load_identity(config.IDENTITY).directory:
        yield "the keeper has another directory's keys: restore a backup, all of it"
    elif said["sequence"] > kept.sequence or said["epoch"] != kept.epoch:
        yield "the database is older than what was signed, and nothing is published: run pam-totp-directory epoch"


def _hosts_of_the_keeper() -> Iterator[str]:
    """Those that have joined at another machine, and that this one's keeper has not heard of."""
    from pam_totp.directory import publish
    from pam_totp.directory.models import Host

    # Without its voucher, the keeper is told nothing that it does not know.
    hosts = dict(Host.objects.filter(revoked=None).values_list("ident", "name"))
    strange = publish.tell_of({"host": ident, "voucher": "", "revoked": False} for ident in hosts)
    if found := sorted(hosts[each] for each in strange):
        yield f"this machine's keeper signs nothing for {_some(found)}: it was {publish.STRANGE}"


def _schema() -> Iterator[str]:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        yield "the database is of an older version: run pam-totp-directory migrate"


def _trail() -> Iterator[str]:
    from pam_totp.directory import audit

    entry = audit.broken()
    if entry is not None:
        yield f"entry {entry.pk} of the audit trail was changed, or one before it was taken out: find out by whom"


def _certificate() -> Iterator[str]:
    from django.utils import timezone

    from pam_totp.directory import certificates

    found, now = config.load(), timezone.now()
    for path in filter(None, (found.certificate, found.authority)):
        with common.back_to_root():
            try:
                end = certificates.ends(common.read(path))
                own = found.authority and certificates.issued(common.read(path), common.read(found.authority))
            except FileNotFoundError:
                yield f"{path} is missing: restore a backup"
                continue
        if path == found.authority:
            soon, mend = (
                certificates.SOON * 12,
                "hosts trust no other one: have them join a directory that was set up anew",
            )
        elif own:
            # It should have been renewed by now.
            soon, mend = certificates.SOON - LATE, "run pam-totp-directory renew, and look at pam-totp-renew.timer"
        else:
            soon, mend = certificates.SOON, "renew it, and systemctl reload pam-totp-directory"
        if end < now + soon:
            yield f"the certificate {path} ends at {common.shown(end)}: {mend}"


def _hosts() -> Iterator[str]:
    from django.db.models import F, Q
    from django.utils import timezone

    from pam_totp.directory import hosts as all_hosts
    from pam_totp.directory.models import Host

    for host in all_hosts.clones():
        yield (
            f"two hosts have the identity of {host}, since {common.shown(host.cloned)}: one was cloned from the other. "
            f"pam-totp-directory host revoke {host.ident}, and on each pam-totp leave, and join anew"
        )
    now = timezone.now()
    hosts = Host.objects.filter(revoked=None)
    behind = hosts.filter(Q(changes__gt=F("done")), joined__lt=now - timedelta(minutes=5))
    quiet = hosts.filter(Q(last_seen=None) | Q(last_seen__lt=now - QUIET))
    for names, what in (
        (behind, "there is something to publish for {}: look at journalctl -u pam-totp-publisher"),
        (quiet, "nothing was heard for an hour of {}: see pam-totp fleet there, or pam-totp-directory host revoke"),
    ):
        found = sorted(names.values_list("name", flat=True))
        if found:
            yield what.format(_some(found))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _mail() -> Iterator[str]:
    """What no mail server takes, and a mail server that does not do."""
    from django.utils import timezone

    from pam_totp.directory import mail
    from pam_totp.directory.models import Letter

    found = config.load()
    if not found.mail.server:
        return
    try:
        with mail.connected(found):
            pass
    except mail.MailError as error:
        yield f"{error}; mails that wait: {mail.waiting()}; when it is mended: pam-totp-directory mail test ADDRESS"
    lately = timezone.now() - GIVEN_UP_FOR
    for letter in Letter.objects.filter(given_up__gt=lately).select_related("person")[:MOST_NAMED]:
        yield f"{letter} was given up ({letter.problem}): correct the address {letter.address}, or tell them yourself"


def _provider() -> Iterator[str]:
    """Looked at as the web process, which reads the secret."""
    from pam_totp.directory import oidc

    found = config.load().oidc
    if found.issuer:
        yield from oidc.provider(found).problems()


def _passwords() -> Iterator[str]:
    """Where the portal's passwords and the people come from."""
    from pam_totp.directory import ldap, pam

    found = config.load()
    if found.ldap.url:
        try:
            ldap.probe(found.ldap)
        except ldap.LdapError as error:
            yield f"LDAP cannot be asked: {error}"
    if found.passwords == "pam":
        try:
            # Nobody's password.
            pam.right(None, "-")
        except pam.PamError as error:
            yield str(error)


CHECKS: tuple[Callable[[], Iterator[str]], ...] = (
    *(_schema, _keeper, _hosts_of_the_keeper, _trail, _certificate),
    *(_provider, _passwords, _hosts, _mail),
)
