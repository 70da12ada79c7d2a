"""Join the fleet of a directory: users enrol once there, and are asked for the same codes here.

A one-time token of the directory is read from the terminal, or from standard input. It names the directory's key and
its CA, which are pinned. Logins go on meanwhile, and without the directory too.
"""

from __future__ import annotations

import getpass
import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common
from pam_totp.errors import FleetError, PamTotpError, UsageError
from pam_totp.fleet import agent, membership, sync, tree, upload
from pam_totp.fleet import identity as identities
from pam_totp.host import config as configuration
from pam_totp.host import systemd
from pam_totp.host.clock import now, pause

_TRIES = 10
UNIT = "pam-totp-agent.service"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """URL [--name NAME]."""
    parser.add_argument("url", metavar="URL", help="the directory's address, like https://dir.example.org")
    parser.add_argument("--name", metavar="NAME", help="the name that this host joins under (default: its own)")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Join, take what is published, and start the agent; 3 where the first manifest did not come."""
    token = tree.parse_token(_token())
    moment = now()
    identity = membership.join(paths, arguments.url, token, arguments.name or membership.host_name(), moment)
    common.note("join", f"directory {identity.directory} host {identity.host}")
    print(f"joined as {identity.name}, host {identity.host}")
    problem = _first(paths)
    if systemd.running():
        systemd.enable(UNIT)
    else:
        print(f"systemd is not running here: start the agent yourself (see {UNIT})")
    for line in _laxer(paths):
        print(line)
    with Accounts(paths) as accounts:
        count = len(upload.plan(accounts).ready)
    if count:
        print(f"enrolled on this host and not in the directory: {count}; pam-totp upload hands them up")
    if problem:
        print(f"pam-totp: what the directory publishes for this host has not come yet: {problem}", file=sys.stderr)
        return 3
    return 0


def _token() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Join token: ")
    return common.secret_file("-", tree.TOKEN_LIMIT).decode("ascii", "replace")


def _first(paths: Paths) -> str:
    """Take what is published; what was in the way, or nothing."""
    try:
        with Accounts(paths) as accounts:
            identity = identities.require(accounts)
        source = agent.source_of(identity)
        for _ in range(_TRIES):
            try:
                result = sync.run(paths, source, now(), agent.window_of(paths))
                break
            except FleetError as error:
                if error.reason != "fleet-unpublished":
                    raise
                pause(1)  # it was made known to the directory just now
        else:
            result = sync.run(paths, source, now(), agent.window_of(paths))
    except PamTotpError as error:
        agent.note(paths, now(), error, None)
        return str(error)
    agent.note(paths, now(), None, result)
    agent.log_result(result)
    count = len(result.merged)
    print(f"{count} user{'' if count == 1 else 's'} of the directory{_waiting(paths)}")
    return "; ".join(result.problems)


def _waiting(paths: Paths) -> str:
    with Accounts(paths) as accounts:
        count = len(accounts.unbound())
    return f"; {count} of them are not known to this host's name service yet" if count else ""


def _laxer(paths: Paths) -> list[str]:
    """What of the host's own configuration counts no more."""
    try:
        config = configuration.load(paths.config, paths.owner)
    except PamTotpError:
        return []
    numbers = [str(rule.number) for rule in config.rules if rule.mfa == "skip"]
    found = []
    if numbers:
        found.append(
            f"rules that skip the code (number {', '.join(numbers)}) count only while the directory has no policy"
        )
    if config.remember or any(rule.remember for rule in config.rules):
        found.append("clients are remembered only while the directory has no policy")
    return found


def require_joined(paths: Paths) -> None:
    """Make sure that this host has joined. Raises UsageError."""
    with Accounts(paths) as accounts:
        if not accounts.configured.joined:
            raise UsageError("this host has joined no fleet: pam-totp join URL")
