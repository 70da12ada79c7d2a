"""Hand up to the directory who was enrolled on this host before it joined: the same codes are good in the whole fleet.

Whom the directory does not know, or has enrolled already, stays enrolled on this host as before. Recovery codes of this
host stay its own.
"""

from __future__ import annotations

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common, join
from pam_totp.errors import FleetError
from pam_totp.fleet import identity as identities
from pam_totp.fleet import upload, web
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[--yes]."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Hand them up; 1 where somebody stays this host's own."""
    join.require_joined(paths)
    with Accounts(paths) as accounts:
        identity = identities.require(accounts)
        if identities.last(accounts) is None:
            raise FleetError("nothing has come of the directory yet: pam-totp sync", "fleet-unpublished")
        found = upload.plan(accounts)
    for name, reason in found.left:
        print(f"{name} stays this host's own: {reason}")
    if not found.ready:
        print("there is nobody to hand up")
        return 1 if found.left else 0
    print(f"to be handed up to {identity.url}, whose keeper then has their keys:")
    for one in found.ready:
        print(f"  {one.name} ({one.labels})")
    if not arguments.yes and not common.sure("Hand them up? [y/N] "):
        print("nothing changed")
        return 1
    server = web.Web(identity.url, identity.ca, identity.token)
    left = len(found.left)
    try:
        for one in found.ready:
            why = upload.hand_up(server, identity, one, now())
            left += bool(why)
            for label, reason in why.items():
                print(f"{one.name} ({label}) stays this host's own: {reason}")
            if len(why) < len(one.authenticators):
                common.note("upload", one.labels, user=one.name)
                print(f"{one.name} is handed up")
    finally:
        server.close()
    print("What was handed up is the fleet's within half a minute: see pam-totp status")
    return 1 if left else 0
