"""Show who is enrolled, in which state, and what is wrong with the cache.

Without users: everybody who has a record; with --all, everybody who can log in over SSH, too.
"""

from __future__ import annotations

import json
import os
import sys

from pam_totp.cache import summary
from pam_totp.cache.accounts import Account
from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import common
from pam_totp.errors import CacheError, ConfigError, NameServiceError, UsageError
from pam_totp.host import config as configuration
from pam_totp.host import users
from pam_totp.host.clock import now
from pam_totp.login import coverage
from pam_totp.login.attempt import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths
    from pam_totp.login.coverage import Standing

_REFUSALS = 5
_LOGINS = {
    "ask": "code",
    "ask-recovery": "recovery code",
    "skip": "no code ({reason})",
    "enroll": "enrols",
    "invite": "enrols, invited",
    "refuse": "refused ({reason})",
}
_HEAD = ("USER", "STATE", "AUTHENTICATORS", "ENROLLED (UTC)", "LAST LOGIN (UTC)", "FAILURES", "WAIT")


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER ...] [--all | --missing] [--json]."""
    parser.add_argument("users", metavar="USER", nargs="*", help="only these, with their latest refusals")
    parser.add_argument("--all", action="store_true", help="also who can log in over SSH and has no record")
    parser.add_argument("--missing", action="store_true", help="only who can log in over SSH and is not enrolled")
    parser.add_argument("--json", action="store_true", help="print one JSON document: a list of objects")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show; 3 where the cache is damaged, or the configuration is not understood and so refuses everybody."""
    if arguments.all + arguments.missing + bool(arguments.users) > 1:
        raise UsageError("give USERs, or --all, or --missing")
    if arguments.all or arguments.missing:
        return _everybody(arguments, paths)
    moment = now()
    window, problem = _configured(paths)
    with Upkeep(paths) as accounts:
        accounts.check_key()
        if not problem:
            problem = _missed(accounts, paths)
        if arguments.users:
            found = [common.account_of(accounts, name) for name in arguments.users]
            problems = []
        else:
            found = [each for each in accounts.all() if isinstance(each, Account)]
            problems = accounts.damage()
        if arguments.json:
            print(json.dumps([summary.fields(account, moment, window) for account in found], indent=2))
        elif found or not problems:
            _table(found, moment, window)
            for name in dict.fromkeys(account.name for account in found if arguments.users):
                _refusals(accounts, name)
    for each in problems:
        print(f"pam-totp: damaged: {each}", file=sys.stderr)
    if problem:
        print(f"pam-totp: every login is refused: {problem}", file=sys.stderr)
    common.caution(paths)
    return 3 if problems or problem else 0


def _everybody(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show everybody who can log in over SSH, or who of them is not enrolled; and all records, or none."""
    moment, config = now(), configuration.load(paths.config, paths.owner)
    with Upkeep(paths) as accounts:
        accounts.check_key()
        accounts.configured.require(config.found, paths.config)
        able = coverage.everybody(accounts, config, paths, moment)
        shown: list[tuple[Account, Standing | None]]
        shown = [(each.account, each) for each in able if each.missing or arguments.all]
        if arguments.all:
            names = {each.account.name for each in able}
            others = [each for each in accounts.all() if isinstance(each, Account) and each.name not in names]
            shown = sorted([*shown, *((each, None) for each in others)], key=lambda each: each[0].name)
        problems = accounts.damage()
    if arguments.json:
        objects = [
            summary.fields(account, moment, config.window) | _outlook(account, standing, moment)
            for account, standing in shown
        ]
        print(json.dumps(objects, indent=2))
    else:
        if shown:
            rows = []
            for account, standing in shown:
                name, _, *more = _row(account, moment, config.window)
                outlook = _outlook(account, standing, moment)
                rows.append((name, outlook["state"], *more, outlook["login"]))
            common.table((*_HEAD, "LOGIN"), rows)
            print()
        print("\n".join(coverage.told(able)) or "nobody can log in over SSH, as far as name services list their users")
    for problem in problems:
        print(f"pam-totp: damaged: {problem}", file=sys.stderr)
    return 3 if problems else 0


def _outlook(account: Account, standing: Standing | None, moment: Moment) -> dict[str, str]:
    """The state, and what a login over SSH would come to now."""
    state = summary.state(account, moment)
    if standing is None:
        return {"state": state, "login": "-"}
    if standing.robot:
        return {"state": state, "login": "key alone"}
    if standing.error is not None or standing.decision is None:
        return {"state": "unusable", "login": f"refused ({standing.error and standing.error.reason})"}
    decision = standing.decision
    return {"state": state, "login": _LOGINS[decision.action].format(reason=decision.reason)}


def _configured(paths: Paths) -> tuple[int, str]:
    """The window, and what is wrong with the configuration: what is kept can be shown all the same."""
    try:
        return configuration.load(paths.config, paths.owner).window, ""
    except ConfigError as error:
        return configuration.Config().window, str(error)


def _missed(accounts: Upkeep, paths: Paths) -> str:
    """Whether the configuration that this host had is gone, in words."""
    try:
        accounts.configured.require(os.path.lexists(paths.config), paths.config)
    except ConfigError as error:
        return str(error)
    except CacheError:
        pass  # is named as damage
    return ""


def _table(found: list[Account], moment: Moment, window: int) -> None:
    if not found:
        print("nobody is enrolled: start with pam-totp enroll USER")
        return
    common.table(_HEAD, [_row(account, moment, window) for account in found])


def _row(account: Account, moment: Moment, window: int) -> tuple[str, ...]:
    labels = [each.label + (" (pending)" if each.state != "active" else "") for each in account.authenticators]
    created = [each.created for each in account.authenticators]
    wait = summary.wait(account, moment, window)
    waiting = duration(wait) if wait else "-"
    return (
        account.name + _strange(account),
        summary.state(account, moment),
        ", ".join(labels) or "-",
        common.minute(min(created, default=None)),
        common.minute(account.ledger.last_success),
        str(account.ledger.row),
        "locked" if account.ledger.locked else waiting,
    )


def _strange(account: Account) -> str:
    try:
        user = users.find(account.name)
    except NameServiceError:
        return " (unknown: the name service does not answer)" if account.authenticators else ""
    if not account.authenticators or (user is not None and user.uid == account.uid):
        return ""
    if user is None and account.uid < 0:
        return " (no Unix account)"
    if user is None:
        return " (no such user: rename or reset it)" if account.active else " (stale: no such user)"
    return f" (uid changed: was {account.uid}, is {user.uid})"


def _refusals(accounts: Upkeep, name: str) -> None:
    try:
        events = accounts.events(name, _REFUSALS)
    except CacheError:
        events = []
    if events:
        print(f"\nlatest refusals of {name}:")
    for time, line in events:
        print(f"  {common.rfc3339(time)}  {line}")
