"""Take what the directory publishes for this host, once; or the same from a directory or a tar file, as on a USB stick.

A host that no network reaches is kept so: copy its folder of the directory's tree, which is signed and sealed to it.
"""

from __future__ import annotations

import os
import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import join
from pam_totp.errors import PamTotpError
from pam_totp.fleet import agent, sources, sync, web
from pam_totp.fleet import identity as identities
from pam_totp.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.fleet.identity import Identity
    from pam_totp.fleet.sources import Source
    from pam_totp.fleet.sync import Result
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """[FROM]."""
    parser.add_argument(
        "source", metavar="FROM", nargs="?", help="a directory, a tar file, or an https address (default: the fleet's)"
    )


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make one pass; 1 where something has to wait for another one."""
    join.require_joined(paths)
    with Accounts(paths) as accounts:
        identity = identities.require(accounts)
    source = _source(arguments.source, identity)
    moment = now()
    try:
        result = sync.run(paths, source, moment, agent.window_of(paths))
    except PamTotpError as error:
        if arguments.source is None:
            agent.note(paths, moment, error, None)
        raise
    finally:
        source.close()
    agent.note(paths, moment, None, result)
    agent.log_result(result)
    print(_told(result))
    for problem in result.problems:
        print(f"pam-totp: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


def _source(where: str | None, identity: Identity) -> Source:
    if where is None:
        return agent.source_of(identity)
    if where.startswith("https://"):
        # Whoever carries the tree is not shown the token.
        path = "" if where.rstrip("/").endswith(f"/{identity.host}") else f"/{identity.host}"
        return sources.WebTree(web.Web(where, ""), path)
    if os.path.isdir(where):
        return sources.FolderTree(where, identity.host)
    return sources.TarTree(where, identity.host)


def _told(result: Result) -> str:
    if result.order is None or result.last is None:
        bound = f"; now known to the name service: {', '.join(result.bound)}" if result.bound else ""
        return f"nothing new{bound}"
    epoch = f" (epoch {result.last.epoch} begins)" if result.order == "epoch" else ""
    changes = f"{len(result.merged)} users merged, {len(result.revoked)} revoked"
    return f"manifest {result.last.sequence} is in force{epoch}: {changes}"
