"""Setting a program up and undoing it: all of its files or none, and what others have changed since stays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import pinned, rewrite
from pam_totp.host.pinned import SetupError
from pam_totp.host.programs import ProgramError
from pam_totp.verify import clients, setup
from pam_totp.verify.freeradius import FreeRadius
from tests.unit.verify.radius import Tree

if TYPE_CHECKING:
    from tests.unit.pretend import Host


@pytest.fixture
def tree(host: Host, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(host, monkeypatch)


@pytest.fixture
def program(tree: Tree) -> FreeRadius:
    return FreeRadius("files", ["vpn", "wlan=enrolled,eap"], "127.0.0.1:722", None, None)


def test_it_is_set_up_and_undone_to_what_was_there(host: Host, tree: Tree, program: FreeRadius) -> None:
    before = tree.state()
    setup.put_in_force(program, host.paths, program.changes(host.paths))
    assert tree.state() != before
    setup.undo(program, host.paths, setup.undoing(program, host.paths))
    assert tree.state() == before
    assert clients.everybody(host.paths) == []
    assert pinned.before(host.paths, program.key) == {}


def test_the_first_state_comes_back_after_any_number_of_set_ups(host: Host, tree: Tree, program: FreeRadius) -> None:
    tree.write("mods-available/pam-totp", "# the site's own, by hand\n")
    os.symlink("../mods-available/pam-totp", tree.path("mods-enabled/pam-totp"))
    before = tree.state()
    for wishes in (["vpn"], ["vpn=off", "wlan=required"], ["localhost=enrolled,one-field"]):
        program = FreeRadius("files", wishes, "127.0.0.1:722", None, None)
        setup.put_in_force(program, host.paths, program.changes(host.paths))
    setup.undo(program, host.paths, setup.undoing(program, host.paths))
    assert tree.state() == before


def test_what_the_program_refuses_is_taken_back(host: Host, tree: Tree, program: FreeRadius) -> None:
    before = tree.state()
    tree.refuses = "Errors reading pam-totp"
    with pytest.raises(SetupError, match="Errors reading pam-totp"):
        setup.put_in_force(program, host.paths, program.changes(host.paths))
    assert tree.state() == before
    assert clients.everybody(host.paths) == []
    assert pinned.before(host.paths, program.key) == {}


def test_what_cannot_be_written_or_restarted_is_taken_back(
    host: Host, tree: Tree, program: FreeRadius, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree.state()
    put, count = rewrite.put, 0

    def full(path: str, state: rewrite.State) -> None:
        nonlocal count
        count += path.startswith(tree.place)
        if count == 4:
            count += 1
            raise OSError(28, "No space left on device")
        put(path, state)

    monkeypatch.setattr(rewrite, "put", full)
    with pytest.raises(OSError, match="No space"):
        setup.put_in_force(program, host.paths, program.changes(host.paths))
    assert tree.state() == before
    monkeypatch.setattr(rewrite, "put", put)

    restarts: list[bool] = []

    def restart() -> str:
        restarts.append(os.path.lexists(tree.path("sites-enabled/pam-totp")))
        raise ProgramError("it does not start")

    monkeypatch.setattr(program, "restart", restart)
    with pytest.raises(ProgramError, match="it does not start"):
        setup.put_in_force(program, host.paths, program.changes(host.paths))
    assert tree.state() == before
    assert restarts == [True, False]  # with the settings that are back, once more


def test_a_file_that_changed_after_it_was_shown_is_not_overwritten(host: Host, tree: Tree, program: FreeRadius) -> None:
    changes = program.changes(host.paths)
    tree.write("clients.conf", tree.read("clients.conf") + "# another\n")
    before = tree.state()
    with pytest.raises(SetupError, match="changed meanwhile"):
        setup.put_in_force(program, host.paths, changes)
    assert tree.state() == before


def test_undoing_keeps_what_the_site_has_changed_since(host: Host, tree: Tree, program: FreeRadius) -> None:
    setup.put_in_force(program, host.paths, program.changes(host.paths))
    text = tree.read("clients.conf").replace("192.0.2.1", "192.0.2.99") + "client door {\n}\n"
    tree.write("clients.conf", text)
    setup.undo(program, host.paths, setup.undoing(program, host.paths))
    left = tree.read("clients.conf")
    assert "192.0.2.99" in left
    assert left.endswith("client door {\n}\n")
    assert "pam-totp" not in left


def test_undoing_works_with_settings_that_are_broken_and_without_the_program(
    host: Host, tree: Tree, program: FreeRadius, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree.state()
    setup.put_in_force(program, host.paths, program.changes(host.paths))

    def broken() -> None:
        raise SetupError("Errors reading something else")

    monkeypatch.setattr(program, "check", broken)
    setup.undo(program, host.paths, setup.undoing(program, host.paths))
    assert tree.state() == before


def test_a_link_or_a_file_that_others_can_write_is_not_followed(host: Host, tree: Tree, program: FreeRadius) -> None:
    os.chmod(tree.path("clients.conf"), 0o666)
    with pytest.raises(Exception, match="open to others"):
        program.changes(host.paths)
    os.chmod(tree.path("clients.conf"), 0o640)
    target = f"{host.root}/target"
    os.symlink(target, tree.path("mods-available/pam-totp"))
    setup.put_in_force(program, host.paths, program.changes(host.paths))
    assert not os.path.lexists(target)
    assert not os.path.islink(tree.path("mods-available/pam-totp"))
    setup.undo(program, host.paths, setup.undoing(program, host.paths))
    assert os.readlink(tree.path("mods-available/pam-totp")) == target
