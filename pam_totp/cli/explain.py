"""Say what would happen at a login of a user now, and which rule and which fact decide it.

Without --key, for a login without a public key; without --rhost, from an address that is not known. Changes nothing.
"""

from __future__ import annotations

import ipaddress
import json

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common
from pam_totp.doctor import stacks
from pam_totp.errors import UsageError
from pam_totp.host import config as configuration
from pam_totp.host.clock import now
from pam_totp.login import policy
from pam_totp.login.attempt import Attempt, Conversation, Request, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.cache.accounts import Account
    from pam_totp.host.paths import Paths
    from pam_totp.login.policy import Decision


def arguments(parser: argparse.ArgumentParser) -> None:
    """USER [--service S] [--rhost IP] [--key FILE] [--json]."""
    common.user_argument(parser)
    parser.add_argument("--service", default="sshd", metavar="S", help="PAM service (default: %(default)s)")
    parser.add_argument("--rhost", default="", metavar="IP", help="the client's address")
    parser.add_argument(
        "--key", default="", metavar="FILE", help="the public key or certificate that passes, a .pub file"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Explain."""
    config = configuration.load(paths.config, paths.owner)
    user = common.person(arguments.user, paths)
    if arguments.rhost:
        _require_an_address(arguments.rhost)
    auth_info = _auth_info(arguments.key) if arguments.key else ""
    request = Request(arguments.user, arguments.service, arguments.rhost, auth_info)
    moment = now()
    with Accounts(paths) as accounts:
        account = accounts.find(user)
        facts = Attempt(user, request, config, paths, now, Conversation()).facts(account, accounts)
    decision = policy.decide(account, config, facts, moment)
    fact = _fact(decision, account)
    conditions = {rule.number: dict(policy.conditions(rule, account, facts, moment)) for rule in config.rules}
    decided_by = None if facts.central is None else "directory" if decision.central else "host"
    not_asked = stacks.not_asked(arguments.service, paths)
    if arguments.json:
        fields = {
            "user": user.name,
            "service": arguments.service,
            "rhost": arguments.rhost or None,
            "action": decision.action,
            "reason": decision.reason,
            "rule": decision.rule.number if decision.rule else None,
            "decided_by": decided_by,
            "fact": fact,
            "doubts": decision.doubts,
            "not_asked": not_asked or None,
            "rules": [{"rule": number, "conditions": each} for number, each in conditions.items()],
        }
        print(json.dumps(fields))
        return 0
    print(f"{user.name} {common.ACTIONS[decision.action]} ({decision.reason})")
    if not_asked:
        print(f"  but only if {arguments.service} asks, and that is not certain: {not_asked}; see pam-totp doctor")
    if decided_by:
        policy_of = (
            "the directory's policy" if decided_by == "directory" else f"this host's own configuration, {paths.config}"
        )
        print(f"  decided by: {policy_of}")
    strictest = ", the strictest of those that may apply" if decision.doubts else ""
    print(f"  rule: {f'number {decision.rule.number}' if decision.rule else 'none'}{strictest}")
    print(f"  fact: {fact}")
    for number, each in conditions.items():
        told = [f"{name} {policy.told(name, holds, facts)}" for name, holds in each.items()]
        print(f"  rule {number}: {'; '.join(told) or 'no condition'}")
    return 0


def _require_an_address(text: str) -> None:
    """Make sure that it is one. Raises UsageError."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(
            f"--rhost {text!r} is no address: write one like 192.0.2.7; without --rhost, what holds for a name is shown"
        ) from None


def _auth_info(path: str) -> str:
    """What sshd reports of a login with this key. Raises UsageError, or OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        words = file.readline().split()
    if len(words) < 2 or words[0].startswith("-"):
        raise UsageError(f"{path} holds no public key: give a .pub file, as ssh-keygen writes it")
    return f"publickey {words[0]} {words[1]}"


def _fact(decision: Decision, account: Account) -> str:
    if decision.reason == "exempt" and account.ledger.exemption is not None:
        return f"exempt until {common.minute(account.ledger.exemption[0])} UTC: {account.ledger.exemption[1]}"
    if decision.reason in ("throttled", "grace"):
        return f"{duration(decision.seconds)} left"
    labels = ", ".join(each.label for each in account.active)
    return f"state {account.state}" + (f", authenticators: {labels}" if labels else "")
