"""Which rules can never be reached, and which overlap."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pam_totp.host.config import Rule, load
from pam_totp.login import rules
from tests.unit.places import ME
from tests.unit.pretend import MEMORY


def numbered(*tables: str) -> list[Rule]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory, "config.toml")
        path.write_text("\n".join(f"[[rule]]\n{table}" for table in tables), encoding="utf-8")
        path.chmod(0o600)
        return load(str(path), ME).rules


def takers(*tables: str) -> list[int]:
    """The numbers of the rules that leave nothing to the last one."""
    *earlier, last = numbered(*tables)
    return [rule.number for rule in rules.takers(last, earlier)]


KEY = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("", ""),
        ("", 'users = ["alice"]'),
        ('users = ["alice", "bob"]', 'users = ["bob"]\nservices = ["sshd"]'),
        ('groups = ["sudo", "wheel"]', 'groups = ["sudo"]'),
        ('services = ["sshd"]', 'services = ["sshd"]\nkeys = ["any"]'),
        ('keys = ["any"]', f'keys = ["certificate", "{KEY}"]'),
        (f'keys = ["{KEY}"]', f'keys = ["{KEY}"]'),
        (f'keys = ["ca:{KEY}"]', f'keys = ["ca:{KEY}"]'),
        ('keys = ["certificate"]', f'keys = ["ca:{KEY}"]'),
        ('networks = ["10.0.0.0/8"]', 'networks = ["10.1.0.0/16", "10.2.0.1"]'),
        ('networks = ["10.0.0.0/8"]', 'networks = ["10.0.0.0/8"]'),
        ('networks = ["10.0.0.0/9", "10.128.0.0/9"]', 'networks = ["10.0.0.0/8"]'),
        ('networks = ["0.0.0.0/0", "::/0"]', 'networks = ["10.0.0.0/8", "fd00::/8"]'),
        ('networks = ["0.0.0.0/0"]', 'networks = ["255.255.255.255"]'),
        ('enrolled_within = "2h"', 'enrolled_within = "1h"'),
        ('enrolled_within = "2h"', 'enrolled_within = "2h"\nusers = ["alice"]'),
    ],
)
def test_a_rule_behind_a_wider_one_is_never_reached(earlier: str, later: str) -> None:
    assert takers(earlier, later) == [1]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ('users = ["alice"]', ""),
        ('users = ["alice"]', 'users = ["alice", "bob"]'),
        ('users = ["alice"]\nservices = ["vpn"]', 'users = ["alice"]'),
        ('groups = ["sudo"]', 'users = ["alice"]'),
        ('groups = ["sudo"]', 'groups = ["sudo", "wheel"]'),
        ('keys = ["certificate"]', 'keys = ["any"]'),
        (f'keys = ["certificate", "{KEY}"]', 'keys = ["any"]'),
        ('keys = ["certificate"]', f'keys = ["{KEY}"]'),
        (f'keys = ["ca:{KEY}"]', 'keys = ["certificate"]'),
        (f'keys = ["ca:{KEY}"]', f'keys = ["{KEY}"]'),
        (f'keys = ["{KEY}"]', f'keys = ["ca:{KEY}"]'),
        ('keys = ["any"]', ""),
        ('networks = ["10.0.0.0/8"]', 'networks = ["10.1.0.0/16", "fd00::/8"]'),
        ('networks = ["10.0.0.0/9", "10.128.0.0/10"]', 'networks = ["10.0.0.0/8"]'),
        ('networks = ["10.0.0.1"]', 'networks = ["10.0.0.0/31"]'),
        ('networks = ["10.0.0.0/32"]', 'networks = ["10.0.0.0/31"]'),
        ('networks = ["10.0.0.0/9", "10.128.0.1/32"]', 'networks = ["10.0.0.0/8"]'),
        ('networks = ["0.0.0.0/0"]', 'networks = ["::/0"]'),
        ('networks = ["0.0.0.0/0", "::/0"]', ""),
        ('enrolled_within = "1h"', 'enrolled_within = "2h"'),
        ('enrolled_within = "1h"', ""),
    ],
)
def test_a_rule_that_some_login_reaches_is_not_reported(earlier: str, later: str) -> None:
    assert takers(earlier, later) == []


def test_several_rules_together_can_leave_nothing() -> None:
    alice, bob, carol = ('users = ["alice"]', 'users = ["bob"]\nkeys = ["any"]', 'users = ["carol"]')
    assert takers(alice, bob, carol, 'users = ["alice", "bob"]') == []
    assert takers(alice, bob, carol, 'users = ["alice", "bob"]\nkeys = ["certificate"]') == [1, 2]
    low, high = 'networks = ["10.0.0.0/9"]', 'networks = ["10.128.0.0/9"]'
    assert takers(low, 'users = ["x"]', high, 'networks = ["10.0.0.0/8"]\nusers = ["y"]') == [1, 3]
    assert takers(low, high, 'networks = ["10.0.0.0/7"]') == []


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("", 'users = ["alice"]', True),
        ('users = ["alice"]', 'users = ["bob"]', False),
        ('users = ["alice", "bob"]', 'users = ["bob"]', True),
        ('users = ["alice"]', 'groups = ["sudo"]', True),
        ('groups = ["wheel"]', 'groups = ["sudo"]', True),
        ('services = ["sshd"]', 'services = ["vpn"]', False),
        ('networks = ["10.0.0.0/8"]', 'networks = ["10.1.0.0/16"]', True),
        ('networks = ["10.1.0.0/16"]', 'networks = ["10.0.0.0/8"]', True),
        ('networks = ["10.0.0.0/8"]', 'networks = ["192.168.0.0/16", "fd00::/8"]', False),
        ('keys = ["any"]', 'networks = ["::/0"]', True),
    ],
)
def test_rules_overlap_where_some_login_could_match_both(one: str, other: str, both: bool) -> None:
    assert rules.overlap(*numbered(one, other)) == both
