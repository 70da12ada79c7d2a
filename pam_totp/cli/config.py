"""Check the configuration file: whether it is understood, and whether every rule can be reached."""

from __future__ import annotations

from itertools import combinations

from pam_totp import config as configuration
from pam_totp import policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.config import Rule
    from pam_totp.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """Check."""
    parser.add_argument("what", metavar="check", choices=("check",), help="check the file and the rules in it")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Check; 1 where a rule can never be reached."""
    del arguments
    config = configuration.load(paths.config, paths.owner)
    code = 0
    for one, other in combinations(config.rules, 2):
        if policy.shadows(one, other):
            print(f"rule {other.number} is never reached: rule {one.number} takes every login that it could match")
            code = 1
        elif policy.overlaps(one, other) and _differ(one, other):
            print(f"rules {one.number} and {other.number} overlap: where both match, rule {one.number} decides")
    if not code:
        rules = "1 rule" if len(config.rules) == 1 else f"{len(config.rules)} rules"
        print(f"{paths.config}: good ({rules})")
    return code


def _differ(one: Rule, other: Rule) -> bool:
    return (one.mfa, one.unenrolled, one.remember) != (other.mfa, other.unenrolled, other.remember)
