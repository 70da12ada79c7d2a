"""config check: is the file understood, and can every rule be reached."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.errors import NameServiceError
from pam_totp.host import users
from tests.unit.pretend import BOB

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host


def test_a_good_file_is_good(command: Command, host: Host) -> None:
    host.configure("window = 2")
    assert command("config", "check").out.splitlines()[-1] == f"{host.paths.config}: good (0 rules)"
    host.configure('[[rule]]\nusers = ["alice"]\n')
    ran = command("config", "check")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, f"{host.paths.config}: good (1 rule)")


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


def test_a_user_whom_nss_does_not_know_or_spells_otherwise_is_told_but_good(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.configure('[[rule]]\nusers = ["alice", "carol", "ALICE", "dave"]\n')
    real = users.find

    def find(name: str) -> users.User | None:
        if name == "dave":
            raise NameServiceError("the name service 'sss' does not answer")
        return real(name.lower())

    monkeypatch.setattr(users, "find", find)
    ran = command("config", "check")
    assert ran.code == 0
    assert ran.out.splitlines()[:3] == [
        "rule 1 names the user 'carol', whom this host does not know",
        "rule 1 names the user 'ALICE', whom NSS spells 'alice': write that",
        "rule 1: whether there is a user 'dave' is not known: the name service 'sss' does not answer",
    ]


def test_rules_that_need_addresses_are_told_and_good(command: Command, host: Host) -> None:
    host.configure('[[rule]]\nusers = ["alice"]\n[[rule]]\nusers = ["bob"]\nnetworks = ["192.0.2.0/24"]\n')
    ran = command("config", "check")
    assert (ran.code, len(ran.out.splitlines())) == (0, 4)
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


def test_where_there_is_no_file_the_defaults_hold(command: Command, host: Host) -> None:
    ran = command("config", "check")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, f"no {host.paths.config}: the defaults hold")


def test_a_word_is_needed(command: Command) -> None:
    assert command("config").code == 2
    assert command("config", "show").code == 2


def test_the_check_needs_no_cache(command: Command, host: Host) -> None:
    os.unlink(host.paths.cache)
    assert command("config", "check").code == 0


# Who would be refused


def test_it_says_how_many_are_not_enrolled_and_how_many_would_be_refused(command: Command, host: Host) -> None:
    host.enroll(BOB)
    assert command("config", "check").out.splitlines()[:2] == [
        "2 users can log in over SSH; not enrolled: 1 (alice)",
        "would be refused: nobody",
    ]
    host.configure('unenrolled = "deny"\n')
    assert "\nwould be refused: 1 (alice)\n" in command("config", "check").out
    host.configure('unenrolled = "deny"\n[[rule]]\nusers = ["alice"]\nunenrolled = "enroll"\n')
    assert "\nwould be refused: nobody\n" in command("config", "check").out


def test_an_edit_that_refuses_somebody_asks_before_it_is_in_force(
    command: Command, host: Host, editor: Callable[[str], None]
) -> None:
    host.enroll(BOB)
    host.configure("window = 2\n")
    editor("""echo 'unenrolled = "deny"' >"$2" """)
    ran = command("config", "edit", typed=("n\n",))
    assert (ran.code, ran.out.endswith("nothing changed\n")) == (1, True)
    assert "These settings refuse, of 2 users who can log in over SSH: 1 (alice)\n" in ran.out
    assert text(host) == "window = 2\n"
    ran = command("config", "edit", piped="")
    assert (ran.code, "add --yes" in ran.err) == (2, True)
    assert text(host) == "window = 2\n"
    assert command("config", "edit", typed=("y\n",)).code == 0
    # Who was refused before is nothing new.
    editor("""echo 'window = 3' >>"$2" """)
    assert command("config", "edit").code == 0
    editor("""echo 'window = 2' >"$2" """)
    assert command("config", "edit").code == 0
    editor("""echo 'unenrolled = "deny"' >"$2" """)
    assert command("config", "edit", "--yes").code == 0


# A file that vanishes


def missed(host: Host) -> bool:
    return host.login("bob").reason == "config-missing"


def test_a_login_that_sees_a_file_is_enough_for_it_to_be_missed(host: Host) -> None:
    with open(host.paths.config, "w", encoding="ascii") as file:
        file.write('unenrolled = "deny"\n')
    assert host.login("bob").reason == "not-enrolled"
    os.unlink(host.paths.config)
    assert missed(host)


@pytest.mark.parametrize("content", ["", "\n", " \n\n"])
def test_an_empty_file_is_refused_and_says_what_to_do(content: str, command: Command, host: Host) -> None:
    host.configure("window = 2")
    Path(host.paths.config).write_text(content, encoding="ascii")
    for ran in (command("config", "check"), command("unlock", "alice")):
        assert ran.code == 3
        assert "is empty: restore it" in ran.err
        assert "config reset" in ran.err
    assert host.login("bob").reason == "bad-config"


def test_a_check_notes_the_file_and_does_not_say_that_its_absence_is_meant(command: Command, host: Host) -> None:
    with open(host.paths.config, "w", encoding="ascii") as file:
        file.write('unenrolled = "deny"\n')
    assert command("config", "check").code == 0
    os.unlink(host.paths.config)
    assert missed(host)
    ran = command("config", "check")
    assert ran.code == 3
    assert "pam-totp config reset" in ran.err
    assert missed(host)


def test_a_check_mends_a_note_that_is_damaged(command: Command, host: Host) -> None:
    host.configure("window = 2")
    connection = sqlite3.connect(host.paths.cache)
    with connection:
        connection.execute("UPDATE fact SET value = X'01'")
    connection.close()
    assert command("status").code == 3
    assert command("config", "check").code == 0
    assert command("status").code == 0


def test_a_reset_says_that_the_defaults_are_meant(command: Command, host: Host, journal: list[tuple[int, str]]) -> None:
    host.configure('unenrolled = "deny"')
    os.unlink(host.paths.config)
    assert command("config", "reset", typed=("n\n",)).code == 1
    assert missed(host)
    ran = command("config", "reset", typed=("y\n",))
    assert (ran.code, ran.err) == (0, "")
    assert "action=config-reset by=root" in journal[-1][1]
    assert host.login("bob").reason == "not-enrolled"
    host.configure('unenrolled = "deny"')
    os.unlink(host.paths.config)
    assert missed(host)
    assert command("config", "reset", "--yes").code == 0


def test_a_reset_removes_no_file(command: Command, host: Host) -> None:
    host.configure("window = 2")
    ran = command("config", "reset", "--yes")
    assert ran.code == 2
    assert "remove it first" in ran.err
    assert os.path.exists(host.paths.config)


# An editor


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An editor that does this to the file that it is given."""

    def use(script: str) -> None:
        path = tmp_path / "an editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("EDITOR", f"'{path}' -x")
        monkeypatch.delenv("VISUAL", raising=False)

    return use


