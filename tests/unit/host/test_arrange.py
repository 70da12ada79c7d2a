"""Putting a variant in force: all of it or nothing, and back to the same bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import arrange, pinned, rewrite
from pam_totp.host.files import UnsafeFileError
from pam_totp.host.pinned import Pin
from pam_totp.host.programs import ProgramError
from tests.unit.setting_up import STACK, Server

if TYPE_CHECKING:
    from tests.unit.pretend import Host

VARIANTS = ("key", "password", "combined")


@pytest.fixture
def server(host: Host, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(host, monkeypatch)


def put(server: Server, variant: str, seconds: int | None = None, robots: tuple[str, ...] = ()) -> str:
    host = server.host
    pin = Pin("sshd", variant, "pam_totp", list(robots))
    return arrange.put_in_force(host.paths, pin, arrange.changes(host.paths, pin), seconds, host.now)


def undo(server: Server) -> None:
    paths = server.host.paths
    arrange.undo(paths, "sshd", arrange.undoing(paths, "sshd"))


@pytest.mark.parametrize("one", VARIANTS)
@pytest.mark.parametrize("other", VARIANTS)
def test_undoing_after_two_set_ups_gives_the_same_bytes_and_modes(one: str, other: str, server: Server) -> None:
    os.chmod(server.stack, 0o600)
    before = server.state()
    for variant in (one, other, one):
        put(server, variant)
        assert pinned.losses(server.host.paths, "sshd") == []
    undo(server)
    assert server.state() == before
    assert os.listdir(os.path.dirname(server.host.paths.cache) + "/setup") == []


def test_the_second_set_up_does_not_touch_what_was_kept_of_the_first(server: Server) -> None:
    put(server, "key")
    directory = os.path.dirname(server.host.paths.cache) + "/setup/sshd.before"
    kept = {name: server.read(f"{directory}/{name}") for name in os.listdir(directory)}
    put(server, "password")
    assert {name: server.read(f"{directory}/{name}") for name in os.listdir(directory)} == kept
    assert pinned.before(server.host.paths, "sshd")[server.stack].text == STACK


def test_in_force_nothing_has_to_be_changed(server: Server) -> None:
    put(server, "key", robots=("backup@192.0.2.1",))
    pin = pinned.load(server.host.paths, "sshd")
    assert pin is not None
    assert arrange.changes(server.host.paths, pin) == {}
    assert server.read(server.drop_in).endswith(
        "Match User backup Address 192.0.2.1\n    AuthenticationMethods publickey\n"
    )


@pytest.mark.parametrize("breakage", ["check", "reload", "another drop-in", "rename"])
@pytest.mark.parametrize("first", ["", "password"])
def test_what_fails_leaves_everything_as_it_was(
    breakage: str, first: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if first:
        put(server, first)
    if breakage == "another drop-in":
        server.write(f"{server.host.paths.drop_ins}/00-a.conf", "AuthenticationMethods any\n")
    before = server.state()
    server.valid, server.reloadable = breakage != "check", breakage != "reload"
    if breakage == "rename":
        real = rewrite.put

        def put_or_fail(path: str, state: rewrite.State) -> None:
            if path == server.stack and "first_factor" in state.text:
                raise OSError(28, "No space left on device")
            real(path, state)

        monkeypatch.setattr(rewrite, "put", put_or_fail)
    with pytest.raises((ProgramError, pinned.SetupError, OSError)):
        put(server, "key")
    assert server.state() == before
    pin = pinned.load(server.host.paths, "sshd")
    assert (pin.variant if pin else "") == first
    server.valid = server.reloadable = True
    if not first:
        undo(server)
        assert server.state() == before


def test_a_stack_that_would_not_decide_is_refused_before_anything_is_written(server: Server) -> None:
    server.write(server.stack, "auth sufficient pam_permit.so\n" + STACK)
    before = server.state()
    with pytest.raises(pinned.SetupError, match="can skip it"):
        put(server, "password")
    assert server.state() == before


@pytest.mark.parametrize("line", ["auth required pam_totp.so", "auth required pam_python.so pam_totp.py"])
def test_where_an_included_file_asks_already_a_second_question_is_refused(line: str, server: Server) -> None:
    common = f"{server.host.paths.services}/common-auth"
    server.write(common, server.read(common) + line + "\n")
    with pytest.raises(pinned.SetupError, match="asks as well"):
        put(server, "password")


def test_a_file_that_others_can_write_is_refused(server: Server) -> None:
    os.chmod(server.stack, 0o666)
    with pytest.raises(UnsafeFileError, match="open to others"):
        put(server, "password")


def test_files_copied_by_hand_are_put_out_of_force_and_come_back(server: Server) -> None:
    by_hand = f"{server.host.paths.drop_ins}/00-pam-totp-key-and-code.conf"
    added = "LoginGraceTime 5m\nMatch User backup\n    AuthenticationMethods publickey\n"
    server.write(by_hand, f"usepam=yes\nAuthenticationMethods publickey,keyboard-interactive:pam\n{added}")
    before = server.state()
    put(server, "password")
    assert server.read(by_hand).endswith(added)
    assert server.effective()["authenticationmethods"] == "keyboard-interactive:pam"
    # Another one, copied by mistake after it: it is taken over as well, and comes back as well.
    later = f"{server.host.paths.drop_ins}/00-pam-totp-combined.conf"
    server.write(later, "AuthenticationMethods keyboard-interactive:pam password\n")
    assert pinned.losses(server.host.paths, "sshd") != []
    put(server, "password")
    assert pinned.losses(server.host.paths, "sshd") == []
    undo(server)
    assert server.state() == {**before, later: (0o100644, "AuthenticationMethods keyboard-interactive:pam password\n")}


def test_what_somebody_else_changed_since_stays_when_it_is_undone(server: Server) -> None:
    put(server, "key")
    server.write(server.stack, server.read(server.stack) + "session optional pam_echo.so\n")
    undo(server)
    assert server.read(server.stack) == STACK + "session optional pam_echo.so\n"


def test_without_any_record_the_marks_are_enough(server: Server) -> None:
    before = server.state()
    put(server, "combined")
    pinned.forget(server.host.paths, "sshd")
    undo(server)
    assert server.state() == before


def test_a_distributions_own_file_is_left_alone_when_it_is_undone(server: Server) -> None:
    put(server, "key")
    server.write(server.stack, "# newer\n" + STACK)
    undo(server)
    assert server.read(server.stack) == "# newer\n" + STACK


# The dead man's switch


def test_without_systemd_nothing_is_changed_that_should_undo_itself(server: Server) -> None:
    before = server.state()
    with pytest.raises(pinned.SetupError, match="systemd does not run here"):
        put(server, "key", 600)
    assert server.state() == before


def test_what_nobody_keeps_goes_back_to_what_was_in_force_before_it(server: Server) -> None:
    server.systemd = True
    put(server, "key")
    before = server.state()
    put(server, "combined", 600)
    put(server, "password")  # a correction meanwhile keeps nothing
    assert server.timers == [600]
    pin = pinned.load(server.host.paths, "sshd")
    assert pin is not None
    assert pin.revert is not None
    server.host.later(597)
    assert not pin.revert.due(server.host.now())
    server.host.later(2)
    assert pin.revert.due(server.host.now())
    arrange.revert(server.host.paths, pin)
    assert server.state() == before
    assert server.timers == []
    pin = pinned.load(server.host.paths, "sshd")
    assert pin is not None
    assert (pin.variant, pin.revert) == ("key", None)


def test_a_reboot_ends_the_time(server: Server) -> None:
    server.systemd = True
    put(server, "key", 600)
    server.host.reboot(uptime=1)
    pin = pinned.load(server.host.paths, "sshd")
    assert pin is not None
    assert pin.revert is not None
    assert pin.revert.due(server.host.now())
    arrange.revert(server.host.paths, pin)
    assert pinned.load(server.host.paths, "sshd") is None
    assert server.read(server.stack) == STACK


def test_what_fails_with_a_timer_leaves_none(server: Server) -> None:
    server.systemd, server.reloadable = True, False
    with pytest.raises(ProgramError):
        put(server, "key", 600)
    assert server.timers == []
    assert pinned.load(server.host.paths, "sshd") is None


def test_what_is_kept_stays(server: Server) -> None:
    server.systemd = True
    put(server, "key", 600)
    pin = pinned.load(server.host.paths, "sshd")
    assert pin is not None
    arrange.keep(server.host.paths, pin)
    kept = pinned.load(server.host.paths, "sshd")
    assert kept is not None
    assert kept.revert is None
    assert server.timers == []
