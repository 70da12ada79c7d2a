"""Check the configuration file: whether it is understood, and whether every rule can be reached."""

from __future__ import annotations

from pam_totp.host import config as configuration
from pam_totp.login import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.config import Rule
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """Check."""
    parser.add_argument("what", metavar="check", choices=("check",), help="check the file and the rules in it")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Check; 1 where a rule can never be reached."""
    del arguments
    config = configuration.load(paths.config, paths.owner)
    for key in config.obsolete:
        print(f"{key} means nothing any more: remove it; a key is kept only once it is confirmed")
    code = 0
    for index, rule in enumerate(config.rules):
        earlier = config.rules[:index]
        takers = rules.takers(rule, earlier)
        if takers:
            some = _named(takers)
            print(f"rule {rule.number} is never reached: {some} every login that it could match")
            code = 1
            continue
        for other in earlier:
            if rules.overlap(other, rule) and _differ(other, rule):
                first, second = other.number, rule.number
                print(f"rules {first} and {second} overlap: where both match, rule {first} decides")
    named = [str(rule.number) for rule in config.rules if rule.networks]
    if named:
        print(
            f"rules that name networks ({', '.join(named)}) need addresses: keep UseDNS no, the default, in sshd_config"
        )
    if not code:
        count = "1 rule" if len(config.rules) == 1 else f"{len(config.rules)} rules"
        print(f"{paths.config}: good ({count})")
    return code


def _differ(one: Rule, other: Rule) -> bool:
    return (one.mfa, one.unenrolled, one.remember) != (other.mfa, other.unenrolled, other.remember)


def _named(found: list[Rule]) -> str:
    if len(found) == 1:
        return f"rule {found[0].number} takes"
    return f"the rules {', '.join(str(each.number) for each in found)} together take"