def text(host: Host) -> str:
    return Path(host.paths.config).read_text(encoding="utf-8")


def test_an_edited_file_replaces_the_other_in_one_step_with_its_mode(
    command: Command, host: Host, editor: Callable[[str], None], journal: list[tuple[int, str]]
) -> None:
    host.configure("window = 2\n")
    os.chmod(host.paths.config, 0o640)
    before = os.stat(host.paths.config)
    editor("""grep -q 'window = 2' "$2" && test -s "$0" && echo 'window = 3' >"$2" """)
    ran = command("config", "edit")
    assert (ran.code, ran.err) == (0, "")
    after = os.stat(host.paths.config)
    assert (text(host), after.st_mode) == ("window = 3\n", before.st_mode)
    assert after.st_ino != before.st_ino
    assert "action=config-edit" in journal[-1][1]
    assert sorted(os.listdir(os.path.dirname(host.paths.config))) == ["config.toml", "key"]


def test_a_first_file_is_made_and_missed_when_it_goes(
    command: Command, host: Host, editor: Callable[[str], None]
) -> None:
    editor("""echo 'unenrolled = "deny"' >"$2" """)
    assert command("config", "edit", "--yes").code == 0
    assert os.stat(host.paths.config).st_mode & 0o777 == 0o644
    os.unlink(host.paths.config)
    assert missed(host)


@pytest.mark.parametrize("script", ["true", "exit 1", """echo 'window = 3' >"$2"; exit 1"""])
def test_who_changes_nothing_or_breaks_off_changes_nothing(
    script: str, command: Command, host: Host, editor: Callable[[str], None]
) -> None:
    host.configure("window = 2\n")
    editor(script)
    ran = command("config", "edit")
    assert (ran.code, ran.out) == (1, "nothing changed\n")
    assert text(host) == "window = 2\n"
    assert len(os.listdir(os.path.dirname(host.paths.config))) == 2


@pytest.mark.parametrize("content", ["windows = 3", "", "[[["])
def test_what_is_not_understood_is_never_in_force(
    content: str, command: Command, host: Host, editor: Callable[[str], None]
) -> None:
    host.configure("window = 2\n")
    editor(f"""printf '%s' '{content}' >"$2" """)
    ran = command("config", "edit", typed=("y\n", "n\n"))
    assert ran.code == 1
    assert ran.err.count(f"pam-totp: {host.paths.config}") == 2
    assert ".edit" not in ran.err
    assert text(host) == "window = 2\n"


def test_a_file_that_somebody_else_changes_meanwhile_is_not_overwritten(
    command: Command, host: Host, editor: Callable[[str], None]
) -> None:
    host.configure("window = 2\n")
    editor(f"""echo 'window = 3' >"$2"; echo 'window = 4' >'{host.paths.config}'""")
    ran = command("config", "edit")
    assert ran.code == 2
    assert "meanwhile" in ran.err
    assert text(host) == "window = 4\n"


def test_two_do_not_edit_at_once(command: Command, host: Host, editor: Callable[[str], None]) -> None:
    editor("true")
    Path(f"{host.paths.config}.edit").touch()
    ran = command("config", "edit")
    assert ran.code == 2
    assert "somebody else is editing" in ran.err


def test_an_editor_that_is_none_is_told(command: Command, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "/nowhere/editor")
    ran = command("config", "edit")
    assert ran.code == 2
    assert "set EDITOR" in ran.err
    assert not os.path.exists(host.paths.config)
