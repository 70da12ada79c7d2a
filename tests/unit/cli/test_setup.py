"""setup: what it shows, asks, changes and reports."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pam_totp import cli
from pam_totp.cache.volatile import Volatile
from pam_totp.host import arrange, logins, pinned, sshd
from pam_totp.login import log
from tests.unit.pretend import ALICE
from tests.unit.setting_up import STACK, Server

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

KEY = ("setup", "--variant", "key")


@pytest.fixture
def server(host: Host, monkeypatch: pytest.MonkeyPatch, command: Command) -> Server:
    return Server(host, monkeypatch)


def test_the_change_is_shown_and_made_after_a_yes(command: Command, server: Server) -> None:
    before = server.state()
    ran = command(*KEY, typed=("y\n",))
    assert ran.code == 0
    assert "\n-@include common-auth\n" in ran.out
    assert "\n+auth required pam_totp.so first_factor=publickey #pam-totp#\n" in ran.out
    assert "\n+AuthenticationMethods publickey,keyboard-interactive:pam\n" in ran.out
    assert "log in from a second terminal" in ran.out
    assert server.state() != before
    assert server.reloads == 1
    # The same again asks nothing and changes nothing; undoing asks.
    assert "nothing to change" in command(*KEY).out
    assert command("setup", "--undo", typed=("yes\n",)).code == 0
    assert server.state() == before
    assert "nothing to undo" in command("setup", "--undo").out


@pytest.mark.parametrize("words", [KEY, ("setup", "--undo")])
@pytest.mark.parametrize("answer", ["\n", "n\n", ""])
def test_anything_but_a_yes_changes_nothing(
    answer: str, words: tuple[str, ...], command: Command, server: Server
) -> None:
    if "--undo" in words:
        command(*KEY, "--yes")
    before = server.state()
    ran = command(*words, typed=(answer,))
    assert (ran.code, ran.out.endswith("nothing changed\n")) == (1, True)
    assert server.state() == before


def test_json_and_the_exit_code_say_whether_anything_changed(command: Command, server: Server) -> None:
    files = [server.stack, server.drop_in]
    dry = command(*KEY, "--dry-run", "--json")
    assert (dry.code, dry.json["changed"], sorted(dry.json["files"])) == (1, True, sorted(files))
    assert server.read(server.stack) == STACK
    first = command(*KEY, "--yes", "--json")
    assert (first.code, first.json["changed"], first.json["variant"]) == (0, True, "key")
    second = command(*KEY, "--yes", "--json")
    assert (second.code, second.json["changed"], second.json["files"]) == (0, False, [])
    assert command(*KEY, "--dry-run", "--json").code == 0
    undo = command("setup", "--undo", "--yes", "--json")
    assert (undo.code, undo.json["changed"]) == (0, True)
    assert command("setup", "--undo", "--yes", "--json").json["changed"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "add --variant"),
        (("--enforce",), "add --variant"),
        (("--variant", "key", "--undo"), "leave the others out"),
        (("--undo", "--keep"), "leave the others out"),
        (("--keep", "--dry-run"), "leave --dry-run out"),
        (("--variant", "key", "--service", "vpn"), "only sshd says"),
        (("--variant", "key", "--service", "../x"), "not a service"),
        (("--variant", "password", "--service", "common-auth"), "not a service"),
        (("--variant", "password", "--service", "su", "--engine", "pam_python"), "is not safe"),
        (("--variant", "key", "--robot", "alice", "--no-robots"), "its contrary"),
        (("--variant", "key", "--enforce", "--no-enforce"), "its contrary"),
        (("--variant", "key", "--robot", "nobody-here"), "no such user"),
        (("--variant", "key", "--robot", "a b"), "no such user"),
        (("--variant", "key", "--robot", "alice@10.0.0.1/8"), "host bits"),
        (("--variant", "key", "--robot", "alice@example.org"), "write an address"),
        (("--variant", "key", "--robot", "alice@"), "write an address"),
        (("--variant", "key", "--json"), "add --yes or --dry-run"),
        (("--variant", "key", "--revert-after", "soon"), "not a duration"),
        (("--variant", "password", "--service", "vpn", "--revert-after", "5m"), "is for sshd"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    words: tuple[str, ...], said: str, command: Command, server: Server
) -> None:
    before = server.state()
    ran = command("setup", *words)
    assert (ran.code, said in ran.err) == (2, True), ran
    assert server.state() == before


def test_without_a_terminal_it_asks_for_a_yes_on_the_command_line(command: Command, server: Server) -> None:
    ran = command(*KEY, piped="y\n")
    assert (ran.code, "add --yes" in ran.err) == (2, True)
    assert server.read(server.stack) == STACK


def test_robots_stay_until_others_are_named_or_none(command: Command, server: Server) -> None:
    assert command(*KEY, "--robot", "alice@10.0.0.0/8", "--yes", "--json").json["robots"] == ["alice@10.0.0.0/8"]
    assert command("setup", "--variant", "password", "--yes", "--json").json["robots"] == ["alice@10.0.0.0/8"]
    assert command("setup", "--robot", "bob", "--yes", "--json").json["robots"] == ["bob"]
    assert command("setup", "--no-robots", "--yes", "--json").json["robots"] == []
    assert "Match" not in server.read(server.drop_in)


def test_whom_it_would_keep_out_is_named(command: Command, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = logins.Login("bob", 1002, password=True, keys=False, command=False)
    alice = logins.Login("alice", 1001, password=True, keys=True, command=False)
    monkeypatch.setattr(logins, "all_of_them", lambda _: [alice, bob])
    shown = command(*KEY, "--dry-run").out
    assert "\n  bob: has no key in authorized_keys\n" in shown
    assert "alice:" not in shown
    server.host.enroll(ALICE)
    server.host.configure('unenrolled = "deny"')
    told = command("setup", "--variant", "password", "--dry-run", "--json").json["kept_out"]
    assert [each["user"] for each in told] == ["bob"]
    assert "not enrolled" in told[0]["reason"]


def test_nothing_of_a_file_reaches_the_terminal_raw(command: Command, server: Server) -> None:
    server.write(server.stack, "# \x1b[2J\n" + STACK)
    assert "\x1b" not in command(*KEY, "--dry-run").out


def test_with_a_broken_configuration_nothing_is_put_in_force(command: Command, server: Server) -> None:
    server.host.configure("windw = 1")
    ran = command(*KEY, "--yes")
    assert (ran.code, "windw" in ran.err) == (3, True)
    assert server.read(server.stack) == STACK


def test_a_file_that_changed_while_it_asked_is_not_overwritten(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            server.write(server.stack, "# mine\n" + STACK)
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Slow())
    assert cli.main(list(KEY), server.host.paths) == 3
    assert server.read(server.stack) == "# mine\n" + STACK


def test_one_set_up_at_a_time(command: Command, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pam_totp.cli.common._PATIENCE", 0.05)
    with Volatile(server.host.paths.run, server.host.paths.owner).lock("setup"):
        ran = command(*KEY, "--yes")
    assert (ran.code, "another pam-totp setup is running" in ran.err) == (3, True)


def test_each_change_is_logged(command: Command, server: Server, journal: list[tuple[int, str]]) -> None:
    command(*KEY, "--yes")
    command("setup", "--undo", "--yes")
    assert [line for _, line in journal] == [
        'pam-totp: service=sshd action=setup by=root detail="sshd, variant key"',
        "pam-totp: service=sshd action=setup-undo by=root",
    ]


# --check


def test_a_host_without_a_set_up_has_nothing_to_check(command: Command, server: Server) -> None:
    ran = command("setup", "--check")
    assert (ran.code, ran.out) == (0, "")


def test_what_is_gone_is_an_alert(command: Command, server: Server, journal: list[tuple[int, str]]) -> None:
    command(*KEY, "--yes")
    assert command("setup", "--check").out == "sshd: in force\n"
    server.write(server.stack, STACK)
    journal.clear()
    ran = command("setup", "--check")
    assert (ran.code, "not in force" in ran.out) == (1, True)
    [(priority, line)] = journal
    assert priority & 7 == log.ALERT
    assert line.startswith("pam-totp: service=sshd action=enforcement-lost ")
    assert server.read(server.stack) == STACK


def test_what_is_gone_comes_back_where_it_is_enforced(
    command: Command, server: Server, journal: list[tuple[int, str]]
) -> None:
    command(*KEY, "--enforce", "--yes")
    server.write(server.stack, STACK)
    os.unlink(server.drop_in)
    journal.clear()
    ran = command("setup", "--check")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "sshd: put back")
    assert [(priority & 7, line.split()[2]) for priority, line in journal] == [
        (log.ALERT, "action=enforcement-lost"),
        (log.ALERT, "action=enforcement-restored"),
    ]
    assert pinned.losses(server.host.paths, "sshd") == []
    # An administrator who wants it off for good says so, and it stays off.
    command("setup", "--no-enforce", "--yes")
    server.write(server.stack, STACK)
    assert command("setup", "--check").code == 1


def test_what_cannot_be_put_back_or_read_is_an_alert_too(
    command: Command, server: Server, journal: list[tuple[int, str]]
) -> None:
    command(*KEY, "--enforce", "--yes")
    server.write(server.stack, "")
    assert command("setup", "--check").code == 3
    record = f"{os.path.dirname(server.host.paths.cache)}/setup/sshd.json"
    server.write(record, "rubbish")
    os.chmod(record, 0o600)
    journal.clear()
    assert command("setup", "--check").code == 3
    assert journal[0][0] & 7 == log.ALERT
    # And what undoes works without the record.
    server.write(server.stack, STACK)
    assert command("setup", "--undo", "--yes").code == 0
    assert not os.path.exists(server.drop_in)


# The dead man's switch


def test_only_a_login_that_began_after_it_keeps_it(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.systemd = True
    assert "nothing to keep" in command("setup", "--keep").out
    ran = command(*KEY, "--revert-after", "10m", "--yes")
    assert "sudo pam-totp setup --keep" in ran.out
    assert server.timers == [600]
    for began in (None, server.host.uptime - 1, server.host.uptime):
        monkeypatch.setattr(sshd, "login_began", lambda began=began: began)
        ran = command("setup", "--keep")
        assert (ran.code, "not kept" in ran.err) == (1, True)
    monkeypatch.setattr(sshd, "login_began", lambda: server.host.uptime + 1)
    assert command("setup", "--keep").code == 0
    server.host.later(3600)
    assert command("setup", "--check").out == "sshd: in force\n"


def test_what_nobody_kept_is_undone_by_the_check(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.systemd = True
    command(*KEY, "--revert-after", "10m", "--yes")
    server.host.later(599)
    monkeypatch.setattr(sshd, "login_began", lambda: server.host.uptime)
    assert command("setup", "--keep").code == 1  # too late
    ran = command("setup", "--check")
    assert (ran.code, "undone" in ran.out) == (0, True)
    assert server.read(server.stack) == STACK
    assert pinned.services(server.host.paths) == []


def test_an_engine_that_is_not_installed_is_refused(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrange, "installed", lambda module: module.startswith("pam_python"))
    assert command(*KEY, "--engine", "pam_totp", "--yes").code == 3
    assert command(*KEY, "--yes", "--json").json["engine"] == "pam_python"
    monkeypatch.setattr(arrange, "installed", lambda _: False)
    assert command("setup", "--variant", "password", "--yes").code == 3
