"""What an administrator should know about a list of rules: which can never be reached, and which overlap.

Pure, and not on the login path.
"""

from __future__ import annotations

from itertools import product

from pam_totp.cache.accounts import ACTIVE, Account, Authenticator
from pam_totp.cache.ledger import Ledger
from pam_totp.factors.publickeys import PublicKey
from pam_totp.host.clock import Moment
from pam_totp.login import policy
from pam_totp.login.policy import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network, IPv6Network

    from pam_totp.host.config import Rule

_NOW = Moment(1 << 40, "", 0)


def takers(rule: Rule, earlier: list[Rule]) -> list[Rule]:
    """The earlier rules that together take every login a rule could match; empty where some login reaches the rule.

    Only logins that meet no more conditions than the rule demands are looked at: whichever earlier rule takes such a
    one takes all that are like it and meet more.
    """
    found: list[Rule] = []
    for account, facts in _logins(rule, earlier):
        taker = next((each for each in earlier if policy.matches(each, account, facts, _NOW) is True), None)
        if taker is None:
            return []
        if taker not in found:
            found.append(taker)
    return sorted(found, key=lambda each: each.number)


def overlap(one: Rule, other: Rule) -> bool:
    """Whether some login could match both rules. A login can have many groups and keys, but one user and address."""
    for mine, theirs in ((one.users, other.users), (one.services, other.services)):
        if mine and theirs and set(mine).isdisjoint(theirs):
            return False
    if one.networks and other.networks:
        return any(a.version == b.version and a.overlaps(b) for a in one.networks for b in other.networks)
    return True


def _logins(rule: Rule, earlier: list[Rule]) -> Iterator[tuple[Account, Facts]]:
    """One login of every kind that the rule matches and that the earlier rules can tell apart.

    What the rule names no condition for is unknown, and whether another rule's condition on it holds cannot be told.
    """
    age = rule.enrolled_within - 1
    enrolled = [Authenticator("", ACTIVE, "", "", int(_NOW.wall) - age, b"")] if rule.enrolled_within else []
    account = Account("", 0, enrolled, Ledger())
    choices = (rule.users, rule.services, _addresses(rule, earlier), rule.keys, rule.groups)
    for user, service, address, key, group in product(*(each or [""] for each in choices)):
        facts = Facts(user, "", service, address)
        facts.keys = [_Key(key)] if key else None
        facts.groups = frozenset([group]) if group else None
        yield account, facts


def _addresses(rule: Rule, earlier: list[Rule]) -> list[str]:
    """One address in every part of the rule's networks that the earlier rules' networks divide them into."""
    others = [network for each in earlier for network in each.networks]
    return [str(address) for network in rule.networks for address in {network[0], *_edges(network, others)}]


def _edges(network: IPv4Network | IPv6Network, others: list[IPv4Network | IPv6Network]) -> Iterator[object]:
    for other in others:
        if other.version == network.version and network.supernet_of(other):  # type: ignore[arg-type]  # of one version
            yield other[0]
            if other[-1] != network[-1]:
                yield other[-1] + 1


class _Key(PublicKey):
    """A key of which nothing is known but how a rule names it: "any", "certificate", by its fingerprint or its CA."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        certificate = name == "certificate" or name.startswith("ca:")
        super().__init__("x-cert-v01@openssh.com" if certificate else "x", "")
        self._name = name

    def fingerprint(self) -> str | None:
        return self._name if self._name.startswith("SHA256:") else None

    def authority(self) -> str | None:
        return self._name.removeprefix("ca:") if self._name.startswith("ca:") else None

    def is_for(self, user: str) -> bool:
        del user
        return True
