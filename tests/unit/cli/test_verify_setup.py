"""verify setup: what it shows, asks and says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.unit.verify.radius import Tree

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

    Journal = list[tuple[int, str]]

SETUP = ("verify", "setup", "freeradius")
HOW = ("--module", "files", "--listen", "127.0.0.1:722", "--nas", "vpn")


@pytest.fixture
def tree(host: Host, monkeypatch: pytest.MonkeyPatch, command: Command) -> Tree:
    return Tree(host, monkeypatch)


def test_the_change_is_shown_and_made_after_a_yes(command: Command, tree: Tree, journal: Journal) -> None:
    before = tree.state()
    ran = command(*SETUP, *HOW, typed=("y\n",))
    assert ran.code == 0
    assert "\n+server pam-totp {\n" in ran.out
    assert f"\n{tree.place}/sites-enabled/pam-totp -> ../sites-available/pam-totp\n" in ran.out
    assert "\n+\tvirtual_server = pam-totp # pam-totp verify setup\n" in ran.out
    assert "vpn: required, challenge" in ran.out
    assert "MS-CHAPv2 never sends what the user types" in ran.out
    assert "no running freeradius was found" in ran.out
    # Neither the tokens nor secrets of the site's are shown.
    for secret in ("secret of the site", "testing123", *tree.read("mods-config/pam-totp").split('"')[1::2]):
        assert secret not in ran.out
    assert "action=verify-setup by=" in journal[-1][1]
    assert command(*SETUP).out == "nothing to change: freeradius is set up\n"
    assert command(*SETUP, "--undo", typed=("yes\n",)).code == 0
    assert tree.state() == before
    assert "action=verify-setup-undo by=" in journal[-1][1]
    assert "nothing to undo" in command(*SETUP, "--undo").out


@pytest.mark.parametrize("words", [HOW, ("--undo",)])
def test_a_dry_run_and_anything_but_a_yes_change_nothing(words: tuple[str, ...], command: Command, tree: Tree) -> None:
    if words == ("--undo",):
        command(*SETUP, *HOW, "--yes")
    before = tree.state()
    for more, typed in ((("--dry-run",), ()), ((), ("\n",)), ((), ("n\n",))):
        ran = command(*SETUP, *words, *more, typed=typed)
        assert (ran.code, "nothing" in ran.out.splitlines()[-1]) == (1, True)
        assert tree.state() == before


def test_without_a_terminal_it_wants_a_yes(command: Command, tree: Tree) -> None:
    ran = command(*SETUP, *HOW, piped="y\n")
    assert (ran.code, "add --yes" in ran.err) == (2, True)


def test_json_says_whether_anything_changed(command: Command, tree: Tree) -> None:
    found = command(*SETUP, *HOW, "--yes", "--json").json
    assert (found["changed"], found["program"], found["restarted"]) == (True, "freeradius", False)
    assert tree.path("clients.conf") in found["files"]
    assert command(*SETUP, *HOW, "--yes", "--json").json["changed"] is False
    dry = command(*SETUP, "--undo", "--dry-run", "--json")
    assert (dry.code, dry.json["changed"]) == (1, True)
    assert command(*SETUP, "--undo", "--yes", "--json").json["changed"] is True
    assert command(*SETUP, "--undo", "--yes", "--json").json["changed"] is False
    assert "--json asks nothing" in command(*SETUP, "--undo", "--json").err


def test_no_nas_yet_is_said(command: Command, tree: Tree) -> None:
    ran = command(*SETUP, *HOW[:-2], "--yes")
    assert "No NAS asks for codes yet: add --nas NAME=required" in ran.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "say which client"),
        (("apache",), 2, "verify setup knows no 'apache'"),
        (("freeradius", "--module", "files"), 3, "pam-totp verify enable --listen"),
        (("freeradius", "--listen", "0.0.0.0:722"), 2, "no loopback address"),
        (("freeradius", *HOW[2:]), 2, "--module pam, ldap, sql or files"),
        (("freeradius", "--undo", "--nas", "vpn"), 2, "--undo goes with nothing"),
        (("freeradius", "--may-know"), 2, "takes no --may-know"),
        (("freeradius", *HOW, "--nas", "printer"), 2, "no section client printer"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: tuple[str, ...], code: int, said: str, command: Command, tree: Tree
) -> None:
    before = tree.state()
    ran = command("verify", "setup", *words)
    assert (ran.code, said in ran.err) == (code, True), ran
    assert tree.state() == before
    for option in ("--nas=vpn", "--module=files", "--undo", "--yes", "--dry-run"):
        assert command("verify", "list", option).code == 2


def test_an_unsafe_file_is_said(command: Command, tree: Tree) -> None:
    with open(tree.path("clients.conf"), "a", encoding="utf-8") as file:
        file.write("# kept\n")
    os.chmod(tree.path("clients.conf"), 0o666)
    ran = command(*SETUP, *HOW, "--yes")
    assert (ran.code, "clients.conf is open to others" in ran.err) == (3, True)
