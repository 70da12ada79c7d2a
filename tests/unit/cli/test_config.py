"""config check: is the file understood, and can every rule be reached."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host


def test_a_good_file_is_good(command: Command, host: Host) -> None:
    assert command("config", "check").out == f"{host.paths.config}: good (0 rules)\n"
    host.configure('[[rule]]\nusers = ["alice"]\n')
    ran = command("config", "check")
    assert (ran.code, ran.out) == (0, f"{host.paths.config}: good (1 rule)\n")


def test_a_file_that_is_not_understood_is_told_with_the_reason(command: Command, host: Host) -> None:
    host.configure("windows = 1")
    ran = command("config", "check")
    assert (ran.code, ran.out) == (3, "")
    assert "unknown key 'windows'" in ran.err


def test_a_key_that_means_nothing_any_more_is_told_but_good(command: Command, host: Host) -> None:
    host.configure('[enrollment]\nperiod = "7d"\npending = "1d"\n')
    ran = command("config", "check")
    assert ran.code == 0
    assert ran.out.startswith("[enrollment] pending means nothing any more: remove it; ")
    assert ran.out.endswith("good (0 rules)\n")


def test_a_rule_that_is_never_reached_is_told(command: Command, host: Host) -> None:
    host.configure('[[rule]]\n[[rule]]\nusers = ["alice"]\nmfa = "skip"\n')
    ran = command("config", "check")
    assert ran.code == 1
    assert "rule 2 is never reached: rule 1 takes every login that it could match" in ran.out


def test_a_rule_that_several_earlier_ones_take_together_is_told(command: Command, host: Host) -> None:
    host.configure(
        '[[rule]]\nusers = ["alice"]\n[[rule]]\nusers = ["bob"]\n[[rule]]\nusers = ["alice", "bob"]\nmfa = "skip"\n'
    )
    ran = command("config", "check")
    assert ran.code == 1
    assert "rule 3 is never reached: the rules 1, 2 together take" in ran.out


def test_rules_that_overlap_and_differ_are_told_but_good(command: Command, host: Host) -> None:
    host.configure('[[rule]]\nusers = ["alice"]\n[[rule]]\nnetworks = ["192.0.2.0/24"]\nmfa = "skip"\n')
    ran = command("config", "check")
    assert ran.code == 0
    assert "rules 1 and 2 overlap: where both match, rule 1 decides" in ran.out


def test_rules_that_need_addresses_are_told_and_good(command: Command, host: Host) -> None:
    host.configure('[[rule]]\nusers = ["alice"]\n[[rule]]\nusers = ["bob"]\nnetworks = ["192.0.2.0/24"]\n')
    ran = command("config", "check")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
    assert "rules that name networks (2) need addresses: keep UseDNS no" in ran.out


def test_certificates_of_any_ca_are_no_reason_to_skip_and_the_message_says_what_to_write(
    command: Command, host: Host
) -> None:
    host.configure('[[rule]]\nkeys = ["certificate"]\nmfa = "skip"\n')
    ran = command("config", "check")
    assert (ran.code, ran.out) == (3, "")
    assert 'name the CA: keys = ["ca:SHA256:..."]' in ran.err
    host.configure('[[rule]]\nkeys = ["certificate"]\n')
    assert command("config", "check").code == 0


def test_the_word_check_is_needed(command: Command) -> None:
    assert command("config").code == 2
    assert command("config", "show").code == 2


def test_the_check_needs_no_cache(command: Command, host: Host) -> None:
    os.unlink(host.paths.cache)
    assert command("config", "check").code == 0
